"""The page's sentences about pairs without a connection, and what they follow from. docs/connectivity.md."""

import json
import re
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import get_args

import pytest

import peershare
from peershare.messages import LinkReason
from tests.support import need

WEB = Path(peershare.__file__).parent / "web"
# A module needs a URL; node takes a file of this name for something older.
DIAGNOSE = """
const { attempt, diagnose, sentence } = await load("diagnosis.js");
answer(input.map((facts) => {
  const diagnosis = diagnose(facts);
  return { ...diagnosis, sentence: sentence(diagnosis, "Ann"), attempt: attempt(facts, "Ann") };
}));
"""
GATHER = """
const { readGathered, watchGathering } = await load("gathering.js");
const { iceServers, iceTransportPolicy, before, events, reports } = input;
class Connection extends EventTarget {
  iceGatheringState = "gathering";
  getConfiguration = () => ({ iceServers, iceTransportPolicy });
  tell = (type, data) => this.dispatchEvent(Object.assign(new Event(type), data));
}
const pc = new Connection();
if (reports) pc.onicecandidateerror = null;
const gathered = before;
let changes = 0;
watchGathering(pc, gathered, () => (changes += 1));
for (const [type, data] of events) {
  if (type === "icegatheringstatechange") pc.iceGatheringState = data;
  pc.tell(type, type === "icecandidate" ? { candidate: data } : data);
}
answer({ gathered, changes, told: readGathered(gathered) });
"""
SENTENCES = """
const { sentence } = await load("diagnosis.js");
const sides = { "peer-udp-blocked-no-relay": "them", "signaling-lost": "them", "relay-unreachable": "both" };
const told = (reason) => sentence({ reason, side: sides[reason] ?? "you" }, "Ann");
answer(Object.fromEntries(input.map((reason) => [reason, told(reason)])));
"""
READ = """
const { readGathered } = await load("gathering.js");
answer(input.map(readGathered));
"""


def run(script: str, given: object) -> object:
    """What the page's own modules, which know no browser, make of this."""
    node = shutil.which("node")
    need(node, "node")
    modules = {
        file: b64encode((WEB / file).read_bytes()).decode() for file in ("diagnosis.js", "gathering.js")
    }
    frame = f"""
      const [input, modules] = process.argv.slice(1).map((text) => JSON.parse(text));
      const load = (file) => import("data:text/javascript;base64," + modules[file]);
      const answer = (value) => console.log(JSON.stringify(value));
      {script}
    """
    command = [node, "--input-type=module", "--eval", frame, json.dumps(given), json.dumps(modules)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


def answers(*facts: dict[str, object]) -> list[dict[str, str]]:
    return run(DIAGNOSE, facts)


def pair(mine: dict[str, str], theirs: dict[str, str] | None, **more: object) -> dict[str, object]:
    usual = {"isOnline": True, "lost": False, "isAnswered": True, "isNegotiated": True, "hasPath": False}
    return {**usual, "mine": mine, "theirs": theirs, **more}


OK, SILENT, WAITING = "found", "701", "waiting"
HOST = {"host": OK}
# Without TURN.
CONE = {"host": OK, "stun": OK}
BLOCKED = {"host": OK, "stun": SILENT}
# With TURN on all its ports.
ALL = {"host": OK, "stun": OK, "turn/udp": OK, "turn/tcp": OK, "turn/web": OK}
TCP = {**ALL, "stun": SILENT, "turn/udp": SILENT}
WEB_ALONE = {**TCP, "turn/tcp": SILENT}
NO_TURN = {**ALL, "turn/udp": SILENT, "turn/tcp": SILENT, "turn/web": SILENT}
NOTHING = {**NO_TURN, "stun": SILENT}
NO_WEB = {"host": OK, "stun": SILENT, "turn/udp": SILENT, "turn/tcp": SILENT}


def refused(code: str) -> dict[str, str]:
    return {**CONE, "turn/udp": code, "turn/tcp": code}


REASONS = [
    # What is true of all calls.
    (pair(CONE, CONE, isOnline=False), "network-changed", "you"),
    (pair(CONE, CONE, lost="them"), "signaling-lost", "them"),
    (pair(CONE, None, isAnswered=False), "peer-silent", "them"),
    (pair({"host": SILENT, "stun": WAITING}, CONE), "no-candidates", "you"),
    (pair(CONE, {"host": WAITING}), "no-candidates", "them"),
    (pair(CONE, CONE, isNegotiated=False), "browser-refused", "both"),
    (pair(CONE, CONE, hasPath=True), "dtls-failed", "both"),
    # Without TURN.
    (pair(BLOCKED, CONE), "udp-blocked-no-relay", "you"),
    (pair(CONE, BLOCKED), "peer-udp-blocked-no-relay", "them"),
    (pair(CONE, {**CONE, "stun": WAITING}), "peer-udp-blocked-no-relay", "them"),
    (pair(BLOCKED, BLOCKED), "udp-blocked-no-relay", "both"),
    (pair(BLOCKED, None), "udp-blocked-no-relay", "you"),
    (pair(CONE, CONE), "no-relay", "both"),
    (pair(CONE, None), "no-relay", "both"),
    (pair(HOST, HOST), "no-relay", "both"),
    # With TURN.
    (pair(ALL, ALL), "relay-silent", "both"),
    (pair(ALL, WEB_ALONE), "relay-silent", "both"),
    (pair(NO_TURN, ALL), "relay-silent", "both"),  # one relay is enough
    (pair(NO_TURN, NO_TURN), "relay-unreachable", "both"),
    (pair(NO_TURN, None), "relay-unreachable", "you"),
    (pair(NOTHING, ALL), "relay-unreachable", "you"),
    (pair(ALL, NOTHING), "relay-unreachable", "them"),
    (pair(ALL, None), "unknown", "both"),
    (pair(NO_WEB, {**CONE, "turn/udp": OK, "turn/tcp": OK}), "web-only", "you"),
    (pair({**CONE, "turn/udp": OK, "turn/tcp": OK}, NO_WEB), "web-only", "them"),
    (pair(NO_WEB, NO_WEB), "relay-unreachable", "both"),  # nothing shows that the relay runs
    (pair(NO_WEB, None), "relay-unreachable", "you"),
    (pair(refused("401"), refused("401")), "relay-refused", "both"),
    (pair(refused("508"), None), "relay-refused", "you"),
    (pair({**refused("401"), "turn/tcp": OK}, ALL), "relay-silent", "both"),  # refused once
    # By relay alone.
    (pair({"turn/udp": SILENT}, {"turn/udp": SILENT}), "relay-unreachable", "both"),
]

ATTEMPTS = [
    (pair(CONE, CONE, isOnline=False), "Your device is offline. Connect it to a network."),
    (pair(CONE, CONE, lost="you"), "Your browser has lost this server. The call goes on when it is back."),
    (pair(CONE, None, isAnswered=False), "Waiting for Ann's browser…"),
    (pair(CONE, CONE), "Looking for a direct way…"),
    (pair({**ALL, "turn/udp": WAITING}, CONE), "Trying a relay…"),
    (pair(CONE, ALL), "Trying a relay…"),
    (pair(TCP, ALL), "Your network blocks UDP; connecting by TCP…"),
    (pair(ALL, {**TCP, "stun": WAITING}), "Ann's network blocks UDP; connecting by TCP…"),
    (pair(WEB_ALONE, ALL), "Your firewall lets only web traffic through; connecting by TCP…"),
    (pair(WEB_ALONE, WEB_ALONE), "Both firewalls let only web traffic through; connecting by TCP…"),
    (pair(TCP, WEB_ALONE), "Both networks block UDP; connecting by TCP…"),
    (pair(BLOCKED, CONE), "Looking for a direct way…"),
]


def test_the_reason_and_whose_it_is():
    """The facts of a pair that has failed lead to its reason, and to who has the trouble."""
    found = answers(*(facts for facts, _, _ in REASONS))
    expected = [(reason, side) for _, reason, side in REASONS]
    assert [(answer["reason"], answer["side"]) for answer in found] == expected


def test_what_is_tried():
    """While a pair connects, the page says what is being tried, and by what it is hindered."""
    found = answers(*(facts for facts, _ in ATTEMPTS))
    assert [answer["attempt"] for answer in found] == [text for _, text in ATTEMPTS]


NO_TURN_HERE = "UDP, and this server has no TURN. Ask the host to turn it on."
CHECK = "Ask the host to run “peershare check-turn”."


@pytest.mark.parametrize(
    ("mine", "theirs", "sentence"),
    [
        (BLOCKED, CONE, f"Your network blocks {NO_TURN_HERE}"),
        (CONE, BLOCKED, f"Ann's network blocks {NO_TURN_HERE}"),
        (BLOCKED, BLOCKED, f"Both networks block {NO_TURN_HERE}"),
        (NO_TURN, NO_TURN, f"The relay (TURN) did not answer you and Ann. {CHECK}"),
        (ALL, NOTHING, f"The relay (TURN) did not answer Ann. {CHECK}"),
    ],
)
def test_whose_network_is_named(mine, theirs, sentence):
    """The sentence names who has the trouble, in correct English for one and for two."""
    [answer] = answers(pair(mine, theirs))
    assert answer["sentence"] == sentence


def test_the_sentences_are_in_the_document():
    """Each reason that the server counts has its sentence there, word for word, and no other stands there."""
    document = (Path(__file__).parents[1] / "docs" / "connectivity.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (\S.*?\.) \| `([a-z-]+)` \|", document, re.MULTILINE))
    reasons = [
        reason for reason in get_args(LinkReason) if reason != "no-picture"
    ]  # that is over when it is told
    told = {text: reason for reason, text in run(SENTENCES, reasons).items()}
    assert rows == told


# --- what is gathered ----------------------------------------------------------------------------

SERVERS = [
    {"urls": "stun:stun.example.com:3478"},
    {
        "urls": [
            "turn:turn.example.com:3478?transport=udp",
            "turn:turn.example.com:3478?transport=tcp",
            "turns:turn.example.com:443?transport=tcp",
        ]
    },
]
WAITS = {"stun": WAITING, "turn/udp": WAITING, "turn/tcp": WAITING, "turn/web": WAITING, "host": WAITING}
DONE = ["icegatheringstatechange", "complete"]


def candidate(kind: str, **more: str) -> list[object]:
    return ["icecandidate", {"candidate": "candidate:1 1 udp …", "type": kind, **more}]


def failure(url: str, code: int = 701) -> list[object]:
    return ["icecandidateerror", {"url": url, "errorCode": code}]


def gather(
    *events: list[object],
    servers: list[dict] = SERVERS,
    policy: str = "all",
    before: dict | None = None,
    reports: bool = True,
) -> dict:
    given = {"iceServers": servers, "iceTransportPolicy": policy, "before": before or {}, "events": events}
    return run(GATHER, {**given, "reports": reports})["gathered"]


def test_what_a_browser_gathers():
    """Each candidate and each error belongs to one way: by its type, its protocol, and its server's port."""
    udp, tcp, web = SERVERS[1]["urls"]
    assert gather() == WAITS
    assert gather(policy="relay") == {way: WAITING for way in WAITS if way != "host"}
    assert gather(candidate("host"), candidate("srflx")) == {**WAITS, "host": OK, "stun": OK}
    assert gather(candidate("relay", url=web)) == {**WAITS, "turn/web": OK}
    assert gather(candidate("relay", relayProtocol="udp"))["turn/udp"] == OK
    assert gather(candidate("relay", relayProtocol="tcp"))["turn/tcp"] == OK
    assert gather(failure(udp), failure(tcp, 401)) == {**WAITS, "turn/udp": SILENT, "turn/tcp": "401"}
    # One of several network cards has no way to the server.
    assert gather(candidate("srflx"), failure("stun:stun.example.com"))["stun"] == OK
    assert gather(failure("stun:stun.example.com"), candidate("srflx"))["stun"] == OK


def test_what_no_server_answered():
    """At the end, what still waits has no answer; but STUN tells nothing where there is no NAT."""
    assert gather(candidate("host"), DONE) == {**NOTHING, "host": OK}
    relayed = gather(candidate("host"), candidate("relay", url=SERVERS[1]["urls"][0]), DONE)
    assert (relayed["stun"], relayed["turn/udp"], relayed["turn/tcp"]) == (OK, OK, SILENT)
    stun = SERVERS[:1]
    assert gather(candidate("host"), DONE, servers=stun) == CONE
    assert gather(candidate("host"), DONE, servers=stun, reports=False) == BLOCKED  # it never tells of errors


def test_a_later_attempt_knows_more():
    """What an earlier attempt has found stays until another one hears otherwise."""
    assert gather(before=dict(ALL)) == ALL
    assert gather(failure("stun:stun.example.com"), before=dict(ALL))["stun"] == SILENT
    assert gather(before={"host": OK, "stun": WAITING}) == {**WAITS, "host": OK, "stun": SILENT}


def test_what_another_page_tells_may_be_anything():
    """Of what the other side says it has gathered, only what makes sense is taken, and no more than that."""
    rubbish = [None, 7, "host", [], {"host": 7}, {"host": "found" * 99}, {"host": {"a": 1}}, {"there": OK}]
    assert run(READ, rubbish) == [None, None, None, {}, {}, {}, {}, {}]
    assert run(READ, [{**ALL, "address": "192.0.2.1"}]) == [ALL]
