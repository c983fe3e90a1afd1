"""Many nodes in one event loop: each opens connections of its own and speaks as `sis.node.connection` does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sis.image.store.sign import Signer
from sis.inventory.db import Inventory
from sis.inventory.model import Assignment, Interface, Network, NewNode
from sis.sealed import ERA_HEADER, PROOF_HEADER, Question
from sis.wire import Event, Hello

FACTS = Path(__file__).resolve().parents[1] / "fixtures/facts/bios-vm.json"
_NO_ERA = "0" * 32
_TRIES = 3
_PER_RACK = 50


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """One node: its own key, its token until it was used, the era it knows."""

    name: str
    mac: str
    head: tuple[str, int]
    head_key: str
    token: str | None = None
    key: Signer = field(default_factory=Signer.make)
    era: str = _NO_ERA

    async def hello(self) -> None:
        """Say hello, with facts such as nodes have."""
        facts = json.loads(FACTS.read_bytes())
        said = Hello(node=self.name, macs=(self.mac,), token=self.token, key=self.key.public, facts=facts)
        await self.call("POST", "/api/v1/hello", msgspec.json.encode(said))

    async def tell(self, *events: Event) -> None:
        await self.call("POST", f"/api/v1/nodes/{self.name}/events", msgspec.json.encode(events))

    async def call(self, method: str, target: str, body: bytes = b"") -> bytes:
        """One call, asked anew when the era is over. Raises AssertionError for a refusal or an answer not signed."""
        for _ in range(_TRIES):
            question = Question(self.key, self.name, self.era, method, target, body)
            answer = await self._exchange(method, target, question.authorization, body)
            self.era = answer.headers.get(ERA_HEADER.lower(), self.era)
            if answer.status != 401:
                break
        assert answer.status in (200, 204), (self.name, method, target, answer)
        return question.open(self.head_key, answer.status, answer.headers[PROOF_HEADER.lower()], answer.body)

    async def _exchange(self, method: str, target: str, authorization: str, body: bytes) -> Answer:
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: head\r\nAuthorization: {authorization}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(*self.head)
        try:
            writer.write(head.encode() + body)
            top = await reader.readuntil(b"\r\n\r\n")
            first, *lines = top.decode("latin-1").rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            content = await reader.readexactly(int(headers.get("content-length", 0)))
        finally:
            writer.close()
        return Answer(int(first.split()[1]), headers, content)


@dataclass(frozen=True)
class Timed:
    """How long each of many calls took, in the order they ended, and all of them together."""

    seconds: tuple[float, ...]
    wall_s: float

    def share(self, part: float) -> float:
        """The time within which this part of the calls ended: 0.99 is p99."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


async def at_once(peers: Sequence[Peer], act: Callable[[Peer], Awaitable[None]]) -> Timed:
    """Every peer acts at the same time."""
    taken: list[float] = []

    async def one(peer: Peer) -> None:
        started = time.monotonic()
        await act(peer)
        taken.append(time.monotonic() - started)

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for peer in peers:
            group.create_task(one(peer))
    return Timed(tuple(taken), time.monotonic() - started)


def define(inventory: Inventory, count: int, image: str = "compute") -> None:
    """So many nodes in racks, each with a MAC and an address."""
    inventory.networks.put(Network("mgmt", "10.64.0.0/12", data={"head": "10.64.0.1"}))
    width = len(str(count))
    inventory.nodes.add(
        [
            NewNode(
                f"n{at:0{width}}",
                (Interface("eth0", mac(at), f"10.{64 + (at >> 16)}.{at >> 8 & 255}.{at & 255}", "mgmt"),),
                (f"rack{at // _PER_RACK:03}",),
                Assignment(image, "stable"),
            )
            for at in range(2, count + 2)
        ]
    )


def armed(inventory: Inventory, names: Sequence[str], head: tuple[str, int], head_key: str) -> list[Peer]:
    """Peers that are armed and have the token of their boot answer."""
    ids = {node.name: node for node in inventory.nodes.list()}
    inventory.access.arm([ids[name].id for name in names])
    return [
        Peer(name, ids[name].interfaces[0].mac or "", head, head_key, inventory.access.issue_token(ids[name].id))
        for name in names
    ]


def mac(at: int) -> str:
    return ":".join(f"{each:02x}" for each in (0x52, 0x54, 0, *at.to_bytes(3, "big")))
