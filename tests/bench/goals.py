"""The numbers to reach, and whether a run has reached them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.bench.figures import BASES, GIGABIT, Figure, Run
from tests.bench.wire import GIGABIT_BYTES

Measure = Literal["wire", "wall", "wall until on disk", "head CPU", "memory"]

_READ: dict[Measure, Callable[[Figure], float]] = {
    "wire": lambda it: it.down_bytes,
    "wall": lambda it: it.wall_s,
    "wall until on disk": lambda it: it.on_disk_s,
    "head CPU": lambda it: it.head_cpu_s / it.nodes,
    "memory": lambda it: it.rss_bytes,
}


@dataclass(frozen=True)
class Goal:
    """At most `limit`: a ratio to the best of the methods `against`, or a figure of its own when there are none."""

    works: tuple[str, ...]
    measure: Measure
    limit: float
    against: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        work = self.works[0] if len(self.works) == 1 else "every work on a node"
        return f"{work}, {self.measure}"


@dataclass(frozen=True)
class Verdict:
    """`ratio` is to the yardstick, or None for a limit of its own. `met` is None where something was not measured."""

    goal: Goal
    value: float | None
    yardstick: float | None
    yardstick_method: str
    ratio: float | None
    met: bool | None


_NODE_WORKS = ("cold", "nochange", "verify", "edits", "upgrade", "drifted", "packed", "together", *BASES)

GOALS = (
    Goal(("nochange",), "wire", 5_000),
    Goal(("nochange",), "wall", 0.30, ("rsync",)),
    Goal(("nochange",), "head CPU", 0.01, ("rsync",)),
    Goal(("verify",), "wall", 0.50, ("rsync-c",)),
    Goal(("nochange-uncached",), "wall", 0.30, ("rsync",)),
    Goal(("verify-uncached",), "wall", 0.50, ("rsync-c",)),
    Goal(("edits",), "wire", 5_000),
    Goal(("edits",), "wall", 0.35, ("rsync",)),
    Goal(("upgrade",), "wire", 0.33, ("rsync-z",)),
    Goal(("packed",), "wire", 0.50, ("rsync-z",)),
    Goal(("upgrade",), "wall", 0.60, ("rsync", "ostree", "ostree-delta")),
    Goal(("upgrade",), "wall until on disk", 0.60, ("rsync", "ostree", "ostree-delta")),
    Goal(("upgrade",), "head CPU", 0.05, ("rsync",)),
    Goal(("drifted",), "wire", 0.90, ("rsync-z",)),
    Goal(("cold",), "wire", 0.75, ("rsync-z",)),
    Goal(("cold",), "wall", 0.65, ("rsync", "ostree")),
    Goal(("cold",), "wall until on disk", 0.65, ("rsync", "ostree")),
    Goal(("cold-gigabit",), "wall", 0.65, ("rsync", "rsync-z", "ostree")),
    Goal(("upgrade-gigabit",), "wall", 0.60, ("rsync", "rsync-z", "ostree", "ostree-delta")),
    Goal(("together",), "wall", 0.60, ("rsync",)),
    Goal(("together",), "wall until on disk", 0.60, ("rsync",)),
    Goal(("together",), "head CPU", 0.02, ("rsync",)),
    Goal(("commit",), "wall", 0.50, ("casync",)),
    Goal(("recommit",), "wall", 3.0),
    Goal(("publish",), "wall", 0.10, ("ostree-delta",)),
    Goal(_NODE_WORKS, "memory", 250e6),
)
"""Wire is bytes to the node with their headers; head CPU is for each node.

Ours and ostree wait for the disk before they end, rsync leaves what it wrote to the kernel: where much is written, a
wall is judged both ways, when the program ends and when the work would survive a power cut.
"""


def judge(run: Run, method: str) -> tuple[Verdict, ...]:
    """Every goal, for one method of ours."""
    return tuple(_verdict(run, method, goal) for goal in GOALS)


def _verdict(run: Run, method: str, goal: Goal) -> Verdict:
    read = _READ[goal.measure]
    ours = [figure for work in goal.works if (figure := run.find(method, work)) is not None]
    value = max(map(read, ours)) if ours else None
    if not goal.against:
        return Verdict(goal, value, None, "", None, None if value is None else value <= goal.limit)
    found = [(read(figure), name) for name in goal.against if (figure := run.find(name, goal.works[0])) is not None]
    if value is None or not found:
        return Verdict(goal, value, None, "", None, None)
    yardstick, name = min(found)
    ratio = value / yardstick if yardstick else float("inf")
    return Verdict(goal, value, yardstick, name, ratio, ratio <= goal.limit)


def limit_s(run: Run, figure: Figure) -> tuple[float, str] | None:
    """The least time the work could take on this machine, and by what; None for work on the head.

    The slowest of: writing what is new into the page cache, reading what is not in it, sending what was sent, hashing
    what must be read, one walk.
    """
    new = {"cold": run.tree.content_bytes, "upgrade": run.tree.changed_bytes, "packed": run.tree.changed_bytes}
    new |= {"drifted": run.tree.changed_bytes, "together": run.tree.changed_bytes * figure.nodes}
    if figure.work not in _NODE_WORKS:
        return None
    work = BASES.get(figure.work, figure.work)
    hashed = run.tree.content_bytes if work == "verify" else new.get(work, 0)
    is_read = figure.work == "verify-uncached" and run.limits.disk_read > 0
    return max(
        (new.get(work, 0) / run.limits.disk_write, "disk"),
        (hashed / run.limits.disk_read if is_read else 0.0, "disk"),
        (figure.down_bytes / (GIGABIT_BYTES if figure.work in GIGABIT else run.limits.wire), "wire"),
        (hashed / run.limits.blake3, "hash"),
        (run.limits.walk_s * figure.nodes if work != "cold" else 0.0, "walk"),
    )
