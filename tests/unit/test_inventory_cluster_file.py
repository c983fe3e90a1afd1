"""The cluster file as intent: commands change its text and the inventory together, and never what another wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.errors import Conflict, Locked, SisError
from sis.inventory import cluster_file, db
from sis.inventory.blame import blame
from sis.inventory.cluster import load_cluster
from sis.inventory.intent import Done, Intent
from sis.inventory.model import Assignment, Interface, NewNode
from sis.inventory.naming import Template
from sis.inventory.settings_words import Checks, change_of
from sis.inventory.wiring import FREE
from sis.spec import cluster as cluster_spec

TEXT = """\
# The demo cluster; mind the second rack.
cluster: demo
networks:
  mgmt: {cidr: 10.77.0.0/24, head: 10.77.0.1}
defaults: {image: compute@stable, disk: single}
profiles:
  gpu: {modules: [nvidia], kernel_cmdline: quiet}
nodes:
  "n[001-004]":   # both racks
    interfaces: {eth0: {network: mgmt, ip: "10.77.0.{index+10}"}}
    groups: [compute]
    blacklist: [nouveau]
  n001: {interfaces: {eth0: {mac: 52:54:00:12:34:56}}}   # the first one
groups:
  rack1: "n[001-002]"
  rack2: "n[003-004]"
"""
FIRST = "first one\n  "


class Site:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "cluster.yaml"
        self.inventory = db.open(folder / "state.db")
        self.write(TEXT)

    def write(self, text: str) -> None:
        self.file.write_text(text)
        raw = self.file.read_bytes()
        load_cluster(self.inventory, cluster_spec.parse(raw, str(self.file)))
        cluster_file.follow(self.inventory.database, self.file, raw)

    @property
    def text(self) -> str:
        return self.file.read_text()

    def set(self, nodeset: str, *words: str, dry_run: bool = False) -> Done:
        nodes = self.inventory.nodes.select(nodeset)
        checks = Checks(image=lambda text: (text.partition("@")[0], text.partition("@")[2]), layout=lambda _: None)
        change = change_of(words, nodes, self.inventory.nodes.groups(), checks)
        return Intent(self.inventory).change([node.name for node in nodes], change, dry_run=dry_run)

    def agrees(self) -> bool:
        """Whether bringing the file in again would change nothing."""
        done = load_cluster(self.inventory, cluster_spec.load(self.file), dry_run=True)
        return not done.added and not done.changed


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.inventory.close()


@pytest.mark.parametrize(
    ("nodeset", "words", "before", "after"),
    [
        ("n001", ["image=gpu@2"], "12:34:56}}}", "12:34:56}}, image: gpu@2}"),
        ("n[001-004]", ["image=gpu@2"], "    blacklist: [nouveau]\n", "    blacklist: [nouveau]\n    image: gpu@2\n"),
        ("n[003-004]", ["timezone=Europe/Paris"], "first one\n", FIRST + '"n[003-004]": {timezone: Europe/Paris}\n'),
        ("n002", ["mac=52:54:00:12:34:57"], "one\n", "one\n  n002: {interfaces: {eth0: {mac: 52:54:00:12:34:57}}}\n"),
        ("n001", ["ip=10.77.0.99"], "12:34:56}", "12:34:56, ip: 10.77.0.99}"),
        ("n002", ["blacklist+=radeon"], "first one\n", "first one\n  n002: {blacklist: [radeon]}\n"),
        ("n002", ["blacklist-=nouveau"], "first one\n", 'first one\n  n002: {blacklist: ["-nouveau"]}\n'),
        ("n[001-004]", ["blacklist-=nouveau"], "    blacklist: [nouveau]\n", ""),
        ("n003", ["groups+=rack1"], 'rack1: "n[001-002]"', 'rack1: "n[001-003]"'),
        ("n004", ["groups+=login"], '"n[003-004]"\n', '"n[003-004]"\n  login: n004\n'),
        ("n[001-004]", ["vars.room=a b"], "[nouveau]\n", "[nouveau]\n    vars: {room: a b}\n"),
        ("n002", ["overlays+=gpu"], "first one\n", "first one\n  n002: {profiles: [gpu]}\n"),
    ],
)  # fmt: skip
def test_a_change_is_a_few_characters_of_text(
    site: Site, nodeset: str, words: list[str], before: str, after: str
) -> None:
    tried = site.set(nodeset, *words, dry_run=True)
    assert site.text == TEXT
    done = site.set(nodeset, *words)
    assert site.text == TEXT.replace(before, after, 1)
    assert tried.text == done.text
    assert "\n+" in done.text or "\n-" in done.text
    assert site.agrees()


def test_a_profile_brings_what_it_says(site: Site) -> None:
    done = site.set("n002", "overlays+=gpu")
    assert [(line.setting, line.after) for line in done.lines] == [
        ("modules", "nvidia"),
        ("kernel_cmdline", "quiet"),
        ("profiles", "gpu"),
    ]


def test_wider_changes_take_narrower_ones_along(site: Site) -> None:
    site.set("n001", "image=gpu@2", "resync=off")
    site.set("n[002-003]", "image=gpu@3")
    site.set("n[001-002]", "image=compute@9")
    images = {node.name: node.assignment.reference for node in site.inventory.nodes.list() if node.assignment}
    assert images == {"n001": "compute@9", "n002": "compute@9", "n003": "gpu@3", "n004": "compute@stable"}
    assert site.agrees()
    site.set("n[001-004]", "image=compute@stable")
    assert "gpu@3" not in site.text
    assert "resync: off" in site.text or 'resync: "off"' in site.text
    assert site.agrees()


def test_added_accepted_and_deleted_nodes_are_in_the_text(site: Site) -> None:
    intent = Intent(site.inventory)
    wired = [NewNode(f"m{at}", (Interface("eth0", None, FREE, "mgmt"),), ("compute",)) for at in (1, 2)]
    intent.add(wired)
    assert '  "m[1-2]": {interfaces: {eth0: {network: mgmt, ip: "+{index+14}"}}, groups: [compute]}\n' in site.text
    site.inventory.discoveries.record("52:54:00:00:00:0a", {})
    site.inventory.discoveries.record("52:54:00:00:00:0b", {})
    template = Template("eth0", "mgmt", ("rack1",), Assignment("compute", "12", "raid"))
    intent.accept({"52:54:00:00:00:0a": "m1", "52:54:00:00:00:0b": "x7"}, template)
    assert "  m1: {interfaces: {eth0: {mac: 52:54:00:00:00:0a}}}\n" in site.text
    assert site.inventory.nodes.get("x7").groups == ("rack1",)
    assert site.agrees()
    assert intent.delete(["n001", "n003", "m2", "x7"]) == 4
    assert site.inventory.nodes.names() == ("m1", "n002", "n004")
    assert '"n[002,004]":   # both racks' in site.text
    assert '"m[1-2]!m2":' in site.text
    assert "n001" not in site.text
    assert site.text.startswith("# The demo cluster; mind the second rack.\n")
    assert site.agrees()


def test_groups_lose_members_wherever_they_are_written(site: Site) -> None:
    site.set("n002", "groups-=compute,rack1")
    assert site.inventory.nodes.groups() == {
        "compute": ("n001", "n003", "n004"), "rack1": ("n001",), "rack2": ("n003", "n004")
    }  # fmt: skip
    assert site.agrees()


def test_who_edited_the_file_meanwhile_is_not_overwritten(site: Site) -> None:
    edited = TEXT + "  login: n004\n"
    site.file.write_text(edited)
    with pytest.raises(Conflict, match="was edited since the inventory was made from it") as caught:
        site.set("n001", "image=gpu@2")
    assert caught.value.hint is not None
    assert f"sis cluster apply {site.file}" in caught.value.hint
    assert site.text == edited
    node = site.inventory.nodes.get("n001")
    assert node.assignment == Assignment("compute", "stable", "single")


def test_a_write_between_reading_and_writing_is_seen(site: Site) -> None:
    with cluster_file.opened(site.inventory.database) as file:
        assert file is not None
        site.file.write_text(TEXT + "# someone else\n")
        with pytest.raises(Conflict, match="was changed by someone else just now"):
            file.write(b"mine\n")
    assert site.text.endswith("# someone else\n")


def test_two_commands_at_once_wait_for_each_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_file, "_LOCK_WAIT_S", 0.1)
    with cluster_file.locked(site.file), pytest.raises(Locked, match=r"edit of cluster\.yaml"):
        site.set("n001", "image=gpu@2")


def test_the_default_itself_can_be_said_over_what_a_wider_entry_says(site: Site) -> None:
    site.write(TEXT.replace("disk: single}", "disk: single, timezone: Asia/Tokyo, resync: hourly}"))
    site.set("n001", "timezone=UTC", "resync=nightly")
    assert "timezone: UTC" in site.text
    assert "timezone" not in site.inventory.nodes.get("n001").profile, "it is what it would be unsaid"
    assert site.inventory.nodes.get("n002").profile["timezone"] == "Asia/Tokyo"
    assert site.agrees()


def test_what_a_few_lines_cannot_say_is_refused(site: Site) -> None:
    site.write(TEXT.replace("disk: single}", "disk: single, timezone: Asia/Tokyo}"))
    with pytest.raises(SisError, match="cannot be made to say that by a few lines") as caught:
        site.set("n001", "timezone=")
    assert caught.value.details == ("n001: timezone would be Asia/Tokyo instead of -",)
    assert site.inventory.nodes.get("n001").profile["timezone"] == "Asia/Tokyo"


def test_blame_names_lines_and_commands(site: Site) -> None:
    cluster_file.follow(site.inventory.database, None)
    site.set("n001", "resync=off")
    (spec, *_) = cluster_spec.load(site.file).expand()
    found = {each.setting: each.origin for each in blame(site.inventory, site.inventory.nodes.get("n001"), spec)}
    file = str(site.file)
    assert found["image"] == f"{file}:5"
    assert found["interfaces.eth0.mac"] == f"{file}:13"
    assert found["interfaces.eth0.address"] == f"{file}:10"
    assert found["group compute"] == f"{file}:11"
    assert found["group rack1"] == f"{file}:15"
    assert found["blacklist"] == f"{file}:12"
    assert found["resync"].startswith("root (command) 20")
