"""Tokens for tests: signed well, and in all the ways that are wrong."""

import hmac
import json
import time
from base64 import urlsafe_b64encode

from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

ISSUER, AUDIENCE = "https://app.example.com", "peershare"
SECRET = "a secret of thirty-two characters"
GROUP = "e150ce90-98ca-4aae-a28e-dff44eb07d0e"

RSA = RSAKey.generate_key(2048)
OTHER_RSA = RSAKey.generate_key(2048)
KEYS = {
    "HS256": OctKey.import_key(SECRET),
    "RS256": RSA,
    "ES256": ECKey.generate_key("P-256"),
    "ES384": ECKey.generate_key("P-384"),
    "Ed25519": OKPKey.generate_key("Ed25519"),
}


class Anything(JWSRegistry):
    """Signs with whatever it is told to."""

    def get_alg(self, name):
        return self.algorithms[name]


def claims(**others):
    """Those of a good token; one that is None is left out."""
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "user-1",
        "name": "Ann",
        "exp": int(time.time()) + 600,
        **others,
    }
    return {name: value for name, value in said.items() if value is not None}


def sign(said, key=KEYS["HS256"], algorithm="HS256", **header):
    payload = said if isinstance(said, bytes) else json.dumps(said).encode()
    return jws.serialize_compact({"alg": algorithm, **header}, payload, key, registry=Anything())


def token(key=KEYS["HS256"], algorithm="HS256", /, **others):
    return sign(claims(**others), key, algorithm)


def pem(key):
    return key.as_pem(private=False).decode()


def encoded(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(algorithm="none", **others):
    """A token of RFC 7519, section 6: nobody has signed it."""
    return f"{encoded({'alg': algorithm})}.{encoded(claims(**others))}."


def confused(public):
    """A token signed with a public key as if it were a secret; the library refuses to make one."""
    signed = f"{encoded({'alg': 'HS256'})}.{encoded(claims())}"
    return f"{signed}.{encoded(hmac.digest(public.encode(), signed.encode(), 'sha256'))}"


def tampered(good):
    """The same signature, for another name."""
    head, _, signature = good.split(".")
    return f"{head}.{encoded(claims(name='Mallory', role='admin'))}.{signature}"
