"""Safety codes in a real browser: the exchange, fingerprints, and who sits between. docs/safety-codes.md."""

import hashlib
import hmac
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

import peershare
from tests.browser import Chromium, launcher, served

pytestmark = pytest.mark.timeout(120)

SOURCE = Path(peershare.__file__).parent / "web" / "safety-code.js"
EMOJI = SOURCE.with_name("safety-emoji.js")
PAGE = Path(__file__).parent / "pages" / "safety_code.html"
DOCS = Path(__file__).parents[1] / "docs" / "safety-codes.md"
LABEL = b"PeerShare safety code 1"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with launcher() as launch:
        yield launch()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with served({"/index.html": PAGE, "/safety-code.js": SOURCE, "/safety-emoji.js": EMOJI}) as url:
        yield url


@pytest.fixture(scope="module")
def tab(chromium) -> Iterator[Page]:
    with chromium.context() as context:
        yield context.new_page()


@pytest.fixture
def page(tab, site) -> Page:
    """The page, loaded anew."""
    tab.goto(site)
    tab.wait_for_function("() => window.isReady")
    return tab


# --- the exchange --------------------------------------------------------------------------------


def emoji_of_the_document() -> list[str]:
    """Pictures and names in their order, by the table of the document."""
    rows = re.findall(r"^\| +\d+ \|(.+)\|$", DOCS.read_text("utf-8"), re.MULTILINE)
    return [cell.strip() for row in rows for cell in row.split("|")]


def code_by_the_document(first: bytes, second: bytes, nonces: bytes) -> str:
    """The code that docs/safety-codes.md tells how to compute, with HKDF by RFC 5869."""
    key = hmac.digest(first + second, nonces, "sha256")
    code = int.from_bytes(hmac.digest(key, LABEL + b"\x01", "sha256")[:3], "big")
    names = [emoji.split(" ")[1] for emoji in emoji_of_the_document()]
    return ",".join(names[(code >> shift) & 63] for shift in (18, 12, 6, 0))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_both_sides_have_the_same_code(page, order):
    """It is the one that the document tells how to compute; who has the lesser fingerprint commits."""
    outcomes, sent = page.evaluate(
        """async ([local, remote]) => {
        const { sides, outcomes } = await exchange(local, remote);
        return [outcomes, sides.map(({ sent }) => sent)];
    }""",
        order,
    )
    committed, answered = sent if order == (1, 2) else reversed(sent)
    assert [list(message) for message in committed] == [["commitment"], ["reveal"]]
    assert [list(message) for message in answered] == [["nonce"]]
    first, second = b"\x11" * 32, b"\x22" * 32
    reveal, nonce = (bytes.fromhex(text) for text in (committed[1]["reveal"], answered[0]["nonce"]))
    commitment = hashlib.sha256(LABEL + b" commitment" + first + second + reveal).hexdigest()
    assert committed[0]["commitment"] == commitment
    assert outcomes == [code_by_the_document(first, second, reveal + nonce)] * 2


def test_the_emoji():
    """There are 64, each with a picture and a name of its own, the same in the page and in the document."""
    [table] = re.findall(r"const EMOJI = \((.*?)\)\n", EMOJI.read_text("utf-8"), re.DOTALL)
    emoji = re.findall(r"([^\s\w\"+])([a-z]+)", table)
    assert [" ".join(one) for one in emoji] == emoji_of_the_document()
    assert [len(set(parts)) for parts in zip(*emoji, strict=True)] == [64, 64]


def test_each_exchange_has_a_code_of_its_own(page):
    """The same certificates again: the nonces are new."""
    codes = page.evaluate("""async () => {
        const codes = [];
        for (let time = 0; time < 20; time++) codes.push((await exchange()).outcomes[0]);
        return codes;
    }""")
    assert len(set(codes)) == 20


TWO_IN_ONE = {"commitment": "1" * 64, "nonce": "1" * 64}  # the first one counts
WRONG = [
    None,
    7,
    "commitment",
    [],
    {},
    TWO_IN_ONE,
    {"commitment": None},
    {"commitment": "1" * 63},
    {"commitment": "A" * 64},
    {"nonce": {}},
    {"nonce": "x" * 64},
    {"reveal": "1" * 64},
    {"something": "1" * 64},
]


@pytest.mark.parametrize("commits", [True, False])
def test_a_wrong_message(page, commits):
    """There is no code, whatever comes behind it, and nothing is revealed."""
    seen = page.evaluate(
        """async ([commits, messages]) => {
        const seen = [];
        for (const message of messages) {
            const [local, remote] = commits ? [1, 2] : [2, 1];
            const [side, other] = [new Side(local, remote).start(), new Side(remote, local).start()];
            side.code.handle(message);
            const first = await side.now();
            other.sendTo(side);
            side.sendTo(other);
            seen.push([first, await side.now(), side.sent.map((sent) => Object.keys(sent)[0]).join()]);
        }
        return seen;
    }""",
        [commits, WRONG if commits else [message for message in WRONG if message != TWO_IN_ONE]],
    )
    assert {tuple(one) for one in seen} == {("failed wrong", "failed wrong", "commitment" if commits else "")}


def test_messages_before_the_beginning(page):
    """A side that has not read its fingerprints yet believes nobody."""
    seen = page.evaluate("""async () => {
        const side = new Side(2, 1);
        side.code.handle({ commitment: "1".repeat(64) });
        await side.start().now();
        return [await side.now(), side.sent];
    }""")
    assert seen == ["failed wrong", []]


def test_a_second_commitment_is_ignored(page):
    """The first one binds: only what was committed to then can be revealed."""
    seen = page.evaluate("""async () => {
        const [ann, bob, other] = [new Side(1, 2), new Side(2, 1), new Side(1, 2)];
        ann.start().sendTo(bob);
        bob.start();
        const nonce = await bob.message("nonce");
        bob.code.handle({ commitment: await other.start().message("commitment") });
        bob.code.handle({ commitment: 7 });
        const between = [await bob.now(), bob.sent.length];
        ann.code.handle({ nonce });
        return [...between, (await bob.outcome()) === (await ann.outcome())];
    }""")
    assert seen == ["waiting ", 1, True]


def test_what_comes_late_changes_nothing(page):
    """A code stays as it is, whatever is said behind it."""
    unchanged = page.evaluate("""async () => {
        const { sides } = await exchange();
        const [ann, bob] = sides;
        const before = [await ann.now(), await bob.now()];
        for (const message of [...ann.sent, ...bob.sent, null, { nonce: "1".repeat(64) }])
            for (const side of sides) side.code.handle(message);
        return [await ann.now(), await bob.now()].join() === before.join() && ann.sent.length === 2;
    }""")
    assert unchanged is True


@pytest.mark.parametrize("local", [1, 3])
def test_silence(page, local):
    """Who gets no answer has no code, and takes none later."""
    seen = page.evaluate(
        """async (local) => {
        const [side, other] = [new Side(local, 2), new Side(2, local)];
        const outcome = await side.start(10).outcome();
        other.start().sendTo(side);
        side.sendTo(other);
        return [outcome, await side.now()];
    }""",
        local,
    )
    assert seen == ["silent", "failed silent"]


def test_a_channel_that_closes(page):
    """It fails where a message can't be sent."""
    state = page.evaluate("""async () => {
        const send = () => { throw new DOMException("closed", "InvalidStateError"); };
        const code = new SafetyCode(async () => new Side(1, 2).fingerprints, send, () => {});
        code.start();
        await until(() => code.state !== "waiting");
        return code.state;
    }""")
    assert state == "failed"


def test_another_certificate(page):
    """A code is gone once a description has replaced a certificate, and does not come back with it."""
    seen = page.evaluate("""async () => {
        const { sides: [ann] } = await exchange();
        ann.code.check();
        const before = (await ann.now()).startsWith("ready");
        const { fingerprints } = ann;
        const after = [];
        for (const now of [{ ...fingerprints, remote: "9".repeat(64) }, fingerprints]) {
            ann.fingerprints = now;
            ann.code.check();
            after.push(await ann.now());
        }
        return [before, ...after];
    }""")
    assert seen == [True, "failed changed", "failed changed"]


def test_no_certainty_any_more(page):
    """It is gone, too, where a new description leaves the certificate open."""
    seen = page.evaluate("""async () => {
        const { sides: [ann] } = await exchange();
        ann.fingerprints = null;
        ann.code.check();
        return ann.now();
    }""")
    assert seen == "failed changed"


def test_without_cryptography(page):
    """A page that came without https has none, and says so."""
    seen = page.evaluate("""async () => {
        Object.defineProperty(crypto, "subtle", { value: undefined });
        return new Side(1, 2).start().outcome();
    }""")
    assert seen == "insecure"


def test_not_for_ever(page):
    """A page makes 256 exchanges: so often can somebody in between try whether the codes fit."""
    seen = page.evaluate("""async () => {
        for (let time = 0; time < 128; time++) await exchange();
        return [await new Side(1, 2).start().outcome(), await new Side(2, 1).start().outcome()];
    }""")
    assert seen == ["often", "often"]


# --- somebody in the middle ------------------------------------------------------------------------

# The certificates of Ann, of the middle towards her and towards Bob, and of Bob: in all orders.
ORDERS = [(1, 2, 3, 4), (1, 3, 2, 4), (3, 2, 1, 4), (3, 1, 4, 2), (1, 4, 4, 2), (2, 3, 3, 4)]


@pytest.mark.parametrize("order", ORDERS)
def test_who_ends_both_connections(page, order):
    """The codes of Ann and Bob differ, and their parts are no more alike than by chance."""
    codes = page.evaluate(
        """async ([ann, toAnn, toBob, bob]) => {
        const codes = [];
        for (let time = 0; time < 40; time++) {
            const sides = [new Side(ann, toAnn), new Side(bob, toBob)];
            connect(sides[0], new Side(toAnn, ann));
            connect(sides[1], new Side(toBob, bob));
            codes.push([await sides[0].outcome(), await sides[1].outcome()]);
        }
        return codes;
    }""",
        order,
    )
    assert all(len(code.split(",")) == 4 for pair in codes for code in pair)
    assert [pair for pair in codes if pair[0] == pair[1]] == []
    alike = sum(a == b for pair in codes for a, b in zip(*(code.split(",") for code in pair), strict=True))
    assert alike <= 15  # of 160, where 2.5 are expected: more than that is rarer than one in a million


@pytest.mark.parametrize("order", ORDERS)
def test_who_passes_all_on(page, order):
    """With other certificates, the messages of the other side lead to no code on one side at least."""
    codes = page.evaluate(
        """async ([ann, toAnn, toBob, bob]) => {
        const sides = [new Side(ann, toAnn), new Side(bob, toBob)];
        connect(...sides);
        return [await sides[0].now(), await sides[1].now()];
    }""",
        order,
    )
    assert len([code for code in codes if code.startswith("ready")]) <= 1


@pytest.mark.parametrize("local", [1, 3])
def test_a_mirror(page, local):
    """Who hears only what it says itself has no code."""
    seen = page.evaluate(
        """async (local) => {
        const ann = new Side(local, 2);
        ann.sendTo(ann);
        return [await ann.start(200).outcome(), ann.code.emoji.length];
    }""",
        local,
    )
    assert seen in (["wrong", 0], ["silent", 0])


def test_both_commit_and_are_swapped(page):
    """Where the middle makes both commit, neither commitment can be passed on to the other."""
    seen = page.evaluate("""async () => {
        const sides = [new Side(1, 3), new Side(2, 4)];
        connect(...sides);
        return [await sides[0].outcome(), await sides[1].outcome()];
    }""")
    assert seen == ["wrong", "wrong"]


def test_a_search_after_the_commitment(page):
    """Who has committed to Bob can't reveal what fits to Ann's code, once it knows Bob's nonce."""
    seen = page.evaluate("""async () => {
        const [ann, bob] = [new Side(1, 2), new Side(3, 2)]; // the middle answers her, and commits to him
        const { sides: [, middle] } = await exchange(3, 2);
        ann.start();
        bob.start().code.handle({ commitment: await middle.message("commitment") });
        const nonce = await bob.message("nonce");
        await ann.message("commitment");
        ann.code.handle({ nonce: "5".repeat(64) });
        const code = await ann.outcome();
        bob.code.handle({ reveal: nonce });
        return [code.split(",").length, await bob.outcome()];
    }""")
    assert seen == [4, "wrong"]


@pytest.mark.parametrize("same", [True, False])
def test_a_replay(page, same):
    """A commitment of an earlier exchange, and its reveal: it is wrong, or the code is another."""
    earlier, now = page.evaluate(
        """async (same) => {
        const { sides: [ann], outcomes } = await exchange(1, 2);
        const bob = new Side(same ? 2 : 3, 1).start();
        for (const message of ann.sent) bob.code.handle(message);
        return [outcomes[1], await bob.outcome()];
    }""",
        same,
    )
    assert (now.count(",") == 3 and now != earlier) if same else now == "wrong"


def test_swapped_between_two_exchanges(page):
    """The commitment of one, and what another reveals."""
    seen = page.evaluate("""async () => {
        const [ann, cleo, bob] = [new Side(1, 2), new Side(1, 2), new Side(2, 1)];
        for (const side of [ann, cleo, bob]) side.start();
        bob.code.handle({ commitment: await ann.message("commitment") });
        const nonce = await bob.message("nonce");
        await cleo.message("commitment");
        cleo.code.handle({ nonce });
        bob.code.handle({ reveal: await cleo.message("reveal") });
        return bob.outcome();
    }""")
    assert seen == "wrong"


# --- the fingerprints --------------------------------------------------------------------------------

A, B, C = (":".join([digits] * 32) for digits in ("AA", "0b", "cc"))


def line(value: str, name: str = "sha-256") -> str:
    return f"a=fingerprint:{name} {value}\r\n"


def descriptions(remote: str, local: str = line(A)) -> dict[str, str]:
    return {"local": f"v=0\r\n{local}m=audio 9\r\n", "remote": f"v=0\r\n{remote}a=setup:active\r\n"}


CERTAIN = {
    "one": line(B),
    "of each medium the same": f"m=audio 9\r\n{line(B)}m=video 9\r\n{line(B)}m=application 9\r\n{line(B)}",
    "in other letters": line(B.upper(), "SHA-256"),
    "with line feeds alone": line(B).replace("\r", ""),
}
OPEN = {
    "none": "",
    "two": line(B) + line(C),
    "another for one medium": f"m=audio 9\r\n{line(C)}m=application 9\r\n{line(B)}",
    "a weaker hash": line(B[:59], "sha-1"),
    "a weaker hash beside it": line(B) + line(B[:59], "sha-1"),
    "a stronger hash beside it": line(B) + line(f"{B}:{B}", "sha-512"),
    "too short": line(B[:-3]),
    "no digits": line(B.replace("b", "x")),
    "something behind it": line(f"{B} {C}"),
    "our own": line(A),
}
READ = """({ local, remote, certificate }) => {
    const transport = { getRemoteCertificates: () => [new TextEncoder().encode(certificate).buffer] };
    return readFingerprints({
        signalingState: "stable",
        currentLocalDescription: { sdp: local },
        currentRemoteDescription: remote && { sdp: remote },
        sctp: certificate && { transport },
    });
}"""


def test_certain_fingerprints(page):
    """Each certificate has one, by SHA-256, for all media."""
    for name, remote in CERTAIN.items():
        found = page.evaluate(READ, descriptions(remote))
        assert found == {"local": "aa" * 32, "remote": "0b" * 32}, name


def test_uncertain_fingerprints(page):
    """A description that leaves open which certificate a side has gives no code."""
    for name, text in OPEN.items():
        assert page.evaluate(READ, descriptions(text)) is None, name
        assert page.evaluate(READ, descriptions(line(B), local=text)) is None or text == line(A), name


def test_no_description(page):
    """Before both are there, nothing is certain."""
    assert page.evaluate(READ, {"local": descriptions("")["local"], "remote": None}) is None


def test_an_answer_that_is_being_set(page):
    """A channel may open before the answer's description is there: it is waited for."""
    found = page.evaluate(
        """async ([local, remote]) => {
        const pc = new EventTarget();
        Object.assign(pc, { signalingState: "have-local-offer", currentLocalDescription: { sdp: local } });
        const found = readFingerprints(pc);
        for (const signalingState of ["have-local-pranswer", "stable"]) {
            await new Promise((resolve) => setTimeout(resolve));
            if (signalingState === "stable") pc.currentRemoteDescription = { sdp: remote };
            pc.signalingState = signalingState;
            pc.dispatchEvent(new Event("signalingstatechange"));
        }
        return found;
    }""",
        [line(A), line(B)],
    )
    assert found == {"local": "aa" * 32, "remote": "0b" * 32}


def test_the_certificate_itself(page):
    """Where the browser shows the certificate that is in use, it has to be the described one."""
    digest = hashlib.sha256(b"certificate").hexdigest()
    described = descriptions(line(":".join(re.findall("..", digest))))
    found = page.evaluate(READ, {**described, "certificate": "certificate"})
    assert found == {"local": "aa" * 32, "remote": digest}
    assert page.evaluate(READ, {**described, "certificate": "another"}) is None


def test_fingerprints_of_a_connection(page):
    """They are those of the certificates that the browser says it uses, on both sides."""
    read, used = page.evaluate("""async () => {
        const [one, other] = [new RTCPeerConnection(), new RTCPeerConnection()];
        for (const [from, to] of [[one, other], [other, one]])
            from.onicecandidate = ({ candidate }) => candidate && to.addIceCandidate(candidate);
        for (const pc of [one, other]) pc.createDataChannel("x", { negotiated: true, id: 0 });
        one.addTransceiver("audio");
        await one.setLocalDescription();
        await other.setRemoteDescription(one.localDescription);
        await other.setLocalDescription();
        await one.setRemoteDescription(other.localDescription);
        await until(() => one.connectionState === "connected" && other.connectionState === "connected");
        const used = async (pc) => {
            const stats = await pc.getStats();
            const transport = [...stats.values()].find(({ type }) => type === "transport");
            const of = (id) => stats.get(id).fingerprint.replaceAll(":", "").toLowerCase();
            return { local: of(transport.localCertificateId), remote: of(transport.remoteCertificateId) };
        };
        return [
            [await readFingerprints(one), await readFingerprints(other)],
            [await used(one), await used(other)],
        ];
    }""")
    assert read == used
    assert read[0] == {"local": read[1]["remote"], "remote": read[1]["local"]}
