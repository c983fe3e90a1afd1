"""What an admin types and reads: deploy in waves, rollout list, status, pause, resume, abort, release."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sis.cli import main
from sis.inventory import db
from sis.inventory.clock import now
from sis.wire import Report
from tests.sim_nodes import defined, made_image, publish


@dataclass
class Admin:
    state: Path

    def types(self, *words: str) -> Result:
        return CliRunner().invoke(main, ["--state", str(self.state), *words])

    def said(self, *words: str) -> str:
        done = self.types(*words)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def told_off(self, *words: str) -> tuple[int, str]:
        done = self.types(*words)
        return done.exit_code, done.stderr

    def data(self, *words: str) -> Any:
        return json.loads(self.said("-o", "json", *words))


@pytest.fixture
def admin(tmp_path: Path) -> Admin:
    """Ten nodes in-sync at compute@1, of which the channel has moved to compute@2; the eleventh was never installed."""
    store = made_image(tmp_path)
    first = store.ref("compute").generations["1"]
    with db.open(tmp_path / "state.db") as inventory:
        defined(inventory, 11)
        for node in inventory.nodes.list()[:10]:
            told = Report(
                kind="check", outcome="ok", in_sync=True, image="compute", generation=1, version=first, started=now(),
                seconds=0,
            )  # fmt: skip
            inventory.history.record_report(node.id, told)
    publish(store, 2)
    return Admin(tmp_path)


def test_a_plan_is_shown_and_nothing_is_done(admin: Admin) -> None:
    out = admin.said("deploy", "n[001-010]", "--canary", "1", "--then", "30%", "--max-fail", "5%", "-n")
    lines = out.splitlines()
    assert lines[0] == "n[001-010]: compute@1 → compute@2"
    assert lines[1].startswith(
        "wave 1: 1 node n001 (first in natural order of those reachable, in-sync and healthy; 1 of"
    )
    assert lines[2:5] == [
        "wave 2: 3 nodes n[002-004] (the next in natural order)",
        "wave 3: 3 nodes n[005-007] (the next in natural order)",
        "wave 4: 3 nodes n[008-010] (the next in natural order)",
    ]
    assert "stops when more than 5% fail; stops when a canary fails" in out
    assert admin.data("rollout", "list") == []
    rows = admin.data("deploy", "n[001-010]", "--then", "5", "-n")
    assert [(row["name"], row["wave"], row["before"]) for row in rows][4:6] == [
        ("n005", 1, "compute@1"), ("n006", 2, "compute@1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (
            ("deploy", "n001", "--canary", "lots"),
            2,
            "sis: --canary 'lots': not understood\nhint: write a count or a part",
        ),
        (("deploy", "n001", "--then", "0"), 2, "sis: a wave of no nodes"),
        (("deploy", "n001", "--max-fail", "101%"), 2, "sis: --max-fail '101%': not understood"),
        (("deploy", "n001", "--at-boot", "--reinstall"), 2, "sis: --at-boot is for resyncs"),
        (("deploy", "n001", "--resync", "--allow-foreign-disk"), 2, "sis: a resync touches no disk layout"),
        (("deploy", "n[010-011]", "--canary", "1"), 5, "sis: n011 was never installed: there is nothing to resync"),
        (
            ("deploy", "n001", "--resync", "--image", "compute@9"),
            5,
            "sis: these nodes have nothing to be made equal to",
        ),
        (("rollout", "status"), 1, "sis: there is no rollout yet\nhint: make one: sis deploy NODESET"),
        (("rollout", "pause", "7"), 1, "sis: no such rollout: 7"),
        (("rollout", "abort", "x", "-y"), 1, "sis: no such rollout: x\nhint: a rollout is named by its number"),
        (("node", "maintenance", "on", "n001"), 5, "sis: maintenance needs a reason"),
    ],
)
def test_what_cannot_be_is_said(admin: Admin, words: tuple[str, ...], code: int, text: str) -> None:
    found, said = admin.told_off(*words)
    assert found == code
    assert said.startswith(text)


def test_from_deploy_to_abort(admin: Admin) -> None:
    words = ("deploy", "n[001-010]", "--canary", "1", "--then", "30%")
    assert "Roll out to 10 nodes (n[001-010])? Not asked" in admin.told_off(*words)[1]
    out = admin.said(*words, "-y")
    assert "rollout 1 begun; the head drives it: sis rollout status 1 --watch" in out
    shown = admin.said("rollout", "status")
    assert shown.startswith("rollout 1 running, wave 1 of 4, 0 of 10 nodes good, ")
    assert "  sis deploy n[001-010] --canary 1 --then 30% --max-fail 0\n" in shown
    assert admin.said("rollout", "pause").startswith("rollout 1 paused: by ")
    code, text = admin.told_off("rollout", "pause", "1")
    assert (code, text) == (5, "sis: rollout 1 is paused: it cannot be paused\nhint: see: sis rollout status 1\n")
    assert admin.said("rollout", "resume", "--max-fail", "2").startswith("rollout 1 running")
    assert admin.data("rollout", "status")["rollout"]["command"].endswith("--max-fail 2")
    assert admin.said("rollout", "abort", "-y").startswith("rollout 1 aborted: by ")
    row = admin.data("rollout", "list")[0]
    # Nobody took the order of the first: it is taken back, and nothing has happened to any node.
    assert (row["state"], row["waiting"], row["failed"]) == ("aborted", 10, 0)
    assert admin.told_off("rollout", "resume")[0] == 5
    told = admin.data("events", "--kind", "rollout")
    assert [(each["what"], each["outcome"]) for each in told] == [
        ("rollout", "start"), ("wave 1", "start"), ("node", "start"), ("rollout", "note"), ("rollout", "note"),
        ("rollout", "failed"), ("node", "note"), ("rollout", "note"),
    ]  # fmt: skip


def test_held_nodes_are_released(admin: Admin) -> None:
    admin.said("deploy", "n[001-003]", "--canary", "1", "-y")
    admin.said("rollout", "abort", "-y")
    with db.open(admin.state / "state.db") as inventory:
        assert {name: hold.held.name for name, hold in inventory.rollouts.holds().items()} == {
            "n001": "compute@1", "n002": "compute@1", "n003": "compute@1",
        }  # fmt: skip
    assert admin.said("node", "release", "n[001-002]") == "2 nodes released: n[001-002]\n"
    assert admin.said("node", "release", "n[001-002]") == "0 nodes released: none was held\n"
    admin.said("node", "set", "n003", "image=compute@2")
    with db.open(admin.state / "state.db") as inventory:
        assert inventory.rollouts.holds() == {}


def test_what_nodes_go_back_to_is_not_pruned(admin: Admin) -> None:
    code, text = admin.told_off("image", "prune", "compute@1", "-y")
    assert code == 5
    assert "compute@1 is what nodes are held to, or were last good at" in text


def test_health_windows_and_the_heads_own_in_the_cluster_file(admin: Admin) -> None:
    path = admin.state / "cluster.yaml"
    path.write_text(
        """\
cluster: demo
head:
  transfers: 8
  drain: /usr/local/sbin/drain --now
defaults:
  windows: ["Sun 01:00-05:00"]
  timezone: Europe/Paris
  health:
    units: [slurmd]
    ports: [22]
    commands: ["test -d '/scratch dir'", {run: [nvidia-smi, -L], timeout_s: 5}]
nodes:
  n001: {groups: [rack1]}
"""
    )
    admin.said("cluster", "apply", str(path))
    with db.open(admin.state / "state.db") as inventory:
        profile = inventory.nodes.get("n001").profile
        assert inventory.settings.get("transfers") == 8
        assert inventory.settings.get("drain") == ["/usr/local/sbin/drain", "--now"]
    assert profile["windows"] == ["Sun 01:00-05:00"]
    assert profile["health"]["ports"] == ["22"]
    assert profile["health"]["commands"] == [
        {"run": ["test", "-d", "/scratch dir"], "timeout_s": 30.0}, {"run": ["nvidia-smi", "-L"], "timeout_s": 5.0},
    ]  # fmt: skip
    path.write_text("cluster: x\ndefaults: {windows: [Sundays], health: {ports: [99999]}}\n")
    code, text = admin.told_off("cluster", "apply", str(path))
    assert code == 1
    assert "cluster.yaml:2: defaults.windows[0]: not a maintenance window: 'Sundays'" in text
    assert "defaults.health.ports[0]: must be a port such as 22 or 10.77.0.5:6817, not '99999'" in text
