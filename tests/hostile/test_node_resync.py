"""`resync` as a program of its own against a real head: what it tells, what it holds, and when its head is away."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from sis.image.store.local import LocalStore
from sis.image.store.sign import Signer
from sis.inventory import db
from sis.inventory.db import Inventory
from sis.inventory.model import StoredEvent
from sis.node.config import NodeConfig
from sis.node.connection import HeadConnection
from sis.node.progress import now
from sis.node.sender import Sender
from sis.wire import Event
from tests import node_calls, sim_nodes
from tests.heads import serving

pytestmark = pytest.mark.root

PROGRAM = """
import sys
from pathlib import Path
import msgspec
from sis.node import resync
from sis.node.config import NodeConfig
folder = Path(sys.argv[1])
resync.STATE = folder / "node"
resync._WALK_LASTS_S = float(sys.argv[3])
config = msgspec.json.decode((folder / "node.json").read_bytes(), type=NodeConfig)
resync.resync(config, sys.argv[2], root=folder / "root")
"""


@dataclass
class Node:
    """n001 of a head; its root and what it remembers are below `folder`."""

    folder: Path
    inventory: Inventory
    store: LocalStore

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def resync(self, kind: str = "sync", walk_lasts_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", PROGRAM, str(self.folder), kind, str(walk_lasts_s)]
        return subprocess.run(words, text=True, capture_output=True, timeout=60, check=False)

    @property
    def told(self) -> tuple[StoredEvent, ...]:
        return self.inventory.history.events("n001")

    @property
    def stages(self) -> list[str]:
        return [f"{event.stage} {event.outcome}" for event in self.told]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    state = tmp_path / "head"
    state.mkdir()
    store = sim_nodes.made_image(state)
    with db.open(state / "state.db") as inventory:
        sim_nodes.defined(inventory, 1)
        key = Signer.make()
        node_calls.put_key(inventory, "n001", key)
        with serving(state, inventory) as head:
            config = NodeConfig(
                head=f"http://127.0.0.1:{head.port}", node="n001", secret=key.private, key=store.signer().public
            )
            (tmp_path / "node.json").write_bytes(msgspec.json.encode(config))
            (tmp_path / "root").mkdir()
            yield Node(tmp_path, inventory, store)


def test_all_stages_are_told_in_order_and_nothing_is_held_afterwards(node: Node) -> None:
    run = node.resync()
    assert run.returncode == 0, run.stderr
    assert (node.root / "etc/motd").read_text() == "edition 1\n"
    desired, apply = ["desired start", "desired ok"], ["apply start", "apply ok"]
    assert node.stages == [*desired, *apply, "triggers start", "triggers ok", "report start", "report ok"]
    said = next(event.message for event in node.told if event.stage == "apply" and event.outcome == "ok")
    assert "fetched" in said
    assert said.endswith("from this machine")
    for held in (node.root, node.folder / "node/lock"):
        handle = os.open(held, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
    assert node.resync("check").returncode == 0
    kinds = [(report.kind, report.outcome, report.in_sync) for report in node.inventory.history.reports("n001")]
    assert kinds == [("check", "ok", True), ("sync", "ok", True)]


def test_a_delta_that_is_not_used_is_told_to_the_head(node: Node) -> None:
    assert node.resync().returncode == 0
    one, two = (node.store.ref("compute").generations[number] for number in "12")
    (node.store.path / "deltas").mkdir(exist_ok=True)
    (node.store.path / f"deltas/{one}-{two}").write_bytes(b"no delta")
    sim_nodes.publish(node.store, 2)
    assert node.resync().returncode == 0
    assert (node.root / "etc/motd").read_text() == "edition 2\n"
    (note,) = [event.message for event in node.told if event.outcome == "note"]
    assert note.startswith("the delta from compute@1 to compute@2 is not used, chunks are fetched instead: ")


def test_two_at_once_and_the_second_is_red_on_the_head(node: Node) -> None:
    handle = os.open(node.root, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    run = node.resync()
    os.close(handle)
    assert run.returncode != 0
    report = node.inventory.history.reports("n001")[0]
    assert report.outcome == "failed"
    assert "is under way" in report.error


def test_what_was_walked_long_before_the_head_answered_is_not_believed(node: Node) -> None:
    """The walk saw nothing; it is made anew, so a run that had to wait sees what has drifted meanwhile."""
    assert node.resync().returncode == 0
    (node.root / "etc/motd").write_text("drifted\n")
    assert node.resync(walk_lasts_s=0.0).returncode == 0
    assert (node.root / "etc/motd").read_text() == "edition 1\n"


def test_a_head_that_went_away_is_not_waited_for_long(tmp_path: Path) -> None:
    line = HeadConnection("http://127.0.0.1:1", "n001", Signer.make(), Signer.make().public)
    sender = Sender(line)
    sender.send(Event(time=now(), stage="apply", outcome="start"))
    sender.close(0.05)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
