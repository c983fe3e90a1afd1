"""Many nodes at once on a real head: all are served, none hears another's answer, nothing told is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sis.image.store.local import LocalStore
from sis.inventory.clock import now
from sis.wire import Event
from tests.swarm import Peer, armed, at_once, define
from tests.vm.console_world import World, head

COUNT = 120
EVENTS = 3


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    LocalStore(tmp_path / "store").prepare()
    with head(tmp_path) as running:
        define(running.inventory, COUNT)
        yield running


def swarm(world: World) -> list[Peer]:
    names = [node.name for node in world.inventory.nodes.list()]
    parts = urlsplit(world.url)
    key = LocalStore(world.state / "store").signer().public
    return armed(world.inventory, names, (parts.hostname or "", parts.port or 0), key)


def test_everybody_says_hello_and_tells_at_once(world: World) -> None:
    peers = swarm(world)

    async def story(peer: Peer) -> None:
        await peer.hello()
        for at in range(EVENTS):
            await peer.tell(Event(time=now(), stage="pulling", outcome="note", message=f"{peer.name} {at}"))

    timed = asyncio.run(at_once(peers, story))
    assert len(timed.seconds) == COUNT
    for node in world.inventory.nodes.list():
        assert world.inventory.history.facts(node.id), node.name
    told = world.inventory.history.events(limit=COUNT * EVENTS * 2)
    assert len(told) == COUNT * EVENTS
    by_node: dict[str, list[str]] = {}
    for event in told:
        by_node.setdefault(event.node, []).append(event.message)
    assert by_node == {peer.name: [f"{peer.name} {at}" for at in range(EVENTS)] for peer in peers}
