"""Tokens and keys, and a key set that is fetched by HTTP from a real server on loopback."""

import gzip
import json
import time
from contextlib import suppress

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from peershare.adapters.auth.jwt import JwtRules, JwtVerifier
from peershare.adapters.auth.key_set import KeySet
from peershare.adapters.auth.keys import FixedKeys, read_key_set
from peershare.core.principal import subject_id
from peershare.messages import errors
from peershare.ports.auth import TokenError, TokenFault
from peershare.runtime.tokens import Tokens
from tests.tokens import (
    AUDIENCE,
    GROUP,
    ISSUER,
    KEYS,
    OTHER_RSA,
    RSA,
    SECRET,
    claims,
    confused,
    encoded,
    pem,
    sign,
    tampered,
    token,
    unsigned,
)

NOW = time.time()


def verifier(key=SECRET):
    return JwtVerifier(JwtRules(ISSUER, AUDIENCE), FixedKeys(key), lambda: NOW)


def fault(one, text):
    with pytest.raises(TokenError) as caught:
        one.verify(text)
    return caught.value.fault


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_good_token(algorithm):
    """Each kind of key: who it is, what it is called, where it may be, until when; the same ID each time."""
    key = KEYS[algorithm]
    one = verifier(SECRET if algorithm == "HS256" else pem(key))
    said = {"group": GROUP.upper(), "role": "admin", "exp": NOW + 100, "aud": ["else", AUDIENCE]}
    verified = one.verify(token(key, algorithm, name=" Ann ", **said))
    assert verified.principal.id == subject_id(ISSUER, "user-1")
    assert verified.principal.is_verified
    assert verified.principal.claims.name == "Ann"
    assert (verified.principal.claims.group, verified.principal.claims.role) == (GROUP, "admin")
    assert verified.until == int((NOW + 130) * 1000)
    assert one.verify(token(key, algorithm)).principal.claims.role is None


def test_ed25519_has_two_names():
    """RFC 9864 renames it; neither brings a warning."""
    one = verifier(pem(KEYS["Ed25519"]))
    assert one.verify(token(KEYS["Ed25519"], "EdDSA")).principal.is_verified


BAD = {
    "expired": (token(exp=NOW - 31), TokenFault.EXPIRED),
    "not yet": (token(nbf=NOW + 31), TokenFault.NOT_YET),
    "made in the future": (token(iat=NOW + 31), TokenFault.NOT_YET),
    "no end": (token(exp=None), TokenFault.CLAIMS),
    "an end that is no date": (token(exp="tomorrow"), TokenFault.CLAIMS),
    "an end that is true": (token(exp=True), TokenFault.CLAIMS),
    "an end beyond all dates": (token(exp=10**300), TokenFault.CLAIMS),
    "an endless one": (token(exp=float("inf")), TokenFault.CLAIMS),
    "wrong audience": (token(aud="another"), TokenFault.AUDIENCE),
    "no audience": (token(aud=None), TokenFault.AUDIENCE),
    "other issuer": (token(iss="https://evil.example.com"), TokenFault.ISSUER),
    "no issuer": (token(iss=None), TokenFault.ISSUER),
    "tampered": (tampered(token()), TokenFault.SIGNATURE),
    "another secret": (token(KEYS["HS256"].import_key("x" * 33)), TokenFault.SIGNATURE),
    "no signature": (token().rpartition(".")[0] + ".", TokenFault.SIGNATURE),
    "alg none": (unsigned(), TokenFault.ALGORITHM),
    "alg None": (unsigned("None"), TokenFault.ALGORITHM),
    "another hash": (token(KEYS["HS256"], "HS512"), TokenFault.ALGORITHM),
    "another kind of key": (token(RSA, "RS256"), TokenFault.ALGORITHM),
    "alg that is no text": (f"{encoded({'alg': 5})}.{encoded(claims())}.", TokenFault.MALFORMED),
    "no alg": (f"{encoded({})}.{encoded(claims())}.", TokenFault.MALFORMED),
    "critical header": (f"{encoded({'alg': 'HS256', 'crit': ['exp']})}.e30.e30", TokenFault.MALFORMED),
    "unencoded payload": (f"{encoded({'alg': 'HS256', 'b64': False})}.e30.e30", TokenFault.MALFORMED),
    "header of another kind": (f"{encoded([])}.e30.e30", TokenFault.MALFORMED),
    "kid that is no text": (f"{encoded({'alg': 'HS256', 'kid': []})}.e30.e30", TokenFault.MALFORMED),
    "too long": (token(name="a" * 4096), TokenFault.TOO_LONG),
    "encrypted": ("e30.e30.e30.e30.e30", TokenFault.MALFORMED),
    "a blank": (" ", TokenFault.MALFORMED),
    "not ASCII": ("é.é.é", TokenFault.MALFORMED),
    "deep header": (encoded(b"[" * 1500) + ".e30.e30", TokenFault.MALFORMED),
    "deep payload": (sign(b"[" * 2000), TokenFault.CLAIMS),
    "a list": (sign([]), TokenFault.CLAIMS),
    "no JSON": (sign(b"\xff"), TokenFault.CLAIMS),
    "no name": (token(name=None), TokenFault.CLAIMS),
    "a blank name": (token(name="  "), TokenFault.CLAIMS),
    "a name that hides": (token(name="A\u202en"), TokenFault.CLAIMS),
    "half a character": (token(name="\ud800"), TokenFault.CLAIMS),
    "no subject": (token(sub=None), TokenFault.CLAIMS),
    "an empty subject": (token(sub=""), TokenFault.CLAIMS),
    "a subject that is a number": (token(sub=5), TokenFault.CLAIMS),
    "a long subject": (token(sub="a" * 256), TokenFault.CLAIMS),
    "a group that is no ID": (token(group="team"), TokenFault.CLAIMS),
    "a role that is a list": (token(role=["admin"]), TokenFault.CLAIMS),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "expected"), BAD.values(), ids=BAD)
def test_a_bad_token(bad, expected):
    """It is refused, and its bearer and the metrics are told why."""
    assert fault(verifier(), bad) is expected
    tokens = Tokens(verifier())
    assert tokens.judge(bad) == errors.token_invalid(expected.value)
    assert tokens.counts[expected] == 1
    assert tokens.counts["accepted"] == 0


def test_a_clock_that_is_half_a_minute_off():
    """Half a minute is forgiven in both directions, to the second."""
    one = verifier()
    for said in ({"exp": NOW - 29}, {"nbf": NOW + 29}, {"iat": NOW + 29}):
        assert one.verify(token(**said)).principal.is_verified


def test_a_public_key_is_no_secret():
    """Who signs with HMAC and the public key, which everybody has, is nobody (RFC 8725, section 2.1)."""
    public = pem(RSA)
    assert fault(verifier(public), confused(public)) is TokenFault.ALGORITHM
    assert fault(verifier(public), unsigned()) is TokenFault.ALGORITHM
    assert fault(verifier(public), token(OTHER_RSA, "RS256")) is TokenFault.SIGNATURE
    assert fault(verifier(public), token(RSA, "PS256")) is TokenFault.ALGORITHM


@given(
    st.one_of(
        st.text(),
        st.lists(st.binary(max_size=200), min_size=2, max_size=4).map(
            lambda parts: ".".join(map(encoded, parts))
        ),
    )
)
def test_any_text(text):
    """Whatever it is, it proves nothing, and nothing else is raised."""
    assert fault(verifier(), text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "name", "exp", "nbf", "iat", "group", "role", "x"]), json_values
    )
)
def test_any_claims(others):
    """Rightly signed, whatever is in it: either all that is needed is there, or it is refused."""
    text = sign({**claims(), **others})
    try:
        verified = verifier().verify(text)
    except TokenError:
        return
    assert verified.until > NOW * 1000
    assert verified.principal.claims.name.encode()
    json.dumps(verified.until)


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c"]), json_values)
)
def test_any_header(header):
    """A header brings no key of its own, and no other algorithm."""
    text = f"{encoded(header)}.{encoded(claims())}.{encoded(b'x' * 32)}"
    assert fault(verifier(), text)


@given(st.integers(0, 400), st.integers(1, 127))
def test_any_one_character_changed(place, change):
    """No character of a good token may be another, but for what base64 leaves open at the end."""
    good = token()
    place %= len(good) - 2
    bad = good[:place] + chr(ord(good[place]) ^ change) + good[place + 1 :]
    assert fault(verifier(), bad)


# --- key sets ----------------------------------------------------------------------------------


def key_set(*keys, **others):
    return {"keys": [{**key.as_dict(private=False), "kid": name, **others} for name, key in keys]}


def test_keys_of_a_set():
    """Secrets, keys for encryption, short ones and what is no key are left out; so are private parts."""
    said = key_set(("a", RSA), ("b", KEYS["ES256"]), ("c", KEYS["Ed25519"]))
    said["keys"] += [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {**RSA.as_dict(private=False), "use": "enc"},
        {**RSA.as_dict(private=False), "alg": "HS256", "kid": "odd"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "RSA", "n": 5},
        {**RSA.as_dict(private=False), "kid": 5},
        5,
        None,
    ]
    private = {**RSA.as_dict(private=True), "kid": "private"}
    found = read_key_set({"keys": [*said["keys"], private]})
    assert [key.id for key in found] == ["a", "b", "c", "private"]
    assert not any(key.key.is_private for key in found)
    for bad in (5, [], {}, {"keys": {}}):
        with pytest.raises(ValueError, match="key set"):
            read_key_set(bad)


class Issuer:
    """A web server with a key set: what it answers, how often it was asked, and how slowly it is."""

    def __init__(self):
        self.body = json.dumps(key_set(("one", RSA))).encode()
        self.status = "200 OK"
        self.asked = 0
        self.answers = trio.Event()
        self.answers.set()
        self.at_once = self.most_at_once = 0

    async def serve(self, stream):
        async with stream:
            self.heard = bytes(await stream.receive_some())
            self.asked += 1
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
            try:
                await self.answers.wait()
            finally:
                self.at_once -= 1
            head = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
            with suppress(trio.BrokenResourceError):
                await stream.send_all(head.encode() + self.body)


@pytest.fixture
async def issuer(nursery):
    issuer = Issuer()
    listeners = await nursery.start(trio.serve_tcp, issuer.serve, 0)
    issuer.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/jwks.json"
    yield issuer
    nursery.cancel_scope.cancel()


@pytest.fixture
def short(monkeypatch):
    """Real sockets, so the times are short."""
    monkeypatch.setattr("peershare.adapters.auth.key_set._LEAST", 0.05)
    monkeypatch.setattr("peershare.adapters.auth.key_set._RENEW", 0.2)
    monkeypatch.setattr("peershare.adapters.auth.key_set._TIMEOUT", 2.0)


async def until(condition):
    """Real sockets: wait for what is to come."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - it is another task's count
            await trio.sleep(0.01)


async def known(one, text):
    """Verify it as soon as the keys are known."""
    with trio.fail_after(20):
        while True:
            try:
                return one.verify(text)
            except TokenError as error:
                if error.fault is not TokenFault.KEYS_PENDING:
                    raise
            await trio.sleep(0.01)


def signed(key, name, algorithm="RS256"):
    return sign(claims(), key, algorithm, kid=name)


async def test_a_key_set_that_is_renewed(issuer, nursery, short):
    """A new key is known as soon as a token names it; one that is gone from the set is good no more."""
    one = JwtVerifier(JwtRules(ISSUER, AUDIENCE), KeySet(issuer.url))
    assert fault(one, signed(RSA, "one")) is TokenFault.KEYS_PENDING
    nursery.start_soon(one.run)
    assert (await known(one, signed(RSA, "one"))).principal.is_verified
    assert one.verify(sign(claims(), RSA, "RS256")).principal.is_verified  # it names no key
    issuer.body = json.dumps(key_set(("two", KEYS["ES256"]))).encode()
    with trio.fail_after(20):
        while True:
            try:
                assert (await known(one, signed(KEYS["ES256"], "two", "ES256"))).principal.is_verified
                break
            except TokenError as error:
                assert error.fault is TokenFault.UNKNOWN_KEY  # noqa: PT017 - until the next may be asked for
            await trio.sleep(0.01)
    assert fault(one, signed(RSA, "one")) in {TokenFault.UNKNOWN_KEY, TokenFault.KEYS_PENDING}


async def test_16_a_compressed_key_set(issuer, nursery, short):
    """What was not asked for is refused as it came: a few bytes could become as many as fit into memory."""
    issuer.body = gzip.compress(json.dumps(key_set(("one", RSA))).encode() + b" " * (10 << 20))
    issuer.status = "200 OK\r\nContent-Encoding: gzip"
    one = JwtVerifier(JwtRules(ISSUER, AUDIENCE), KeySet(issuer.url))
    with capture_logs() as logs:
        nursery.start_soon(one.run)
        await until(lambda: issuer.asked >= 2)
    assert "compressed" in logs[0]["why"]
    assert b"identity" in issuer.heard
    assert fault(one, signed(RSA, "one")) is TokenFault.KEYS_PENDING


async def test_16_a_key_set_that_has_moved(issuer, nursery, short):
    """Nobody is followed elsewhere, and the log says what the answer was."""
    issuer.status = "302 Found\r\nLocation: http://127.0.0.1:9/"
    with capture_logs() as logs:
        nursery.start_soon(KeySet(issuer.url).run)
        await until(lambda: issuer.asked >= 2)
    assert logs[0]["why"] == "the answer is HTTP 302"


async def test_an_issuer_that_is_slow(issuer, nursery, monkeypatch, short):
    """Tokens with a known key are judged meanwhile; unknown ones lead to one request at a time."""
    monkeypatch.setattr("peershare.adapters.auth.key_set._RENEW", 1000.0)
    one = JwtVerifier(JwtRules(ISSUER, AUDIENCE), KeySet(issuer.url))
    nursery.start_soon(one.run)
    await known(one, signed(RSA, "one"))
    issuer.answers = trio.Event()
    await trio.sleep(0.06)
    for number in range(200):
        assert fault(one, signed(OTHER_RSA, f"unknown {number}")) is TokenFault.KEYS_PENDING
        assert one.verify(signed(RSA, "one")).principal.is_verified
    await until(lambda: issuer.asked >= 2)
    for number in range(20):
        assert fault(one, signed(OTHER_RSA, f"again {number}")) is TokenFault.KEYS_PENDING
    assert one.verify(signed(RSA, "one")).principal.is_verified
    assert (issuer.asked, issuer.most_at_once) == (2, 1)


async def test_unknown_keys_ask_not_too_often(issuer, nursery, monkeypatch):
    """Just after an answer, a key that is not in it is unknown, and nothing is fetched."""
    one = JwtVerifier(JwtRules(ISSUER, AUDIENCE), KeySet(issuer.url))
    nursery.start_soon(one.run)
    await known(one, signed(RSA, "one"))
    for number in range(50):
        assert fault(one, signed(OTHER_RSA, f"unknown {number}")) is TokenFault.UNKNOWN_KEY
    await trio.sleep(0.05)
    assert issuer.asked == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("503 Away", b""),
        ("200 OK", b"no JSON"),
        ("200 OK", b"[]"),
        ("200 OK", b"[" * 3000),
        ("200 OK", b" " * (257 << 10)),
        ("302 Found", b""),
    ],
)
async def test_an_issuer_that_is_away(issuer, nursery, short, status, body):
    """Whatever it answers, known keys stay good, and it is asked again until it is back."""
    keys = KeySet(issuer.url)
    one = JwtVerifier(JwtRules(ISSUER, AUDIENCE), keys)
    issuer.status, good = status, issuer.body
    issuer.body = body
    nursery.start_soon(one.run)
    await until(lambda: issuer.asked >= 2)
    assert fault(one, signed(RSA, "one")) is TokenFault.KEYS_PENDING
    issuer.status, issuer.body = "200 OK", good
    await known(one, signed(RSA, "one"))
    issuer.status, issuer.body = status, body
    before = issuer.asked
    await until(lambda: issuer.asked >= before + 2)
    assert one.verify(signed(RSA, "one")).principal.is_verified


async def test_nobody_is_there(nursery, short):
    """A refused connection is no fault of ours: it is tried again, and tokens are to be tried later."""
    one = JwtVerifier(JwtRules(ISSUER, AUDIENCE), KeySet("http://127.0.0.1:1/"))
    nursery.start_soon(one.run)
    await trio.sleep(0.2)
    assert Tokens(one).judge(signed(RSA, "one")) == errors.KEYS_PENDING
    nursery.cancel_scope.cancel()
