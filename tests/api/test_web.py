"""The web client's page and files, and what it asks for, by Quart's own test client."""

import gzip
import re
import threading

import attrs
import brotli
import pytest
import trio
import zxingcpp
from werkzeug.datastructures import Headers

from peershare.api import qr_code
from peershare.api.peerjs import PeerjsRestRules
from peershare.core.turn import TurnRules
from peershare.messages import CreateGroup, GroupId, GroupName, UserId, Username
from peershare.runtime.commands import MessageReceived
from peershare.transport.head import page_headers
from tests.harness import Harness
from tests.runtime.fakes import FakeSignalingClient, enter

GROUP = GroupId("550e8400-e29b-41d4-a716-446655440000")
INLINE = b"document.title = 'A page'"
PAGE = b"<!doctype html><script>" + INLINE + b"</script><script type=module src=app.js></script>"
CHECK = b'<!doctype html><title>The check</title><script type=module src="/web/check.js"></script>'
SCRIPT = b"export const answer=42;"
# As browsers ask for a page, for a picture, and for what a script fetches.
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
PICTURE = "image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8"
ANYTHING = "*/*"


class World:
    def __init__(self, folder, broker_path="/", ice_servers=(), base_path="/"):
        self.harness = Harness(iter([GROUP]), turn=TurnRules(stun_urls=ice_servers))
        rules = PeerjsRestRules(broker_path, allow_discovery=False, cors=())
        app = self.harness.app(["https://app.example.com"], rules, base_path=base_path, folder=folder)
        self.client = app.test_client()

    async def get(self, path, accept=None, method="GET", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if accept is not None:
            headers["Accept"] = accept
        return await self.client.open(path, method=method, headers=headers)


@pytest.fixture
def folder(tmp_path):
    """Some files, and some that are none of the client's."""
    (tmp_path / "icons").mkdir()
    files = {
        "index.html": PAGE,
        "check.html": CHECK,
        "app.js": SCRIPT,
        "style.css": b"body {}",
        "icons/logo.svg": b"<svg/>",
        "icons/logo.png": b"PNG",
        "app.webmanifest": b"{}",
        "README.md": b"# Not for browsers",
        "app.d.ts": b"// nor this",
        ".secret": b"nor this",
        "noextension": b"nor this",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
async def make(nursery, folder):
    """Makes a world."""

    def worlds(**rules):
        world = World(folder, **rules)
        nursery.start_soon(world.harness.actor.run)
        return world

    yield worlds
    nursery.cancel_scope.cancel()


async def is_page(response) -> bool:
    return response.status_code == 200 and await response.get_data() == PAGE


async def is_not_found(response) -> bool:
    return response.status_code == 404 and (await response.get_json())["code"] == "NOT_FOUND"


# --- the page ----------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [HTML, ANYTHING, None])
@pytest.mark.parametrize("path", ["/", f"/group/{GROUP}", "/group/whatever", "/group/x.y", "/?name=Ann"])
async def test_the_page(make, path, accept):
    """Whoever asks gets it; what is behind a group's ID is the page's business."""
    response = await make(broker_path="/myapp/").get(path, accept)
    assert await is_page(response)
    assert response.content_type == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (HTML, True),
        ("text/html", True),
        ("application/xhtml+xml;q=0.5", True),
        (None, False),
        (ANYTHING, False),
        ("application/json", False),
        ("text/*", False),
        (PICTURE, False),
        ("text/html;q=0", False),
    ],
)
async def test_the_page_and_the_broker_at_one_address(make, accept, expected):
    """The broker tells what it is, unless HTML is asked for by name; and caches know that it depends."""
    response = await make().get("/", accept)
    assert await is_page(response) is expected
    if expected:
        assert "Accept" in response.headers["Vary"]
    else:
        assert (await response.get_json())["name"] == "PeerJS Server"


@pytest.mark.parametrize("path", ["/about", "/a/b/c", "/group/", "/group/a/b", "/webs", "/apis", "/über"])
async def test_unknown_paths_of_the_page(make, path):
    """Somebody with a browser gets the page; a program is told that there is nothing."""
    world = make()
    assert await is_page(await world.get(path, HTML))
    assert await is_not_found(await world.get(path, ANYTHING))


@pytest.mark.parametrize(
    "path",
    [
        *("/nope.js", "/favicon.ico", "/a/b.html", "/api/nope", "/api//x", "/ws/x", "/metrics/x"),
        *("/web/", "/web/x", "/web/nope.js", "/web/icons", "/web/icons/", "/web/README.md"),
        *("/web/app.d.ts", "/web/.secret", "/web/noextension", "/web/INDEX.HTML"),
        *("/web/../index.html", "/web/%2e%2e/index.html", "/web//index.html"),
    ],
)
@pytest.mark.parametrize("accept", [HTML, ANYTHING])
async def test_what_is_not_there(make, path, accept):
    """It is a 404 in JSON, also for browsers: a file, or below what is the server's own."""
    assert await is_not_found(await make().get(path, accept))


async def test_below_the_broker(make):
    """There is no page, where it has a path of its own; and its pages are its own as ever."""
    world = make(broker_path="/myapp/")
    assert await is_not_found(await world.get("/myapp/nope", HTML))
    assert len(await (await world.get("/myapp/peerjs/id", HTML)).get_data()) == 36
    assert (await (await world.get("/myapp", HTML)).get_json())["name"] == "PeerJS Server"
    assert len(await (await make().get("/peerjs/id", HTML)).get_data()) == 36


async def test_what_was_there_is_there(make):
    """A browser that opens a page of the interface gets that."""
    world = make()
    for path, status in (("/api", 200), ("/api/health", 200), ("/ws", 426), ("/metrics", 200)):
        assert (await world.get(path, HTML)).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", [f"/group/{GROUP}", "/web/app.js", "/about"])
async def test_no_other_method(make, path, method):
    """There is nothing to change here."""
    assert await is_not_found(await make().get(path, HTML, method=method))


@pytest.mark.parametrize("accept", [HTML, ANYTHING, None])
@pytest.mark.parametrize(
    ("path", "link"), [("/check", b"web/check.js"), ("/check/", b"../web/check.js"), ("/meet/check", None)]
)
async def test_14_the_check(make, path, link, accept):
    """A page of its own, which is there for whoever asks; wherever a proxy shows it."""
    response = await make(base_path="/meet/").get(path, accept)
    body = await response.get_data()
    assert links_of(body) == {link or b"web/check.js"}
    assert b"<title>The check" in body
    assert "Content-Security-Policy" in response.headers


def links_of(page: bytes) -> set[bytes]:
    return set(re.findall(rb'"([^"]*web/[^"]*)"', page))


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("/", b"web/app.js"),
        ("/about", b"web/app.js"),
        (f"/group/{GROUP}", b"../web/app.js"),
        (f"/group/{GROUP}/", b"../../web/app.js"),
        ("/a/b/c", b"../../web/app.js"),
    ],
)
@pytest.mark.parametrize("in_front", ["", "/meet"])
async def test_11_7_the_page_below_a_path(make, folder, path, link, in_front):
    """Its links are right wherever a proxy shows it, whether the proxy removes the path or not."""
    (folder / "index.html").write_bytes(b'<!doctype html><script src="/web/app.js"></script>')
    response = await make(base_path="/meet/").get(in_front + path, HTML)
    assert response.status_code == 200
    assert links_of(await response.get_data()) == {link}


async def test_11_7_everything_below_a_path(make):
    """The interface, the files, the broker; and the path itself leads to the page, with its slash."""
    world = make(base_path="/meet/")
    for path in ("/api/health", "/api/ice", "/web/app.js", "/peerjs/id", "/"):
        assert (await world.get(path)).status_code == 200
        assert (await world.get(f"/meet{path}")).status_code == 200
    response = await world.get("/meet", HTML)
    assert (response.status_code, response.headers["Location"]) == (308, "/meet/")
    assert await is_not_found(await world.get("/meetings"))
    assert await is_not_found(await world.get("/meet/meet/api/health"))


async def test_12_19_metrics_are_at_one_path(make):
    """A proxy that keeps it to itself need not know others."""
    world = make(base_path="/meet/")
    assert (await world.get("/metrics")).status_code == 200
    for path in (
        "/meet/metrics",
        "/meet/metrics/",
        "/meet/meet/metrics",
        "/meet//metrics",
        "//metrics",
        "///metrics",
    ):
        assert (await world.get(path)).status_code == 404


async def test_a_page_that_is_too_deep(make):
    """A path that leads nowhere is the page's for a browser, but not one of any depth."""
    assert await is_page(await make().get("/a" * 9, HTML))
    assert await is_not_found(await make().get("/a" * 10, HTML))


async def test_11_11_crawlers(make):
    """None lists a group, and each may ask so that it hears that."""
    world = make()
    robots = await world.get("/robots.txt")
    assert robots.content_type == "text/plain; charset=utf-8"
    rules = await robots.get_data(as_text=True)
    assert "Disallow: /api/" in rules
    assert "/group" not in rules
    assert (await world.get(f"/group/{GROUP}", HTML)).headers["X-Robots-Tag"] == "noindex, nofollow"
    assert "X-Robots-Tag" not in (await world.get("/", HTML)).headers


# --- the files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("icons/logo.svg", "image/svg+xml"),
        ("icons/logo.png", "image/png"),
        ("app.webmanifest", "application/manifest+json"),
    ],
)
async def test_files(make, folder, path, kind):
    """Each as it is, with its kind: a browser is told not to guess."""
    response = await make().get(f"/web/{path}?v=1")
    assert response.status_code == 200
    assert await response.get_data() == (folder / path).read_bytes()
    assert response.headers["Content-Type"] == kind


async def test_files_are_read_at_the_start(make, folder):
    """What becomes of them later is nothing to the server that runs."""
    world = make()
    (folder / "app.js").write_bytes(b"broken")
    (folder / "index.html").unlink()
    assert await (await world.get("/web/app.js")).get_data() == SCRIPT
    assert await is_page(await world.get("/group/x"))


@pytest.mark.parametrize(
    ("source", "served"),
    [
        (b"  // why\nf(1, 2); // why\n\tg();", b"\nf(1,2);\ng();"),
        (b"/** Why. @type {A} */\nlet x = /** @type {B} */ (y);", b"\nlet x=(y);"),
        (b'f("a, b // c");', b'f("a, b // c");'),
        (b"f(`${a} // b`, 1);", b"f(`${a} // b`, 1);"),
        (b"x = a / b, c = /a, b/;", b"x = a / b, c = /a, b/;"),
        (b"x = a + +b - -c;", b"x=a + +b - -c;"),
    ],
)
async def test_scripts_are_served_without_comments_and_spaces(make, folder, source, served):
    """Only where neither can be part of a string or of a regular expression, and on the same lines."""
    (folder / "app.js").write_bytes(source)
    assert await (await make().get("/web/app.js")).get_data() == served


async def test_without_a_page(make, folder):
    """There is no server."""
    (folder / "index.html").unlink()
    with pytest.raises(KeyError):
        make()


@pytest.mark.parametrize("origin", ["https://anybody.example", "https://app.example.com", "null", None])
async def test_any_page_may_import_a_file(make, origin):
    """Also one of an origin that may read nothing else."""
    headers = {} if origin is None else {"Origin": origin}
    response = await make().get("/web/app.js", **headers)
    assert response.headers["Access-Control-Allow-Origin"] in ("*", origin)


async def test_nobody_reads_the_page_itself(make):
    """It is to be looked at."""
    response = await make().get("/group/x", Origin="https://anybody.example")
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("path", ["/group/x", "/web/index.html", "/web/app.js", "/web/icons/logo.svg"])
async def test_headers(make, path):
    """The policy is the page's, and whoever keeps a copy asks each time whether it is still good."""
    response = await make().get(path)
    expected = page_headers([INLINE])
    assert {name: response.headers[name] for name, _ in expected} == dict(expected)
    assert response.headers["Cache-Control"] == "no-cache"


def test_the_policy():
    """All is from here, but for the scripts that stand in the document, and nobody frames it."""
    policy, permissions = (value for _, value in page_headers([b"one", b"two"]))
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert directives == {
        "default-src": "'none'",
        "script-src": "'self' 'sha256-dpLDrTVAu4A8Ags67mbNiIcSMjTqDG5xQ8Ct1z/0Me0=' "
        "'sha256-P8TM/nRYcOLA2Z9x8w/wZWyN7dQcwdfT03aw2+aF4vM='",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "media-src": "'self' blob:",
        "connect-src": "'self'",
        "font-src": "'self'",
        "manifest-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    names = ["camera", "microphone", "display-capture", "fullscreen", "picture-in-picture", "autoplay"]
    names += ["speaker-selection", "screen-wake-lock"]
    assert permissions.split(", ") == [f"{name}=(self)" for name in names]


# --- what a browser has already ----------------------------------------------------------------


async def tag_of(world, path="/web/app.js"):
    return (await world.get(path)).headers["ETag"]


async def test_tags(make, folder):
    """They are strong, and go by the content."""
    world = make()
    tag = await tag_of(world)
    assert re.fullmatch('"[0-9a-f]{32}"', tag)
    assert await tag_of(world, "/group/x") == await tag_of(world, "/web/index.html") != tag
    assert await tag_of(make()) == tag
    (folder / "app.js").write_bytes(SCRIPT + b"\n")
    assert await tag_of(make()) != tag


@pytest.mark.parametrize("known", ["{}", "W/{}", '"other", {}', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_not_modified(make, known, method):
    """The browser's copy is still good: 304, no body, and all that may have changed beside it."""
    world = make()
    tag = await tag_of(world)
    response = await world.get("/web/app.js", method=method, If_None_Match=known.format(tag))
    assert response.status_code == 304
    assert await response.get_data() == b""
    assert response.headers["ETag"] == tag
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Content-Security-Policy" in response.headers


@pytest.mark.parametrize("known", ['"other"', "", "nonsense", '"'])
async def test_modified(make, known):
    """Any other copy is not."""
    response = await make().get("/web/app.js", If_None_Match=known)
    assert (response.status_code, await response.get_data()) == (200, SCRIPT)


@pytest.mark.parametrize("accepted", ["br", "gzip", ""])
@pytest.mark.parametrize("path", ["/group/x", "/web/app.js"])
async def test_head(make, long_script, path, accepted):
    """As GET; the body is left out by who writes the answer."""
    world = make()
    head, got = [await world.get(path, method=name, Accept_Encoding=accepted) for name in ("HEAD", "GET")]
    assert head.status_code == 200
    assert dict(head.headers) == dict(got.headers)


# --- compressed --------------------------------------------------------------------------------


DECODERS = {"br": brotli.decompress, "gzip": gzip.decompress, None: bytes}


@pytest.fixture
def long_script(folder):
    """A file that compression makes smaller, `app.js`."""
    content = b"answer(42);\n" * 100
    (folder / "app.js").write_bytes(content)
    return content


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, deflate", "gzip"),
        ("GZip", "gzip"),
        ("br", "br"),
        ("*", "br"),
        ("br;q=0.5, gzip;q=0.8", "gzip"),
        ("br;q=0, *;q=0.1", "gzip"),
        ("gzip;q=0, *", "br"),
        ("gzip;q=0.001", "gzip"),
        ("identity;q=0, *", "br"),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        (None, None),
        ("", None),
        ("zstd", None),
        ("identity", None),
        ("gzip;q=0", None),
        ("gzip ; Q=0.000", None),
        ("*;q=0", None),
        ("br;q=0, gzip;q=0, *", None),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=0.3, br;q=0.4, *;q=0.5", None),
        ("identity;q=0", None),  # something is better than nothing
        ("gzipped, ungzip", None),
        (",;q=1,=;,", None),
    ],
)
async def test_who_takes_a_coding_gets_it(make, long_script, accepted, expected):
    """The one that is liked best, and nobody else gets any; a cache is told that it depends."""
    headers = {} if accepted is None else {"Accept-Encoding": accepted}
    response = await make().get("/web/app.js", **headers)
    body = await response.get_data()
    assert response.headers.get("Content-Encoding") == expected
    assert DECODERS[expected](body) == long_script
    assert int(response.headers["Content-Length"]) == len(body)
    assert response.headers["Vary"] == "Accept-Encoding"


async def test_accept_encoding_on_several_lines(make, long_script):
    """They are one list (RFC 9110, section 5.3)."""
    lines = [("Accept-Encoding", "zstd"), ("Accept-Encoding", "gzip;q=0.5")]
    response = await make().client.get("/web/app.js", headers=Headers(lines))
    assert response.headers["Content-Encoding"] == "gzip"


async def test_the_page_compressed(make, folder):
    """At each depth, with its links; it varies by what is accepted as well."""
    page = b'<!doctype html><script src="/web/app.js"></script>' + b"<p>Hello.</p>" * 100
    (folder / "index.html").write_bytes(page)
    for path, link in (("/", b"web/app.js"), ("/group/x", b"../web/app.js")):
        response = await make().get(path, HTML, Accept_Encoding="gzip")
        assert links_of(gzip.decompress(await response.get_data())) == {link}
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["Vary"] == "Accept, Accept-Encoding"


async def test_what_is_not_made_smaller_is_sent_plain(make):
    """It is read without work."""
    response = await make().get("/web/icons/logo.png", Accept_Encoding="gzip, br")
    assert "Content-Encoding" not in response.headers
    assert await response.get_data() == b"PNG"


async def test_each_coding_has_its_tag(make, long_script):
    """A copy of one is not taken for one of another; the headers are the same but for what they name."""
    world = make()
    answers = {
        coding: await world.get("/web/app.js", Accept_Encoding=coding) for coding in ("", "gzip", "br")
    }
    tags = {coding: response.headers["ETag"] for coding, response in answers.items()}
    assert len(set(tags.values())) == 3
    for coding, tag in tags.items():
        for known in tags.values():
            response = await world.get("/web/app.js", If_None_Match=known, Accept_Encoding=coding)
            assert response.status_code == (304 if known == tag else 200)
            assert (response.headers["ETag"], response.headers["Vary"]) == (tag, "Accept-Encoding")
    plain = dict(answers.pop("").headers)
    for response in answers.values():
        headers = dict(response.headers)
        del headers["Content-Encoding"]
        assert {name for name in plain if plain[name] != headers.pop(name)} == {"ETag", "Content-Length"}
        assert headers == {}


async def test_the_interface_is_not_compressed(make):
    """Answers that hold what not everybody knows have the size of their content (BREACH)."""
    for path in ("/api", "/api/ice", "/api/health", "/metrics"):
        response = await make().get(path, Accept_Encoding="gzip, br")
        assert "Content-Encoding" not in response.headers


# --- what the page asks for --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ((), []),
        (("stun:a.example",), [{"urls": ["stun:a.example"]}]),
        (("stun:a.example", "stuns:b.example"), [{"urls": ["stun:a.example", "stuns:b.example"]}]),
    ],
)
async def test_ice_servers(make, servers, expected):
    """As a peer connection takes them; none where there are none."""
    response = await make(ice_servers=servers).get("/api/ice")
    assert await response.get_json() == {"iceServers": expected}
    assert response.headers["Cache-Control"] == "no-store"


@pytest.fixture
async def with_group(make):
    """There is a group."""
    return await with_one_group(make())


async def with_one_group(world):
    ann = UserId("ann-id")
    await world.harness.actor.send(enter(world.harness.actor, ann, FakeSignalingClient()))
    await world.harness.actor.send(MessageReceived(ann, CreateGroup(GroupName("Tea"), Username("ann")), None))
    return world


def link_in(svg: str) -> str:
    """The link that a phone finds in a code, which is drawn here at five pixels a module."""
    size = 5 * int(re.search(r'viewBox="0 0 (\d+) \1"', svg)[1])
    pixels = bytearray(b"\xff" * size * size)
    for box in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-\d+Z", svg):
        x, y, width, height = (5 * int(number) for number in box)
        for row in range(y, y + height):
            pixels[row * size + x : row * size + x + width] = bytes(width)
    view = memoryview(pixels).cast("B", (size, size))
    [found] = zxingcpp.read_barcodes(zxingcpp.ImageView(view, size, size, zxingcpp.ImageFormat.Lum))
    return found.text


@pytest.mark.parametrize(
    ("host", "proto", "expected"),
    [
        ("localhost:3000", None, "http://localhost:3000"),
        ("call.example.com", "https", "https://call.example.com"),
        ("[2001:db8::1]:3000", "https", "https://[2001:db8::1]:3000"),
    ],
)
async def test_a_qr_code(with_group, host, proto, expected):
    """The group's link as this browser has it: its host, and the scheme that a trusted proxy heard."""
    headers = {"Host": host} if proto is None else {"Host": host, "X-Forwarded-Proto": proto}
    scope = {"client": ("127.0.0.1", 4711)}
    path = f"/api/group/{GROUP.upper()}/qr.svg"
    response = await with_group.client.get(path, headers=headers, scope_base=scope)
    assert response.status_code == 200
    assert response.content_type == "image/svg+xml"
    svg = await response.get_data(as_text=True)
    assert link_in(svg) == f"{expected}/group/{GROUP}"
    assert 'viewBox="0 0 ' in svg
    assert "style" not in svg  # which the policy of the page forbids
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("prefix", "peer", "path"),
    [
        ("/rooms/", "127.0.0.1", "/rooms/"),
        ("rooms/a", "127.0.0.1", "/rooms/a/"),
        ("/rooms", "192.0.2.1", "/meet/"),
        ("/", "127.0.0.1", "/meet/"),
        ("/a/../b", "127.0.0.1", "/meet/"),
        ('/"><script>', "127.0.0.1", "/meet/"),
        (None, "127.0.0.1", "/meet/"),
    ],
)
async def test_11_7_a_qr_code_below_a_path(make, prefix, peer, path):
    """It is that of BASE_PATH, or what a trusted proxy says."""
    world = await with_one_group(make(base_path="/meet/"))
    headers = {"Host": "example.com"}
    if prefix is not None:
        headers["X-Forwarded-Prefix"] = prefix
    scope = {"client": (peer, 4711)}
    response = await world.client.get(f"/api/group/{GROUP}/qr.svg", headers=headers, scope_base=scope)
    assert link_in(await response.get_data(as_text=True)) == f"http://example.com{path}group/{GROUP}"


async def test_11_7_a_prefix_leads_nowhere(make):
    """A client can write it itself, and would get past a proxy that keeps /metrics to itself."""
    scope = {"client": ("127.0.0.1", 4711)}
    headers = {"X-Forwarded-Prefix": "/rooms"}
    response = await make().client.get("/rooms/metrics", headers=headers, scope_base=scope)
    assert await is_not_found(response)


async def test_a_qr_code_is_drawn_once(with_group, monkeypatch):
    """Who asks for it again, or at the same time, gets the same one."""
    draw, links = qr_code._draw, []
    monkeypatch.setattr(qr_code, "_draw", lambda link: links.append(link) or draw(link))
    codes = []

    async def ask():
        response = await with_group.get(f"/api/group/{GROUP}/qr.svg", Host="once.example.com")
        codes.append(await response.get_data(as_text=True))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    await ask()
    assert {link_in(code) for code in codes} == set(links) == {f"http://once.example.com/group/{GROUP}"}
    assert (len(codes), len(links)) == (4, 1)


async def test_12_6_codes_for_made_up_hosts(make, monkeypatch):
    """None is drawn in the loop's thread, few for one address, and what is kept of them is bounded."""
    drawn_in = set()

    def draw(link):
        drawn_in.add(threading.get_ident())
        return b"<svg/>"

    monkeypatch.setattr(qr_code, "_draw", draw)
    monkeypatch.setattr(qr_code, "_KEPT", 50)
    monkeypatch.setattr(qr_code, "_DRAWN", attrs.evolve(qr_code._DRAWN, rate=0.01))
    world = await with_one_group(make())

    async def ask(number, address):
        scope = {"client": (address, 4711)}
        path, host = f"/api/group/{GROUP}/qr.svg", f"h{number}.example.com"
        return await world.client.get(path, headers={"Host": host}, scope_base=scope)

    statuses = [(await ask(number, "192.0.2.1")).status_code for number in range(100)]
    assert statuses[:60] == [200] * 60
    refused = await ask(100, "192.0.2.1")
    assert refused.status_code == 429
    assert (await refused.get_json())["code"] == "RATE_LIMITED"
    assert int(refused.headers["Retry-After"]) >= 1
    # What was drawn is not counted, and others are not refused.
    assert (await ask(59, "192.0.2.1")).status_code == 200
    assert (await ask(101, "192.0.2.2")).status_code == 200
    assert threading.get_ident() not in drawn_in
    assert (await ask(0, "192.0.2.1")).status_code == 429  # it was forgotten


@pytest.mark.parametrize(
    "host", ["", "a b", "user@host", "host/path", "<svg>", ("h" * 60 + ".") * 5, "host:123456"]
)
async def test_a_host_that_is_none(with_group, host):
    """It is not put into a link."""
    response = await with_group.get(f"/api/group/{GROUP}/qr.svg", Host=host)
    assert response.status_code == 400
    assert (await response.get_json())["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("group_id", "status", "code"),
    [("nope", 400, "INVALID_GROUP_ID"), (GROUP.replace("5", "6"), 404, "GROUP_NOT_FOUND")],
)
async def test_a_qr_code_of_no_group(with_group, group_id, status, code):
    """As the group itself."""
    response = await with_group.get(f"/api/group/{group_id}/qr.svg")
    assert response.status_code == status
    assert (await response.get_json())["code"] == code
