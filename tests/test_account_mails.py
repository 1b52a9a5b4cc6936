"""Mails to owners of accounts, by a real SMTP server, and what their links do."""

import re
import ssl
import urllib.request
from email import message_from_bytes, policy

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from peershare.adapters.smtp import SmtpMailer, SmtpRules
from peershare.ports.mail import MailError
from peershare.runtime import account_mails
from peershare.runtime.accounts import MAIL_RATE
from tests.support import eventually, free_port, serving
from tests.test_account_routes import PASSWORD, ask, closed, connected, register
from tests.test_tls import certificate

SITE = "https://call.example.com/"
ANN, NEW = "ann@example.com", "battery staple"


class Inbox:
    """Takes each mail; `refuse` is said in the place of that, if there is something."""

    def __init__(self):
        self.mails, self.refuse = [], None

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        if self.refuse:
            return self.refuse
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert envelope.rcpt_tos == [str(mail["To"])]
        self.mails.append(mail)
        return "250 OK"

    def codes(self, kind):
        """The codes that came for one address after another: (address, code)."""
        found = [
            (str(mail["To"]), re.search(rf"{SITE}#{kind}=(\S+)", mail.get_content())) for mail in self.mails
        ]
        return [(to, match[1]) for to, match in found if match]


@pytest.fixture
def inbox():
    inbox = Inbox()
    inbox.port = free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=inbox.port)
    controller.start()
    yield inbox
    controller.stop()


@pytest.fixture
def server(tmp_path, inbox, monkeypatch):
    monkeypatch.setattr("peershare.core.addresses.Allowances.ask", lambda *_: 0.0)
    settings = {
        "SMTP_URL": f"smtp://127.0.0.1:{inbox.port}",
        "MAIL_FROM": "calls@example.com",
        "PUBLIC_URL": SITE,
        "REGISTRATION": "open",
    }
    with serving(STORE="sqlite", DATA_DIR=tmp_path / "data", **settings) as server:
        yield server


def wait_for(inbox, kind, count=1):
    eventually(lambda: len(inbox.codes(kind)) >= count)
    return inbox.codes(kind)[-1][1]


def confirmed(server, inbox, name="Ann", email=ANN):
    made = register(server.port, name, email=email)
    code = wait_for(inbox, "confirm")
    bearer = made["accessToken"]
    assert ask(server.port, "POST", "/api/auth/confirm", {"code": code}, bearer=bearer).status == 204
    return made


def test_16_an_address_is_confirmed(server, inbox):
    """By the link of a mail that says nothing of whoever registered; once, and by that account alone."""
    made = register(server.port, "Buy at evil.example", email="Ann@Example.com")
    code = wait_for(inbox, "confirm")
    [mail] = inbox.mails
    assert (str(mail["From"]), str(mail["To"])) == ("calls@example.com", ANN)
    assert (mail["Subject"], mail["Auto-Submitted"]) == ("Confirm your address", "auto-generated")
    assert "evil.example" not in mail.as_string()
    bearer = made["accessToken"]
    me = ask(server.port, "GET", "/api/auth/me", bearer=made["accessToken"]).json["account"]
    assert (me["email"], me["emailConfirmed"]) == (ANN, False)
    eve = register(server.port, "Eve")["accessToken"]
    assert ask(server.port, "POST", "/api/auth/confirm", {"code": code}).code == "NOT_SIGNED_IN"
    assert ask(server.port, "POST", "/api/auth/confirm", {"code": code}, bearer=eve).code == "CODE_INVALID"
    assert ask(server.port, "POST", "/api/auth/confirm", {"code": "x"}, bearer=bearer).code == "CODE_INVALID"
    assert ask(server.port, "POST", "/api/auth/confirm", {"code": code}, bearer=bearer).status == 204
    assert ask(server.port, "GET", "/api/auth/me", bearer=made["accessToken"]).json["account"][
        "emailConfirmed"
    ]
    assert ask(server.port, "POST", "/api/auth/confirm", {"code": code}, bearer=bearer).code == "CODE_INVALID"


def test_16_a_forgotten_password(server, inbox):
    """The link sets a new one, once, and signs out everywhere: whoever had the old one is out."""
    made = confirmed(server, inbox)
    client, _ = connected(server.port, token=made["accessToken"])
    assert ask(server.port, "GET", "/api/auth").json["mail"]
    assert ask(server.port, "POST", "/api/auth/forgot", {"email": "ANN@example.com"}).status == 204
    code = wait_for(inbox, "reset")
    said = {"code": code, "newPassword": NEW}
    assert (
        ask(server.port, "POST", "/api/auth/reset", {**said, "newPassword": "short"}).code
        == "INVALID_REQUEST"
    )
    assert ask(server.port, "POST", "/api/auth/reset", said).status == 204
    assert closed(client) == 4500
    assert ask(server.port, "POST", "/api/auth/reset", said).code == "CODE_INVALID"
    sign_in = {"username": "Ann", "password": PASSWORD}
    assert ask(server.port, "POST", "/api/auth/login", sign_in).code == "WRONG_CREDENTIALS"
    assert ask(server.port, "POST", "/api/auth/login", {**sign_in, "password": NEW}).status == 200


def test_16_nobody_learns_whose_address_it_is(server, inbox):
    """The answer is the same for one that nobody has, or has not confirmed; and no mail comes of these."""
    register(server.port, "Bob", email="bob@example.com")
    wait_for(inbox, "confirm")
    for email in ("bob@example.com", "nobody@example.com"):
        answer = ask(server.port, "POST", "/api/auth/forgot", {"email": email})
        assert (answer.status, answer.json) == (204, None)
    confirmed(server, inbox, "Cat", "cat@example.com") if inbox.mails.clear() else None
    register(server.port, "Cat", email="cat@example.com")
    eventually(lambda: "cat@example.com" in [to for to, _ in inbox.codes("confirm")])
    assert inbox.codes("reset") == []


@pytest.mark.parametrize("what", ["password", "email", "newer"])
def test_16_an_old_link(server, inbox, what):
    """It is worth nothing when the password or the address is another, or another link was asked for."""
    made = confirmed(server, inbox)
    bearer = made["accessToken"]
    ask(server.port, "POST", "/api/auth/forgot", {"email": ANN})
    code = wait_for(inbox, "reset")
    if what == "password":
        said = {"password": PASSWORD, "newPassword": NEW}
        assert ask(server.port, "POST", "/api/auth/password", said, bearer=bearer).status == 200
    elif what == "email":
        said = {"password": PASSWORD, "email": "new@example.com"}
        assert ask(server.port, "POST", "/api/auth/email", said, bearer=bearer).status == 204
    else:
        ask(server.port, "POST", "/api/auth/forgot", {"email": ANN})
        wait_for(inbox, "reset", 2)
    said = {"code": code, "newPassword": "correct battery"}
    assert ask(server.port, "POST", "/api/auth/reset", said).code == "CODE_INVALID"


def test_16_another_address(server, inbox):
    """It takes the password, and is confirmed anew; until then the old one is still good. None is none."""
    made = confirmed(server, inbox)
    bearer, path = made["accessToken"], "/api/auth/email"
    said = {"password": "wrong wrong", "email": "new@example.com"}
    assert ask(server.port, "POST", path, said, bearer=bearer).code == "WRONG_CREDENTIALS"
    assert ask(server.port, "POST", path, {**said, "password": PASSWORD}, bearer=bearer).status == 204
    code = wait_for(inbox, "confirm", 2)
    assert inbox.codes("confirm")[-1][0] == "new@example.com"
    ask(server.port, "POST", "/api/auth/forgot", {"email": ANN})
    wait_for(inbox, "reset")
    assert ask(server.port, "POST", "/api/auth/confirm", {"code": code}, bearer=bearer).status == 204
    ask(server.port, "POST", "/api/auth/forgot", {"email": "new@example.com"})
    eventually(lambda: inbox.codes("reset")[-1][0] == "new@example.com")
    assert ask(server.port, "POST", path, {"password": PASSWORD}, bearer=bearer).status == 204
    me = ask(server.port, "GET", "/api/auth/me", bearer=bearer).json["account"]
    assert (me["email"], me["emailConfirmed"]) == (None, False)


def test_16_an_address_of_two(server, inbox):
    """Whoever confirms it first has it."""
    confirmed(server, inbox)
    bearer = register(server.port, "Bob", email=ANN)["accessToken"]
    code = wait_for(inbox, "confirm", 2)
    assert ask(server.port, "POST", "/api/auth/confirm", {"code": code}, bearer=bearer).code == "EMAIL_TAKEN"


def test_16_a_mail_that_is_not_taken_comes_again(server, inbox, monkeypatch):
    """Where the mail server has no time, it is asked later; sign-ins go on meanwhile."""
    monkeypatch.setattr(account_mails, "_AGAIN", (0.1, 0.1, 0.1))
    inbox.refuse = "451 Try again later"
    made = register(server.port, "Ann", email=ANN)
    assert ask(server.port, "GET", "/api/auth/me", bearer=made["accessToken"]).status == 200
    inbox.refuse = None
    wait_for(inbox, "confirm")


def test_16_without_a_mail_server(tmp_path):
    """Whoever forgets a password is told to ask; an address may be named when registering."""
    with serving(STORE="sqlite", DATA_DIR=tmp_path, REGISTRATION="open") as server:
        assert not ask(server.port, "GET", "/api/auth").json["mail"]
        made = register(server.port, "Ann", email=ANN)
        refused = ask(server.port, "POST", "/api/auth/forgot", {"email": ANN})
        assert (refused.status, refused.code) == (404, "NO_MAIL")
        said = {"password": PASSWORD, "email": "new@example.com"}
        assert ask(server.port, "POST", "/api/auth/email", said, bearer=made["accessToken"]).code == "NO_MAIL"
        assert (
            ask(server.port, "POST", "/api/auth/reset", {"code": "x", "newPassword": NEW}).code
            == "CODE_INVALID"
        )


def test_16_many_who_want_mails(tmp_path, inbox):
    """One address of the network asks for some, and is refused then; one mailbox gets three, and no more."""
    settings = {
        "SMTP_URL": f"smtp://127.0.0.1:{inbox.port}",
        "MAIL_FROM": "calls@example.com",
        "PUBLIC_URL": SITE,
    }
    with serving(STORE="sqlite", DATA_DIR=tmp_path, REGISTRATION="open", **settings) as server:
        confirmed(server, inbox)
        codes = [
            ask(server.port, "POST", "/api/auth/forgot", {"email": ANN}, X_Forwarded_For="192.0.2.1").code
            for _ in range(int(MAIL_RATE.burst) + 1)
        ]
        assert codes == [""] * int(MAIL_RATE.burst) + ["RATE_LIMITED"]
        dropped = 1 + int(MAIL_RATE.burst) - int(account_mails.RATE_TO_ADDRESS.burst)
        line = f'peershare_mails_total{{result="dropped"}} {float(dropped)}'
        eventually(lambda: line in scraped(server.port))
        eventually(lambda: len(inbox.mails) == account_mails.RATE_TO_ADDRESS.burst)


def scraped(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return answer.read().decode()


# --- the adapter ---------------------------------------------------------------------------------


async def send(url, to="ann@example.com", subject="Hello"):
    await SmtpMailer(SmtpRules(url, "calls@example.com")).send(to, subject, "Text, with é.\n")


async def test_16_nobody_answers():
    """The reason is told."""
    with pytest.raises(MailError, match="refused"):
        await send(f"smtp://127.0.0.1:{free_port()}")


async def test_16_nothing_gets_into_the_head(inbox):
    """Neither a second recipient nor another header."""
    for to, subject in (
        ("ann@example.com\r\nBcc: eve@example.com", "x"),
        ("ann@example.com", "x\r\nBcc: eve@x"),
    ):
        with pytest.raises(MailError):
            await send(f"smtp://127.0.0.1:{inbox.port}", to, subject)
    assert inbox.mails == []


@pytest.mark.parametrize(("said", "is_final"), [("550 No such ann@example.com", True), ("451 Later", False)])
async def test_16_what_the_mail_server_says(inbox, said, is_final):
    """Whether to try again; and nobody's address is in what is logged."""
    inbox.refuse = said
    with pytest.raises(MailError) as caught:
        await send(f"smtp://127.0.0.1:{inbox.port}")
    assert caught.value.is_final is is_final
    assert str(caught.value) == f"SMTPDataError {said[:3]}"


@pytest.mark.parametrize("to", ["a..b@x.com", ".a@x.com", "a.@x.com", "a@x..com", "a@b@c", ""])
async def test_16_no_address(inbox, to):
    """One that can't stand in a mail is refused, as by a mail server."""
    with pytest.raises(MailError) as caught:
        await send(f"smtp://127.0.0.1:{inbox.port}", to)
    assert caught.value.is_final
    assert "@" not in str(caught.value)


async def test_16_a_password_is_not_sent_in_the_clear(inbox, monkeypatch):
    """To another machine, without TLS, nothing is sent at all."""
    monkeypatch.setattr("peershare.adapters.smtp._LOOPBACK", set())
    with pytest.raises(MailError, match="offers no TLS"):
        await send(f"smtp://ann:secret@127.0.0.1:{inbox.port}")
    assert inbox.mails == []


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_16_tls_and_a_password(scheme, tmp_path, monkeypatch):
    """By STARTTLS and from the beginning: the certificate must be good, and then the password is shown."""
    settings = certificate(tmp_path, "mail", "127.0.0.1")
    where, key = settings["TLS_CERT"], settings["TLS_KEY"]
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(where, key)
    shown = []

    def authenticate(_server, _session, _envelope, _mechanism, said):
        shown.append((said.login, said.password))
        return AuthResult(success=True)

    inbox = Inbox()
    options = {"authenticator": authenticate, "hostname": "127.0.0.1", "port": free_port()}
    if scheme == "smtp":
        controller = Controller(inbox, tls_context=ours, require_starttls=True, **options)
    else:
        controller = Controller(inbox, ssl_context=ours, auth_require_tls=False, **options)
    controller.start()
    url = f"{scheme}://ann%40x:s%2Fecret@127.0.0.1:{options['port']}"
    try:
        with pytest.raises(MailError, match="certificate"):
            await send(url)
        trusting = ssl.create_default_context(cafile=where)
        monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
        await send(url)
    finally:
        controller.stop()
    assert shown == [(b"ann@x", b"s/ecret")]
    assert len(inbox.mails) == 1
