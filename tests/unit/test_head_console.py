"""The console over real HTTP: getting in and out, pages without a session, CSRF, roles, and hostile strings as text."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.head.pages.shown import readable
from sis.image.store.local import LocalStore
from sis.inventory import db
from sis.inventory.model import NewNode
from sis.sync.model import Change
from sis.wire import Event, Report
from tests.heads import Answer, Serving, serving
from tests.unit.test_head_admin import made_store

STARTED = "2026-01-01T00:00:00.000Z"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
PAGES = ("/", "/?by=state", "/nodes/n1", "/images", "/images/compute", "/drift", "/events", "/ask?do=sync&nodeset=n1")


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Serving]:
    made_store(tmp_path)
    with db.open(tmp_path / "state.db") as inventory:
        inventory.nodes.add([NewNode("n1", groups=("rack1",)), NewNode("n2")])
        with serving(tmp_path, inventory) as running:
            yield running


class Tags(html.parser.HTMLParser):
    """The elements of a page and their attributes, as a browser would make them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def csrf(page: Answer) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert found
    return found[1]


# --- getting in


def test_without_a_session_every_page_says_how_to_get_one(head: Serving) -> None:
    for path in (*PAGES, "/audit"):
        answer = head.ask("GET", path)
        assert answer.status == 401, path
        assert "sis web login" in answer.text
        assert "n1" not in answer.text


def test_a_login_address_is_good_once(head: Serving) -> None:
    code = head.inventory.admins.new_login("ada", "view")
    first = head.ask("GET", f"/login?code={code}")
    assert first.status == 200
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    second = head.ask("GET", f"/login?code={code}")
    assert second.status == 401
    assert "used already" in second.text
    assert "set-cookie" not in second.headers
    kept = b"".join(path.read_bytes() for path in head.state.glob("state.db*"))
    assert code.encode() not in kept
    assert re.split("[=;]", first.headers["set-cookie"])[1].encode() not in kept


def test_logging_out_ends_the_session(head: Serving) -> None:
    session = head.log_in("view")
    page = head.ask("GET", "/", session=session)
    assert page.status == 200
    assert head.form("/logout", session, {"csrf": csrf(page)}).status == 200
    assert head.ask("GET", "/", session=session).status == 401


# --- pages


def test_pages_are_whole_named_and_locked_down(head: Serving) -> None:
    session = head.log_in("admin")
    for path in (*PAGES, "/audit"):
        answer = head.ask("GET", path, session=session)
        assert answer.status == 200, answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "The same on the command line: <code>sis " in answer.text
        tags = Tags(answer.text).found
        assert [tag for tag, _ in tags].count("h1") == 1
        for tag, attributes in tags:
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            for name in ("src", "href", "action"):
                value = attributes.get(name) or "/"
                assert value.startswith(("/", "#", "?")), f"{tag} {value}"
                assert not value.startswith("//")


def test_assets_come_out_of_the_package(head: Serving) -> None:
    for name, kind in (("sis.css", "text/css"), ("sis.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = head.ask("GET", f"/static/{name}")
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, kind)
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", answer.body)
    assert head.ask("GET", "/static/..%2fapp.py").status == 404
    assert head.ask("GET", "/static/console.py").status == 404


def test_commands_that_are_named_are_there(head: Serving) -> None:
    from click.testing import CliRunner

    from sis.cli import main

    session = head.log_in("admin")
    for path in (*PAGES, "/audit", "/images/compute?before=1&after=2", "/ask?do=cancel&nodeset=n1"):
        page = head.ask("GET", path, session=session).text
        found = re.search(r"The same on the command line: <code>sis ([^<]+)</code>", page)
        assert found
        words = [word for word in found[1].split() if re.fullmatch("[a-z]+", word)]
        while words and words[-1] in ("n", "compute", "state"):
            words.pop()
        done = CliRunner().invoke(main, [*words, "--help"])
        assert done.exit_code == 0, found[1]


def test_images_show_what_differs(head: Serving) -> None:
    page = head.ask("GET", "/images/compute?before=1&after=2", session=head.log_in("view"))
    text = " ".join(Tags(page.text).text)
    for told in ("compute@1 → compute@2", "nginx", "1.22", "/etc/motd", "<b>two</b>"):
        assert told in text
    assert "Publish" not in text
    assert head.ask("GET", "/images/nothing", session=head.log_in("view")).status == 404


# --- what nodes say is text


def test_hostile_strings_stay_text_on_every_page(head: Serving) -> None:
    history = head.inventory.history
    history.record_facts(1, {"serial": HOSTILE, "hostname": HOSTILE, "</pre><script>": HOSTILE})
    told = f"\x1b[31m{HOSTILE}\x1b[0m\x07\x1b]0;title\x07"
    history.record_events(
        1, [Event(time=STARTED, stage="apply", outcome="failed", message=told, log=f"line one\n{told}\n")]
    )
    change = Change(action="update", path=f"/tmp/{HOSTILE}", what=(HOSTILE,))
    report = Report(
        kind="check", outcome="ok", in_sync=False, image=HOSTILE, generation=1, version="x", started=STARTED,
        seconds=1, changes=(change,), error=HOSTILE, log=told,
    )  # fmt: skip
    history.record_report(2, report)
    head.inventory.discoveries.record(HOSTILE[:17], {"uuid": HOSTILE})
    entry = head.inventory.audit.begin(HOSTILE, "view", "token", HOSTILE, HOSTILE)
    head.inventory.audit.end(entry, "failed", told)
    session = head.log_in("admin")
    for path in (*PAGES, "/nodes/n2", "/audit"):
        answer = head.ask("GET", path, session=session)
        assert answer.status == 200, path
        tags = Tags(answer.text).found
        assert "img" not in [tag for tag, _ in tags]
        assert [attributes for tag, attributes in tags if tag == "script"] == [{"src": "/static/sis.js", "defer": None}]
        assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
        assert "\x1b" not in answer.text
        assert "\x07" not in answer.text
    node = " ".join(Tags(head.ask("GET", "/nodes/n1", session=session).text).text)
    assert HOSTILE in node
    assert "[31m" not in node


def test_logs_are_readable() -> None:
    assert readable("\x1b[1;31mred\x1b[0m\r\nnext\tcolumn\x00\x07") == "red\nnext\tcolumn\\x00\\x07"
    assert readable("\x1b]8;;http://x\x07link\x1b]8;;\x07") == "link"


# --- doing


def test_a_node_is_asked_to_sync_with_the_pages_own_form(head: Serving) -> None:
    session = head.log_in("operate")
    token = csrf(head.ask("GET", "/nodes/n1", session=session))
    answer = head.form("/do", session, {"csrf": token, "do": "sync", "nodeset": "n1"})
    assert (answer.status, answer.headers["location"]) == (303, "/nodes/n1?did=sync")
    assert head.inventory.orders.get([1])[0].kind == "sync"
    (entry,) = head.inventory.audit.last()
    assert (entry.who, entry.via, entry.action, entry.target, entry.outcome) == (
        "ada", "session", "console sync", "n1", "ok",
    )  # fmt: skip
    assert "Asked: Sync." in head.ask("GET", "/nodes/n1?did=sync", session=session).text


def test_forms_of_other_sites_and_sessions_are_refused(head: Serving) -> None:
    session, other = head.log_in("operate"), head.log_in("operate", "eve")
    mine = csrf(head.ask("GET", "/nodes/n1", session=session))
    fields = {"do": "sync", "nodeset": "n1"}
    for refused in (
        head.form("/do", session, fields),
        head.form("/do", session, {**fields, "csrf": "0" * 64}),
        head.form("/do", other, {**fields, "csrf": mine}),
        head.form("/do", session, {**fields, "csrf": mine}, {"Sec-Fetch-Site": "cross-site"}),
        head.form("/images/compute/channels", head.log_in("admin"), {"channel": "stable", "generation": "2"}),
    ):
        assert refused.status == 403
    assert head.form("/do", "", {**fields, "csrf": mine}).status == 401
    assert head.ask("POST", "/do", b"do=sync", token=head.token("admin")).status == 403
    assert head.ask("POST", "/api/v1/orders", {"nodeset": "n1"}, session=session).status == 401
    assert head.inventory.orders.get([1]) == ()
    assert {entry.outcome for entry in head.inventory.audit.last()} == {"refused"}
    assert LocalStore(head.state / "store").ref("compute").channels["stable"] != ""


def test_a_small_role_sees_no_actions_and_may_not_do_them(head: Serving) -> None:
    session = head.log_in("view")
    page = head.ask("GET", "/nodes/n1", session=session)
    assert "/do" not in page.text
    token = csrf(page)
    refused = head.form("/do", session, {"csrf": token, "do": "deploy", "nodeset": "n1"})
    assert refused.status == 403
    assert "needs the role operate" in refused.text
    assert head.ask("GET", "/ask?do=deploy&nodeset=n1", session=session).status == 403
    assert head.ask("GET", "/audit", session=head.log_in("operate")).status == 403
    (entry,) = head.inventory.audit.last()
    assert (entry.action, entry.outcome) == ("do", "refused")


def test_many_nodes_are_asked_about_by_their_number(head: Serving) -> None:
    session = head.log_in("operate")
    page = head.ask("GET", "/ask?do=sync&nodeset=n%5B1-2%5D", session=session)
    assert "Sync: 2 nodes?" in page.text
    assert "sis sync n[1-2]" in page.text
    fields = {"csrf": csrf(page), "do": "sync", "nodeset": "@*", "count": "2"}
    head.inventory.nodes.add([NewNode("n3")])
    changed = head.form("/do", session, fields)
    assert changed.status == 422
    assert "3 nodes now, not 2" in changed.text
    assert head.inventory.orders.get(range(9)) == ()
    assert head.form("/do", session, {**fields, "count": "3"}).headers["location"] == "/events?did=sync"
    hindered = head.ask("GET", "/ask?do=deploy&nodeset=n1", session=session)
    assert hindered.status == 409
    assert "node n1 has no image" in hindered.text


def test_a_channel_is_moved_and_rolled_back(head: Serving) -> None:
    session = head.log_in("admin")
    token = csrf(head.ask("GET", "/images/compute", session=session))
    path, fields = "/images/compute/channels", {"csrf": token, "channel": "stable"}
    assert head.form(path, session, {**fields, "generation": "2"}).status == 303
    page = head.ask("GET", "/images/compute", session=session).text
    assert "stable → 2" in page
    assert head.form(path, session, {**fields, "generation": ""}).status == 303
    assert "stable → 1" in head.ask("GET", "/images/compute", session=session).text
    assert head.form(path, session, {**fields, "generation": "9"}).status == 404
