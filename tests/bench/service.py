"""`python -m tests.bench.service`: what the head does with 5,000 nodes, measured on a real `sis head run`."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sis.image.store.local import LocalStore
from sis.inventory import db
from sis.inventory.clock import now
from sis.inventory.db import Inventory
from sis.system import process
from sis.system.amounts import human_bytes
from sis.wire import Event, Stage
from tests.bench import limits
from tests.swarm import Peer, armed, at_once, define
from tests.vm.browser import Browser, browser
from tests.vm.console_world import SIS, make_images, running

NODES = 5_000
HELLOS = 1_000
EVENTS_A_SECOND = 200
EVENTS_S = 20
STAGES: tuple[Stage, ...] = ("pulling", "rendering", "bootloader")
PAGE = Path(__file__).resolve().parents[2] / "docs/bench/service.md"

TOP = """\
# The head with 5,000 nodes

`python -m tests.bench.service` measures this on a real `sis head run` with SQLite; nodes and browser run on the same
processors as the head. Nodes speak the whole protocol: each call on a connection of its own, signed, its answer
verified and opened. Where the load before is not small, the machine was not idle, and times are too long.
"""
HEADINGS = "| what | measured | goal | reached | |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Reached:
    """One number: what was measured, in which unit, and the most it may be."""

    what: str
    value: float
    limit: float
    show: Callable[[Any], str]
    note: str = ""

    @property
    def met(self) -> bool:
        return self.value < self.limit


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.0f} ms"


def main() -> int:
    """Exit code 0, or 1 when a number was not reached."""
    found: list[Reached] = []
    machine = limits.machine(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix="sis-service-") as folder:
        state = Path(folder)
        make_images(state)
        with db.open(state / "state.db") as inventory:
            say(f"{NODES} nodes are defined")
            define(inventory, NODES)
            with running(state) as url, kept(found):
                parts = urlsplit(url)
                head = (parts.hostname or "", parts.port or 0)
                names = [node.name for node in inventory.nodes.list()][:HELLOS]
                peers = armed(inventory, names, head, LocalStore(state / "store").signer().public)
                found += hellos(peers, Spent(state))
                found += commands(state)
                found += pages(inventory, url, peers, Spent(state))
                found.append(memory(state))
    text = page(found, machine)
    print(text)
    PAGE.write_text(text)
    return 0 if all(each.met for each in found) else 1


class Spent:
    """The head's processor time: what it worked, however busy the machine was with something else."""

    def __init__(self, state: Path) -> None:
        self._process = head_of(state)
        self._before = self._now()

    def since(self) -> float:
        """Seconds since the last time this was asked."""
        before, self._before = self._before, self._now()
        return self._before - before

    def _now(self) -> float:
        words = (self._process / "stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def hellos(peers: Sequence[Peer], spent: Spent) -> list[Reached]:
    """Everybody at once: first as after their boot answer, then as after a restart of the head, known and at work."""
    found = []
    for what in ("the first of a new install, the era asked for", "of installed nodes"):
        say(f"{len(peers)} hellos at once: {what}")
        spent.since()
        timed = asyncio.run(at_once(peers, Peer.hello))
        work_s = spent.since()
        for peer in peers:
            peer.token = None
        assert len(timed.seconds) == len(peers)
        told = f"median {seconds(timed.share(0.5))}, all served after {seconds(timed.wall_s)}; head CPU {work_s:.2f} s"
        found.append(Reached(f"{len(peers)} hellos at once, {what}: p99", timed.share(0.99), 2.0, seconds, told))
    return found


def commands(state: Path) -> list[Reached]:
    """Commands of an admin, from start to end of the program."""
    found = []
    for words, limit in (
        (("node", "set", "@*", "image=compute@stable"), 1.0),
        (("status",), 1.0),
        (("node", "list"), 0.5),
    ):
        taken = []
        for _ in range(3):
            started = time.monotonic()
            done = process.run([SIS, "--state", state, *words], check=False, timeout_s=120)
            taken.append(time.monotonic() - started)
        note = "" if done.returncode == 0 else f"exit code {done.returncode}"
        found.append(
            Reached(f"`sis {' '.join(words)}`", statistics.median(taken), limit, seconds, note or "median of 3")
        )
    return found


def pages(inventory: Inventory, url: str, peers: Sequence[Peer], spent: Spent) -> list[Reached]:
    """The map in Chromium: how long it takes to load, and how far it is behind while nodes tell much."""
    with browser(url) as opened:
        opened.open(f"{url}/login?code={inventory.admins.new_login('bench', 'view')}")
        loads = [load_s(opened) for _ in range(3)]
        opened.live()
        spent.since()
        lags = asyncio.run(flood(opened, peers))
        work_s = spent.since()
    return [
        Reached(f"the map of {NODES} nodes loads in Chromium", statistics.median(loads), 1.5, seconds, "median of 3"),
        Reached(
            f"the map is behind {EVENTS_A_SECOND} events a second by at most", max(lags), 2.0, seconds,
            f"median {seconds(statistics.median(lags))}, over {EVENTS_S} s; head CPU {work_s:.1f} s",
        ),
    ]  # fmt: skip


def load_s(opened: Browser) -> float:
    opened.open("/")
    return float(opened.run("return performance.getEntriesByType('navigation')[0].loadEventEnd")) / 1000


async def flood(opened: Browser, peers: Sequence[Peer]) -> list[float]:
    """Nodes tell stages at an even pace; now and then one node's tile is watched until it has changed."""
    started = time.monotonic()
    lags: list[float] = []
    last: tuple[Peer, Stage] = (peers[0], STAGES[0])

    async def watch() -> None:
        while time.monotonic() - started < EVENTS_S:
            await asyncio.sleep(1.0)
            peer, stage = last
            lags.append(await asyncio.to_thread(behind, opened, peer.name, stage))

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        sent = 0
        while (passed := time.monotonic() - started) < EVENTS_S:
            due = int(passed * EVENTS_A_SECOND)
            for at in range(sent, due):
                last = peers[at % len(peers)], STAGES[at // len(peers) % len(STAGES)]
                group.create_task(last[0].tell(Event(time=now(), stage=last[1], outcome="start")))
            sent = due
            await asyncio.sleep(0.02)
    return lags


def behind(opened: Browser, name: str, state: str) -> float:
    """How long it takes until the tile of a node shows a state."""
    started = time.monotonic()
    script = "return document.getElementById(arguments[0]).dataset.at"
    opened.until(lambda: opened.run(script, f"n-{name}") == state, f"{name} is {state}")
    return time.monotonic() - started


def memory(state: Path) -> Reached:
    """The most resident memory the head ever had."""
    words = dict(line.split(":", 1) for line in (head_of(state) / "status").read_text().splitlines())
    peak_bytes = int(words["VmHWM"].split()[0]) * 1024
    return Reached("resident memory of the head, at its most", peak_bytes, 300e6, human_bytes)


def head_of(state: Path) -> Path:
    """Where the kernel tells of the head that serves this state."""
    return next(
        path.parent
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if f"--state\0{state}\0head\0run" in path.read_bytes().decode("utf-8", "replace")
    )


def page(found: Sequence[Reached], machine: dict[str, str]) -> str:
    """The figures as a page."""
    rows = [
        f"| {each.what} | {each.show(each.value)} | < {each.show(each.limit)} | "
        f"{'yes' if each.met else 'NO'} | {each.note} |"
        for each in found
    ]
    about = "; ".join(f"{name} {value}" for name, value in machine.items())
    return "\n".join((TOP, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {about}.", "", HEADINGS, *rows, ""))


@contextmanager
def kept(found: list[Reached]) -> Iterator[None]:
    """Say what was found so far when it ends early."""
    try:
        yield
    except BaseException:
        for each in found:
            say(f"{each.what}: {each.show(each.value)} {each.note}")
        raise


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
