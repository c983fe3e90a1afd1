"""Rollouts on a real head over real HTTP: nodes with their real client, only disk work is pretended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sis.head import drains, rollouts, rollouts_act
from sis.head.renders import Renders
from sis.image.store.local import LocalStore
from sis.inventory import db
from sis.inventory.db import Inventory
from sis.inventory.nodes import Change
from sis.inventory.rollout import Plan, Rollout
from tests.heads import Serving, serving
from tests.sim_nodes import BYTES_A_SYNC, SimNode, defined, living, made_image, publish


@dataclass
class World:
    head: Serving
    store: LocalStore
    nodes: dict[str, SimNode]

    @property
    def inventory(self) -> Inventory:
        return self.head.inventory

    def deploy(self, nodeset: str = "n[001-006]", **plan: object) -> Rollout:
        renders = Renders(self.head.state, self.inventory)
        planned = rollouts_act.plan(self.head.state, self.inventory, renders, nodeset, Plan(**plan))  # type: ignore[arg-type]
        return rollouts_act.make(self.inventory, planned)

    def ended(self, rollout: Rollout, timeout_s: float = 120) -> rollouts.RolloutDetail:
        return self.until(rollout, lambda found: found.rollout.ended is not None, timeout_s)

    def until(
        self, rollout: Rollout, holds: Callable[[rollouts.RolloutDetail], bool], timeout_s: float = 120
    ) -> rollouts.RolloutDetail:
        deadline = time.monotonic() + timeout_s
        while True:
            found = rollouts.detail(self.inventory, rollout.id)
            if holds(found):
                return found
            assert time.monotonic() < deadline, [f"{row.time} {row.what} {row.text}" for row in found.told]
            time.sleep(0.1)


@contextmanager
def world(folder: Path, count: int = 6, generations: int = 2, place: str | Path | None = None) -> Iterator[World]:
    """Nodes of a served head; its inventory is at `place`, a SQLite file in `folder` unless said otherwise."""
    store = made_image(folder, generations)
    with db.open(place or folder / "state.db") as inventory:
        names = defined(inventory, count)
        with (
            serving(folder, inventory) as head,
            living(f"http://127.0.0.1:{head.port}", inventory, store, names) as nodes,
        ):
            yield World(head, store, nodes)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def anywhere(tmp_path: Path, place: str | Path) -> Iterator[World]:
    """The same on both databases: for the main ways a rollout goes."""
    with world(tmp_path, place=place) as made:
        yield made


def steps(found: rollouts.RolloutDetail) -> dict[str, str]:
    return {node.node: node.step for node in found.nodes}


def told(found: rollouts.RolloutDetail) -> list[str]:
    return [f"{row.node or row.what} {row.outcome}: {row.text}" for row in found.told]


def test_waves_one_after_the_other_until_all_are_good(anywhere: World) -> None:
    publish(anywhere.store, 2)
    found = anywhere.ended(anywhere.deploy(canary="1", then=("50%",)))
    assert found.rollout.state == "done"
    assert [(wave.nodes, wave.state) for wave in found.waves] == [
        ("n001", "done"), ("n[002-004]", "done"), ("n[005-006]", "done"),
    ]  # fmt: skip
    assert set(steps(found).values()) == {"good"}
    assert found.rollout.bytes == 6 * BYTES_A_SYNC
    assert {node.generation for node in anywhere.nodes.values()} == {2}
    lines = told(found)
    assert lines[0] == "rollout start: n[001-006]: 6 nodes in 3 waves (1, 3, 2)"
    assert lines[1] == "wave 1 start: n001 (1 of 3)"
    assert lines.index("n001 ok: in-sync and healthy at compute@2") < lines.index("wave 1 ok: 1 good")
    assert lines.index("wave 1 ok: 1 good") < lines.index("n002 start: compute@2")
    assert lines[-1] == "rollout ok: 6 good"
    assert anywhere.inventory.rollouts.holds() == {}


def test_a_failed_canary_stops_it_and_goes_back(anywhere: World) -> None:
    publish(anywhere.store, 2)
    anywhere.nodes["n001"].sick = {2}
    found = anywhere.ended(anywhere.deploy(canary="1", then=("50%",), max_fail="50%"))
    assert found.rollout.state == "stopped"
    assert found.rollout.reason == "canary n001 failed: unit slurmd: inactive"
    assert steps(found)["n001"] == "returned"
    assert {steps(found)[name] for name in list(steps(found))[1:]} == {"waiting"}
    assert anywhere.nodes["n001"].generation == 1
    assert "n001 ok: is back at compute@1: unit slurmd: inactive" in told(found)
    # The channel says 2; the nodes are held to what they had, so no nightly resync brings it to them.
    node = anywhere.inventory.nodes.get("n004")
    assert node.hold is not None
    assert node.hold.held.name == "compute@1"
    assert Renders(anywhere.head.state, anywhere.inventory).image(node).generation == 1


def test_failures_are_borne_up_to_the_limit(cluster: World) -> None:
    publish(cluster.store, 2)
    cluster.nodes["n003"].broken = {2}
    found = cluster.ended(cluster.deploy(then=("50%",), max_fail="1"))
    assert found.rollout.state == "done"
    assert steps(found)["n003"] == "failed"
    assert told(found)[-1] == "rollout failed: 5 good, 1 failed n003"
    assert [group.reason for group in found.groups if group.step == "failed"] == ["no space left"]


def test_too_many_failures_stop_it_resume_tries_again(anywhere: World) -> None:
    publish(anywhere.store, 2)
    for name in ("n001", "n002"):
        anywhere.nodes[name].broken = {2}
    made = anywhere.deploy(then=("3", "3"), max_fail="1")
    found = anywhere.ended(made)
    assert found.rollout.state == "stopped"
    assert found.rollout.reason == "2 failed (n[001-002]), 1 of 6 nodes may"
    assert steps(found)["n001"] == "returned"
    for node in anywhere.nodes.values():
        node.broken = set()
    rollouts_act.resume(anywhere.inventory, made.id)
    found = anywhere.until(made, lambda each: each.rollout.state == "done")
    assert set(steps(found).values()) == {"good"}


def test_nodes_reboot_when_it_is_needed_and_count_only_after(anywhere: World) -> None:
    publish(anywhere.store, 2)
    for node in anywhere.nodes.values():
        node.heavy = {2}
    anywhere.nodes["n002"].sick = set()
    found = anywhere.ended(anywhere.deploy("n[001-002]"))
    assert found.rollout.state == "done"
    assert anywhere.nodes["n001"].done == ["sync", "reboot"]
    assert "n001 note: reboots" in told(found)


def test_staged_now_applied_at_the_next_boot(anywhere: World) -> None:
    publish(anywhere.store, 2)
    made = anywhere.deploy("n[001-002]", at_boot=True, reboot="never")
    anywhere.until(made, lambda each: set(steps(each).values()) == {"staged"})
    assert anywhere.nodes["n001"].generation == 1
    for name in ("n001", "n002"):
        anywhere.nodes[name].boot(threading.Event())
    found = anywhere.ended(made)
    assert (found.rollout.state, found.rollout.good) == ("done", 2)


def test_a_node_in_maintenance_is_put_off_and_told(cluster: World) -> None:
    publish(cluster.store, 2)
    node = cluster.inventory.nodes.get("n002")
    cluster.inventory.standing.maintenance([node.id], "new fan")
    found = cluster.ended(cluster.deploy())
    assert steps(found)["n002"] == "left"
    assert "n002 note: left out: in maintenance: new fan; gets compute@2 when it comes" in told(found)
    assert cluster.nodes["n002"].generation == 1
    assert cluster.inventory.nodes.get("n002").state.state == "maintenance"


def test_pause_begins_no_more_and_abort_leaves_the_rest_as_it_is(cluster: World) -> None:
    publish(cluster.store, 2)
    for node in cluster.nodes.values():
        node.work_s = 0.5
    made = cluster.deploy(then=("2",))
    assert rollouts_act.pause(cluster.inventory, made.id).state == "paused"
    found = cluster.until(made, lambda each: each.rollout.good == 2)
    time.sleep(1.0)
    assert rollouts.detail(cluster.inventory, made.id).rollout.waiting == 4
    rollouts_act.abort(cluster.inventory, made.id, back=True)
    found = cluster.ended(made)
    assert found.rollout.state == "aborted"
    assert steps(found) == {
        "n001": "returned", "n002": "returned", "n003": "waiting", "n004": "waiting", "n005": "waiting",
        "n006": "waiting",
    }  # fmt: skip
    assert {node.generation for node in cluster.nodes.values()} == {1}


def test_a_newer_rollout_takes_nodes_over(cluster: World) -> None:
    publish(cluster.store, 2)
    cluster.nodes["n001"].up = False
    while not cluster.nodes["n001"].away:
        time.sleep(0.05)
    first = cluster.deploy()
    second = cluster.deploy("n001")
    older = cluster.ended(first)
    assert steps(older)["n001"] == "left"
    assert f"n001 note: taken over by rollout {second.id}" in told(older)
    cluster.nodes["n001"].up = True
    assert cluster.ended(second).rollout.good == 1


def test_drain_hooks_run_before_and_after(cluster: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "hooks.log"
    hook = tmp_path / "hook"
    hook.write_text(
        f'#!/bin/sh\necho "$1 $2" >>{log}\n[ "$1" = undrain ] || [ "$(grep -c "drain $2" {log})" -gt 1 ] || exit 75\n'
    )
    hook.chmod(0o755)
    cluster.inventory.settings.set(drain=[str(hook), "drain"], undrain=[str(hook), "undrain"])
    monkeypatch.setattr(drains, "AGAIN_AFTER_S", 0.1)
    publish(cluster.store, 2)
    found = cluster.ended(cluster.deploy("n001"))
    assert "n001 note: is drained" in told(found)
    deadline = time.monotonic() + 90
    while log.read_text().splitlines() != ["drain n001", "drain n001", "undrain n001"]:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_nodes_wait_for_their_window_unless_told_not_to(cluster: World) -> None:
    publish(cluster.store, 2)
    closed = [(datetime.now(UTC) + timedelta(days=days)).strftime("%a") for days in (2, 3)]
    cluster.inventory.nodes.change(["n001"], Change(profile={"windows": [f"{day} 01:00-02:00" for day in closed]}))
    first = cluster.deploy("n[001-002]", then=("1",))
    found = cluster.until(first, lambda each: bool(each.groups[0].reason or each.groups[-1].reason))
    (waiting,) = [node for node in found.nodes if node.node == "n001"]
    assert (waiting.step, waiting.reason[:17]) == ("waiting", "its window opens ")
    assert waiting.reason.endswith("01:00 UTC")
    assert steps(found)["n002"] == "waiting"
    second = cluster.deploy("n[001-002]", ignore_windows=True)
    assert cluster.ended(second).rollout.good == 2


def test_through_the_api_by_roles_and_in_the_audit_log(cluster: World) -> None:
    publish(cluster.store, 2)
    view, operate = cluster.head.token("view"), cluster.head.token("operate")
    ask = cluster.head.ask
    body = {"nodeset": "n[001-006]", "canary": "1", "then": ["50%"], "max_fail": "5%"}
    assert ask("POST", "/api/v1/deploy", body, token=view).status == 403
    planned = ask("POST", "/api/v1/deploy", {**body, "dry_run": True}, token=operate).json
    assert planned["rollout"] is None
    assert [wave["nodes"] for wave in planned["waves"]] == ["n001", "n[002-004]", "n[005-006]"]
    wrong = ask("POST", "/api/v1/deploy", {**body, "canary": "x"}, token=operate)
    assert (wrong.status, wrong.json["detail"].splitlines()[0]) == (422, "--canary 'x': not understood")
    made = ask("POST", "/api/v1/deploy", body, token=operate).json
    assert (made["rollout"], made["armed"]) == (1, "")
    found = ask("GET", "/api/v1/rollouts/1", token=view)
    assert found.status == 200
    assert found.json["rollout"]["command"] == "sis deploy n[001-006] --canary 1 --then 50% --max-fail 5%"
    assert ask("GET", "/api/v1/rollouts/9", token=view).status == 404
    assert ask("GET", "/api/v1/rollouts/x", token=view).status == 404
    assert ask("GET", "/api/v1/rollouts", token="").status == 401
    for verb in ("pause", "resume", "abort"):
        path = f"/api/v1/rollouts/1/{verb}"
        assert ask("POST", path, {}, token=view).status == 403
        assert ask("POST", path, {"more": 1}, token=operate).status == 422
    assert ask("POST", "/api/v1/rollouts/1/abort", {"back": True}, token=operate).json["state"] == "aborted"
    assert ask("POST", "/api/v1/rollouts/1/pause", {}, token=operate).status == 409
    assert [row["id"] for row in ask("GET", "/api/v1/rollouts", token=view).json] == [1]
    actions = [(row.action, row.outcome) for row in cluster.inventory.audit.last()]
    assert ("deploy", "ok") in actions
    assert ("rollout abort", "ok") in actions
    assert ("rollout abort", "refused") in actions
    assert ("rollout pause", "failed") in actions


def test_the_stream_tells_a_rollout_as_it_goes(cluster: World) -> None:
    publish(cluster.store, 2)
    since = cluster.inventory.stream.newest()
    with cluster.head.listening("?kind=rollout", token=cluster.head.token("view"), last=since) as stream:
        made = cluster.deploy("n[001-002]", then=("1",))
        rows = []
        for kind, _, data in stream:
            assert (kind, data["ref"], data["subject"]) == ("rollout", made.id, f"rollout {made.id}")
            rows.append((data["what"], data["outcome"], data["node"], data["bytes"]))
            if data["what"] == "rollout" and data["outcome"] != "start":
                break
    assert rows == [
        ("rollout", "start", None, 0), ("wave 1", "start", None, 0), ("node", "start", "n001", 0),
        ("node", "ok", "n001", BYTES_A_SYNC), ("wave 1", "ok", None, BYTES_A_SYNC), ("wave 2", "start", None, 0),
        ("node", "start", "n002", 0), ("node", "ok", "n002", BYTES_A_SYNC), ("wave 2", "ok", None, BYTES_A_SYNC),
        ("rollout", "ok", None, 2 * BYTES_A_SYNC),
    ]  # fmt: skip
