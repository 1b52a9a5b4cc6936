"""Tokens of accounts and of an application beside each other, changed in every way: none gets in."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import OKPKey

from peershare.adapters.auth.issuers import Issuers
from peershare.adapters.auth.jwt import JwtRules, JwtVerifier, issuer_of
from peershare.adapters.auth.keys import FixedKeys
from peershare.adapters.auth.own_tokens import OwnTokens
from peershare.core.principal import Verified, account_principal_id
from peershare.ports.accounts import Account
from peershare.ports.auth import OWN_ISSUER, TokenError
from tests.tokens import AUDIENCE, ISSUER, KEYS, SECRET, claims, sign, token

NOW = 1_800_000_000
OWN = OwnTokens(lambda: NOW)
STORED = OWN.new_key()
OWN.use([STORED])
KEY = OKPKey.import_key(json.loads(STORED.private_key))
OURS = OWN.sign(Account("ann", "Ann", "ann", 1), "phone")[0]
THEIRS = token(exp=NOW + 600)
VERIFIER = Issuers({OWN_ISSUER: OWN}, JwtVerifier(JwtRules(ISSUER, AUDIENCE), FixedKeys(SECRET), lambda: NOW))


def proved(shown):
    """What a token proves; None for one that proves nothing. Anything but a `TokenError` is a fault."""
    try:
        return VERIFIER.verify(shown)
    except TokenError:
        return None


def test_16_good_ones():
    """Each by its own issuer."""
    assert proved(OURS).principal.id == account_principal_id("ann")
    assert proved(THEIRS).principal.claims.device is None


@given(st.sampled_from([OURS, THEIRS]), st.data())
def test_16_a_character_is_another(good, data):
    """Or is gone, or there is one more. A last character may have bits that stand for nothing."""
    at = data.draw(st.integers(0, len(good) - 1))
    put = data.draw(st.text(st.sampled_from("AZaz09-_.=\0é"), max_size=2))
    changed = good[:at] + put + good[at + 1 :]
    decoded = [part.rstrip("=") for part in changed.split(".")]
    same = len(decoded) == 3 and [_bytes(one) for one in decoded] == [_bytes(one) for one in good.split(".")]
    if changed != good and not same:
        assert proved(changed) is None


def _bytes(part):
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return None


@given(st.permutations([*OURS.split("."), *THEIRS.split(".")]), st.integers(1, 6))
def test_16_parts_of_both(parts, count):
    """No mixture of a token of ours and one of the application's is good but the two as they are."""
    mixed = ".".join(parts[:count])
    assert (proved(mixed) is not None) is (mixed in {OURS, THEIRS})


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_16_any_text(text):
    """It is refused, and its issuer can be looked for."""
    assert proved(text) is None
    issuer_of(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["iss", "aud", "sub", "name", "exp", "nbf", "iat", "sid", "role", "group"])


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_16_any_claims_that_are_signed(others):
    """With the right key, for whatever it says: it is refused, or proves what it says."""
    good = {"iss": "peershare", "aud": "peershare", "sub": "ann", "name": "Ann", "sid": "x", "exp": NOW + 600}
    said = {**good, **others}
    found = proved(sign(json.dumps(said).encode(), KEY, "EdDSA", kid=STORED.id))
    if found is not None:
        assert isinstance(found, Verified)
        assert said["iss"] == "peershare"
        assert found.principal.id == account_principal_id(said["sub"])
        assert found.principal.claims.device == said["sid"]


@given(
    st.sampled_from(["EdDSA", "Ed25519", "HS256", "RS256", "none", "", "ES256"]),
    st.sampled_from([None, "x", STORED.id]),
)
def test_16_a_header_decides_nothing(algorithm, key_id):
    """Whatever it says, a signature of no key of ours is worth nothing."""
    header = {"alg": algorithm, **({} if key_id is None else {"kid": key_id})}
    said = claims(iss="peershare", aud="peershare", sid="x", exp=NOW + 600)
    parts = [urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in (header, said)]
    for signature in ("", OURS.rpartition(".")[2], THEIRS.rpartition(".")[2]):
        assert proved(".".join([*parts, signature])) is None


def test_16_the_applications_key_signs_no_account():
    """Nor ours the application's users."""
    said = {**claims(), "iss": "peershare", "aud": "peershare", "sid": "x", "exp": NOW + 600}
    assert proved(sign(said, KEYS["HS256"], "HS256")) is None
    assert proved(sign(said, KEYS["HS256"], "HS256", kid=STORED.id)) is None
    assert proved(sign(claims(exp=NOW + 600), KEY, "EdDSA", kid=STORED.id)) is None
