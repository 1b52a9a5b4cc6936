"""Imports: docs/design.md, "Layout".

A file imports only from floors below its own and from its own part. Parts on one floor never import each
other; where one stands on another after all, that is a floor between two floors (the API, for example,
stands on the transport). No files import each other in a circle, within a part either. `if TYPE_CHECKING:`
and imports inside of functions count like all others.
"""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up. On each floor its parts, and what each may import from outside. A part is a file, or a
# package with all that is in it; of these packages, each file is a part.
BY_FILE = {"peershare", "peershare.api", "peershare.gateway", "peershare.transport"}
FLOORS = [
    # 0: the vocabulary. `peershare` itself is its `__init__`, with the version.
    {"peershare": set()},
    {"peershare.messages": {"attrs"}},
    {"peershare.ids": set(), "peershare.invisible": set(), "peershare.output": set()},
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
    # 2: what runtime and gateway need of each other.
    {"peershare.ports": {"attrs"}},
    # 3: what moves, and what stands behind a port.
    {
        "peershare.adapters": {
            *(
                "alembic",
                "argon2",
                "attrs",
                "httpx2",
                "joserfc",
                "psycopg",
                "sqlalchemy",
                "structlog",
                "trio",
            ),
        },
        "peershare.runtime": {"attrs", "outcome", "structlog", "trio"},
    },
    # 4: bytes of clients (transport), and above them what is answered by HTTP (api) or WebSocket (gateway).
    {
        "peershare.transport.cookies": set(),
        "peershare.transport.hosts": set(),
        "peershare.transport.listening": {"trio"},
        "peershare.transport.turns": {"attrs", "trio"},
    },
    {
        "peershare.api": set(),
        "peershare.gateway": set(),
        "peershare.transport": set(),
        "peershare.transport.handover": {"structlog", "trio"},
        "peershare.transport.head": {"attrs", "h11"},
        "peershare.transport.proxies": {"attrs"},
    },
    {
        "peershare.transport.origins": {"attrs"},
        "peershare.transport.poller": {"structlog", "trio"},
        "peershare.transport.refusals": {"structlog", "trio"},
    },
    {
        "peershare.transport.answers": {"attrs"},
        "peershare.transport.streams": {"trio"},
        "peershare.api.metrics_table": {"attrs", "prometheus_client"},
        "peershare.api.qr_code": {"trio", "zxingcpp"},
    },
    {
        "peershare.api.health": {"attrs", "quart"},
        "peershare.api.limits": {"quart"},
        "peershare.transport.http": {"attrs", "h11", "structlog", "trio"},
        "peershare.api.web": {"attrs", "brotli", "quart", "quart_trio", "trio", "werkzeug"},
        "peershare.transport.websocket": {"trio", "trio_websocket", "wsproto"},
    },
    {"peershare.api.guard": {"attrs", "quart", "quart_trio", "trio"}},
    {
        "peershare.api.admission": {"quart"},
        "peershare.api.app": {"attrs", "quart", "quart_trio", "werkzeug"},
        "peershare.api.auth": {"attrs", "quart"},
        "peershare.api.groups": {"quart"},
        "peershare.api.ice": {"attrs", "quart"},
        "peershare.api.metrics": {"quart", "trio"},
        "peershare.api.peerjs": {"attrs", "quart"},
        "peershare.gateway.endpoint": {"attrs", "trio"},
        "peershare.gateway.turn_port": {"attrs", "structlog", "trio"},
    },
    {
        "peershare.api.single_sign_on": {"attrs", "quart", "werkzeug"},
        "peershare.gateway.throttling": {"trio"},
    },
    {
        "peershare.gateway.peerjs": {"attrs", "structlog", "trio"},
        "peershare.gateway.signaling": {"structlog", "trio"},
    },
    {"peershare.gateway.listener": {"attrs", "structlog", "trio"}},
    # 5: what puts it together. Settings are read in `server` and above, and nowhere else.
    {"peershare.logs": {"structlog"}, "peershare.settings": {"attrs", "click", "cryptography", "dotenv"}},
    {"peershare.composition": {"attrs", "quart_trio"}},
    {"peershare.server": {"attrs", "structlog", "trio"}},
    # 6: the ways in.
    {
        "peershare.check_turn": {"click", "rich", "trio"},
        "peershare.db": {"click"},
        "peershare.user": {"attrs", "click"},
        "peershare.serve": {"attrs", "click", "structlog", "trio"},
        "peershare.show_settings": {"attrs", "click", "rich"},
        "peershare.asgi": {"click", "hypercorn", "structlog", "trio"},
    },
    {"peershare.cli": {"click"}},
    {"peershare.__main__": set()},
]

# What has a file of its own, and nobody else knows it. JSON has one for each protocol.
ONE_FILE_ONLY = {
    "argon2": {"peershare.adapters.auth.passwords"},
    "cattrs": {"peershare.wire.client_codec", "peershare.wire.codec"},
    "cryptography": {"peershare.settings.types"},
    "dotenv": {"peershare.settings.reading"},
    "h11": {"peershare.client.handshake", "peershare.transport.head", "peershare.transport.http"},
    "httpx2": {"peershare.adapters.auth.fetching"},
    "hypercorn": {"peershare.asgi"},
    "joserfc": {
        "peershare.adapters.auth.jwt",
        "peershare.adapters.auth.keys",
        "peershare.adapters.auth.own_tokens",
    },
    "msgspec": {"peershare.wire.client_codec", "peershare.wire.codec", "peershare.wire.peerjs"},
    "psycopg": {"peershare.adapters.store.postgres"},
    "prometheus_client": {"peershare.api.metrics_table"},
    "prompt_toolkit": {"peershare.console.terminal"},
    "trio_websocket": {"peershare.client.websocket", "peershare.transport.websocket"},
}

# No clock, random, JSON, logging, I/O: ids and times come in (docs/design.md, "The way of the data").
NOT_IN_CORE = {
    "asyncio", "datetime", "io", "json", "logging", "os", "pathlib", "random", "secrets", "select", "socket",
    "ssl", "subprocess", "sys", "threading", "time", "uuid",
}  # fmt: skip

PARTS = {part: outside for floor in FLOORS for part, outside in floor.items()}
LEVEL = {part: level for level, floor in enumerate(FLOORS) for part in floor}


# --- the checker -------------------------------------------------------------------------------


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module):
    """The part that a module is in, or None."""
    if module in PARTS:
        return module
    parent = module.rpartition(".")[0]
    return None if parent in {"", *BY_FILE} else part_of(parent)


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
    part = part_of(module)
    if part is None:
        return [f"{module} is in no part: give it one in FLOORS"]
    return [complaint for name in imports(source) if (complaint := _judge_import(module, part, name))]


def _judge_import(module, part, name):
    top = name.partition(".")[0]
    if top == "peershare":
        return _judge_inside(module, part, name)
    if top in sys.stdlib_module_names:
        forbidden = part == "peershare.core" and top in NOT_IN_CORE
        return f"{module} imports {top}: the core has no use for it" if forbidden else None
    if top not in PARTS[part]:
        return f"{module} imports {top}: {part} may not"
    if module not in ONE_FILE_ONLY.get(top, {module}):
        return f"{module} imports {top}: only {', '.join(sorted(ONE_FILE_ONLY[top]))} does"
    return None


def _judge_inside(module, part, name):
    other = part_of(name) or part_of(name.rpartition(".")[0])  # a name in a module is no module
    if other is None:
        return f"{module} imports {name}: it is in no part"
    if other != part and LEVEL[other] >= LEVEL[part]:
        return f"{module} imports {other}: that is not below"
    return None


# --- the rules, kept ---------------------------------------------------------------------------

FILES = sorted((ROOT / "peershare").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_file_keeps_to_its_floor(path):
    """A file imports only from below, and from outside only what its part may."""
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


def test_every_part_is_there():
    """The table names no part that has gone."""
    assert set(PARTS) <= {module_name(path) for path in FILES}


def test_no_circles():
    """No file is imported by what it imports. An `__init__` counts as the files that it shows."""
    sources = {module_name(path): path.read_text("utf-8") for path in FILES if path.name != "__init__.py"}
    order = TopologicalSorter(
        {module: {name for name in imports(source) if name in sources} for module, source in sources.items()}
    )

    assert len(list(order.static_order())) == len(sources)  # a circle raises CycleError


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
        ("peershare.messages.calls", "from peershare import ids", "imports peershare.ids"),
        ("peershare.ids", "from peershare import invisible", "imports peershare.invisible"),
        ("peershare.runtime.actor", "import peershare.transport.head", "imports peershare.transport.head"),
        ("peershare.runtime.actor", "from peershare import settings", "imports peershare.settings"),
        ("peershare.runtime.drain", "import trio_websocket", "imports trio_websocket"),
        ("peershare.api.app", "import peershare.gateway.signaling", "imports peershare.gateway.signaling"),
        (
            "peershare.api.app",
            "from peershare.gateway.signaling import x",
            "imports peershare.gateway.signaling",
        ),
        (
            "peershare.gateway.signaling",
            "import peershare.gateway.peerjs",
            "imports peershare.gateway.peerjs",
        ),
        (
            "peershare.transport.http",
            "import peershare.gateway.listener",
            "imports peershare.gateway.listener",
        ),
        (
            "peershare.transport.http",
            "from peershare.transport import websocket",
            "imports peershare.transport.websocket",
        ),
        ("peershare.api.app", "import hypercorn.config", "imports hypercorn"),
        ("peershare.logs", "from peershare.settings import Settings", "imports peershare.settings"),
        ("peershare.asgi", "from peershare.cli import main", "imports peershare.cli"),
        ("peershare.core.hub", "from . import group", "imports a relative import"),
        ("peershare.core.hub", "def late():\n    import trio", "imports trio"),
        ("peershare.core.hub", "if TYPE_CHECKING:\n    import trio", "imports trio"),
        ("peershare.newcomer", "", "is in no part"),
        ("peershare.console.talk", "import peershare.server", "imports peershare.server"),
        ("peershare.client.session", "from peershare.console import talk", "imports peershare.console"),
        ("peershare.client.session", "import trio_websocket", "only peershare.client.websocket, peershare."),
        ("peershare.client.protocol", "import trio", "imports trio: peershare.client.protocol may not"),
        ("peershare.client.window", "from peershare.client import session", "imports peershare.client"),
        ("peershare.console.pipe", "import prompt_toolkit", "only peershare.console.terminal does"),
        ("peershare.gateway.newcomer", "", "is in no part"),
        ("peershare.server", "from peershare.newcomer import x", "it is in no part"),
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
        (
            "peershare.core.hub",
            "from peershare.messages import errors\nfrom peershare.core.group import Group",
        ),
        ("peershare.core.newcomer", "from peershare.messages import User"),
        ("peershare.wire.codec", "import msgspec.json\nfrom peershare.wire import validation"),
        ("peershare.api.app", "from peershare import __version__\nimport peershare.core.hub"),
        ("peershare.gateway.listener", "from peershare.transport.http import HttpServer\nimport time"),
        ("peershare.__main__", "from peershare.cli import main"),
    ],
)
def test_what_is_allowed_is_not_found(module, source):
    """The checker has no complaint about imports from below."""
    assert judge(module, source) == []
