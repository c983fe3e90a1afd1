"""Pages of nodes, rollouts, figures and settings over real HTTP: what they show, change and refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from sis.cli import main
from sis.head.pages.shown import LOOKS
from sis.inventory import db
from sis.inventory.model import Assignment, Interface, Network, NewNode
from sis.inventory.state import Happening
from sis.sync.model import Change, Totals
from sis.wire import Report, State
from tests.heads import Serving, serving
from tests.unit.test_head_admin import made_store
from tests.unit.test_head_console import Tags, csrf


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Serving]:
    """Four nodes of two racks that hold compute@1; n2 differs from it in /etc/motd."""
    version = made_store(tmp_path)
    with db.open(tmp_path / "state.db") as inventory:
        inventory.networks.put(Network("mgmt", "10.77.0.0/24", data={"head": "10.77.0.1"}))
        inventory.nodes.add(
            [
                NewNode(
                    f"n{at}",
                    (Interface("eth0", f"52:54:00:00:00:0{at}", f"10.77.0.1{at}", "mgmt"),),
                    ("all", "rack1" if at < 3 else "rack2"),
                    Assignment("compute", "stable"),
                )
                for at in range(1, 5)
            ]
        )
        for at in range(1, 5):
            drifted = at == 2
            inventory.history.record_report(
                at,
                Report(
                    kind="sync", outcome="ok", in_sync=not drifted, image="compute", generation=1, version=version,
                    started=f"2026-01-01T00:00:0{at}.000Z", seconds=2.0, totals=Totals(bytes_fetched=1000 * at),
                    changes=(Change(action="update", path="/etc/motd", what=("content",)),) if drifted else (),
                ),
            )  # fmt: skip
        with serving(tmp_path, inventory) as running:
            yield running


def text_of(page: str) -> str:
    return " ".join(Tags(page).text)


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return found[1]


# --- nodes


def test_a_node_shows_what_is_requested_beside_what_is_observed_and_by_whom(head: Serving) -> None:
    session = head.log_in("admin")
    told = text_of(head.ask("GET", "/nodes/n2", session=session).text)
    assert "compute@stable = compute@1" in told
    assert "drifted, 1 differences" in told
    assert "interfaces.eth0.mac" in told
    assert "52:54:00:00:00:02" in told
    page = head.ask("GET", "/nodes/n2", session=session).text
    assert '/nodes/n2/file?path=/etc/motd"' in page


def test_a_file_of_a_node_has_its_diff_and_its_origin(head: Serving) -> None:
    session = head.log_in("view")
    hosts = head.ask("GET", "/nodes/n1/file?path=/etc/hosts", session=session)
    assert hosts.status == 200
    assert "sis node explain n1:/etc/hosts" in hosts.text
    told = text_of(hosts.text)
    assert "Made by hosts" in " ".join(told.split())
    assert re.search(r'<span class="add">\+10\.77\.0\.12\s+n2', hosts.text)
    motd = head.ask("GET", "/nodes/n2/file?path=/etc/motd", session=session)
    assert "It differs on the node" in motd.text
    assert "welcome" in motd.text
    assert head.ask("GET", "/nodes/n1/file?path=/no/such", session=session).status == 404
    for path in ("/etc/ssh/ssh_host_ed25519_key", "/etc/shadow"):
        answer = head.ask("GET", f"/nodes/n1/file?path={path}", session=session)
        assert answer.status == 404 or "its content is not shown" in answer.text
        assert "PRIVATE KEY" not in answer.text


def test_nodes_are_edited_and_the_second_is_told_who_was_first(head: Serving) -> None:
    session = head.log_in("admin")
    page = head.ask("GET", "/edit?nodeset=n%5B1-2%5D", session=session).text
    fields = {
        "csrf": hidden(page, "csrf"), "nodeset": hidden(page, "nodeset"), "version": hidden(page, "version"),
        "newest": hidden(page, "newest"), "words": "timezone=Europe/Paris\ngroups+=gpu\n",
    }  # fmt: skip
    look = head.form("/edit", session, {**fields, "do": "look"})
    assert "Change 2 nodes" in look.text
    assert "Europe/Paris" in text_of(look.text)
    assert head.inventory.nodes.get("n1").profile.get("timezone") is None
    formed = head.form(
        "/edit", session, {**fields, "words": "", "resync": "hourly", "boot.timeout_s": "7", "do": "look"}
    )
    assert "sis node set n[1-2] resync=hourly boot_timeout_s=7" in formed.text
    assert "hourly" in text_of(formed.text)
    near = head.form("/edit", session, {**fields, "words": "timzone=UTC"}).text
    assert "did you mean timezone?" in near
    assert head.form("/edit", session, {**fields, "do": "change"}).status == 303
    assert "gpu" in head.inventory.nodes.get("n2").groups
    late = head.form("/edit", session, {**fields, "words": "timezone=Asia/Tokyo", "do": "change"})
    assert late.status in (409, 412)
    assert "changed since you looked" in late.text
    assert "ada" in late.text
    assert "timezone=Asia/Tokyo" in late.text
    assert head.inventory.nodes.get("n1").profile["timezone"] == "Europe/Paris"
    assert head.ask("GET", "/edit?nodeset=n1", session=head.log_in("operate")).status == 403


def test_what_destroys_many_wants_their_number_typed(head: Serving) -> None:
    session = head.log_in("admin")
    page = head.ask("GET", "/ask?do=delete&nodeset=@rack2", session=session)
    assert "Type <strong>2</strong> to confirm" in page.text
    fields = {"csrf": csrf(page), "do": "delete", "nodeset": "n[3-4]", "count": "2"}
    refused = head.form("/do", session, fields)
    assert refused.status == 422
    assert "type 2 to confirm: delete 2 nodes" in refused.text
    assert head.form("/do", head.log_in("operate"), {**fields, "typed": "2"}).status == 403
    assert head.inventory.nodes.names() == ("n1", "n2", "n3", "n4")
    assert head.form("/do", session, {**fields, "typed": "2"}).headers["location"] == "/events?did=delete"
    assert head.inventory.nodes.names() == ("n1", "n2")


def test_a_node_says_what_a_reboot_is_due_for_and_is_asked_to(head: Serving) -> None:
    node = head.inventory.nodes.get("n1")
    told = Report(
        kind="sync", outcome="ok", in_sync=True, image="compute", generation=1, version="v", seconds=1.0,
        started="2026-01-02T00:00:00.000Z", reboot_needed=True, reboot_why=("kernel command line (+<b>quiet)",),
    )  # fmt: skip
    head.inventory.history.record_report(node.id, told)
    session = head.log_in("operate")
    assert "needed: kernel command line (+&lt;b&gt;quiet)" in head.ask("GET", "/nodes/n1", session=session).text
    assert 'title="n1 in-sync reboot needed"' in head.ask("GET", "/", session=session).text
    page = head.ask("GET", "/ask?do=reboot&nodeset=n1", session=session)
    assert "Reboot: 1 node?" in text_of(page.text)
    assert head.form("/do", session, {"csrf": csrf(page), "do": "reboot", "nodeset": "n1"}).status == 303
    order = head.inventory.orders.take(node.id)
    assert order is not None
    assert order.kind == "reboot"


def test_a_node_is_set_aside_with_its_reason_and_taken_back(head: Serving) -> None:
    session = head.log_in("operate")
    token = csrf(head.ask("GET", "/ask?do=maintenance&nodeset=n1", session=session))
    fields = {"csrf": token, "do": "maintenance", "nodeset": "n1"}
    assert "needs a reason" in head.form("/do", session, fields).text
    assert head.form("/do", session, {**fields, "why": "new <i>fan</i>"}).status == 303
    page = head.ask("GET", "/nodes/n1", session=session).text
    assert "Take back from maintenance" in page
    assert "new &lt;i&gt;fan&lt;/i&gt;" in page
    assert head.form("/do", session, {**fields, "do": "resume"}).status == 303
    assert head.inventory.nodes.get("n1").state.state != "maintenance"


# --- the map


def test_every_state_has_a_letter_of_its_own_and_a_colour() -> None:
    assert set(LOOKS) == set(get_args(State))
    assert len({letter for letter, _ in LOOKS.values()}) == len(LOOKS)


def test_the_map_groups_by_rack_and_links_to_who_is_unknown(head: Serving) -> None:
    head.inventory.discoveries.record("52:54:00:00:00:aa", {})
    session = head.log_in("view")
    page = head.ask("GET", "/?by=rack", session=session)
    assert re.findall(r"<h2>(\w+) <small>(\d)</small>", page.text) == [("rack1", "2"), ("rack2", "2")]
    assert 'href="/wizard/boot"' in page.text
    assert set(re.findall(r'id="n-(n\d)"', head.ask("GET", "/?only=drift", session=session).text)) == {"n2"}
    assert "No node has “xyz” in its name" in head.ask("GET", "/?only=xyz", session=session).text
    assert [
        name for name, _ in re.findall(r"<h2>(\w+) <small>(\d)</small>", head.ask("GET", "/", session=session).text)
    ] == ["all"]


def test_of_many_changes_a_map_is_told_the_last(head: Serving) -> None:
    since = head.inventory.stream.newest()
    for kind in ("armed", "netbooted", "disarmed"):
        head.inventory.history.happened([1, 2], Happening(kind))
    with head.listening(f"?since={since}&kind=state&latest=true", token=head.token("view")) as rows:
        found = [next(rows) for _ in range(2)]
    assert {row["node"] for _, _, row in found} == {"n1", "n2"}
    last = head.inventory.stream.after(since, kinds=("state",))[-2:]
    assert {data["what"] for _, _, data in found} == {row.what for row in last}


# --- rollouts


def test_a_rollout_is_looked_at_begun_paused_and_aborted(head: Serving) -> None:
    session = head.log_in("operate")
    page = head.ask("GET", "/rollouts", session=session)
    assert "Nothing was rolled out yet." in page.text
    fields = {"csrf": csrf(page), "nodeset": "@all", "method": "sync", "canary": "1", "then": "50%", "max_fail": "1"}
    look = head.form("/rollouts", session, {**fields, "do": "look"})
    assert "Resync 4 nodes" in look.text
    assert "sis deploy @all --canary 1 --then 50% --max-fail 1" in look.text
    assert head.inventory.rollouts.list() == ()
    other = head.form("/rollouts", session, {**fields, "do": "begin", "count": "5"})
    assert other.status == 422
    begun = head.form("/rollouts", session, {**fields, "do": "begin", "count": "4"})
    assert begun.headers["location"] == "/rollouts/1"
    shown = head.ask("GET", "/rollouts/1", session=session)
    assert shown.status == 200
    assert "running" in shown.text
    assert "/rollouts/1" in head.ask("GET", "/rollouts", session=session).text
    change = {"csrf": csrf(page)}
    assert head.form("/rollouts/1", session, {**change, "do": "pause"}).status == 303
    assert head.inventory.rollouts.get(1).state == "paused"
    assert head.form("/rollouts/1", session, {**change, "do": "pause"}).status == 409
    assert head.form("/rollouts/1", session, {**change, "do": "resume"}).status == 303
    assert head.form("/rollouts/1", session, {**change, "do": "abort"}).status == 303
    assert head.inventory.rollouts.get(1).state == "aborted"
    assert head.form("/rollouts/1", session, {**change, "do": "explode"}).status == 422
    assert head.ask("GET", "/rollouts/9", session=session).status == 404
    viewer = head.log_in("view")
    assert "New rollout" not in head.ask("GET", "/rollouts", session=viewer).text
    assert (
        head.form("/rollouts/1", viewer, {"csrf": csrf(head.ask("GET", "/", session=viewer)), "do": "abort"}).status
        == 403
    )


def test_a_rollout_that_installs_wants_the_number_typed(head: Serving) -> None:
    session = head.log_in("operate")
    token = csrf(head.ask("GET", "/rollouts", session=session))
    fields = {"csrf": token, "nodeset": "n[1-2]", "method": "install", "do": "begin", "count": "2"}
    assert "type 2 to install 2 nodes" in head.form("/rollouts", session, fields).text
    assert head.form("/rollouts", session, {**fields, "typed": "2"}).status == 303
    assert head.inventory.nodes.get("n1").arming is not None


# --- figures and settings


def test_figures_are_pictures_with_their_numbers(head: Serving) -> None:
    page = head.ask("GET", "/figures", session=head.log_in("view"))
    assert page.status == 200
    tags = Tags(page.text).found
    pictures = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(pictures) == 4
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in pictures)
    told = text_of(page.text)
    assert "10.0 kB fetched" in told
    assert "1 of 4 nodes that reported today differed" in told
    assert head.ask("GET", "/figures?by=hour", session=head.log_in("view")).status == 200


def test_a_token_is_shown_once_and_taken_back(head: Serving) -> None:
    session = head.log_in("admin")
    token = csrf(head.ask("GET", "/settings", session=session))
    made = head.form("/settings/tokens", session, {"csrf": token, "name": "prom", "role": "view"})
    found = re.search(r"<pre tabindex=\"0\">([^<]+)</pre>", made.text)
    assert found
    assert head.ask("GET", "/metrics", token=found[1]).status == 200
    again = head.ask("GET", "/settings", session=session).text
    assert found[1] not in again
    assert "prom" in again
    assert head.form("/settings/tokens", session, {"csrf": token, "name": "x", "role": "god"}).status == 422
    assert head.form("/settings/tokens", session, {"csrf": token, "revoke": "prom"}).status == 303
    assert head.ask("GET", "/metrics", token=found[1]).status == 401
    assert head.ask("GET", "/settings", session=head.log_in("operate")).status == 403
    assert {entry.action for entry in head.inventory.audit.last()} >= {"console token add", "console token revoke"}
    assert head.form("/settings/logout-everyone", session, {"csrf": token}).status == 303
    assert head.ask("GET", "/", session=session).status == 401


# --- commands


PAGES = (
    "/", "/nodes/n1", "/nodes/n1/file?path=/etc/hosts", "/edit?nodeset=n1", "/ask?do=delete&nodeset=n1",
    "/ask?do=maintenance&nodeset=n1", "/ask?do=resume&nodeset=n1", "/ask?do=release&nodeset=n1", "/rollouts",
    "/figures", "/jobs", "/settings", "/wizard", "/wizard/preflight", "/wizard/packages", "/wizard/packages?find=xyz",
    "/wizard/head", "/wizard/build", "/wizard/nodes", "/wizard/boot", "/wizard/deploy", "/wizard/test",
)  # fmt: skip


def test_every_command_a_page_names_is_there(head: Serving) -> None:
    session = head.log_in("admin")
    named: dict[tuple[str, ...], str] = {}
    for path in PAGES:
        page = head.ask("GET", path, session=session)
        assert page.status == 200, path
        told = re.findall(r"<code>sis ([^<]+)</code>", page.text)
        assert told, path
        for command in told:
            words = takewhile(lambda word: re.fullmatch("[a-z]+", word), command.split())
            named[tuple(words)] = path
    for words, path in named.items():
        done = CliRunner().invoke(main, [*words, "--help"])
        assert done.exit_code == 0, (path, words)
        assert words, path
