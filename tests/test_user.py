"""`peershare user …`, beside a server that runs on the same database, of either kind."""

import sys
import tempfile
from pathlib import Path

import click
import pexpect
import pytest
from click.testing import CliRunner

from peershare.adapters.store.accounts import SqlAccounts
from peershare.composition.adapters import make_database
from peershare.composition.rules import store_rules
from peershare.db import db
from peershare.ports.accounts import Code
from peershare.settings import settings_from
from peershare.user import user
from tests.support import RawClient, environment, serving
from tests.test_account_routes import PASSWORD, ask, closed, connected


def run(*args, said=f"{PASSWORD}\n", group=user):
    """Exit status and what was said; a mistake is one line, as in `peershare.cli.main`."""
    try:
        result = CliRunner().invoke(
            group, [str(arg) for arg in args], input=said, standalone_mode=False, catch_exceptions=False
        )
    except click.ClickException as error:
        return error.exit_code, error.format_message()
    return 0, result.output.strip()


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request):
    """Those that name a database."""
    with tempfile.TemporaryDirectory(prefix="peershare-") as name:
        Path(name).chmod(0o755)
        if request.param == "sqlite":
            yield {"STORE": "sqlite", "DATA_DIR": name}
        else:
            yield {"DATABASE_URL": request.getfixturevalue("cluster").new_database(), "DATA_DIR": name}


@pytest.fixture
def where(settings):
    return [f"--{name.lower().replace('_', '-')}={value}" for name, value in settings.items()]


def sign_in(port, name="Ann", password=PASSWORD):
    return ask(port, "POST", "/api/auth/login", {"username": name, "password": password})


def test_16_beside_a_server(settings, where):
    """What the command line changes counts at once; and whoever may not be in is out within a second."""
    assert run("create", "Ann", "--email=ann@example.com", *where) == (0, "Made: Ann.")
    with serving(CREATE_GROUPS="admins", **settings) as server:
        assert run("create", "Bob", "--admin", *where)[0] == 0
        assert run("create", "bob", *where) == (1, "'bob' is taken, or looks like a name that is.")
        listed = [line.split("\t")[:3] for line in run("list", *where)[1].splitlines()]
        assert listed == [["Ann", "user", "ann@example.com"], ["Bob", "admin", "-"]]
        made = sign_in(server.port).json
        client, _ = connected(server.port, token=made["accessToken"])
        assert client.ask("create-group", groupName="Tea", username="x")["payload"]["code"] == "NOT_PERMITTED"
        assert run("make-admin", "ann", *where) == (0, "ann is an admin.")
        newer = ask(server.port, "POST", "/api/auth/refresh", {"refreshToken": made["refreshToken"]}).json
        assert newer["account"]["role"] == "admin"
        assert client.ask("auth-refresh", token=newer["accessToken"])["type"] == "auth-refreshed"
        assert client.ask("create-group", groupName="Tea", username="x")["type"] == "group-created"
        assert run("make-admin", "Ann", "--undo", *where) == (0, "Ann is no admin any more.")
        assert closed(client) == 4500
        for command in ("disable", "reset"):
            made = sign_in(server.port).json
            client, _ = connected(server.port, token=made["accessToken"])
            assert run(command, "Ann", *where)[0] == 0
            assert closed(client) == 4500
            assert ask(server.port, "GET", "/api/auth/me", bearer=made["accessToken"]).code == "NOT_SIGNED_IN"
            assert (
                ask(server.port, "POST", "/api/auth/refresh", {"refreshToken": made["refreshToken"]}).status
                == 401
            )
            if command == "disable":
                assert sign_in(server.port).code == "ACCOUNT_DISABLED"
                assert run("list", *where)[1].splitlines()[0].split("\t")[1] == "disabled"
                assert run("enable", "Ann", *where) == (0, "Ann is enabled.")
        made = sign_in(server.port).json
        client, _ = connected(server.port, token=made["accessToken"])
        assert run("delete", "Ann", "--yes", *where) == (0, "Ann is deleted.")
        assert closed(client) == 4500
        assert sign_in(server.port).code == "WRONG_CREDENTIALS"
        with RawClient(server.port) as client:
            client.hear()
            refused = client.ask("hello", protocol=2, token=made["accessToken"])["payload"]
            assert refused["details"] == {"reason": "revoked"}


def test_16_an_invitation(settings, where):
    """It is printed, and makes one account."""
    with serving(REGISTRATION="invite", **settings) as server:
        status, code = run("invite", *where)
        assert status == 0
        said = {"username": "Ann", "password": PASSWORD}
        assert ask(server.port, "POST", "/api/auth/register", said).code == "INVITE_INVALID"
        assert ask(server.port, "POST", "/api/auth/register", {**said, "invite": code}).status == 201
        said["username"] = "Bob"
        assert (
            ask(server.port, "POST", "/api/auth/register", {**said, "invite": code}).code == "INVITE_INVALID"
        )


def test_16_sign_ins_outlive_a_restart(settings, where):
    """The keys are in the store, and so is who was signed out."""
    run("create", "Ann", *where)
    with serving(**settings) as server:
        made, gone = sign_in(server.port).json, sign_in(server.port).json
        ask(server.port, "POST", "/api/auth/logout", {"refreshToken": gone["refreshToken"]})
    with serving(**settings) as server:
        assert ask(server.port, "GET", "/api/auth/me", bearer=made["accessToken"]).status == 200
        assert ask(server.port, "GET", "/api/auth/me", bearer=gone["accessToken"]).status == 401
        assert connected(server.port, token=made["accessToken"])[1]["type"] == "welcome"


def test_16_a_backup_has_accounts(settings, where, tmp_path):
    """Restored elsewhere, they sign in as before; where there are some, nothing is overwritten."""
    run("create", "Ann", *where)
    with serving(**settings) as server:
        made = sign_in(server.port).json
        assert run("backup", tmp_path / "backup", *where, group=db)[0] == 0
    status, line = run("restore", tmp_path / "backup", *where, group=db)
    assert (status, line.endswith(" has 1 accounts: restore into an empty one.")) == (1, True)
    elsewhere = {"STORE": "sqlite", "DATA_DIR": tmp_path / "elsewhere"}
    with serving(**elsewhere):
        pass  # it has made a key
    options = ["--store=sqlite", f"--data-dir={tmp_path / 'elsewhere'}"]
    assert run("restore", tmp_path / "backup", *options, group=db)[0] == 0
    with serving(**elsewhere) as server:
        assert sign_in(server.port).status == 200
        assert ask(server.port, "GET", "/api/auth/me", bearer=made["accessToken"]).status == 200


@pytest.mark.parametrize(
    ("args", "said", "line"),
    [
        (["create", "Ann"], "short\n", "Password must have 8 to 128 characters."),
        (["create", "Ann"], "", "Password must have 8 to 128 characters."),
        (["create", " "], f"{PASSWORD}\n", "Username cannot be empty."),
        (["create", "Ann", "--email=x"], f"{PASSWORD}\n", "'x' is no address."),
        (["reset", "Ann"], f"{PASSWORD}\n", "There is no account 'Ann'."),
        (["disable", "Ann"], "", "There is no account 'Ann'."),
        (
            ["list", "--store=memory"],
            "",
            "STORE=memory keeps no accounts: set STORE=sqlite, or DATABASE_URL.",
        ),
    ],
)
def test_16_what_a_person_gets_wrong(args, said, line, tmp_path, monkeypatch):
    """One line says what it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STORE", raising=False)
    status, found = run(*args, said=said)
    assert status
    assert found == line


@pytest.mark.parametrize("command", ["reset", "disable"])
def test_16_links_that_were_mailed(settings, where, command):
    """They are good no more when an admin has set the password, or disabled the account."""
    run("create", "Ann", *where)
    database = make_database(
        store_rules(settings_from({name.lower(): value for name, value in settings.items()}))
    )
    accounts = SqlAccounts(database)

    def mail(rows):
        rows.add_code("hash", Code("reset", 10, rows.by_login("ann").id))

    accounts.do(mail)
    assert run(command, "Ann", *where)[0] == 0
    assert accounts.do(lambda rows: rows.take_code("reset", "hash", 1)) is None
    database.engine.dispose()


def test_16_nobody_is_deleted_by_mistake(tmp_path, monkeypatch):
    """It asks."""
    monkeypatch.chdir(tmp_path)
    run("create", "Ann")
    with pytest.raises(click.Abort):
        run("delete", "Ann", said="n\n")
    assert run("list")[1].startswith("Ann\t")


def at_a_terminal(tmp_path, *args):
    command = ["-m", "peershare", "user", *args]
    return pexpect.spawn(
        sys.executable, command, cwd=str(tmp_path), env=environment(STORE="sqlite"), timeout=60
    )


def test_16_a_password_at_a_terminal(tmp_path):
    """It is not shown, and asked for twice; where none is given, one is made, and shown once."""
    with at_a_terminal(tmp_path, "create", "Ann") as terminal:
        for prompt in ("Password", "Once more"):
            terminal.expect(prompt)
            terminal.sendline(PASSWORD)
        terminal.expect("Made: Ann.")
        assert PASSWORD.encode() not in terminal.before
    with at_a_terminal(tmp_path, "reset", "Ann") as terminal:
        terminal.expect("Password")
        terminal.sendline(PASSWORD)
        terminal.expect("Once more")
        terminal.sendline("another one")
        terminal.expect("These are two different ones.")
    with at_a_terminal(tmp_path, "reset", "Ann") as terminal:
        terminal.expect("Password")
        terminal.sendline("")
        terminal.expect(r"Password: (\S{16})\r")
        made = terminal.match[1].decode()
        terminal.expect("another password, and is signed out everywhere")
    with serving(STORE="sqlite", DATA_DIR=tmp_path / "peershare-data") as server:
        assert sign_in(server.port, password=made).status == 200
