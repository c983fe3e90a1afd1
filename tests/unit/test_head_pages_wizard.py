"""The wizard over real HTTP: pages of an empty head and of a full one, forms, faults at the field, conflicts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.inventory import db
from sis.inventory.model import Assignment, Interface, Network, NewNode
from sis.inventory.nodes import Change
from tests.heads import Serving, serving
from tests.unit.test_head_admin import made_store
from tests.unit.test_head_console import Tags, csrf

KEYS = ("preflight", "packages", "configure", "head", "build", "nodes", "boot", "deploy", "test")
PAGES = ("/wizard", *(f"/wizard/{key}" for key in KEYS), "/jobs")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    state = tmp_path_factory.mktemp("empty")
    with db.open(state / "state.db") as inventory, serving(state, inventory) as running:
        yield running


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Serving]:
    """An image with channel stable, a network, n1 with its MAC, n2 without, and a machine no one knows."""
    made_store(tmp_path)
    with db.open(tmp_path / "state.db") as inventory:
        inventory.networks.put(Network("mgmt", "10.77.0.0/24", data={"head": "10.77.0.1"}))
        stable = Assignment("compute", "stable")
        inventory.nodes.add(
            [
                NewNode("n1", (Interface("eth0", "52:54:00:00:00:01", "10.77.0.11", "mgmt"),), ("rack1",), stable),
                NewNode("n2", (Interface("eth0", None, "10.77.0.12", "mgmt"),), (), stable),
            ]
        )
        inventory.discoveries.record("52:54:00:00:00:aa", {"uuid": "<b>u</b>", "address": "10.77.0.201"})
        with serving(tmp_path, inventory) as running:
            yield running


def marks(page: str) -> dict[str, str]:
    """Step → what the page says of it."""
    return dict(re.findall(r"<span>([A-Z][a-z ]+)</span><span class=\"hidden\">([a-z ]+)</span>", page))


def spec_version(page: str) -> str:
    found = re.search(r'name="version" value="([0-9a-f]{32})"', page)
    assert found
    return found[1]


def test_an_empty_head_has_every_page_and_says_where_to_begin(empty: Serving) -> None:
    session = empty.log_in("admin")
    for path in PAGES:
        answer = empty.ask("GET", path, session=session)
        assert answer.status == 200, (path, answer.text)
        assert "The same on the command line: <code>" in answer.text
        tags = Tags(answer.text).found
        assert [tag for tag, _ in tags].count("h1") == 1
        assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "style"]
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        named = {attributes.get("for") for tag, attributes in tags if tag == "label"}
        for tag, attributes in tags:
            if tag in ("input", "select", "textarea") and attributes.get("type") not in ("hidden", "checkbox"):
                assert attributes.get("id") in named or attributes.get("id") is None, (path, attributes)
    told = marks(empty.ask("GET", "/wizard", session=session).text)
    assert set(told) == {
        "Preflight",
        "Packages",
        "Configure",
        "Head",
        "Build",
        "Nodes",
        "Network boot",
        "Deploy",
        "Test",
    }
    assert told["Nodes"] == "later"
    assert told["Test"] == "later"


def test_without_a_session_and_with_a_small_role_nothing_is_changed(empty: Serving) -> None:
    assert empty.ask("GET", "/wizard/packages").status == 401
    session = empty.log_in("view")
    for path in PAGES:
        page = empty.ask("GET", path, session=session)
        assert page.status == 200
        assert [
            attributes["action"]
            for tag, attributes in Tags(page.text).found
            if tag == "form" and attributes.get("method") == "post"
        ] == ["/logout"]
    token = csrf(empty.ask("GET", "/wizard", session=session))
    for path in ("packages", "packages/new", "configure", "head", "head/netboot", "build", "publish", "nodes", "boot"):
        assert empty.form(f"/wizard/{path}", session, {"csrf": token, "spec": "compute"}).status == 403, path
    assert empty.form("/wizard/deploy", session, {"csrf": token, "nodeset": "n1"}).status == 403
    found = empty.ask("GET", "/wizard/packages?find=openmpi", session=session)
    assert "the package lists were not fetched yet" in found.text
    admin = empty.log_in("admin")
    assert empty.form("/wizard/packages/new", admin, {"name": "evil", "base": "compute"}).status == 403
    assert not (empty.state / "imagespecs" / "evil.yaml").exists()


def test_a_spec_is_made_ones_own_and_its_packages_changed(empty: Serving) -> None:
    session = empty.log_in("admin")
    token = csrf(empty.ask("GET", "/wizard/packages", session=session))
    made = empty.form("/wizard/packages/new", session, {"csrf": token, "name": "ours", "base": "compute"})
    assert made.headers["location"] == "/wizard/packages?spec=ours"
    page = empty.ask("GET", "/wizard/packages?spec=ours", session=session).text
    first = spec_version(page)
    fields = {"csrf": token, "spec": "ours", "version": first}
    assert empty.form("/wizard/packages", session, {**fields, "add": "tree"}).status == 303
    text = (empty.state / "imagespecs" / "ours.yaml").read_text()
    assert "tree" in text
    stale = empty.form("/wizard/packages", session, {**fields, "add": "htop"})
    assert stale.status == 409
    assert "ours was changed by someone else since you opened it" in stale.text
    assert '<span class="add">+packages: [tree]' in stale.text
    assert (empty.state / "imagespecs" / "ours.yaml").read_text() == text
    now = spec_version(empty.ask("GET", "/wizard/packages?spec=ours", session=session).text)
    fields["version"] = now
    assert empty.form("/wizard/packages", session, {**fields, "remove": "openssh-server"}).status == 303
    left_out = empty.ask("GET", "/wizard/packages?spec=ours", session=session).text
    assert 'name="add" value="openssh-server"' in left_out
    hostile = empty.form("/wizard/packages", session, {**fields, "add": "x; rm -rf /"})
    assert hostile.status == 422
    assert "is no package" in hostile.text


def test_a_text_with_faults_is_shown_with_its_lines_and_not_saved(empty: Serving) -> None:
    session = empty.log_in("admin")
    token = csrf(empty.ask("GET", "/wizard", session=session))
    empty.form("/wizard/packages/new", session, {"csrf": token, "name": "text", "base": "compute"})
    before = (empty.state / "imagespecs" / "text.yaml").read_text()
    version = spec_version(empty.ask("GET", "/wizard/packages?spec=text", session=session).text)
    wrong = "image: text\nextends: compute\nreleas: bookworm\nkernel: {initramfs: big}\n"
    fields = {"csrf": token, "spec": "text", "version": version, "text": wrong}
    refused = empty.form("/wizard/packages", session, fields)
    assert refused.status == 422
    told = " ".join(Tags(refused.text).text)
    assert "line 3" in told
    assert "did you mean 'release'" in told
    assert "line 4" in told
    assert "releas: bookworm" in refused.text
    assert (empty.state / "imagespecs" / "text.yaml").read_text() == before
    assert not list((empty.state / "imagespecs").glob(".text*"))


def test_the_form_of_a_spec_tells_faults_at_the_field(empty: Serving) -> None:
    session = empty.log_in("admin")
    token = csrf(empty.ask("GET", "/wizard", session=session))
    empty.form("/wizard/packages/new", session, {"csrf": token, "name": "formed", "base": "compute"})
    page = empty.ask("GET", "/wizard/configure?spec=formed", session=session).text
    fields = {"csrf": token, "spec": "formed", "version": spec_version(page)}
    wrong = empty.form("/wizard/configure", session, {**fields, "disk": "sinlge", "kernel.initramfs": "packaged"})
    assert wrong.status == 422
    tags = Tags(wrong.text).found
    (disk,) = [attributes for _, attributes in tags if attributes.get("id") == "f-disk"]
    assert disk["aria-invalid"] == "true"
    assert disk["value"] == "sinlge"
    assert re.search(r'id="f-disk-about"><strong class="wrong">[^<]*did you mean &#39;single&#39;', wrong.text)
    good = {**fields, "timezone": "Europe/Paris", "leave_out": "docs\nman", "kernel.modules": "bonding\nipmi_si"}
    assert empty.form("/wizard/configure", session, good).status == 303
    saved = (empty.state / "imagespecs" / "formed.yaml").read_text()
    assert saved == (
        "image: formed\nextends: compute\nleave_out: [docs, man]\ntimezone: Europe/Paris\n"
        "kernel: {modules: [bonding, ipmi_si]}\n"
    )


def test_the_network_is_defined_with_faults_at_the_field(empty: Serving) -> None:
    session = empty.log_in("admin")
    page = empty.ask("GET", "/wizard/head", session=session)
    fields = {"csrf": csrf(page), "network": "mgmt", "cluster": "demo", "version": spec_version(page.text)}
    wrong = empty.form("/wizard/head", session, {**fields, "cidr": "10.77.0.1/24", "gateway": "10.78.0.1"})
    assert wrong.status == 422
    assert re.search(r'id="f-cidr-about"><strong class="wrong">[^<]*10\.77\.0\.0/24', wrong.text)
    assert empty.inventory.networks.list() == ()
    good = {**fields, "cidr": "10.77.0.0/24", "head": "10.77.0.1", "dhcp.range": "10.77.0.200-10.77.0.250"}
    assert empty.form("/wizard/head", session, good).status == 303
    (network,) = empty.inventory.networks.list()
    assert (network.cidr, network.data["dhcp"]["range"]) == ("10.77.0.0/24", "10.77.0.200-10.77.0.250")
    assert empty.inventory.settings.get("cluster") == "demo"
    again = empty.form("/wizard/head", session, {**good, "gateway": "10.77.0.254"})
    assert again.status == 409
    assert "was changed by someone else" in again.text
    assert empty.inventory.networks.get("mgmt").gateway is None
    page = empty.ask("GET", "/wizard/head", session=session)
    refused = empty.form("/wizard/head/netboot", session, {"csrf": csrf(page), "interface": "lo"})
    assert refused.status == 409
    assert "is in no network of the inventory" in refused.text


def test_a_range_is_previewed_counted_and_defined(head: Serving) -> None:
    session = head.log_in("admin")
    token = csrf(head.ask("GET", "/wizard/nodes", session=session))
    fields = {
        "csrf": token,
        "nodeset": "n[010-012]",
        "first_ip": "10.77.0.50",
        "image": "compute@stable",
        "groups": "rack2 gpu",
    }
    preview = head.form("/wizard/nodes", session, {**fields, "do": "preview"})
    assert preview.status == 200
    assert "Define 3 nodes" in preview.text
    assert "<code>10.77.0.52</code>" in preview.text
    assert "n010" not in head.inventory.nodes.names()
    assert "sis node add n[010-012] --ip 10.77.0.50,… --image compute@stable --group rack2 --group gpu" in preview.text
    other = head.form("/wizard/nodes", session, {**fields, "do": "define", "count": "4"})
    assert other.status == 422
    assert "these are 3 nodes now, not 4" in other.text
    done = head.form("/wizard/nodes", session, {**fields, "do": "define", "count": "3"})
    assert done.status == 303
    assert head.inventory.nodes.get("n012").address == "10.77.0.52"
    assert "3 nodes defined: n[010-012]" in head.ask("GET", done.headers["location"], session=session).text
    taken = head.form("/wizard/nodes", session, {**fields, "do": "preview"})
    assert "node n010 is defined already" in taken.text
    macs = head.form(
        "/wizard/nodes", session, {**fields, "nodeset": "n[020-021]", "macs": "52:54:00:00:00:01", "do": "preview"}
    )
    assert "1 MAC for 2 nodes" in macs.text


def test_a_table_is_pasted_with_faults_by_line(head: Serving) -> None:
    session = head.log_in("admin")
    token = csrf(head.ask("GET", "/wizard/nodes", session=session))
    fields = {"csrf": token, "way": "table", "image": "compute@stable"}
    refused = head.form("/wizard/nodes", session, {**fields, "table": "name,mac\nn7,52:54\nn_8,\n", "do": "preview"})
    told = " ".join(Tags(refused.text).text)
    assert "table.csv:2: not a MAC address" in told
    assert "table.csv:3: " in told
    assert "n7,52:54" in told
    good = {**fields, "table": "name;mac;groups\nn7;52:54:00:00:00:07;rack9\nn8;;\n"}
    assert "Define 2 nodes" in head.form("/wizard/nodes", session, {**good, "do": "preview"}).text
    assert head.form("/wizard/nodes", session, {**good, "do": "define", "count": "2"}).status == 303
    seven = head.inventory.nodes.get("n7")
    assert (seven.macs, seven.groups) == (("52:54:00:00:00:07",), ("rack9",))
    assert seven.assignment == Assignment("compute", "stable")


def test_a_machine_that_appeared_becomes_the_node_that_lacks_its_mac(head: Serving) -> None:
    session = head.log_in("admin")
    page = head.ask("GET", "/wizard/boot", session=session)
    assert "&lt;b&gt;u&lt;/b&gt;" in page.text
    assert re.search(r'name="node-52:54:00:00:00:aa" value="n2"', page.text)
    fields = {"csrf": csrf(page), "mac": "52:54:00:00:00:aa", "node-52:54:00:00:00:aa": "n2"}
    assert head.form("/wizard/boot", session, {**fields, "assign": "52:54:00:00:00:aa"}).status == 303
    assert head.inventory.nodes.get("n2").macs == ("52:54:00:00:00:aa",)
    assert "None waits." in head.ask("GET", "/wizard/boot", session=session).text
    head.inventory.discoveries.record("52:54:00:00:00:bb", {})
    assert head.form("/wizard/boot", session, fields).status == 303
    nameless = head.form("/wizard/boot", session, {**fields, "assign": "52:54:00:00:00:bb"})
    assert "which node is it?" in nameless.text
    assert head.form("/wizard/boot", session, {**fields, "reject": "52:54:00:00:00:bb"}).status == 303
    assert "1 turned away" in head.ask("GET", "/wizard/boot", session=session).text


def test_names_come_from_a_list_and_faults_have_their_line(head: Serving) -> None:
    session = head.log_in("admin")
    page = head.ask("GET", "/wizard/boot", session=session)
    fields = {"csrf": csrf(page), "by": "list", "listed": "52:54:00:00:00:aa,n7\n"}
    proposed = head.form("/wizard/boot/names", session, fields)
    assert re.search(r'name="node-52:54:00:00:00:aa" value="n7"', proposed.text)
    assert "n7" not in head.inventory.nodes.names()
    wrong = head.form("/wizard/boot/names", session, {**fields, "listed": "52:54,n7\n52:54:00:00:00:aa\n"})
    assert "list:1: not a MAC address" in wrong.text
    assert "list:2: a key and a name are wanted" in wrong.text


def test_nodes_are_armed_when_their_number_is_typed(head: Serving) -> None:
    session = head.log_in("operate")
    page = head.ask("GET", "/wizard/deploy", session=session)
    assert "Install 1 node<" in page.text
    assert "2 without" not in page.text
    assert "1 without MAC: n2" in page.text
    fields = {"csrf": csrf(page), "nodeset": "n1", "count": "1"}
    assert head.form("/wizard/deploy", session, {**fields, "count": "2"}).status == 422
    head.inventory.nodes.change(["n2"], _wired())
    both = {**fields, "nodeset": "n[1-2]", "count": "2"}
    assert "type 2 to install 2 nodes" in head.form("/wizard/deploy", session, both).text
    assert head.inventory.nodes.get("n1").arming is None
    assert head.form("/wizard/deploy", session, {**both, "typed": "2"}).status == 303
    assert head.inventory.nodes.get("n2").arming is not None
    assert "at work <strong>2</strong>" in head.ask("GET", "/wizard/deploy", session=session).text


def test_nothing_is_checked_before_something_is_installed(head: Serving) -> None:
    session = head.log_in("operate")
    page = head.ask("GET", "/wizard/test", session=session)
    assert "0 of 2 in-sync" in page.text
    assert "no node is installed yet" in head.form("/wizard/test", session, {"csrf": csrf(page)}).text


def test_a_build_is_a_job_with_its_log(head: Serving) -> None:
    (head.state / "imagespecs").mkdir()
    (head.state / "imagespecs" / "wrong.yaml").write_text("image: wrong\nextends: compute\nrelease: nosuch\n")
    session = head.log_in("admin")
    page = head.ask("GET", "/wizard/build?spec=wrong", session=session)
    fields = {"csrf": csrf(page), "spec": "wrong", "note": "<i>first</i>"}
    assert head.form("/wizard/build", session, fields).headers["location"] == "/wizard/build?spec=wrong"
    second = head.form("/wizard/build", session, fields)
    assert second.status == 503
    assert "is running since" in second.text
    log = head.ask("GET", "/jobs/1/log", session=session)
    assert b"event: log" in log.body
    assert b'{"outcome":"failed"}' in log.body
    shown = head.ask("GET", "/jobs/1", session=session).text
    assert "nosuch" in shown
    assert "sis image build wrong --note &#39;&lt;i&gt;first&lt;/i&gt;&#39;" in shown
    told = [(row.what, row.outcome) for row in head.inventory.stream.last(50, kinds=("job",))]
    assert (told[0], told[-1]) == (("start", "start"), ("end", "failed"))
    assert head.ask("GET", "/jobs/9", session=session).status == 404
    assert head.form("/jobs/1/cancel", session, {"csrf": csrf(page)}).status == 404
    assert head.ask("GET", "/jobs/1/log").status == 401


def test_publishing_moves_the_channel(head: Serving) -> None:
    session = head.log_in("admin")
    page = head.ask("GET", "/wizard/build", session=session)
    fields = {"csrf": csrf(page), "spec": "compute", "generation": "2", "channel": "stable"}
    assert head.form("/wizard/publish", session, {**fields, "channel": "../x"}).status == 422
    assert head.form("/wizard/publish", session, {**fields, "generation": "two"}).status == 422
    assert head.form("/wizard/publish", session, fields).status == 303
    assert "stable is compute@2" in head.ask("GET", "/wizard", session=session).text


def _wired() -> Change:
    return Change(interfaces={"n2": (Interface("eth0", "52:54:00:00:00:02", "10.77.0.12", "mgmt"),)})
