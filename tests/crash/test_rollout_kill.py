"""kill -9 of a real head in the middle of a wave: started again it goes on from SQL, with nodes that wait for it.

Sixty nodes speak the node API over loopback HTTP with their real client; only their disk work is pretended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sis.head import rollouts, rollouts_act
from sis.head.renders import Renders
from sis.inventory import db
from sis.inventory.db import Inventory
from tests.ports import free_port
from tests.sim_nodes import defined, living, made_image, publish

NODES = 60


@contextmanager
def head(state: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "sis", "--state", str(state), "head", "run", "--listen", f"127.0.0.1:{port}"]
    child = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert child.stderr is not None
    try:
        for line in child.stderr:
            if line.startswith("head: "):
                break
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait(90)
        child.stderr.close()


def until(inventory: Inventory, number: int, good: int, timeout_s: float = 200) -> rollouts.RolloutDetail:
    deadline = time.monotonic() + timeout_s
    while True:
        found = rollouts.detail(inventory, number)
        if found.rollout.good >= good or found.rollout.state not in ("running", "paused"):
            return found
        assert time.monotonic() < deadline, [f"{row.time} {row.what} {row.text}" for row in found.told[-20:]]
        time.sleep(0.05)


def test_killed_in_the_middle_of_a_wave_it_goes_on(tmp_path: Path) -> None:
    store = made_image(tmp_path)
    port = free_port()
    with db.open(tmp_path / "state.db") as inventory:
        names = defined(inventory, NODES)
        with head(tmp_path, port) as first, living(f"http://127.0.0.1:{port}", inventory, store, names) as nodes:
            for node in nodes.values():
                node.work_s = 0.3
            nodes["n007"].sick = {2}
            publish(store, 2)
            wanted = rollouts_act.wanted(canary="1", then=("25%",), max_fail="5%")
            planned = rollouts_act.plan(tmp_path, inventory, Renders(tmp_path, inventory), f"n[001-{NODES:03}]", wanted)
            made = rollouts_act.make(inventory, planned)
            caught = until(inventory, made.id, 20)
            assert caught.rollout.under_way or caught.rollout.waiting
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            time.sleep(0.5)
            with head(tmp_path, port):
                found = until(inventory, made.id, NODES)
    assert found.rollout.state == "done", found.rollout.reason
    assert found.rollout.good == NODES - 1
    assert {node.node: node.reason for node in found.nodes if node.step == "failed"} == {
        "n007": "unit slurmd: inactive"
    }
    told = [f"{row.what} {row.outcome}" for row in found.told if row.what != "node"]
    assert told == [
        "rollout start",
        *(f"wave {number} {outcome}" for number in range(1, 6) for outcome in ("start", "ok")),
        "rollout failed",
    ]
    # Each node was told of once as begun and once as ended, and none was asked again once it was good.
    for name, node in nodes.items():
        rows = [row.outcome for row in found.told if row.node == name]
        assert rows == ["start", "failed" if name == "n007" else "ok"], (name, rows)
        assert node.done.count("sync") <= 2
