"""kill -9 of the head while nodes tell: every event it acknowledged is there, and nodes go on with the next head."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from sis.image.store.local import LocalStore
from sis.inventory import db
from sis.inventory.clock import now
from sis.wire import Event
from tests.ports import free_port
from tests.swarm import Peer, armed, define
from tests.vm.console_world import running

COUNT = 16
KILLS = 3
_AWAY = (OSError, asyncio.IncompleteReadError)


def test_no_acknowledged_event_is_lost(tmp_path: Path) -> None:
    LocalStore(tmp_path / "store").prepare()
    port = free_port()
    key = LocalStore(tmp_path / "store").signer().public
    acknowledged: set[str] = set()
    with db.open(tmp_path / "state.db") as inventory:
        define(inventory, COUNT)
        peers = armed(inventory, [node.name for node in inventory.nodes.list()], ("127.0.0.1", port), key)
    for turn in range(KILLS):
        with running(tmp_path, port=port) as url:
            assert urlsplit(url).port == port
            enough = len(acknowledged) + random.Random(turn).randint(COUNT, 20 * COUNT)
            killer = threading.Thread(target=_kill, args=(_pid_of(tmp_path), lambda: len(acknowledged) >= enough))  # noqa: B023
            killer.start()
            asyncio.run(_tell(peers, turn, acknowledged))
            killer.join()
        with db.open(tmp_path / "state.db") as inventory:
            kept = {event.message for event in inventory.history.events(limit=100_000)}
            assert acknowledged - kept == set()
            states = {node.state.state for node in inventory.nodes.list()}
            assert states <= {"netbooted", "pulling"}
    assert len(acknowledged) > COUNT


async def _tell(peers: list[Peer], turn: int, acknowledged: set[str]) -> None:
    """Each peer says hello and then tells, one event after the other, until the head is gone."""

    async def one(peer: Peer) -> None:
        with contextlib.suppress(*_AWAY):
            await peer.hello()
            peer.token = None
            for at in range(100_000):
                message = f"{peer.name} {turn} {at}"
                await peer.tell(Event(time=now(), stage="pulling", outcome="start", message=message))
                acknowledged.add(message)

    async with asyncio.TaskGroup() as group:
        for peer in peers:
            group.create_task(one(peer))


def _kill(pid: int, now_is_the_time: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not now_is_the_time() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)


def _pid_of(state: Path) -> int:
    """The head's process, by the lock it holds."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"--state\0{state}\0head\0run" in path.read_bytes().decode("utf-8", "replace"):
                return int(path.parent.name)
    raise AssertionError("no head runs")
