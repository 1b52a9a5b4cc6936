"""Accounts in the page, in real Chromium (issue 16): docs/accounts.md, docs/web-client.md."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.browser import Chromium, launcher, node_module
from tests.browser_users import Person
from tests.support import eventually, running, serving
from tests.test_account_mails import SITE, inbox, wait_for  # noqa: F401 - a fixture
from tests.test_web_client import faults

pytestmark = pytest.mark.timeout(180)
expect.set_options(timeout=8_000)

PASSWORD = "correct horse"
SIGNED_OUT = "You have been signed out. Sign in again, or go on as a guest."

Invite = Callable[..., Person]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with launcher() as launch:
        yield launch()


@pytest.fixture(scope="module")
def open_server(tmp_path_factory):
    """A server on which anyone may register, often and from one address."""
    folder = tmp_path_factory.mktemp("accounts")
    said = {"STORE": "sqlite", "DATA_DIR": folder, "REGISTRATION": "open", "GROUPS_PER_HOUR": 0}
    with running(folder, ICE_SERVERS="", **said) as server:
        yield server


@pytest.fixture
def invite(chromium, open_server) -> Iterator[Invite]:
    """Makes somebody with a browser that nobody has used; in the end, no page may have complained."""
    with ExitStack() as stack:
        people: list[Person] = []

        def someone(name: str, **options: object) -> Person:
            context = stack.enter_context(chromium.context(**options))
            people.append(Person(context, f"http://localhost:{open_server.port}", name))
            return people[-1]

        yield someone
        assert [complaint for person in people for complaint in person.complaints] == []


def dialog(person: Person):
    return person.page.get_by_role("dialog")


def fill_in(person: Person, button: str, **fields: str) -> None:
    """Fill in fields of the dialog, by their labels with _ for a space, and press the button."""
    for label, value in fields.items():
        dialog(person).get_by_label(re.compile(f"^{label.replace('_', ' ')}")).fill(value)
    dialog(person).get_by_role("button", name=button, exact=True).click()


def register(person: Person, password: str = PASSWORD) -> None:
    person.page.goto(person.site)
    person.press("Sign in")
    person.press("Make an account")
    fill_in(person, "Make the account", Name=person.name, Password=password)
    is_signed_in(person)


def sign_in(person: Person, password: str = PASSWORD) -> None:
    person.page.goto(person.site)
    person.press("Sign in")
    fill_in(person, "Sign in", Name=person.name, Password=password)
    is_signed_in(person)


def account_button(person: Person):
    return person.button(f"Your account: {person.name}")


def is_signed_in(person: Person) -> None:
    expect(account_button(person)).to_be_visible()


def mark(person: Person, name: str):
    """Of a member in the list."""
    return person.member(name).get_by_text("signed in under this name")


def settings(person: Person) -> None:
    account_button(person).click()
    expect(dialog(person)).to_contain_text("You are signed in as")


def who(person: Person) -> str | None:
    """The account's ID, by the browser's cookies."""
    answer = person.context.request.get(f"{person.site}/api/auth/me")
    return answer.json()["account"]["id"] if answer.ok else None


# --- the way of one account ----------------------------------------------------------------------


def test_16_the_same_person_on_two_devices(invite):
    """Who registers has her name in the form, fixed. On another device she finds her group."""
    phone, laptop = invite("Ann"), invite("Ann")
    register(phone)
    phone.is_told("You are signed in as Ann.")
    expect(phone.page.get_by_label("Your name")).to_have_value("Ann")
    expect(phone.page.get_by_label("Your name")).not_to_be_editable()
    phone.page.get_by_label("Name of the group").fill("Mountain friends")
    phone.press("Make a group")
    phone.press("Make the group")
    phone.is_in_group()
    expect(mark(phone, "Ann")).to_be_visible()

    sign_in(laptop)
    assert who(phone) == who(laptop) is not None
    groups = laptop.page.get_by_role("region", name="Your groups")
    expect(groups).to_contain_text("Made by you, visited on")
    groups.get_by_role("link", name="Mountain friends").click()
    expect(laptop.page.get_by_label("Your name")).to_have_value("Ann")
    laptop.press("Join the group")
    laptop.is_in_group()
    guest = invite("Bob")
    guest.join(laptop.page.url)
    expect(mark(laptop, "Bob")).to_be_hidden()


def test_16_a_reload_keeps_who_one_is(invite):
    """A member that is signed in comes back as the same, and the landing page still knows her."""
    ann = invite("Reloader")
    register(ann)
    ann.page.get_by_label("Name of the group").fill("Tea")
    ann.press("Make a group")
    ann.press("Make the group")
    ann.is_in_group()
    ann.page.reload()
    ann.is_in_group()
    expect(ann.page.get_by_role("listitem")).to_have_count(1)
    expect(mark(ann, "Reloader")).to_be_visible()
    ann.page.goto(ann.site)
    is_signed_in(ann)


def test_16_groups_are_listed_and_forgotten(invite):
    """The last visited first, five until more are asked for. One is forgotten; the focus stays near."""
    ann = invite("Lister")
    register(ann)
    for number in range(1, 7):
        ann.page.get_by_label("Name of the group").fill(f"Group {number}")
        ann.press("Make a group")
        ann.press("Make the group")
        ann.is_in_group()
        ann.press("Leave the group")
    ann.page.goto(ann.site)
    links = ann.page.get_by_role("region", name="Your groups").get_by_role("link")
    expect(links).to_have_text([f"Group {number}" for number in range(6, 1, -1)])
    ann.press("Show all 6")
    expect(links).to_have_count(6)
    ann.press("Forget Group 6")
    expect(links).to_have_count(5)
    expect(ann.page.get_by_role("heading", name="Your groups")).to_be_focused()
    ann.is_told("Group 6 is not in your list any more.")
    ann.page.reload()
    expect(links).to_have_text([f"Group {number}" for number in range(5, 0, -1)])


def test_16_signing_out(invite):
    """The page is a guest's again, at once and after a reload."""
    ann = invite("Leaver")
    register(ann)
    settings(ann)
    ann.press("Sign out")
    ann.is_told("You are signed out.")
    expect(ann.button("Sign in")).to_be_focused()
    expect(ann.page.get_by_label("Your name")).to_be_editable()
    assert who(ann) is None
    ann.page.reload()
    expect(ann.button("Sign in")).to_be_visible()


# --- what is refused -----------------------------------------------------------------------------


def says(person: Person, label: str, text: str) -> None:
    """It stands beside the field, which has the focus and is marked."""
    field = dialog(person).get_by_label(label, exact=True)
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(text)


def test_16_errors_stand_beside_their_fields(invite):
    """What is missing, too short, taken or wrong is said where it is to be mended."""
    ann, eve = invite("Errors"), invite("Errors")
    register(ann)
    eve.page.goto(eve.site)
    eve.press("Sign in")
    says_nothing = dialog(eve).get_by_role("alert").filter(has_text=re.compile("."))
    expect(says_nothing).to_have_count(0)
    fill_in(eve, "Sign in", Name="")
    says(eve, "Name", "Enter the name of your account.")
    fill_in(eve, "Sign in", Name="Errors")
    says(eve, "Password", "Enter a password.")
    fill_in(eve, "Sign in", Name="Errors", Password="wrong horse")
    says(eve, "Password", "Name or password is wrong.")
    eve.press("Make an account")
    fill_in(eve, "Make the account", Name="Errors", Password="short")
    says(eve, "Password, of 8 characters or more", "Password must have 8 to 128 characters.")
    fill_in(eve, "Make the account", Password=PASSWORD)
    says(eve, "Name", "This name is taken, or looks like one that is.")
    dialog(eve).get_by_label("Show the password").check()
    expect(dialog(eve).get_by_label("Password, of")).to_have_attribute("type", "text")


def test_16_the_server_is_away(invite):
    """That is said below the form, and nothing that was typed is lost."""
    ann = invite("Away")
    ann.page.goto(ann.site)
    ann.press("Sign in")
    ann.page.route("**/api/auth/login", lambda route: route.abort())
    fill_in(ann, "Sign in", Name="Away", Password=PASSWORD)
    fault = dialog(ann).get_by_role("alert").last
    expect(fault).to_have_text("The server can't be reached. Try again in a moment.")
    expect(dialog(ann).get_by_label("Name")).to_have_value("Away")


# --- the settings of an account ------------------------------------------------------------------


def test_16_a_device_is_signed_out_from_another(invite):
    """It is listed by its browser and system. Its page says so, and lets one go on as a guest by a click."""
    laptop, phone = invite("Devices"), invite("Devices")
    register(laptop)
    sign_in(phone)
    phone.page.get_by_label("Name of the group").fill("Tea")
    phone.press("Make a group")
    phone.press("Make the group")
    phone.is_in_group()
    settings(laptop)
    rows = dialog(laptop).get_by_role("listitem")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="This device")).to_contain_text("Chrome on Linux")
    laptop.press("Sign out Chrome on Linux")
    expect(rows).to_have_count(1)
    expect(laptop.page.get_by_role("heading", name="Devices")).to_be_focused()
    expect(phone.page.get_by_role("status").filter(has_text=SIGNED_OUT)).to_be_visible()
    expect(phone.button("Sign in")).to_be_visible()
    expect(phone.page.get_by_label("Your name")).to_be_editable()
    assert who(phone) is None
    phone.page.get_by_label("Your name").fill("A guest")
    phone.press("Join the group")
    phone.is_in_group()
    expect(mark(phone, "A guest")).to_be_hidden()


def test_16_the_password_is_changed(invite):
    """The old one must be right, and is good no more; other devices are signed out, which is said."""
    ann, other = invite("Changer"), invite("Changer")
    register(ann)
    sign_in(other)
    settings(ann)
    fill_in(ann, "Change the password", Password_until_now="wrong horse", New_password="battery staple")
    says(ann, "Password until now", "The password is wrong.")
    fill_in(ann, "Change the password", Password_until_now=PASSWORD, New_password="aaaaaaaa")
    says(ann, "New password, of 8 characters or more", "Password is too easy to guess.")
    fill_in(ann, "Change the password", New_password="battery staple")
    ann.is_told("The password is changed. All other devices are signed out.")
    assert who(ann) is not None
    eventually(lambda: who(other) is None)
    other.page.reload()
    expect(other.page.locator("#announcer")).to_contain_text(SIGNED_OUT)
    sign_in(other, "battery staple")


def test_16_the_account_is_deleted(invite):
    """It takes opening a part of the settings, and the password; then the name is free."""
    ann = invite("Deleted")
    register(ann)
    settings(ann)
    expect(ann.button("Delete it for good")).to_be_hidden()
    dialog(ann).get_by_text("I want to delete my account").click()
    password = dialog(ann).get_by_label("Password", exact=True)
    password.fill("wrong horse")
    ann.press("Delete it for good")
    expect(password).to_have_accessible_description("The password is wrong.")
    password.fill(PASSWORD)
    ann.press("Delete it for good")
    ann.is_told("Your account is deleted.")
    expect(ann.button("Sign in")).to_be_visible()
    register(ann)


# --- sessions ------------------------------------------------------------------------------------


def test_16_a_page_comes_back_when_its_token_is_over(invite):
    """Closed with 4500, the page gets the next token by its cookie, and is the same member again."""
    ann, sockets = invite("Expired"), []

    def pass_on(route: WebSocketRoute) -> None:
        route.connect_to_server()
        sockets.append(route)

    ann.page.route_web_socket(re.compile("/ws"), pass_on)
    register(ann)
    ann.page.get_by_label("Name of the group").fill("Tea")
    ann.press("Make a group")
    ann.press("Make the group")
    ann.is_in_group()
    with ann.page.expect_request("**/api/auth/refresh"):
        sockets[-1].close(code=4500, reason="token expired")
    ann.is_in_group()
    expect(ann.page.get_by_role("listitem")).to_have_count(1)
    expect(mark(ann, "Expired")).to_be_visible()
    assert len(sockets) == 2


def test_16_a_forgotten_password(chromium, tmp_path, inbox):  # noqa: F811 - that fixture
    """Who registers confirms the address by a link, and with it sets a new password by another."""
    said = {
        "SMTP_URL": f"smtp://127.0.0.1:{inbox.port}",
        "MAIL_FROM": "calls@example.com",
        "PUBLIC_URL": SITE,
    }
    said |= {"STORE": "sqlite", "DATA_DIR": tmp_path, "REGISTRATION": "open"}
    with visitor(chromium, **said) as ann:
        ann.page.goto(ann.site)
        ann.press("Sign in")
        ann.press("Make an account")
        fields = {"Name": "Ann", "Password": PASSWORD, "E-mail": "nothing"}
        fill_in(ann, "Make the account", **fields)
        expect(dialog(ann).get_by_label("E-mail")).to_have_accessible_description("This is not an address.")
        fill_in(ann, "Make the account", **{"E-mail": "ann@example.com"})
        is_signed_in(ann)
        settings(ann)
        expect(dialog(ann)).to_contain_text("It is not confirmed yet")
        ann.press("Sign out")
        link = f"{ann.site}/#confirm={wait_for(inbox, 'confirm')}"
        ann.page.goto("about:blank")
        ann.page.goto(link)
        ann.is_told("Sign in to your account, and then open the link in the mail again.")
        sign_in(ann)
        ann.page.goto("about:blank")
        ann.page.goto(link)
        ann.is_told("Your e-mail address is confirmed.")
        assert ann.page.url == f"{ann.site}/"
        is_signed_in(ann)
        settings(ann)
        expect(dialog(ann)).to_contain_text("It is confirmed.")
        ann.press("Sign out")
        ann.press("Sign in")
        ann.press("I have forgotten my password")
        fill_in(ann, "Send me a link", **{"E-mail": "ann@example.com"})
        ann.is_told("If an account has confirmed this address, a mail with a link is on its way.")
        link = f"{ann.site}/#reset={wait_for(inbox, 'reset')}"
        for outcome in ("The password is changed", "This link is not good, or not any more."):
            ann.page.goto("about:blank")
            ann.page.goto(link)
            fill_in(ann, "Set the password", New_password="battery staple")
            expect(ann.page.locator("body")).to_contain_text(outcome)
        sign_in(ann, "battery staple")


# --- guests, and other servers -------------------------------------------------------------------


def test_16_guests_wait_for_nothing(invite):
    """A click leads from a link into the group. The page asks for nothing but whether there are accounts."""
    ann, bob, asked = invite("Host"), invite("Guest"), []
    link = ann.make_group()
    bob.page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    bob.page.route("**/api/auth", lambda _: None)  # and nothing waits for the answer
    bob.join(link)
    assert [path for path in asked if "auth" in path or "account" in path] == ["/api/auth"]


@contextmanager
def visitor(chromium: Chromium, **said: object) -> Iterator[Person]:
    with serving(ICE_SERVERS="", **said) as server, chromium.context() as context:
        yield Person(context, f"http://localhost:{server.port}", "Ann")


def is_settled(page: Page) -> None:
    """The answer to whether there are accounts has come, and the page has drawn it."""
    with page.expect_response("**/api/auth"):
        page.reload()
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))")


def test_16_no_accounts_no_button(chromium):
    """Where the server keeps none, nothing of them is shown."""
    with visitor(chromium) as ann:
        ann.page.goto(ann.site)
        is_settled(ann.page)
        expect(ann.button("Sign in")).to_be_hidden()


def test_16_nobody_can_register(chromium, tmp_path):
    """A quiet button to sign in, and none to register; who may make no group is told to sign in."""
    with visitor(chromium, STORE="sqlite", DATA_DIR=tmp_path, CREATE_GROUPS="accounts") as ann:
        ann.name_group("Tea")
        ann.press("Make the group")
        expect(ann.page.get_by_role("alert").last).to_have_text(
            "You may not create groups here. Sign in, and try again."
        )
        ann.press("Sign in")
        expect(dialog(ann).get_by_label("Password", exact=True)).to_be_visible()
        expect(ann.button("Make an account")).to_have_count(0)


def test_16_an_invitation_is_asked_for(chromium, tmp_path):
    """Where registration takes one, the form has a field for it, and says there that it is not good."""
    with visitor(chromium, STORE="sqlite", DATA_DIR=tmp_path, REGISTRATION="invite") as ann:
        ann.page.goto(ann.site)
        ann.press("Sign in")
        ann.press("Make an account")
        fill_in(ann, "Make the account", Name="Ann", Password=PASSWORD, Invitation="nothing")
        says(ann, "Invitation", "The invitation is not good, or not any more.")


def test_16_other_providers_have_a_button_each(invite):
    """It leads there, and names the way back and this device. With real ones: test_single_sign_on."""
    ann, led = invite("Elsewhere"), []

    def start(route):
        led.append(parse_qs(urlsplit(route.request.url).query))
        route.fulfill(body="The provider's page", content_type="text/html")

    providers = {"providers": [{"name": "staff", "label": "Our company"}]}
    ann.page.route("**/api/auth/providers", lambda route: route.fulfill(json=providers))
    ann.page.route("**/api/auth/oidc/staff/start?*", start)
    ann.page.goto(ann.site)
    ann.press("Sign in")
    ann.press("Sign in with Our company")
    expect(ann.page.get_by_text("The provider's page")).to_be_visible()
    assert led == [{"to": ["/"], "device": ["Chrome on Linux"]}]
    # Whether one is signed in is asked when the browser comes back, and a guest is told nothing.
    with ann.page.expect_response("**/api/auth/refresh"):
        ann.page.goto(ann.site)
    expect(ann.button("Sign in")).to_be_visible()
    assert SIGNED_OUT not in ann.page.locator("#announcer").inner_text()


# --- for everybody -------------------------------------------------------------------------------


def test_16_all_of_it_by_keyboard(invite):
    """From the first screen into an account and out of it, by Tab, Enter and Escape."""
    ann = invite("Keys")
    ann.page.goto(ann.site)
    expect(ann.button("Sign in")).to_be_visible()
    keys = ann.page.keyboard

    def reach(name: str, role: str = "button") -> None:
        target = ann.page.get_by_role(role, name=name, exact=True)
        for _ in range(40):
            if target.evaluate("(element) => element === document.activeElement"):
                return
            keys.press("Tab")
        pytest.fail(f"{name} is not reached")

    reach("Sign in")
    keys.press("Enter")
    expect(dialog(ann).get_by_label("Name")).to_be_focused()
    reach("Make an account")
    keys.press("Enter")
    expect(dialog(ann).get_by_label("Name")).to_be_focused()
    keys.type("Keys")
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    is_signed_in(ann)
    reach("Your account: Keys")
    keys.press("Enter")
    expect(dialog(ann)).to_contain_text("Your account")
    reach("Change the password")
    keys.press("Escape")
    expect(dialog(ann)).to_have_count(0)
    expect(account_button(ann)).to_be_focused()
    keys.press("Enter")
    reach("Sign out")
    keys.press("Enter")
    ann.is_told("You are signed out.")


def test_16_password_managers_know_the_fields(invite):
    """Each field says by its `autocomplete` what it is."""
    ann = invite("Managed")

    def fields() -> list[str]:
        found = dialog(ann).locator("input[autocomplete]")
        return found.evaluate_all("(all) => all.map((one) => one.autocomplete)")

    ann.page.goto(ann.site)
    ann.press("Sign in")
    assert fields() == ["username", "current-password"]
    ann.press("Make an account")
    assert fields() == ["username", "new-password"]
    ann.press("Close")
    register(ann)
    settings(ann)
    assert fields() == ["username", "current-password", "new-password", "current-password"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_16_nothing_serious_keeps_anybody_out(invite, scheme):
    """axe-core finds nothing serious on any screen of an account, on a phone, and none is wider than it."""
    axe = node_module("axe-core/axe.min.js").read_text("utf-8")
    size = {"width": 320, "height": 640}
    options = {"color_scheme": scheme, "viewport": size, "reduced_motion": "reduce"}
    ann, found = invite(f"Wohnungseigentümerversammlung {scheme}", **options), {}

    def look(screen: str) -> None:
        found[screen] = faults(ann, axe)
        if ann.page.evaluate("document.documentElement.scrollWidth") > 320:
            found[screen].append("too wide")

    ann.page.goto(ann.site)
    ann.press("Sign in")
    look("sign in")
    ann.press("Make an account")
    look("registration")
    ann.press("Close")
    register(ann)
    ann.page.get_by_label("Name of the group").fill("A group with a name that is rather long, as they are")
    ann.press("Make a group")
    look("prejoin")
    ann.press("Make the group")
    ann.is_in_group()
    look("group")
    ann.page.goto(ann.site)
    expect(ann.page.get_by_role("region", name="Your groups")).to_be_visible()
    look("landing")
    settings(ann)
    dialog(ann).get_by_text("I want to delete my account").click()
    look("settings")
    assert {screen: what for screen, what in found.items() if what} == {}
