"""Settings: where they come from, what they may be, and what a bad one is told."""

import subprocess
import sys

import attrs
import click
import pytest

from peershare.settings import DEVELOPMENT_ORIGINS, LOOPBACK, Settings, about, read_settings
from peershare.show_settings import shown
from tests.support import environment


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No variable from outside, and no `.env` but the test's own."""
    monkeypatch.chdir(tmp_path)
    for field in attrs.fields(Settings):
        for variable in about(field).variables:
            monkeypatch.setenv(variable, "")
            monkeypatch.delenv(variable)


def test_defaults():
    """Without any, they are the original's."""
    settings = read_settings()
    assert (settings.host, settings.port, settings.ws_port) == (("localhost",), 3000, 3001)
    assert settings.ws_heartbeat_interval == 30_000
    assert (settings.peerjs_path, settings.peerjs_key) == ("/", "peerjs")
    assert (settings.peerjs_expire_timeout, settings.peerjs_alive_timeout) == (5_000, 60_000)
    assert settings.peerjs_concurrent_limit == 5_000
    assert settings == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("HOST", "0.0.0.0", "host", ("0.0.0.0",)),
        ("HOST", "::1", "host", ("::1",)),
        ("HOST", "192.0.2.1, example.com", "host", ("192.0.2.1", "example.com")),
        ("HOST", "*", "host", ("*",)),
        ("PORT", "4000", "port", 4000),
        ("WS_PORT", "0", "ws_port", 0),
        ("ENVIRONMENT", "production", "environment", "production"),
        ("NODE_ENV", "test", "environment", "test"),
        (
            "ALLOWED_ORIGINS",
            "https://a.example, http://b:8080",
            "origins",
            ("https://a.example", "http://b:8080"),
        ),
        (
            "ALLOWED_ORIGINS",
            "https://xn--bcher-kva.example,http://[2001:DB8::1]:65535,http://a_b:443",
            "origins",
            ("https://xn--bcher-kva.example", "http://[2001:db8::1]:65535", "http://a_b:443"),
        ),
        (
            "PEERJS_CORS",
            "https://*.Example.com,http://*.b:8080",
            "peerjs_cors",
            ("https://*.example.com", "http://*.b:8080"),
        ),
        (
            "ALLOWED_ORIGINS",
            "file://,null, capacitor://localhost,tauri://localhost,app://Obsidian.md,http://localhost:*",
            "origins",
            (
                *("file://", "null", "capacitor://localhost", "tauri://localhost", "app://obsidian.md"),
                "http://localhost:*",
            ),
        ),
        (
            "PEERJS_CORS",
            "chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai,https://*.example.com:*,web+x.y-z://a:443",
            "peerjs_cors",
            (
                "chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai",
                *("https://*.example.com:*", "web+x.y-z://a:443"),
            ),
        ),
        (
            "ALLOWED_HOSTS",
            "Call.Example.com, *.example.org,192.0.2.1,[2001:DB8::1],my_host",
            "allowed_hosts",
            ("call.example.com", "*.example.org", "192.0.2.1", "[2001:db8::1]", "my_host"),
        ),
        ("ALLOWED_HOSTS", "*", "allowed_hosts", ("*",)),
        ("ALLOWED_HOSTS", "", "allowed_hosts", None),
        ("REQUIRE_ORIGIN", "true", "require_origin", True),
        (
            "TRUSTED_PROXIES",
            "10.0.0.0/8, ::1,192.0.2.1",
            "trusted_proxies",
            ("10.0.0.0/8", "::1", "192.0.2.1"),
        ),
        ("TRUSTED_PROXIES", "none", "trusted_proxies", ()),
        ("TRUSTED_PROXIES", "", "trusted_proxies", LOOPBACK),
        ("CONNECTION_RATE", "0", "connection_rate", 0),
        ("CONNECTIONS_PER_ADDRESS", "0", "connections_per_address", 0),
        ("HTTP_CONNECTIONS_PER_ADDRESS", "0", "http_connections_per_address", 0),
        ("REQUEST_RATE", "0", "request_rate", 0),
        ("MESSAGE_RATE", "5", "message_rate", 5),
        ("MESSAGE_BURST", "5", "message_burst", 5),
        ("GROUPS_PER_HOUR", "0", "groups_per_hour", 0),
        ("MAX_GROUP_SIZE", "5", "max_group_size", 5),
        ("MAX_GROUPS", "5", "max_groups", 5),
        ("MAX_CALL_SIZE", "2", "max_call_size", 2),
        ("RING_TIMEOUT", "0.5", "ring_timeout", 0.5),
        ("ICE_SERVERS", "", "ice_servers", ()),
        (
            "ICE_SERVERS",
            "stun:a.example, stuns:b.example:5349,stun:192.0.2.1:3478,stun:[2001:db8::1]:3478",
            "ice_servers",
            ("stun:a.example", "stuns:b.example:5349", "stun:192.0.2.1:3478", "stun:[2001:db8::1]:3478"),
        ),
        ("ICE_TRANSPORT_POLICY", "all", "ice_transport_policy", "all"),
        ("TURN", "managed", "turn", "managed"),
        ("TURN_HOST", "turn.example.com", "turn_host", "turn.example.com"),
        ("TURN_EXTERNAL_ADDRESS", "198.51.100.7", "turn_external_address", "198.51.100.7"),
        ("TURN_PORT", "443", "turn_port", 443),
        ("TURN_TLS_PORT", "0", "turn_tls_port", 0),
        ("TURN_MIN_PORT", "50000", "turn_min_port", 50_000),
        ("TURN_MAX_PORT", "50000", "turn_max_port", 50_000),
        ("TURN_TTL", "60", "turn_ttl", 60),
        ("TURN_CREDENTIALS_PER_HOUR", "0", "turn_credentials_per_hour", 0),
        ("SESSION_GRACE", "0.5", "session_grace", 0.5),
        ("SESSION_GRACE_BACKGROUND", "5", "session_grace_background", 5.0),
        ("METRICS_TOKEN", "s3cret", "metrics_token", "s3cret"),
        ("WS_HEARTBEAT_INTERVAL", "5000", "ws_heartbeat_interval", 5000),
        ("LOG_LEVEL", "WARNING", "level", "warning"),
        ("DEBUG", "peershare:*", "level", "debug"),
        ("DEBUG", "express:*,peershare:*", "level", "debug"),
        ("DEBUG", "express:*", "level", "info"),
        ("MAX_MESSAGE_SIZE", "1024", "max_message_size", 1024),
        ("EMPTY_GROUP_TTL", "0.5", "empty_group_ttl", 0.5),
        ("SHUTDOWN_TIMEOUT", "3", "shutdown_timeout", 3.0),
        ("HANDSHAKE_TIMEOUT", "1", "handshake_timeout", 1.0),
        ("MAX_CONNECTIONS", "5", "max_connections", 5),
        ("PEERJS_PATH", "/", "peerjs_path", "/"),
        ("PEERJS_PATH", "/myapp", "peerjs_path", "/myapp/"),
        ("PEERJS_PATH", "myapp/", "peerjs_path", "/myapp/"),
        ("PEERJS_PATH", "//a//b//", "peerjs_path", "/a/b/"),
        ("PEERJS_PATH", "/peerjs", "peerjs_path", "/peerjs/"),
        ("PEERJS_PATH", "/a/api", "peerjs_path", "/a/api/"),
        ("PEERJS_PATH", "/apis", "peerjs_path", "/apis/"),
        ("PEERJS_PATH", "/A.b_c~d-9", "peerjs_path", "/A.b_c~d-9/"),
        ("PEERJS_PATH", "", "peerjs_path", "/"),
        ("PEERJS_KEY", "K.e_y~1-2", "peerjs_key", "K.e_y~1-2"),
        ("PEERJS_KEY", "k" * 100, "peerjs_key", "k" * 100),
        ("PEERJS_ALLOW_DISCOVERY", "true", "peerjs_allow_discovery", True),
        ("PEERJS_ALLOW_DISCOVERY", "1", "peerjs_allow_discovery", True),
        ("PEERJS_ALLOW_DISCOVERY", "Yes", "peerjs_allow_discovery", True),
        ("PEERJS_ALLOW_DISCOVERY", "false", "peerjs_allow_discovery", False),
        ("PEERJS_ALLOW_DISCOVERY", "0", "peerjs_allow_discovery", False),
        ("PEERJS_ALLOW_DISCOVERY", "", "peerjs_allow_discovery", False),
        ("PEERJS_CONCURRENT_LIMIT", "1", "peerjs_concurrent_limit", 1),
        ("PEERJS_EXPIRE_TIMEOUT", "100", "peerjs_expire_timeout", 100),
        ("PEERJS_ALIVE_TIMEOUT", "1000", "peerjs_alive_timeout", 1000),
        (
            "PEERJS_CORS",
            "https://a.example,http://b:8080",
            "peerjs_cors",
            ("https://a.example", "http://b:8080"),
        ),
        ("PEERJS_CORS", "", "peerjs_cors", ()),
        ("PEERJS_SCOPE", "group", "peerjs_scope", "group"),
        ("PEERJS_RATE", "1", "peerjs_rate", 1),
        ("STORE", "sqlite", "kept_in", "sqlite"),
        ("STORE", "", "kept_in", "sqlite"),
        ("STORE", "memory", "kept_in", "memory"),
        ("DATABASE_URL", "postgres://ann@host/name", "kept_in", "postgres"),
        ("DATA_DIR", "/var/lib/peershare", "data_dir", "/var/lib/peershare"),
    ],
)
def test_variables(monkeypatch, variable, value, field, expected):
    """Each setting has its variable, under the original's name where it had one."""
    monkeypatch.setenv(variable, value)
    assert getattr(read_settings(), field) == expected


def test_precedence(monkeypatch, tmp_path):
    """The command line goes before the environment, and that before `.env`."""
    (tmp_path / ".env").write_text("PORT=1001\nWS_PORT=1002\nHOST=127.0.0.1\n")
    monkeypatch.setenv("PORT", "2001")
    monkeypatch.setenv("WS_PORT", "2002")
    settings = read_settings(["--port", "3001"])
    assert (settings.port, settings.ws_port, settings.host) == (3001, 2002, ("127.0.0.1",))


def test_no_ice_servers(monkeypatch, tmp_path):
    """An empty value is one, wherever it stands: nobody is asked then. The command line goes first."""
    assert read_settings().ice_servers == ("stun:stun.l.google.com:19302",)
    assert read_settings(["--ice-servers", ""]).ice_servers == ()
    (tmp_path / ".env").write_text("ICE_SERVERS=\n")
    monkeypatch.setenv("ICE_SERVERS", "")  # so that it is taken away again
    monkeypatch.delenv("ICE_SERVERS")
    assert read_settings().ice_servers == ()
    assert read_settings(["--ice-servers", "stun:a.example"]).ice_servers == ("stun:a.example",)


def test_environment_goes_before_node_env(monkeypatch):
    """Ours is the first name."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("NODE_ENV", "development")
    assert read_settings().environment == "production"


@pytest.mark.parametrize(
    ("environment_name", "expected"), [("development", DEVELOPMENT_ORIGINS), ("production", ()), ("test", ())]
)
def test_origins_by_environment(monkeypatch, environment_name, expected):
    """Only in development some are allowed by themselves."""
    monkeypatch.setenv("ENVIRONMENT", environment_name)
    assert read_settings().origins == expected


BAD = [
    ("PORT", "abc", "a whole number from 0 to 65535"),
    ("PORT", "65536", "a whole number from 0 to 65535"),
    ("PORT", "-1", "a whole number from 0 to 65535"),
    ("PORT", "3000.5", "a whole number from 0 to 65535"),
    ("HOST", "two words", "a host name or an IP address"),
    ("HOST", "two words,127.0.0.1", "a host name or an IP address"),
    ("HOST", "*,127.0.0.1", "set it alone"),
    ("HOST", ",", "At least one"),
    ("ENVIRONMENT", "staging", "development"),
    ("LOG_LEVEL", "loud", "debug"),
    ("ALLOWED_ORIGINS", "example.com", "an origin such as https://example.com"),
    ("ALLOWED_ORIGINS", "https://a/path", "an origin such as https://example.com"),
    ("ALLOWED_ORIGINS", "*", "an origin such as https://example.com"),
    ("ALLOWED_ORIGINS", "https://*", "an origin such as https://example.com"),
    ("ALLOWED_ORIGINS", "https://*.", "an origin such as https://example.com"),
    ("ALLOWED_ORIGINS", "https://a.*.example", "an origin such as https://example.com"),
    ("ALLOWED_ORIGINS", "https://ann@a.example", "an origin such as https://example.com"),
    ("ALLOWED_ORIGINS", "https://a.example:", "an origin such as https://example.com"),
    ("ALLOWED_ORIGINS", "https://a.example:x", "an origin such as https://example.com"),
    ("ALLOWED_ORIGINS", "https://::1", "an origin such as https://example.com"),
    ("ALLOWED_ORIGINS", "app://", "app://name, file:// or null"),
    ("ALLOWED_ORIGINS", "file:///home", "app://name, file:// or null"),
    ("ALLOWED_ORIGINS", "1app://name", "app://name, file:// or null"),
    ("ALLOWED_ORIGINS", "://name", "app://name, file:// or null"),
    ("ALLOWED_ORIGINS", "*://name", "app://name, file:// or null"),
    ("ALLOWED_ORIGINS", "http://a.example:5*", "app://name, file:// or null"),
    ("PEERJS_CORS", "app://a/b", "app://name, file:// or null"),
    ("PEERJS_CORS", "app://a:70000", "from 1 to 65535"),
    ("ALLOWED_ORIGINS", "https://a.example:65536", "from 1 to 65535"),
    ("ALLOWED_ORIGINS", "https://a.example:" + "9" * 5000, "from 1 to 65535"),
    ("ALLOWED_ORIGINS", "https://*.a.example:0", "from 1 to 65535"),
    ("ALLOWED_ORIGINS", "https://a.example:08443", "from 1 to 65535"),
    ("ALLOWED_ORIGINS", "https://a.example:443", "has the default port of https"),
    ("ALLOWED_ORIGINS", "http://[::1]:80", "has the default port of http,"),
    ("ALLOWED_ORIGINS", "https://bücher.example", "xn--"),
    ("PEERJS_CORS", "https://*example.com", "an origin such as https://example.com"),
    ("ALLOWED_HOSTS", "https://a.example", "a host name such as example.com"),
    ("ALLOWED_HOSTS", "a.example:3000", "a host name such as example.com"),
    ("ALLOWED_HOSTS", "a.example/path", "a host name such as example.com"),
    ("ALLOWED_HOSTS", "*example.com", "a host name such as example.com"),
    ("ALLOWED_HOSTS", "a.*.example", "a host name such as example.com"),
    ("ALLOWED_HOSTS", "::1", "a host name such as example.com"),
    ("ALLOWED_HOSTS", "bücher.example", "xn--"),
    ("TRUSTED_PROXIES", "nginx", "an IP address, or a network such as 10.0.0.0/8"),
    ("TRUSTED_PROXIES", "10.0.0.1/8", "an IP address, or a network such as 10.0.0.0/8"),
    ("MAX_CALL_SIZE", "1", "a whole number from 2 to 100"),
    ("RING_TIMEOUT", "0", "a number from 0.1 to 3600"),
    ("ICE_SERVERS", "stun.example.com", "a URL such as stun:stun.example.com:3478"),
    ("ICE_SERVERS", "turn:turn.example.com", "a URL such as stun:stun.example.com:3478"),
    ("ICE_SERVERS", "stun://stun.example.com", "a URL such as stun:stun.example.com:3478"),
    ("ICE_SERVERS", "stun:", "a URL such as stun:stun.example.com:3478"),
    ("ICE_SERVERS", "stun:a.example:0", "a URL such as stun:stun.example.com:3478"),
    ("ICE_SERVERS", "stun:a.example:65536", "a URL such as stun:stun.example.com:3478"),
    ("ICE_SERVERS", "stun:a.example?transport=udp", "a URL such as stun:stun.example.com:3478"),
    ("TURN_URLS", "stun:a.example", "a URL such as turn:turn.example.com:3478?transport=udp"),
    ("TURN_URLS", "turn:a.example:0", "a URL such as turn:turn.example.com:3478?transport=udp"),
    ("TURN_URLS", "turn:a.example?transport=tls", "a URL such as turn:turn.example.com:3478?transport=udp"),
    ("TURN", "coturn", "'managed'"),
    ("TURN_HOST", "a b", "not a host name or an IP address"),
    ("TURN_EXTERNAL_ADDRESS", "a.example", "not an IP address"),
    ("TURN_PORT", "0", "a whole number from 1 to 65535"),
    ("TURN_MIN_PORT", "1023", "a whole number from 1024 to 65535"),
    ("TURN_TTL", "59", "a whole number from 60 to 86400"),
    ("TURN_TTL", "86401", "a whole number from 60 to 86400"),
    ("ICE_TRANSPORT_POLICY", "none", "'all', 'relay'"),
    ("REQUEST_RATE", "-1", "a whole number from 0 "),
    ("MESSAGE_RATE", "0", "a whole number from 1 "),
    ("WS_HEARTBEAT_INTERVAL", "99", "a whole number from 100 to 3600000"),
    ("MAX_MESSAGE_SIZE", "0", "a whole number from 1024"),
    ("MAX_CONNECTIONS", "0", "a whole number from 1 "),
    ("SHUTDOWN_TIMEOUT", "nan", "a number from 0.1 to 3600"),
    ("HANDSHAKE_TIMEOUT", "soon", "a number from 0.1 to 3600"),
    ("EMPTY_GROUP_TTL", "-1", "a number from 0 to 86400"),
    ("PEERJS_PATH", "/my app", "a path such as /myapp"),
    ("PEERJS_PATH", "/a?b", "a path such as /myapp"),
    ("PEERJS_PATH", "/ä", "a path such as /myapp"),
    ("PEERJS_PATH", "/%61", "a path such as /myapp"),
    ("PEERJS_PATH", "/<id>", "a path such as /myapp"),
    ("PEERJS_PATH", "http://a/b", "a path such as /myapp"),
    ("PEERJS_PATH", "/" + "x" * 101, "a path such as /myapp"),
    ("PEERJS_PATH", "/api", "must not begin with /api, /check, /group, /metrics, /web or /ws."),
    ("PEERJS_PATH", "api/x/", "must not begin with /api, /check, /group, /metrics, /web or /ws."),
    ("PEERJS_PATH", "/check", "must not begin with /api, /check, /group, /metrics, /web or /ws."),
    ("PEERJS_PATH", "/group", "must not begin with /api, /check, /group, /metrics, /web or /ws."),
    ("PEERJS_PATH", "//ws/", "must not begin with /api, /check, /group, /metrics, /web or /ws."),
    ("PEERJS_PATH", "/web", "must not begin with /api, /check, /group, /metrics, /web or /ws."),
    ("PEERJS_PATH", "/a/../ws", "is not free"),
    ("PEERJS_PATH", "/.", "is not free"),
    ("PEERJS_KEY", " ", "1 to 100 of the characters"),
    ("PEERJS_KEY", "two words", "1 to 100 of the characters"),
    ("PEERJS_KEY", "a&b", "1 to 100 of the characters"),
    ("PEERJS_KEY", "k" * 101, "1 to 100 of the characters"),
    ("PEERJS_ALLOW_DISCOVERY", "maybe", "not a valid boolean"),
    ("PEERJS_CONCURRENT_LIMIT", "0", "a whole number from 1 "),
    ("PEERJS_EXPIRE_TIMEOUT", "99", "a whole number from 100 to 600000"),
    ("PEERJS_ALIVE_TIMEOUT", "999", "a whole number from 1000 to 3600000"),
    ("PEERJS_CORS", "*", "an origin such as https://example.com"),
    ("PEERJS_SCOPE", "room", "'open', 'group'"),
    ("PEERJS_RATE", "0", "a whole number from 1 "),
    ("STORE", "disk", "'sqlite', 'postgres'"),
    ("DATA_DIR", "/etc/passwd", "is a file"),
]


@pytest.mark.parametrize(("variable", "value", "rule"), BAD)
def test_a_bad_value(monkeypatch, variable, value, rule):
    """The message names the variable, the value and the rule."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(click.ClickException) as refused:
        read_settings()
    message = refused.value.format_message()
    assert variable in message
    assert value.split(",")[0] in message
    assert rule in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "variables",
    [
        {"DATABASE_URL": "mysql://ann:secret@host/name"},
        {"DATABASE_URL": "postgresql://ann:secret@host/name", "STORE": "sqlite"},
        {"STORE": "postgres"},
    ],
)
def test_15_databases_that_are_none(monkeypatch, variables):
    """The message names the variable, and no password."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(click.ClickException) as refused:
        read_settings()
    message = refused.value.format_message()
    assert "DATABASE_URL" in message
    assert "secret" not in message
    assert "\n" not in message


@pytest.mark.parametrize("token", ["é", "two words", "a\x7f", "a\n"])
def test_a_token_that_fits_no_header(monkeypatch, token):
    """It is refused, since nobody could bring it; and it is not shown."""
    monkeypatch.setenv("METRICS_TOKEN", token)
    with pytest.raises(click.ClickException) as refused:
        read_settings()
    message = refused.value.format_message()
    assert "METRICS_TOKEN" in message
    assert "visible ASCII" in message
    assert token not in message


def test_14_turn_servers_and_secrets(monkeypatch):
    """Several of both, in their order."""
    urls = ("turn:a.example:3478?transport=udp", "turns:[2001:db8::1]:5349", "turn:b.example")
    monkeypatch.setenv("TURN_URLS", ", ".join(urls))
    monkeypatch.setenv("TURN_SECRET", "0123456789abcdef,fedcba9876543210")
    settings = read_settings()
    assert settings.turn_urls == urls
    assert settings.turn_secret == ("0123456789abcdef", "fedcba9876543210")


@pytest.mark.parametrize("secret", ["short", "0123456789abcdef,short", "0123456789 abcdef"])
def test_14_a_bad_turn_secret(monkeypatch, secret):
    """It is refused, and not shown."""
    monkeypatch.setenv("TURN_SECRET", secret)
    with pytest.raises(click.ClickException) as refused:
        read_settings()
    message = refused.value.format_message()
    assert "TURN_SECRET" in message
    assert "16 or more visible ASCII characters" in message
    assert secret not in message


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--turn-urls", "turn:a.example"], "TURN_URLS and TURN_SECRET go together"),
        (["--turn-secret", "0123456789abcdef"], "TURN_URLS and TURN_SECRET go together"),
        (["--turn", "--turn-urls", "turn:a.example"], "TURN_URLS are of other servers"),
        (["--turn", "--turn-min-port", "60000"], "TURN_MIN_PORT=60000 is above TURN_MAX_PORT=59999"),
        (["--turn", "--port", "3478"], "TURN_PORT=3478 is PORT as well"),
        (["--turn", "--turn-port", "3001"], "TURN_PORT=3001 is WS_PORT as well"),
        (["--ice-transport-policy", "relay"], "ICE_TRANSPORT_POLICY=relay needs a TURN server"),
    ],
)
def test_14_half_a_turn_server(args, sentence):
    """A setting that does nothing without another is refused, in one sentence."""
    with pytest.raises(click.UsageError, match=sentence):
        read_settings(args)


MAIL = ["--smtp-url", "smtps://a:secret@mail.example.com", "--mail-from", "a@example.com"]
SITE = ["--public-url", "https://call.example.com/calls"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (MAIL[:2], "SMTP_URL needs MAIL_FROM and PUBLIC_URL"),
        (MAIL, "SMTP_URL needs MAIL_FROM and PUBLIC_URL"),
        ([*MAIL, *SITE, "--store", "memory"], "SMTP_URL is for accounts"),
        (["--smtp-url", "mail.example.com:secret"], "It must be as in smtp://user"),
        (["--mail-from", "somebody"], "'somebody' is not an address such as"),
        (["--mail-from", "a@example.com\nBcc: b@c"], "is not an address such as"),
        (["--public-url", "call.example.com"], "'call.example.com' is not a URL such as"),
        (["--public-url", "https://call.example.com/?x"], "is not a URL such as"),
        (["--registration", "open", "--store", "memory"], "STORE=memory keeps no accounts"),
        (["--create-groups", "accounts", "--store", "memory"], "STORE=memory keeps no accounts"),
        (["--jwt-issuer", "peershare"], "JWT_ISSUER=peershare is of this server's own accounts"),
    ],
)
def test_16_accounts_that_can_not_be(args, sentence):
    """One sentence says what is missing, and repeats no password."""
    with pytest.raises(click.UsageError, match=sentence) as refused:
        read_settings(args)
    assert "secret" not in refused.value.format_message()


def test_16_accounts():
    """With a database they need nothing else; the first page's URL ends with a slash."""
    settings = read_settings([*MAIL, *SITE, "--registration", "open", "--create-groups", "accounts"])
    assert settings.public_url == "https://call.example.com/calls/"


OIDC = {
    "OIDC_PROVIDERS": "work, club",
    "OIDC_WORK_ISSUER": "https://login.example.com/realms/work",
    "OIDC_WORK_CLIENT_ID": "peershare",
    "OIDC_WORK_CLIENT_SECRET": "hush, it is secret",
    "OIDC_WORK_LABEL": "Our company",
    "OIDC_CLUB_ISSUER": "http://localhost:8080",
    "OIDC_CLUB_CLIENT_ID": "public",
}


def test_16_providers(monkeypatch, tmp_path):
    """Each name has variables of its own; `peershare settings` shows the names, and no secret."""
    for variable, value in OIDC.items():
        monkeypatch.setenv(variable, value)
    work, club = read_settings().oidc_providers
    assert (work.name, work.label, work.client_id) == ("work", "Our company", "peershare")
    assert (work.issuer, work.client_secret) == (OIDC["OIDC_WORK_ISSUER"], "hush, it is secret")
    assert (club.label, club.client_secret) == ("club", "")
    assert "hush" not in repr(work)
    assert shown((work, club), secret=False) == "work,club"


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("OIDC_PROVIDERS", "work,work", "up to 16 names, each once"),
        ("OIDC_PROVIDERS", ",".join(f"p{number}" for number in range(17)), "up to 16 names, each once"),
        ("OIDC_PROVIDERS", "Work", "'Work' is not a name"),
        ("OIDC_PROVIDERS", "our-work", "'our-work' is not a name"),
        ("OIDC_PROVIDERS", "other", "OIDC_OTHER_ISSUER='' is not a URL"),
        ("OIDC_WORK_ISSUER", "http://login.example.com", "is not a URL such as https://login.example.com"),
        ("OIDC_WORK_ISSUER", "https://login.example.com?x", "is not a URL such as https://login.example.com"),
        ("OIDC_WORK_ISSUER", "http://localhost.evil.example", "is not a URL"),
        ("OIDC_WORK_CLIENT_ID", "", "OIDC_WORK_CLIENT_ID must be"),
        ("OIDC_WORK_CLIENT_SECRET", "hush\u00e9", "OIDC_WORK_CLIENT_SECRET must be"),
        ("OIDC_WORK_LABEL", "x" * 51, "OIDC_WORK_LABEL must be"),
        ("STORE", "memory", "OIDC_PROVIDERS need accounts, and STORE=memory keeps none"),
    ],
)
def test_16_a_bad_provider(monkeypatch, variable, value, rule):
    """The message names the variable and the rule, and shows no secret."""
    for name, said in (OIDC | {variable: value}).items():
        monkeypatch.setenv(name, said)
    with pytest.raises(click.ClickException) as refused:
        read_settings()
    assert rule in refused.value.format_message()
    assert "hush" not in refused.value.format_message()


def test_14_turn_alone(monkeypatch):
    """The option without a value says the same as the variable."""
    assert read_settings(["--turn"]).turn == "managed"
    assert read_settings(["--turn", "--port", "1"]).port == 1
    assert read_settings(["--turn", "managed"]).turn == "managed"
    assert read_settings().turn == ""
    assert read_settings(["--turn", "--ice-transport-policy", "relay"]).ice_transport_policy == "relay"


def test_one_port_for_both(monkeypatch):
    """They must differ."""
    monkeypatch.setenv("WS_PORT", "3000")
    with pytest.raises(click.UsageError, match="WS_PORT=3000 is PORT as well"):
        read_settings()


def run(tmp_path, *args: str, **settings: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "peershare", *args],
        env=environment(**settings),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["serve", "settings"])
def test_a_bad_value_on_the_command_line(tmp_path, command):
    """One line on stderr, exit status 2, and nothing is started."""
    result = run(tmp_path, command, PORT="abc")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "peershare: Invalid value for '--port' (env var: 'PORT'): "
        "'abc' is not a whole number from 0 to 65535.\n"
    )


def test_an_environment_file_that_cannot_be_read(tmp_path):
    """It is one line too."""
    (tmp_path / ".env").write_bytes(b"LOG_LEVEL=\xff\xfe")
    result = run(tmp_path, "serve")
    assert result.returncode == 2
    assert result.stderr.startswith("peershare: The file .env can't be read")
    assert result.stderr.count("\n") == 1


def test_an_unknown_option(tmp_path):
    """It is told in one line as well."""
    result = run(tmp_path, "serve", "--nope")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "--nope" in result.stderr


def test_14_an_ipv6_address_is_shown(tmp_path):
    """It stands in brackets, which are no markup."""
    url = "turn:[fd00::1]:3478"
    result = run(tmp_path, "settings", "--turn-urls", url, "--turn-secret", 16 * "x", COLUMNS=200)
    assert url in result.stdout


@pytest.mark.smoke
def test_settings_are_shown(tmp_path):
    """Each with its value, its unit and its meaning."""
    (tmp_path / ".env").write_text("MAX_CONNECTIONS=77\n")
    result = run(tmp_path, "settings", "--empty-group-ttl", "5", COLUMNS=200)
    assert result.returncode == 0
    for field in attrs.fields(Settings):
        assert about(field).variables[0] in result.stdout
    assert "77" in result.stdout
    assert "5.0" in result.stdout
    assert "bytes" in result.stdout
    assert "http://localhost:*" in result.stdout


def test_a_secret_is_masked():
    """Where there is one, and an empty one is shown as empty."""
    assert shown("hunter2", secret=True) == "********"
    assert shown("", secret=True) == ""


def test_help_and_version(tmp_path):
    """The program tells about itself."""
    assert "serve" in run(tmp_path, "--help").stdout
    assert "WS_HEARTBEAT_INTERVAL" in run(tmp_path, "serve", "--help").stdout
    assert run(tmp_path, "--version").stdout.startswith("peershare, version ")
