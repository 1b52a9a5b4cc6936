"""Which file may import which: docs/design.md, "Floors".

A file imports only from floors below its own and from its own room. Rooms on one floor never import each
other; where one stands on another after all, that is a floor between two floors (the doors, for example,
stand on `head`). `if TYPE_CHECKING:` and imports inside of functions count like all others.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up. On each floor its rooms, and what each may import from outside.
FLOORS = [
    # 0: the vocabulary. `peershare` itself is its `__init__`, with the version.
    {"peershare": set()},
    {"peershare.messages": {"attrs"}},
    {"peershare.ids": set(), "peershare.errors": {"attrs"}, "peershare.invisible": set()},
    {"peershare.output": set()},
    {"peershare.names": {"wcwidth"}},
    # 1: core decides, wire reads and writes.
    {"peershare.core": {"attrs"}, "peershare.wire": {"attrs", "cattrs", "msgspec"}},
    # Beside all that serves: a client of it. First what needs no I/O, then its tasks and its stream.
    {"peershare.client.errors": set(), "peershare.client.backoff": {"attrs"}},
    {
        "peershare.client.events": {"attrs"},
        "peershare.client.handshake": {"attrs", "h11", "wsproto"},
        "peershare.client.window": {"attrs"},
    },
    {"peershare.client.protocol": {"attrs"}},
    {"peershare.client": {"attrs", "trio", "trio_websocket", "wsproto"}},
    # And on the client, what people and scripts talk with.
    {"peershare.console": {"attrs", "prompt_toolkit", "trio"}},
    # 2: what runtime and doors need of each other.
    {"peershare.ports": {"attrs"}},
    # What stands behind a port.
    {"peershare.adapters": set()},
    # 3: what moves.
    {"peershare.runtime": {"attrs", "outcome", "structlog", "trio"}},
    # 4: the doors, what they stand on, and the listener above them.
    {"peershare.doors.hosts": set()},
    {
        "peershare.doors": set(),
        "peershare.doors.head": {"attrs", "h11"},
        "peershare.doors.proxies": {"attrs"},
    },
    {
        "peershare.doors.origins": {"attrs"},
        "peershare.doors.poller": {"structlog", "trio"},
        "peershare.doors.refusals": {"structlog", "trio"},
    },
    {
        "peershare.doors.answers": {"attrs"},
        "peershare.doors.streams": {"trio"},
        "peershare.doors.metrics": {"attrs", "prometheus_client"},
        "peershare.doors.qr_code": {"trio", "zxingcpp"},
    },
    {
        "peershare.doors.health": set(),
        "peershare.doors.http": {"attrs", "h11", "structlog", "trio"},
        "peershare.doors.web_rest": {"attrs", "quart", "quart_trio", "werkzeug"},
        "peershare.doors.websocket": {"trio", "trio_websocket", "wsproto"},
    },
    {"peershare.doors.guard": {"attrs", "quart", "quart_trio", "trio"}},
    {
        "peershare.doors.rest": {"attrs", "quart", "quart_trio", "werkzeug"},
        "peershare.doors.metrics_rest": {"quart", "quart_trio", "trio"},
        "peershare.doors.peerjs_rest": {"attrs", "quart", "quart_trio"},
        "peershare.doors.sockets": {"attrs", "trio"},
    },
    {"peershare.doors.paced": {"trio"}},
    {
        "peershare.doors.peerjs": {"structlog", "trio"},
        "peershare.doors.signaling": {"structlog", "trio"},
    },
    {"peershare.doors.listener": {"attrs", "structlog", "trio"}},
    # 5: what puts it together. Settings are read in `server` and above, and nowhere else.
    {"peershare.logs": {"structlog"}, "peershare.settings": {"attrs", "click", "dotenv"}},
    {"peershare.server": {"trio"}},
    # 6: the ways in.
    {
        "peershare.serve": {"attrs", "click", "rich", "structlog", "trio"},
        "peershare.asgi": {"click", "hypercorn", "structlog", "trio"},
    },
    {"peershare.cli": {"click"}},
    {"peershare.__main__": set()},
]

# What has a file of its own, and nobody else knows it. JSON has one for each protocol.
ONE_FILE_ONLY = {
    "cattrs": {"peershare.wire.client_codec", "peershare.wire.codec"},
    "dotenv": {"peershare.settings.reading"},
    "h11": {"peershare.client.handshake", "peershare.doors.head", "peershare.doors.http"},
    "hypercorn": {"peershare.asgi"},
    "msgspec": {"peershare.wire.client_codec", "peershare.wire.codec", "peershare.wire.peerjs"},
    "prometheus_client": {"peershare.doors.metrics"},
    "prompt_toolkit": {"peershare.console.terminal"},
    "trio_websocket": {"peershare.client.websocket", "peershare.doors.websocket"},
}

# No clock, random, JSON, logging, I/O: ids and times come in (docs/design.md, "The way of the data").
NOT_IN_CORE = {
    "asyncio", "datetime", "io", "json", "logging", "os", "pathlib", "random", "secrets", "select", "socket",
    "ssl", "subprocess", "sys", "threading", "time", "uuid",
}  # fmt: skip

ROOMS = {room: outside for floor in FLOORS for room, outside in floor.items()}
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}


# --- the checker -------------------------------------------------------------------------------


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module):
    """The room that a module is in, or None. A room is a file, or a folder and all that is in it."""
    if module in ROOMS:
        return module
    parent = module.rpartition(".")[0]
    # The files beside `peershare/__init__` and those of the doors are rooms of their own.
    return None if parent in {"", "peershare", "peershare.doors"} else room_of(parent)


def imports(source):
    """The modules that a source names, as absolute names; `from a import b` names `a.b` as well."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, 0):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.ImportFrom():
                yield "a relative import"


def judge(module, source):
    """What is wrong with a module's imports, one sentence for each; none when it keeps the rules."""
    room = room_of(module)
    if room is None:
        return [f"{module} has no room: give it one in FLOORS"]
    return [complaint for name in imports(source) if (complaint := _judge_import(module, room, name))]


def _judge_import(module, room, name):
    top = name.partition(".")[0]
    if top == "peershare":
        return _judge_inside(module, room, name)
    if top in sys.stdlib_module_names:
        forbidden = room == "peershare.core" and top in NOT_IN_CORE
        return f"{module} imports {top}: the core has no use for it" if forbidden else None
    if top not in ROOMS[room]:
        return f"{module} imports {top}: {room} may not"
    if module not in ONE_FILE_ONLY.get(top, {module}):
        return f"{module} imports {top}: only {', '.join(sorted(ONE_FILE_ONLY[top]))} does"
    return None


def _judge_inside(module, room, name):
    other = room_of(name) or room_of(name.rpartition(".")[0])  # a name in a module is no module
    if other is None:
        return f"{module} imports {name}: it has no room"
    if other != room and LEVEL[other] >= LEVEL[room]:
        return f"{module} imports {other}: that is not below"
    return None


# --- the rules, kept ---------------------------------------------------------------------------

FILES = sorted((ROOT / "peershare").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_file_keeps_to_its_floor(path):
    """A file imports only from below, and from outside only what its room may."""
    assert judge(module_name(path), path.read_text("utf-8")) == []


@pytest.mark.parametrize(("package", "modules"), ONE_FILE_ONLY.items(), ids=ONE_FILE_ONLY)
def test_some_packages_have_one_file(package, modules):
    """Exactly these files import what is to be known in one place."""
    importers = {
        module_name(path)
        for path in FILES
        if any(name.partition(".")[0] == package for name in imports(path.read_text("utf-8")))
    }

    assert importers == modules


def test_every_room_is_there():
    """The table names no room that has gone."""
    assert set(ROOMS) <= {module_name(path) for path in FILES}


# --- the checker sees what it must -------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("peershare.core.hub", "import trio", "imports trio: peershare.core may not"),
        ("peershare.core.hub", "from cattrs.gen import x", "imports cattrs: peershare.core may not"),
        ("peershare.core.hub", "import time", "imports time: the core has no use for it"),
        ("peershare.core.hub", "from random import choice", "imports random: the core has no use for it"),
        ("peershare.core.hub", "from peershare.wire import codec", "imports peershare.wire"),
        ("peershare.wire.codec", "import peershare.core.hub", "imports peershare.core"),
        (
            "peershare.wire.frames",
            "import msgspec",
            "only peershare.wire.client_codec, peershare.wire.codec, peershare.wire.peerjs does",
        ),
        ("peershare.core.hub", "from peershare.runtime.actor import Actor", "imports peershare.runtime"),
        ("peershare.messages", "from peershare import errors", "imports peershare.errors"),
        ("peershare.ids", "from peershare.errors import Ending", "imports peershare.errors"),
        ("peershare.runtime.actor", "import peershare.doors.head", "imports peershare.doors.head"),
        ("peershare.runtime.actor", "from peershare import settings", "imports peershare.settings"),
        ("peershare.runtime.drain", "import trio_websocket", "imports trio_websocket"),
        ("peershare.doors.rest", "import peershare.doors.signaling", "imports peershare.doors.signaling"),
        (
            "peershare.doors.rest",
            "from peershare.doors.signaling import x",
            "imports peershare.doors.signaling",
        ),
        ("peershare.doors.signaling", "import peershare.doors.peerjs", "imports peershare.doors.peerjs"),
        ("peershare.doors.http", "import peershare.doors.listener", "imports peershare.doors.listener"),
        (
            "peershare.doors.http",
            "from peershare.doors import websocket",
            "imports peershare.doors.websocket",
        ),
        ("peershare.doors.rest", "import hypercorn.config", "imports hypercorn"),
        ("peershare.logs", "from peershare.settings import Settings", "imports peershare.settings"),
        ("peershare.asgi", "from peershare.cli import main", "imports peershare.cli"),
        ("peershare.core.hub", "from . import group", "imports a relative import"),
        ("peershare.core.hub", "def late():\n    import trio", "imports trio"),
        ("peershare.core.hub", "if TYPE_CHECKING:\n    import trio", "imports trio"),
        ("peershare.newcomer", "", "has no room"),
        ("peershare.console.talk", "import peershare.server", "imports peershare.server"),
        ("peershare.client.session", "from peershare.console import talk", "imports peershare.console"),
        ("peershare.client.session", "import trio_websocket", "only peershare.client.websocket, peershare."),
        ("peershare.client.protocol", "import trio", "imports trio: peershare.client.protocol may not"),
        ("peershare.client.window", "from peershare.client import session", "imports peershare.client"),
        ("peershare.console.pipe", "import prompt_toolkit", "only peershare.console.terminal does"),
        ("peershare.doors.newcomer", "", "has no room"),
        ("peershare.server", "from peershare.newcomer import x", "it has no room"),
    ],
)
def test_a_violation_is_found(module, source, complaint):
    """Each of these would be a hole in a floor, and the checker says which."""
    complaints = judge(module, source)

    assert complaints
    assert all(complaint in found for found in complaints)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("peershare.core.hub", "import attrs, math\nfrom collections.abc import Callable"),
        ("peershare.core.hub", "from peershare import errors\nfrom peershare.core.group import Group"),
        ("peershare.core.newcomer", "from peershare.messages import User"),
        ("peershare.wire.codec", "import msgspec.json\nfrom peershare.wire import validation"),
        ("peershare.doors.rest", "from peershare import __version__\nimport peershare.core.hub"),
        ("peershare.doors.listener", "from peershare.doors.http import HttpDoor\nimport time"),
        ("peershare.__main__", "from peershare.cli import main"),
    ],
)
def test_what_is_allowed_is_not_found(module, source):
    """The checker has no complaint about imports from below."""
    assert judge(module, source) == []
