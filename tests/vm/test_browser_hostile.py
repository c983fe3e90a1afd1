"""What a hostile node, a foreign page or a small role tries in a real browser: text stays text, nothing is done."""

from __future__ import annotations

import http.server
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from sis.image.store.local import LocalStore
from sis.image.store.sign import Signer
from sis.inventory import schema
from sis.inventory.clock import now
from sis.node.connection import HeadConnection
from sis.sync.model import Change
from sis.wire import Event, Hello, Report
from tests.vm.browser import Browser, browser
from tests.vm.console_world import World, furnish, head
from tests.vm.test_browser_pages import PAGES

BREAKING = (
    '"><script>window.owned=1</script>',
    "'><img src=x onerror=window.owned=1>",
    "</pre></textarea></title><svg/onload=window.owned=1>",
    "<a href=javascript:window.owned=1>look</a>",
    "{{7*7}}${7*7}",
)
HOSTILE = "".join(BREAKING)
ANSI = (
    f"\x1b[2J\x1b[31m{HOSTILE}\x1b[0m\x07\x1b]0;title\x07\x1b]8;;javascript:window.owned=1\x07link\x1b]8;;\x07\u202ertl"
)
VICTIM = "n005"
SEEN_ON = ("/", f"/nodes/{VICTIM}", "/drift", "/events", f"/events?node={VICTIM}", "/audit")


def speak(world: World, name: str, facts: dict[str, Any]) -> HeadConnection:
    """A node that was armed, booted and said hello: it may tell whatever it likes."""
    node = world.inventory.nodes.get(name)
    world.inventory.access.arm([node.id])
    token = world.inventory.access.issue_token(node.id)
    macs = tuple(each.mac for each in node.interfaces if each.mac)
    own = Signer.make()
    line = HeadConnection(world.url, name, own, LocalStore(world.state / "store").signer().public)
    line.hello(Hello(node=name, macs=macs, token=token, key=own.public, facts=facts), patience_s=0)
    return line


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    state = tmp_path_factory.mktemp("hostile")
    furnish(state)
    with head(state) as running:
        facts = {"hostname": HOSTILE, "serial": HOSTILE, "</pre><script>window.owned=1</script>": [HOSTILE]}
        node = speak(running, VICTIM, facts)
        node.send_events(
            [
                Event(time=now(), stage="hello", outcome="ok", message=HOSTILE),
                Event(time=now(), stage="partitioning", outcome="failed", message=ANSI, log=f"{ANSI}\n" * 5),
            ]
        )
        changes = tuple(
            Change(action="update", path=f"/etc/motd{each}", what=(each, "content")) for each in (*BREAKING, ANSI)
        )
        node.send_report(
            Report(kind="check", outcome="ok", in_sync=False, image=HOSTILE, generation=2, version="x", started=now(),
                   seconds=1, changes=changes, error=ANSI, log=ANSI)
        )  # fmt: skip
        other = speak(running, "n006", {"serial": ANSI})
        other.send_report(
            Report(kind="check", outcome="ok", in_sync=False, image="compute", generation=2, version="x",
                   started=now(), seconds=1, changes=changes)
        )  # fmt: skip
        asked = urllib.parse.urlencode({"mac": "52:54:00:00:00:99", "uuid": HOSTILE, "platform": HOSTILE})
        with urllib.request.urlopen(f"{running.url}/boot/ipxe?{asked}", timeout=90) as answer:
            answer.read()
        yield running


@pytest.fixture(scope="module")
def chromium(world: World) -> Iterator[Browser]:
    with browser(world.url) as opened:
        yield opened


@pytest.fixture
def page(chromium: Browser) -> Browser:
    """The browser of someone who is not logged in."""
    chromium.open("/static/icon.svg")
    chromium.driver.delete_all_cookies()
    chromium.complaints()
    return chromium


# --- what nodes say


def test_nothing_a_node_says_is_obeyed(page: Browser, world: World) -> None:
    page.open(world.login("admin"))
    for path in {**dict.fromkeys(SEEN_ON), **dict.fromkeys(PAGES.values())}:
        page.open(path)
        assert harm(page) == [], path
        assert page.driver.title.endswith("sis")
        assert "\x1b" not in page.driver.page_source
        assert [each for each in page.complaints() if "Security" in each or "Content" in each] == [], path


def test_what_a_node_says_can_be_read_whole(page: Browser, world: World) -> None:
    page.open(world.login("view"))
    page.open(f"/nodes/{VICTIM}")
    page.until(lambda: opened_up(page), "all is unfolded")
    told = page.run("return document.body.textContent")
    for each in BREAKING:
        assert each in told
    assert f"/etc/motd{BREAKING[0]}" in told
    assert "[31m" not in told
    assert "\u202e" not in told


def opened_up(page: Browser) -> bool:
    """Unfold what is folded; whether nothing is any more."""
    folded = "details:not([open]) > summary"
    page.run("document.querySelectorAll(arguments[0]).forEach(each => each.click())", folded)
    return not page.there(folded)


def test_what_comes_in_live_is_text_too(page: Browser, world: World) -> None:
    page.open(world.login("view"))
    node = speak(world, "n007", {"hostname": HOSTILE})
    for path, arrived in (("/events", "td.told"), ("/", "#n-n007[data-at=failed]"), ("/nodes/n007", ".fault")):
        page.open(path)
        page.live()
        told = f"{path} {ANSI}"
        node.send_events(
            [
                Event(time=now(), stage="hello", outcome="start"),
                Event(time=now(), stage="partitioning", outcome="failed", message=told, log=ANSI),
            ]
        )

        def there(selector: str = arrived, told: str = f"{path} ") -> bool:
            return any(told in each for each in (*page.texts(selector), *page.attributes(selector, "title")))

        page.until(there, f"{path} shows what n007 told")
        assert harm(page) == [], path
    assert [each for each in page.complaints() if "Security" in each] == []


def harm(page: Browser) -> list[str]:
    """Elements, attributes and deeds that only a hostile string can have brought into a page."""
    found: list[str] = page.run(
        "const bad = [...document.querySelectorAll('main img, main svg:not([role=img]), main iframe, main object,"
        ' main embed, main script:not([src^="/static/"]), main base, main style, main link\')]'
        ".map(e => e.outerHTML.slice(0, 200));"
        "for (const e of document.querySelectorAll('*')) for (const a of e.attributes)"
        " if (a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value)) bad.push(a.name + '=' + a.value);"
        "if (window.owned) bad.push('a script ran');"
        "return bad;"
    )
    return found


# --- what the pages allow

REFUSED = {"script-src", "style-src", "img-src", "frame-src", "object-src", "connect-src"}


def test_the_policy_refuses_scripts_styles_frames_and_strangers(page: Browser, world: World) -> None:
    page.open(world.login("view"))
    page.open("/")
    with foreign("127.0.0.1") as stranger:
        refused = page.driver.execute_async_script(
            """
            const [stranger, kinds, done] = arguments, said = new Set();
            document.addEventListener("securitypolicyviolation", e => {
              said.add(e.effectiveDirective.replace(/-elem$/, ""));
              if (said.size === kinds) setTimeout(() => done([...said]), 300);
            });
            const add = (tag, fields) => document.body.append(Object.assign(document.createElement(tag), fields));
            add("script", {textContent: "window.owned = 1"});
            add("script", {src: stranger + "/evil.js"});
            add("style", {textContent: "body { display: none }"});
            add("img", {src: stranger + "/pixel.png"});
            add("iframe", {src: stranger});
            add("object", {data: stranger});
            add("a", {id: "js", href: "javascript:window.owned=1"}); document.getElementById("js").click();
            fetch(stranger).catch(() => {});
            """,
            stranger.url,
            len(REFUSED),
        )
        assert {*refused} == REFUSED
        assert page.run("return window.owned") is None
        assert stranger.asked == []


def test_no_other_site_shows_the_console_in_a_frame(page: Browser, world: World) -> None:
    page.open(world.login("admin"))
    with foreign("127.0.0.1", f'<iframe src="{world.url}/nodes/n002" onload="window.loaded=1"></iframe>') as stranger:
        page.open(stranger.url)
        page.until(lambda: page.run("return window.loaded"), "the frame has come to an end")
        assert page.run("return window.frames[0].length") == 0
        page.driver.switch_to.frame(0)
        assert "n002" not in page.text
        page.driver.switch_to.default_content()
        page.until(lambda: any("frame" in each.lower() for each in page.complaints()), "the browser says why")


# --- other sites


@pytest.mark.parametrize("site", ["localhost", "127.0.0.1"])
def test_a_foreign_page_makes_no_one_act(page: Browser, world: World, site: str) -> None:
    """From another site the cookie stays home; from another port of the same host the form's token is missing."""
    page.open(world.login("admin"))
    newest = world.inventory.stream.newest()
    stable = LocalStore(world.state / "store").ref("compute").channels["stable"]
    fields = {"do": "deploy", "nodeset": "@*", "foreign": "yes", "count": "24"}
    forms: tuple[tuple[str, dict[str, str]], ...] = (
        ("/do", fields),
        ("/logout", {}),
        ("/images/compute/channels", {"channel": "stable", "generation": "1"}),
    )
    for action, given in forms:
        inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in given.items())
        with foreign(
            site, f'<form method="post" action="{world.url}{action}">{inputs}<button>Win</button></form>'
        ) as it:
            page.open(it.url)
            page.press("Win")
            assert page.path.startswith(action), page.driver.current_url
            assert "Not allowed" in page.text or "sis web login" in page.text
    assert world.inventory.stream.newest() == newest
    assert LocalStore(world.state / "store").ref("compute").channels["stable"] == stable
    page.open("/nodes/n002")
    assert "n002" in page.driver.title, "the session is still open"


@pytest.mark.parametrize("site", ["localhost", "127.0.0.1"])
def test_a_foreign_page_reads_nothing_and_calls_nothing(page: Browser, world: World, site: str) -> None:
    page.open(world.login("admin"))
    with foreign(site) as stranger:
        page.open(stranger.url)
        said = page.driver.execute_async_script(
            """
            const [head, done] = arguments;
            const ask = (path, words) => fetch(head + path, {credentials: "include", ...words})
              .then(async a => `${a.type} ${a.status} ${await a.text()}`, e => "refused");
            const stream = new Promise(end => {
              const source = new EventSource(head + "/api/v1/events", {withCredentials: true});
              source.onopen = () => end("open"); source.onerror = () => { source.close(); end("refused"); };
            });
            const post = (path, type) => ask(path, {
              method: "POST", headers: {"content-type": type}, body: JSON.stringify({nodeset: "n001", kind: "reboot"})
            });
            Promise.all([
              ask("/"), ask("/api/v1/nodes"), ask("/audit"), stream,
              post("/api/v1/orders", "text/plain"), post("/api/v1/orders", "application/json"),
            ]).then(done);
            """,
            world.url,
        )
    assert said == ["refused"] * 6
    assert not any(order.kind == "reboot" for order in world.inventory.orders.get(range(1, 50)))


# --- who may what


def test_a_small_role_sees_no_actions_and_its_forged_forms_are_refused(page: Browser, world: World) -> None:
    page.open(world.login("view", "vera"))
    page.open("/nodes/n003")
    assert page.texts("main button") == []
    assert not any("Audit" in each for each in page.texts("nav"))
    token = page.attribute("form[action='/logout'] [name=csrf]", "value")
    for action, fields in (
        ("/do", {"do": "sync", "nodeset": "n003"}),
        ("/do", {"do": "deploy", "nodeset": "n003"}),
        ("/images/compute/channels", {"channel": "stable", "generation": "1"}),
    ):
        page.open("/nodes/n003")
        page.leave(
            lambda action=action, fields=fields: page.run(  # type: ignore[misc]
                """
                const [action, fields] = arguments, form = document.createElement("form");
                form.method = "post"; form.action = action;
                for (const [name, value] of Object.entries(fields)) {
                  form.append(Object.assign(document.createElement("input"), {name, value}));
                }
                document.body.append(form); form.submit();
                """,
                action,
                {**fields, "csrf": token},
            )
        )
        assert "Not allowed" in page.text
        assert "vera has the role view" in page.text
    for path in ("/audit", "/ask?do=sync&nodeset=n003"):
        page.open(path)
        assert "Not for this role" in page.text
    refused = [each for each in world.inventory.audit.last(10) if each.who == "vera"]
    assert [each.outcome for each in refused] == ["refused"] * 3


def test_a_login_address_opens_once_and_not_for_long(page: Browser, world: World) -> None:
    address = world.sis("web", "login", "--role", "admin")
    assert address.startswith(world.url)
    page.open(address)
    page.open("/")
    assert "Andromeda" in page.text
    page.driver.delete_all_cookies()
    page.open(address)
    assert "used already" in page.text
    assert page.driver.get_cookies() == []
    late = world.login("admin")
    with world.inventory.database.write() as connection:
        connection.execute(sa.update(schema.logins).values(created="2001-01-01T00:00:00.000Z"))
    page.open(late)
    assert page.driver.get_cookies() == []
    page.open("/")
    assert "Andromeda" not in page.text


def test_the_session_is_out_of_scripts_reach_and_ends(page: Browser, world: World) -> None:
    page.open(world.login("admin"))
    page.open("/")
    (cookie,) = page.driver.get_cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert page.run("return document.cookie") == ""
    assert world.sis("web", "logout").endswith("ended")
    page.driver.back()
    page.driver.forward()
    assert "Andromeda" not in page.text
    page.open("/nodes/n001")
    assert "sis web login" in page.text


# --- a site of someone else


@dataclass
class Foreign:
    url: str
    asked: list[str]


@contextmanager
def foreign(host: str, body: str = "hello") -> Iterator[Foreign]:
    """A web server that is not the head, with one page; `asked` are the paths it was asked for."""
    asked: list[str] = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            page = f"<!doctype html><title>foreign</title>{body}".encode()
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Foreign(f"http://{host}:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
