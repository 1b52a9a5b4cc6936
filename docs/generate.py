"""Writes anew what the docs take from the code: what stands between `<!-- generated: NAME -->` and its end.

Whole files: the Grafana dashboard, of panels.toml; the web client's constants and types of the protocol.

`python docs/generate.py` writes; with `--check` it names each stale block and exits 1. The sequence diagrams
are drawn from what a real Hub or SignalingService answers, text in and text out: they can't promise anything
else.
"""

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from string import Template
from typing import Any, Literal, NewType, get_args, get_origin

import attrs
from structlog.testing import capture_logs

from peershare.adapters.store.memory import MemoryStore
from peershare.api.metrics_table import METRICS
from peershare.core.hub import Hub
from peershare.core.limits import RateRules
from peershare.core.outcome import Delivery, Outcome, refuse
from peershare.core.permissions import NEEDS, ROLES, GroupAction
from peershare.core.principal import Guests, Principal
from peershare.core.sessions import SessionRules, Sessions
from peershare.messages import (
    ALL_CLIENT_TYPES,
    CLIENT_INNER_TYPES,
    CLIENT_TYPES,
    INNER_TYPES,
    SERVER_TYPES,
    SESSION_TYPES,
    ConnectionId,
    Error,
    GroupId,
    Heartbeat,
    LinkReason,
    NotAdmitted,
    PrincipalId,
    ProtocolVersion,
    ResumeToken,
    Role,
    SessionId,
    UserId,
    errors,
)
from peershare.messages.close_codes import OWN_RECONNECT_CODES, Ending
from peershare.messages.errors import ErrorCode
from peershare.runtime.commands import ConnectionClosed, ConnectionOpened, MessageReceived
from peershare.runtime.edge import SignalingRules
from peershare.runtime.journal import Journal
from peershare.runtime.signaling_service import SignalingService
from peershare.settings import Settings, about
from peershare.wire.codec import MAX_REQUEST_ID, InvalidMessageError, decode, encode, wire_name
from peershare.wire.validation import (
    RULES,
    Exactly,
    Inner,
    Integer,
    OneOf,
    Rule,
    Several,
    Text,
    Uuid,
    UuidOrWord,
)

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    *(
        ROOT / "docs" / name
        for name in ("settings.md", "protocol.md", "sessions.md", "moderation.md", "peerjs.md", "metrics.md")
    ),
)
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"
WEB = ROOT / "peershare" / "web"
DIALOGUES = (ROOT / "docs" / "dialogues.txt").read_text("utf-8")
_BLOCK = re.compile(r"(?<=<!-- generated: )([\w-]+)( -->\n)(.*?)(?=<!-- end: \1 -->)", re.DOTALL)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _mermaid(kind: str, lines: Iterable[str]) -> str:
    return "\n".join(["```mermaid", kind, *(f"    {line}" for line in lines), "```", ""])


def settings() -> str:
    rows = []
    for field in attrs.fields(Settings):
        said = about(field)
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        default = ",".join(default) if isinstance(default, tuple) else default
        default = "" if default in (None, "") else f"`{default}`"
        variables = ", ".join(f"`{variable}`" for variable in said.variables)
        rows.append([variables, f"`--{field.name.replace('_', '-')}`", default, said.unit, said.meaning])
    return _table(["Variable", "Option", "Default", "Unit", "Meaning"], rows)


def error_codes() -> str:
    constants = [value for value in vars(errors).values() if isinstance(value, Error)]
    limits = (
        errors.TOO_MANY_MESSAGES,
        errors.TOO_MANY_RESUMES,
        errors.TOO_MANY_GROUPS_MADE,
        errors.TOO_MANY_RINGS,
        errors.TOO_MANY_CREDENTIALS,
        errors.TOO_MANY_PASSCODES,
    )
    rates = (errors.rate_limited(what, 0) for what in limits)
    texts: dict[str, list[str]] = {code: [] for code in ErrorCode}
    for error in (errors.invalid_json(), errors.invalid_format([]), errors.call_full(8), *rates, *constants):
        details = "" if error.details is None else f", with `details: {{{', '.join(error.details)}}}`"
        texts[error.code].append(f'"{error.message}"{details}')
    rows = ([f"`{code}`", "<br>".join(said) or "(reserved: not sent today)"] for code, said in texts.items())
    return _table(["Code", "Message"], rows)


def refusals() -> str:
    """What the broker says to whom it does not admit."""
    constants = [value for value in vars(errors).values() if isinstance(value, NotAdmitted)]
    return _table(["`msg` of an ERROR"], ([f"`{refusal.msg}`"] for refusal in constants))


def endings() -> str:
    ends = (ending.value for ending in Ending)
    rows = ([str(end.code), end.reason, "yes" if end.come_back else "no", f"`{end.left}`"] for end in ends)
    return _table(
        ["Code", "Reason", "Connect again by yourself?", "The others receive `user-left` with"], rows
    )


def metrics() -> str:
    rows = (
        [f"`{row.name}`", row.kind, ", ".join(f"`{label}`" for label in row.labels), row.meaning]
        for row in METRICS
    )
    return _table(["Metric", "Type", "Labels", "Meaning"], rows)


def _messages(types: Mapping[str, type[Any]]) -> str:
    return _table(["Type", "Payload"], ([f"`{name}`", f"`{_shape(kind)}`"] for name, kind in types.items()))


def _shape(message: type[Any]) -> str:
    return f"{{{', '.join(map(_member, attrs.fields(message)))}}}"


def _member(field: "attrs.Attribute[Any]") -> str:
    name = wire_name(field.name) + ("" if field.default is attrs.NOTHING else "?")
    if get_origin(field.type) is tuple and attrs.has(get_args(field.type)[0]):
        return f"{name}: [{_shape(get_args(field.type)[0])}, …]"
    inner = next((kind for kind in (field.type, *get_args(field.type)) if kind in _TS_NAMED), None)
    return name if inner is None else f"{name}: {_shape(inner)}"


def roles() -> str:
    rows = (
        [f"`{role}`", *("yes" if action in allowed else "" for action in GroupAction)]
        for role, allowed in ROLES.items()
    )
    return _table(["Role", *GroupAction], rows)


def role_messages() -> str:
    """The messages that are not for every role."""
    names = {kind: name for name, kind in ALL_CLIENT_TYPES.items()}
    rows = (
        [f"`{names[kind]}`", need, *("yes" if need in allowed else "" for allowed in ROLES.values())]
        for kind, need in NEEDS.items()
        if need is not None
    )
    return _table(["Message", "Needs", *(f"`{role}`" for role in ROLES)], rows)


def validation_rules() -> str:
    rows = [[_fields_of(kind), *_told(rule)] for kind, rule in RULES.items()]
    request_id = ["`requestId`", f"1 to {MAX_REQUEST_ID} characters, taken as they are", "as Zod words it"]
    return _table(["Field", "Rule", "Messages"], [*rows, request_id])


def _fields_of(kind: object) -> str:
    """The fields of client messages that are of this kind, under their wire names."""
    messages = (*CLIENT_TYPES.values(), *SESSION_TYPES.values())
    fields = [field for message in messages for field in attrs.fields(message)]
    names = [wire_name(field.name) for field in fields if kind in (field.type, *get_args(field.type))]
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def _told(rule: Rule) -> tuple[str, str]:
    if isinstance(rule, Text):
        name = ", at least one of them visible, no control characters" if rule.control else ""
        text = f"{1 if rule.empty else 0} to {rule.maximum} characters{name}"
        return text, "<br>".join(filter(None, (rule.empty, rule.too_long, rule.control)))
    if isinstance(rule, Uuid):
        return "a UUID in 8-4-4-4-12 form, any letter case", rule.message
    if isinstance(rule, UuidOrWord):
        text, message = _told(rule.uuid)
        return f'{text}, or "{rule.word}"', message
    if isinstance(rule, Inner):
        return "an object: " + "; ".join(f"`{name}` {_told(inner)[0]}" for name, inner in rule.members), ""
    if isinstance(rule, Several):
        text = _told(rule.each)[0].replace("an object", "objects", 1)
        return f"an array of at most {rule.maximum} {text}", "as Zod words it"
    if isinstance(rule, Integer):
        highest = "2^53 - 1" if rule.maximum == 2**53 - 1 else f"{rule.maximum:,}"
        return f"a whole number from 0 to {highest}", "as Zod words it"
    if isinstance(rule, OneOf | Exactly):
        return rule.expected.replace("'", '"').replace(" | ", " or "), "as Zod words it"
    return ("any JSON, `null` too, but it must be there" if rule.expected == "unknown" else rule.expected), ""


_STAY = """\
state Open {
    [*] --> Alone: connection-established
    Alone --> Member: create-group or join-group
    Member --> Member: another create-group or join-group
    Member --> Alone: leave-group
}
[*] --> Open: HTTP 101
[*] --> Refused: HTTP 400, 403, 404, 421, 426, 429 or 503"""


def connection_states() -> str:
    ends = [ending.value for ending in Ending]
    ways = (f"{'ComeBack' if end.come_back else 'StayAway'}: {end.code} {end.reason}" for end in ends)
    return _mermaid("stateDiagram-v2", [*_STAY.splitlines(), *(f"Open --> {way}" for way in ways)])


_TAIL = "-0000-4000-8000-000000000000"
IDS = {name: UserId(str(n) * 8 + _TAIL) for n, name in enumerate(("Ann", "Bob", "Group"), 1)}
SESSION_IDS = {name: SessionId(str(n) * 8 + _TAIL) for n, name in enumerate(("Ann", "Bob"), 4)}
NEW_ID = ConnectionId(str(6) * 8 + _TAIL)  # of the connection that Bob comes back on
NAMES: dict[str, str] = {NEW_ID: "(a new ID)"}
NAMES.update((uuid, f"({name}'s ID)") for name, uuid in IDS.items())
NAMES.update((uuid, f"({name}'s session)") for name, uuid in SESSION_IDS.items())
_DIALOGUES = dict(re.findall(r"^([\w-]+):\n((?:\w.+\n)+)", DIALOGUES, re.MULTILINE))
FLOWS = {name: lines for name, lines in _DIALOGUES.items() if name.startswith("flow-")}


def flow(name: str) -> str:
    """What follows from a dialogue, as arrows. Before each but the first, Ann and Bob have met."""
    hub = Hub(lambda: GroupId(IDS["Group"]), empty_group_ttl=30)
    guest = Principal(PrincipalId("guest"))
    arrows = [arrow for name in ("Ann", "Bob") for arrow in _arrows(hub.connect(IDS[name], guest))]
    if name != "flow-meet":
        for line in FLOWS["flow-meet"].splitlines():
            _say(hub, line)
        arrows = []
    arrows += [arrow for line in FLOWS[name].splitlines() for arrow in _say(hub, line)]
    return _mermaid("sequenceDiagram", ["participant Ann", "participant Server", "participant Bob", *arrows])


def _say(hub: Hub, line: str) -> list[str]:
    name, message_type, *rest = line.split(" ", 2)
    if message_type == "disconnected":
        return [f"Note over {name}: connection lost", *_arrows(hub.disconnect(IDS[name], "disconnected", 0))]
    text = f'{{"type": "{message_type}", "payload": {Template(rest[0]).substitute(IDS)}}}'
    try:
        outcome = hub.handle(IDS[name], decode(text).message, 0)  # type: ignore[arg-type]  # none of a session's
    except InvalidMessageError as invalid:
        outcome = refuse(IDS[name], invalid.error)
    return [f"{name}->>Server: {_label(text)}", *_arrows(outcome)]


class _Client:
    """A connection of somebody's, as the SignalingService sees it: what it is told becomes arrows."""

    def __init__(self, name: str, arrows: list[str]) -> None:
        self.name, self.arrows, self.mailbox = name, arrows, self

    def put(self, frames: bytes) -> bool:
        # What was missed comes in one piece; each frame begins with 0x81.
        messages = re.findall(rb'\{"type".*?\}(?=\x81|$)', frames, re.DOTALL)
        self.arrows += [f"Server-->>{self.name}: {_label(message.decode())}" for message in messages]
        return False

    def flush(self) -> None: ...

    def throttle(self) -> None: ...

    def end(self, ending: Ending) -> None: ...

    def prove_return(self) -> None: ...

    def expect_restart(self) -> None: ...


class _Harness:
    """A real SignalingService that Ann and Bob talk to, each message a second after the one before."""

    def __init__(self) -> None:
        tokens, session_ids = count(1), iter(SESSION_IDS.values())
        sessions = Sessions(
            SessionRules(30, 120), lambda: next(session_ids), lambda: ResumeToken(f"token {next(tokens)}")
        )
        rules = SignalingRules(
            RateRules(50, 100), RateRules(100, 1000), None, 30, Heartbeat(30_000, 60_000), {"messageRate": 50}
        )
        hub = Hub(lambda: GroupId(IDS["Group"]), 30)
        guests = Guests(b"key", lambda: PrincipalId("guest"))
        self._signaling = SignalingService(hub, sessions, guests, Journal(MemoryStore(), hub.snapshot), rules)
        self._connections = {name: ConnectionId(IDS[name]) for name in ("Ann", "Bob")}
        self._values = {**IDS, **{f"{name}Session": session_id for name, session_id in SESSION_IDS.items()}}
        self._now = -1
        self.arrows: list[str] = []

    def play(self, lines: str) -> None:
        for line in lines.splitlines():
            name, what, *rest = line.split(" ", 2)
            self._now += 1
            with capture_logs():
                if name == "Time":
                    self._pass(int(rest[0]))
                else:
                    command = self._command(name, what, *rest)
                    self._signaling.handlers[type(command)](command, self._now)

    def _pass(self, seconds: int) -> None:
        self.arrows.append(f"Note over Ann,Bob: {seconds} seconds pass")
        self._now += seconds
        self._signaling.sweep(self._now)

    def _command(
        self, name: str, what: str, payload: str = ""
    ) -> ConnectionOpened | ConnectionClosed | MessageReceived:
        connection = self._connections[name]
        if what == "connects":
            self.arrows.append(f"Note over {name}: connects")
            self._signaling.clients[connection] = _Client(name, self.arrows)
            return ConnectionOpened(connection)
        if what == "is-lost":
            self.arrows.append(f"Note over {name}: connection lost")
            self._connections[name] = NEW_ID
            return ConnectionClosed(connection, "disconnected", is_final=False)
        text = f'{{"type": "{what}", "payload": {Template(payload).substitute(self._values)}}}'
        self.arrows.append(f"{name}->>Server: {_label(text)}")
        return MessageReceived(connection, decode(text).message, None)


def dialogue(name: str, before: str = "") -> str:
    """What follows from a dialogue with the SignalingService; what was `before` is played, and not drawn."""
    harness = _Harness()
    harness.play(_DIALOGUES.get(before, ""))
    harness.arrows.clear()
    harness.play(_DIALOGUES[name])
    return _mermaid(
        "sequenceDiagram", ["participant Ann", "participant Server", "participant Bob", *harness.arrows]
    )


def _arrows(outcome: Outcome) -> list[str]:
    names = {user_id: name for name, user_id in IDS.items()}
    deliveries = [output for output in outcome.deliveries if isinstance(output, Delivery)]
    told = [(names[who], delivery.message) for delivery in deliveries for who in delivery.recipients]
    return [f"Server-->>{name}: {_label(encode(message, 0).decode())}" for name, message in told]


def _label(text: str) -> str:
    """The type, and below it the payload as JavaScript would write it, with names for the IDs."""
    message = json.loads(text)
    payload = re.sub(r'"(\w+)":', r"\1:", json.dumps(message["payload"], ensure_ascii=False))
    for uuid, name in NAMES.items():
        payload = payload.replace(f'"{uuid}"', name)
    payload = re.sub(r"(validationErrors: )\[.*\]", r"\1[…]", payload)
    payload = re.sub(r'(principalToken: )"[^"]*"', r'\1"…"', payload)
    return f"{message['type']}<br/>" + payload.replace(", members:", ",<br/>members:")


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS, _HEIGHT = 24, 7  # Grafana's grid


def dashboard() -> str:
    panels: list[dict[str, Any]] = []
    x = y = below = 0
    for said in tomllib.loads((ROOT / "docs" / "panels.toml").read_text("utf-8"))["panel"]:
        width, height = (6, 4) if said.get("kind") == "stat" else (8, _HEIGHT)
        if x + width > _COLUMNS or "row" in said:
            x, y = 0, below
        if "row" in said:
            place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
            panels.append({"type": "row", "title": said["row"], "gridPos": place, "panels": []})
            y += 1
        panels.append(_panel(said) | {"gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, below = x + width, y + height
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return json.dumps(_dashboard_of(panels), indent=2, ensure_ascii=False) + "\n"


def _panel(said: Mapping[str, Any]) -> dict[str, Any]:
    queries = said["queries"]
    meanings = [
        row.meaning for row in METRICS if re.search(rf"\b{row.name}(_bucket)?\b", " ".join(queries.values()))
    ]
    return {
        "type": said.get("kind", "timeseries"),
        "title": said["title"],
        "description": " ".join(meanings),
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": said.get("unit", "short"), "min": 0}, "overrides": []},
        "options": {"textMode": "name"} if said["title"] == "Version" else {},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for at, (legend, query) in enumerate(queries.items())
        ],
    }


def _dashboard_of(panels: list[dict[str, Any]]) -> dict[str, Any]:
    instance = {"query": "label_values(peershare_build_info, instance)", "refId": "instances"}
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {"name": "instance", "type": "query", "datasource": _SOURCE, "query": instance, "refresh": 2}
        | {"includeAll": True, "multi": True, "allValue": ".*"},
    ]
    return {
        "title": "PeerShare",
        "uid": "peershare",
        "tags": ["peershare"],
        "schemaVersion": 38,  # Grafana 10's; newer ones bring it up to theirs
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": panels,
    }


_FROM_PYTHON = "// Generated from peershare/messages: `nox -s docs` writes it anew.\n"
_PROTOCOL_VERSION = max(get_args(ProtocolVersion))


def web_protocol() -> str:
    """The constants of the protocol for the web client, as a module."""
    codes = {ending.name: ending.value.code for ending in Ending}
    own = OWN_RECONNECT_CODES
    again = ", ".join(str(ending.value.code) for ending in Ending if ending.value.come_back)
    return f"""{_FROM_PYTHON}
export const PROTOCOL_VERSION = {_PROTOCOL_VERSION};

/** Close codes of WebSockets: docs/protocol.md, "How a connection ends". */
export const CloseCode = {_js_object(codes)};

/** The close codes after which a client connects again by itself. */
export const RECONNECT_CODES = new Set([{again}]);

/** The range of those that newer servers may have as well. */
export const OWN_RECONNECT_CODES = {_js_object({"first": own[0], "last": own[-1]})};

/** The roles in a group, the highest first, and the lowest that may do something: docs/moderation.md. */
export const ROLES = [{", ".join(map(json.dumps, ROLES))}];
export const LOWEST_ROLE = {_js_object(_lowest_roles())};
"""


def _lowest_roles() -> Mapping[str, Role]:
    """The lowest role that may do something, by what it is: each may what those below it may."""
    return {action.value: [role for role in ROLES if action in ROLES[role]][-1] for action in GroupAction}


def _js_object(members: Mapping[str, int | str]) -> str:
    return "".join(["{\n", *(f"\t{name}: {json.dumps(value)},\n" for name, value in members.items()), "}"])


def web_types() -> str:
    """The types of `web_protocol`, and the payload of each message by its type on the wire."""
    codes = "".join(f"\treadonly {ending.name}: {ending.value.code};\n" for ending in Ending)
    error_codes = " | ".join(json.dumps(code.value) for code in ErrorCode)
    inner = "".join(f"export type {kind.__name__} = {_ts_shape(kind)};\n" for kind in _TS_NAMED)
    return f"""{_FROM_PYTHON}
export declare const PROTOCOL_VERSION: {_PROTOCOL_VERSION};

export declare const CloseCode: {{
{codes}}};

export declare const RECONNECT_CODES: Set<number>;

export declare const OWN_RECONNECT_CODES: {{ readonly first: number; readonly last: number }};

export type Role = {_ts_type(Role)};
export declare const ROLES: Role[];
export declare const LOWEST_ROLE: {{ readonly [action in {" | ".join(map(json.dumps, GroupAction))}]: Role }};

/** The codes of `error` messages: docs/protocol.md, "Errors". */
export type ErrorCode = {error_codes};

export type LinkReason = {_ts_type(LinkReason)};
{inner}
/** The payloads of what a client sends, by type. */
export type ClientMessages = {{
{_ts_messages(ALL_CLIENT_TYPES)}}};

/** The payloads of what the server sends, by type. */
export type ServerMessages = {{
{_ts_messages(SERVER_TYPES)}}};
"""


# The shapes that stand in messages have names there too, and the words that a page has a sentence for.
_TS_NAMED = (*INNER_TYPES, *CLIENT_INNER_TYPES)


def _ts_messages(types: Mapping[str, type[Any]]) -> str:
    return "".join(f"\t{json.dumps(name)}: {_ts_type(kind)};\n" for name, kind in types.items())


def _ts_shape(kind: type[Any]) -> str:
    """A member that has a default may be left out."""
    members = (
        f"{wire_name(field.name)}{'' if field.default is attrs.NOTHING else '?'}: {_ts_type(field.type)}"
        for field in attrs.fields(kind)
    )
    return f"{{ {'; '.join(members)} }}" if attrs.fields(kind) else "{}"


def _ts_type(kind: Any) -> str:
    simple = {str: "string", bool: "boolean", int: "number", float: "number", object: "any", Any: "any"}
    if kind in simple:
        return simple[kind]
    if kind in _TS_NAMED:
        return str(kind.__name__)
    if attrs.has(kind):
        return _ts_shape(kind)
    if isinstance(kind, NewType):
        return _ts_type(kind.__supertype__)
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return " | ".join(map(json.dumps, arguments))
    if get_origin(kind) is tuple:
        return f"{_ts_type(arguments[0])}[]"
    if get_origin(kind) is dict:
        return f"Record<string, {_ts_type(arguments[1])}>"
    # None is never on the wire: the member is left out.
    return " | ".join(_ts_type(one) for one in arguments if one is not type(None))


WHOLE_FILES: dict[Path, Callable[[], str]] = {
    DASHBOARD: dashboard,
    WEB / "protocol.js": web_protocol,
    WEB / "protocol.d.ts": web_types,
}

BLOCKS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "error-codes": error_codes,
    "refusals": refusals,
    "endings": endings,
    "client-messages": lambda: _messages(CLIENT_TYPES),
    "session-messages": lambda: _messages(SESSION_TYPES),
    "session-dialogue": partial(dialogue, "session-dialogue"),
    "call-dialogue": partial(dialogue, "call-dialogue", before="before-call"),
    "call-with-old-client": partial(dialogue, "call-with-old-client", before="before-old-client"),
    "server-messages": lambda: _messages(SERVER_TYPES),
    "metrics": metrics,
    "roles": roles,
    "role-messages": role_messages,
    "validation-rules": validation_rules,
    "connection-states": connection_states,
    **{name: partial(flow, name) for name in FLOWS},
}


def stale() -> list[str]:
    """The blocks and files that differ from what the code says now, and the blocks that stand nowhere."""
    found = {block[1]: block[3] for file in FILES for block in _BLOCK.finditer(file.read_text("utf-8"))}
    names = [name for name, make in BLOCKS.items() if found.get(name) != make()]
    for file, make in WHOLE_FILES.items():
        if not file.exists() or file.read_text("utf-8") != make():
            names.append(file.name)
    return names


def main(arguments: list[str]) -> int:
    if "--check" in arguments:
        names = stale()
        print("\n".join(f"stale: {name} (nox -s docs writes it anew)" for name in names) or "all up to date")
        return 1 if names else 0
    for file in FILES:
        text = _BLOCK.sub(lambda block: block[1] + block[2] + BLOCKS[block[1]](), file.read_text("utf-8"))
        file.write_text(text, "utf-8")
    for file, make in WHOLE_FILES.items():
        if not file.exists() or file.read_text("utf-8") != make():  # a server may read it just now
            file.write_text(make(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
