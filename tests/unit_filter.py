"""Runs a command under a systemd unit's restrictions of system calls and address families.

    python tests/unit_filter.py UNIT COMMAND…

systemd itself does it by the same library, but only where it is process 1.
"""

import ctypes
import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # SCMP_ACT_…, seccomp.h
_EQUAL = 4  # SCMP_CMP_EQ
_FAMILIES = range(46)  # AF_MAX
_NO_NEW_PRIVS = 38  # PR_SET_NO_NEW_PRIVS, prctl.h


class _Argument(ctypes.Structure):
    _fields_ = (
        ("number", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def _calls(words: str) -> set[str]:
    """The system calls that are named, with those of named groups."""
    return set().union(*(_group(word) if word.startswith("@") else {word} for word in words.split()))


def _group(name: str) -> set[str]:
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout
    return _calls(" ".join(line for line in shown.splitlines()[1:] if not line.strip().startswith("#")))


def _values(unit: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


def restrict(unit: str) -> None:
    """Restrict this process and its children as the unit says."""
    allowed = _group("@default")
    for value in _values(unit, "SystemCallFilter"):
        allowed = allowed - _calls(value[1:]) if value.startswith("~") else allowed | _calls(value)
    [families] = _values(unit, "RestrictAddressFamilies")
    families = {int(getattr(socket, family)) for family in families.split()}

    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(_ERRNO | errno.EPERM))

    def add(action: int, number: int, *arguments: _Argument) -> None:
        array = (_Argument * len(arguments))(*arguments)
        assert library.seccomp_rule_add_array(rules, action, number, len(arguments), array) == 0

    number = library.seccomp_syscall_resolve_name
    for name in allowed - {"socket"}:
        if number(name.encode()) >= 0:  # else this kernel's architecture has none
            add(_ALLOW, number(name.encode()))
    for family in _FAMILIES:
        action = _ALLOW if family in families else _ERRNO | errno.EAFNOSUPPORT
        add(action, number(b"socket"), _Argument(0, _EQUAL, family, 0))
    assert ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert library.seccomp_load(rules) == 0


if __name__ == "__main__":
    restrict(Path(sys.argv[1]).read_text("utf-8"))
    os.execvp(sys.argv[2], sys.argv[2:])
