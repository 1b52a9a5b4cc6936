"""Who may do what: each message and route with each kind of proof, and the table of it in docs/accounts.md.

`WRITE_MATRIX=1 pytest tests/test_matrix.py` writes the table anew.
"""

import json
import os
import re
import time
from pathlib import Path

import attrs
import pytest
from joserfc.jwk import OKPKey

from peershare.adapters.store.accounts import SqlAccounts
from peershare.adapters.store.sqlite import Sqlite
from peershare.api.auth import ROUTES as ROUTES_OF_ACCOUNTS
from peershare.messages import ALL_CLIENT_TYPES, CLIENT_TYPES
from tests.support import RawClient, eventually, serving
from tests.test_account_routes import CLOSED, ask, register
from tests.test_accounts import BAD, ID, PAYLOADS, answer, good
from tests.tokens import sign

DOCS = Path(__file__).parents[1] / "docs" / "accounts.md"
BLOCK = re.compile(r"(?<=<!-- matrix -->\n)(.*?)(?=<!-- end: matrix -->)", re.DOTALL)

# What proves nothing, and why its bearer is refused.
USELESS = {
    "disabled": "revoked",
    "expired": "expired",
    "wrong audience": "audience",
    "other issuer": "algorithm",  # judged by the application's key
    "tampered": "signature",
}
WHO = ["nobody", "guest", "account", "application's user", *USELESS]

ROUTES = [
    ("GET", "/"),
    ("GET", "/api"),
    ("GET", "/api/health"),
    ("GET", "/api/health/ready"),
    ("GET", "/api/stats"),
    ("GET", "/api/limits"),
    ("GET", f"/api/group/{ID}"),
    ("GET", f"/api/group/{ID}/qr.svg"),
    ("GET", "/api/ice"),
    ("GET", "/api/auth"),
    ("GET", "/api/auth/providers"),
    ("GET", "/.well-known/jwks.json"),
    *((method, re.sub("<[a-z_]+>", ID, path)) for method, path, _ in ROUTES_OF_ACCOUNTS),
    ("GET", "/peerjs/id"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("matrix")


@pytest.fixture(scope="module")
def server(folder):
    with serving(STORE="sqlite", DATA_DIR=folder, **CLOSED) as server:
        yield server


@pytest.fixture(scope="module")
def proofs(server, folder):
    """The token of each, and the refresh token that it shows beside it."""
    made, disabled = (register(server.port, name) for name in ("Ann", "Dora"))
    store = SqlAccounts(Sqlite(folder / "peershare.db"))

    def disable(rows):
        account = rows.by_id(disabled["account"]["id"])
        rows.update(attrs.evolve(account, disabled_at=1))
        rows.end_all(account.id, int(time.time() * 1000))
        return rows.keys()[0]

    stored = store.do(disable)
    key = OKPKey.import_key(json.loads(stored.private_key))
    said = {"iss": "peershare", "aud": "peershare", "sub": made["account"]["id"], "name": "Ann", "sid": "x"}

    def signed(**others):
        claims = {**said, "exp": int(time.time()) + 600, **others}
        return sign(claims, key, "EdDSA", kid=stored.id)

    head, payload, signature = signed().split(".")
    tampered = ".".join((head, signed(name="Eve").split(".")[1], signature))
    assert payload not in tampered
    found = {
        "nobody": (None, ""),
        "guest": (None, ""),
        "account": (made["accessToken"], made["refreshToken"]),
        "application's user": (good(), ""),
        "disabled": (disabled["accessToken"], disabled["refreshToken"]),
        "expired": (signed(exp=int(time.time()) - 60), ""),
        "wrong audience": (signed(aud="another"), ""),
        "other issuer": (signed(iss="https://evil.example.com"), ""),
        "tampered": (tampered, ""),
    }
    # What makes the others bad is what is wrong with them, and nothing else.
    assert "sessionId" in _greeted(server, signed())
    eventually(lambda: _greeted(server, disabled["accessToken"]).get("code") == "TOKEN_INVALID")
    return found


def _greeted(server, token):
    with RawClient(server.port) as client:
        client.hear()
        return client.ask("hello", protocol=2, token=token)["payload"]


def may_say(server, proofs, who, kind):
    """The cell of a message: yes, no, or why not."""
    with RawClient(server.port) as client:
        client.hear()
        if who != "nobody":
            bearer = proofs[who][0]
            shown = {} if bearer is None else {"token": bearer}
            greeted = client.ask("hello", protocol=2, **shown)["payload"]
            if who in USELESS:
                assert greeted["details"] == {"reason": USELESS[who]}
                if kind == "hello":
                    return "no"
        got = answer(client, kind)
    has_session = who != "nobody" and who not in USELESS
    if got == "INVALID_MESSAGE" and not has_session and kind not in CLIENT_TYPES and kind != "hello":
        return "no session"
    return "no" if got == "NOT_PERMITTED" else "yes"


def may_ask(server, proofs, who, method, path):
    bearer, refresh_token = proofs[who]
    said = None
    if path in {"/api/auth/refresh", "/api/auth/logout"} and refresh_token:
        said = {"refreshToken": refresh_token}
    if path == "/api/auth/logout" and who == "account":
        said = {"refreshToken": "x.y"}  # it is needed for the routes behind
    elif method == "POST" and said is None:
        said = {}
    got = ask(server.port, method, path, said, bearer=bearer)
    assert got.status < 500
    return str(got.status) if got.status in {401, 403} else "yes"


def table(server, proofs):
    """Those with the same answers are in one row."""
    rows = {}
    for kind in sorted(PAYLOADS):
        cells = tuple(may_say(server, proofs, who, kind) for who in WHO)
        rows.setdefault(cells, []).append(f"`{kind}`")
    routes = {}
    for method, path in ROUTES:
        cells = tuple(may_ask(server, proofs, who, method, path) for who in WHO)
        routes.setdefault(cells, []).append(f"`{method} {path.replace(ID, 'ID')}`")
    lines = [["", *WHO], ["---"] * (len(WHO) + 1)]
    lines += [[", ".join(names), *cells] for found in (rows, routes) for cells, names in found.items()]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def test_16_the_matrix(server, proofs, monkeypatch):
    """It is as docs/accounts.md has it."""
    monkeypatch.setattr("peershare.core.addresses.Allowances.ask", lambda *_: 0.0)
    assert set(PAYLOADS) == set(ALL_CLIENT_TYPES)
    found, text = table(server, proofs), DOCS.read_text("utf-8")
    if os.environ.get("WRITE_MATRIX"):
        DOCS.write_text(BLOCK.sub(lambda _: found, text), "utf-8")
    assert found == BLOCK.search(DOCS.read_text("utf-8"))[0]


def test_16_bad_tokens_of_both_kinds_are_alike(server, proofs, monkeypatch):
    """Those of an application that are bad get no further than an account's: not by a message, or a route."""
    monkeypatch.setattr("peershare.core.addresses.Allowances.ask", lambda *_: 0.0)
    others = {**proofs, **{who: (BAD[who], "") for who in USELESS if who in BAD}}
    for who in set(USELESS) & set(BAD):
        for method, path in ROUTES:
            assert may_ask(server, others, who, method, path) == may_ask(server, proofs, who, method, path)
        with RawClient(server.port) as client:
            client.hear()
            refused = client.ask("hello", protocol=2, token=BAD[who])["payload"]
            assert refused["code"] == "TOKEN_INVALID"
            assert answer(client, "create-group") == "NOT_PERMITTED"
