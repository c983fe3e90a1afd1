"""Nodes as the head sees them: the real client over real HTTP; what is pretended is the disk work."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sis.errors import SisError
from sis.image import commit
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.image.store.sign import Signer
from sis.inventory.db import Inventory
from sis.inventory.model import Assignment, Interface, Network, NewNode
from sis.node.connection import HeadConnection
from sis.node.progress import now
from sis.sync.model import Totals
from sis.wire import Event, HealthResult, Order, Report
from tests import node_calls

BYTES_A_SYNC = 1000


@dataclass
class SimNode:
    """One node's agent. Versions by generation: those in `sick` fail their health check, those in `broken` their sync,
    those in `heavy` need a reboot. A node that is not `up` says nothing; one that `hangs` never comes back from a boot.
    """

    name: str
    line: HeadConnection
    work_s: float = 0.0
    sick: set[int] = field(default_factory=set)
    broken: set[int] = field(default_factory=set)
    heavy: set[int] = field(default_factory=set)
    hangs: bool = False
    up: bool = True
    away: bool = False
    generation: int = 1
    version: str = ""
    boot_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    done: list[str] = field(default_factory=list)
    waiting: int = 1
    staged: tuple[int, str] | None = None

    def live(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.away = not self.up
            if self.away:
                stop.wait(0.05)
                continue
            try:
                order = self.line.next_order(wait_s=self.waiting)
                if order is not None:
                    self.carry_out(order, stop)
            except SisError:
                stop.wait(0.1)

    def carry_out(self, order: Order, stop: threading.Event) -> None:
        self.done.append(order.kind)
        if order.kind == "reboot":
            self.boot(stop)
            return
        started = now()
        clock = time.monotonic()
        desired = self.line.desired(patience_s=20)
        with contextlib.suppress(SisError):
            self.line.send_events([Event(time=now(), stage="apply", outcome="start")])
        stop.wait(self.work_s)
        failed = order.kind != "check" and desired.generation in self.broken
        if not failed and order.kind == "sync":
            self.generation, self.version = desired.generation, desired.version
        elif not failed and order.kind == "stage":
            self.staged = desired.generation, desired.version
        self.report(order.kind, started, clock, failed=failed, order=order.id, at=(desired.generation, desired.version))

    def boot(self, stop: threading.Event) -> None:
        if self.hangs:
            self.up = False
            return
        self.boot_id = str(uuid.uuid4())
        if self.staged is not None:
            self.generation, self.version = self.staged
            self.staged = None
        self.heavy.discard(self.generation)
        stop.wait(0.05)
        self.report("check", now(), time.monotonic(), at=(self.generation, self.version))

    def report(
        self,
        kind: str,
        started: str,
        clock: float,
        *,
        at: tuple[int, str],
        failed: bool = False,
        order: int | None = None,
    ) -> None:
        well = self.generation not in self.sick
        health = HealthResult(check="unit slurmd", ok=well, output="" if well else "inactive\n")
        self.line.send_report(
            Report(
                kind=kind,  # type: ignore[arg-type]
                outcome="failed" if failed else "ok",
                in_sync=not failed and kind != "stage",
                image="compute",
                generation=at[0],
                version=at[1],
                started=started,
                seconds=round(time.monotonic() - clock, 3),
                totals=Totals(bytes_fetched=0 if failed else BYTES_A_SYNC),
                reboot_needed=self.generation in self.heavy,
                error="no space left" if failed else "",
                order=order,
                health=() if failed else (health,),
                boot_id=self.boot_id,
            ),
            patience_s=20,
        )


def made_image(state: Path, generations: int = 2) -> LocalStore:
    """An image with some generations that differ in one file; channel stable at the first."""
    tree = state / "tree"
    (tree / "etc").mkdir(parents=True)
    store = LocalStore(state / "store")
    for number in range(1, generations + 1):
        (tree / "etc/motd").write_text(f"edition {number}\n")
        commit.commit(store, "compute", tree, spec='{"image": "compute", "disk": "single"}')
    publish(store, 1)
    return store


def publish(store: LocalStore, generation: int) -> None:
    with store.changing_ref("compute") as ref:
        assert ref is not None
        store.write_ref(refs.publish(ref, generation, "stable").ref)


def defined(inventory: Inventory, count: int) -> tuple[str, ...]:
    """Nodes n001 …, half of them in rack2, held to compute@stable."""
    inventory.networks.put(Network("mgmt", "10.77.0.0/16", data={"head": "10.77.0.1"}))
    names = tuple(f"n{number:03}" for number in range(1, count + 1))
    inventory.nodes.add(
        [
            NewNode(
                name,
                (Interface("eth0", f"52:54:00:00:{at // 256:02x}:{at % 256:02x}", f"10.77.1.{at + 10}", "mgmt"),),
                ("rack1" if at < count / 2 else "rack2",),
                Assignment("compute", "stable", "single"),
            )
            for at, name in enumerate(names)
        ]
    )
    return names


@contextlib.contextmanager
def living(url: str, inventory: Inventory, store: LocalStore, names: Sequence[str]) -> Iterator[dict[str, SimNode]]:
    """Their agents, each in a thread; installed with the first generation and in-sync."""
    head_key = store.signer().public
    first = store.ref("compute").generations["1"]
    nodes = {}
    for name in names:
        key = Signer.make()
        node_calls.put_key(inventory, name, key)
        line = HeadConnection(url, name, key, head_key)
        line.welcome = True
        nodes[name] = SimNode(name, line, version=first)
    stop = threading.Event()
    for node in nodes.values():
        node.report("check", now(), time.monotonic(), at=(1, first))
    threads = [threading.Thread(target=node.live, args=(stop,), name=node.name) for node in nodes.values()]
    for thread in threads:
        thread.start()
    try:
        yield nodes
    finally:
        stop.set()
        for thread in threads:
            thread.join()
