"""The nouns of a benchmark: one figure for each method and work, and everything about one run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sis.system import files

WORKS = {
    "cold": "an empty directory becomes v2",
    "cold-gigabit": "the same over a wire of 1 Gbit/s",
    "upgrade": "v1 becomes v2, the node is clean",
    "upgrade-gigabit": "the same over a wire of 1 Gbit/s",
    "packed": "v1 becomes v2, both with the initramfs compressed as packaged",
    "drifted": "v1 becomes v2, some files of the node have drifted",
    "nochange": "v2 is v2 already",
    "verify": "v2 is v2 already, and every byte is read to be sure",
    "nochange-uncached": "v2 is v2 already, and nothing of the node is in memory",
    "verify-uncached": "the same, and every byte is read",
    "edits": "v2 becomes v3: five edited files",
    "together": "v1 becomes v2 on several nodes at once",
    "commit": "on the head: v2 is taken in, v1 is there",
    "recommit": "on the head: v2 is taken in once more, nothing has changed",
    "publish": "on the head: v2 is published, with a static delta from v1",
    "newcomers": "on the head, afterwards and in the background: all of v2 as one file for new nodes",
}
"""Every work and what it is, in the order of the tables."""

GIGABIT = {"cold-gigabit": "cold", "upgrade-gigabit": "upgrade"}
"""Works that are another one over a slower wire."""

UNCACHED = {"nochange-uncached": "nochange", "verify-uncached": "verify"}
"""Works that are another one on a node that has to read its disk."""

BASES = GIGABIT | UNCACHED
"""What each of these is another one of."""


@dataclass(frozen=True)
class Measured:
    """What some programs took. `down_bytes` went to the node, `up_bytes` to the head; `fault` is "" when all went well.

    `rss_bytes` is the largest resident memory of any one process on the side the programs ran on.
    """

    wall_s: float
    down_bytes: int
    up_bytes: int
    head_cpu_s: float
    node_cpu_s: float
    rss_bytes: int
    rest_cpu_s: float = 0.0
    """What the machine's processors did besides: other programs, and the kernel's own threads."""
    fault: str = ""
    on_disk_s: float = 0.0
    """Until all that was written is on the disk too: after the programs ended the bench waits for the kernel."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What one method took for one work. Bytes on the wire have headers; CPU seconds of `together` are all nodes'.

    `differences` is what rsync found afterwards between the node and the tree, None where it was not asked.
    """

    method: str
    work: str
    wall_s: float
    down_bytes: int
    up_bytes: int
    head_cpu_s: float
    node_cpu_s: float
    rss_bytes: int
    rest_cpu_s: float = 0.0
    on_disk_s: float = 0.0
    nodes: int = 1
    differences: int | None = None
    fault: str = ""
    at: str = ""
    """When it was measured, UTC."""

    @property
    def is_wrong(self) -> bool:
        return bool(self.fault or self.differences)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine can do at best, measured in the same run. Bytes a second of one process or thread."""

    disk_write: float
    disk_write_flushed: float
    disk_read: float = 0.0
    wire: float
    blake3: float
    walk_s: float
    """One lstat of everything in v2 by a compiled program, warm."""


class TreeFacts(msgspec.Struct, frozen=True, kw_only=True):
    entries: int
    content_bytes: int
    changed_bytes: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A whole benchmark: on what, of what, and its figures."""

    size: str
    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    tree: TreeFacts
    limits: Limits
    figures: tuple[Figure, ...]

    def find(self, method: str, work: str) -> Figure | None:
        """The figure of a method for a work, unless it was not measured or the method failed."""
        return next((it for it in self.figures if (it.method, it.work) == (method, work) and not it.fault), None)


def figure(
    method: str, work: str, measured: Measured, *, nodes: int = 1, differences: int | None = None, fault: str = ""
) -> Figure:
    """A figure of what was measured."""
    return Figure(
        method=method,
        work=work,
        wall_s=measured.wall_s,
        down_bytes=measured.down_bytes,
        up_bytes=measured.up_bytes,
        head_cpu_s=measured.head_cpu_s,
        node_cpu_s=measured.node_cpu_s,
        rss_bytes=measured.rss_bytes,
        rest_cpu_s=measured.rest_cpu_s,
        on_disk_s=measured.on_disk_s,
        nodes=nodes,
        differences=differences,
        fault=measured.fault or fault,
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
    )


def with_figure(run: Run, figure: Figure) -> Run:
    """The run with one more figure."""
    return msgspec.structs.replace(run, figures=(*run.figures, figure))


def read(path: Path) -> Run:
    """A run as `write` kept it."""
    return msgspec.json.decode(path.read_bytes(), type=Run)


def write(run: Run, path: Path) -> None:
    """Keep a run as JSON."""
    files.atomic_write(path, msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
