"""`BENCH=scale`: a tree that grows to a million files, and a file of 4 GiB: bounded memory, linear time."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sis.errors import SisError
from sis.system import files, process
from tests.bench import limits
from tests.bench.figures import Figure, figure
from tests.bench.methods.method import url
from tests.bench.table import ratio, seconds, size, table
from tests.bench.wire import Wire

STEPS = (250_000, 500_000, 1_000_000)
"""How many files the tree has, one step after the other."""

BIG_BYTES = 4 << 30
MEMORY_MAX_BYTES = 1_000_000_000
NODE_MEMORY_MAX_BYTES = 250_000_000

_FOLDER_FILES = 500
_EDITED_FILES = 1000
_BIG_EDITS = 1000
_BLOCK_BYTES = 64 << 10
_RANDOM_PART = 4
"""One in so many bytes of the big file is random; the rest compresses."""

_PROGRAMS = Path(sys.executable).parent

Say = Callable[[str], None]


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. A figure's `work` says what was done, with how many files or bytes."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Place:
    """`head` is served by nginx, `image` is the image's name; `tree` is committed, `node` follows it."""

    wire: Wire
    folder: Path
    head: Path
    image: str

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def node(self) -> Path:
        return self.folder / "node"

    def on_head(self, work: str, *words: str) -> Figure:
        """A `sis image` command, measured. Raises SisError when it fails."""
        argv = [str(_PROGRAMS / "sis"), "--state", str(self.head), "image", *words]
        return self._kept(figure("ours", work, self.wire.measure(argv, on="head")))

    def commit(self, work: str) -> Figure:
        return self.on_head(work, "commit", self.image, "--tree", str(self.tree), "--policy", "none")

    def on_node(self, work: str, *more: str) -> Figure:
        """`sis-node sync` to the newest generation, measured, and judged by rsync where the tree is there."""
        self.node.mkdir(exist_ok=True)
        argv = [str(_PROGRAMS / "sis-node"), "sync", "--from", url(f"{self.head.name}/store"), "--image", self.image]
        argv += ["--root", str(self.node), "--state", str(self.folder / "memory"), *more]
        measured = self.wire.measure(argv)
        differences = None if measured.fault else self._differences()
        return self._kept(figure("ours", work, measured, differences=differences))

    def _differences(self) -> int:
        words = ["rsync", "-aHAXni", "--delete", "--numeric-ids", f"{self.tree}/", f"{self.node}/"]
        return len(process.run(words, timeout_s=3600).stdout.splitlines())

    def _kept(self, found: Figure) -> Figure:
        if found.fault:
            raise SisError(f"{found.work}: {found.fault}")
        return found


def run(wire: Wire, scratch: Path, say: Say) -> Iterator[Figure]:
    """Every figure in turn. `scratch`/head is what nginx serves; needs some 20 GB."""
    yield from _many(Place(wire, scratch / "many", scratch / "head" / "many", "many"), say)
    shutil.rmtree(scratch / "many")
    shutil.rmtree(scratch / "head" / "many")
    yield from _big(Place(wire, scratch / "big", scratch / "head" / "big", "big"), say)


def page(found: Scaled) -> str:
    """The figures as a Markdown page."""
    machine = "; ".join(f"{name}: {value}" for name, value in found.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in found.versions.items())
    rows = [_row(one) for one in found.figures]
    titles = ("work", "wall s", "peak memory", "CPU s", "down", "rest CPU s", "judged")
    return "\n\n".join(
        (f"# `BENCH=scale`, {found.date}", f"{machine}.\n{versions}.", _verdicts(found), table(titles, rows))
    )


def _row(one: Figure) -> list[str]:
    return [
        one.work,
        seconds(one.wall_s),
        size(one.rss_bytes),
        seconds(one.head_cpu_s + one.node_cpu_s),
        size(one.down_bytes),
        seconds(one.rest_cpu_s),
        "–" if one.differences is None else "DIFFERS" if one.differences else "equal",
    ]


def _verdicts(found: Scaled) -> str:
    by_work = {it.work: it for it in found.figures}
    lines = []
    many = [it for it in found.figures if "files" in it.work]
    if many:
        worst = max(it.rss_bytes for it in many)
        lines.append(f"- most memory with many files: {size(worst)}, at most {size(MEMORY_MAX_BYTES)} wanted")
    first, last = (by_work.get(f"check, {_count(count)}") for count in (STEPS[0], STEPS[-1]))
    if first and last:
        grown = last.node_cpu_s / first.node_cpu_s
        lines.append(
            f"- check of {STEPS[-1] // STEPS[0]} times the files takes {ratio(grown)} times the processor time"
        )
    big = [it for it in found.figures if it.work.endswith("GiB") and it.node_cpu_s]
    if big:
        worst = max(it.rss_bytes for it in big)
        lines.append(f"- most memory on a node with a 4 GiB file: {size(worst)}, {size(NODE_MEMORY_MAX_BYTES)} wanted")
    return "\n".join(lines)


def _many(place: Place, say: Say) -> Iterator[Figure]:
    place.tree.mkdir(parents=True)
    had = 0
    for count in STEPS:
        say(f"making {count - had:,} files")
        _grow(place.tree, had, count)
        had = count
        yield place.commit(f"commit, {_count(count)}")
        yield place.commit(f"commit again, {_count(count)}")
        yield place.on_node(f"bring {_count(count)} about", "--policy", "none")
        yield place.on_node(f"check, {_count(count)}", "--policy", "none")
    say(f"editing {_EDITED_FILES} files")
    for number in random.Random(1).sample(range(had), _EDITED_FILES):
        with _path(place.tree, number).open("ab") as file:
            file.write(b"one line more\n")
    yield place.commit(f"commit {_EDITED_FILES} edits, {_count(had)}")
    versions = [f"{place.image}@{len(STEPS) + more}" for more in (0, 1)]
    yield place.on_head(f"delta of {_EDITED_FILES} edits, {_count(had)}", "delta", *versions)
    yield place.on_node(f"resync {_EDITED_FILES} edits, {_count(had)}", "--policy", "none")


def _big(place: Place, say: Say) -> Iterator[Figure]:
    place.tree.mkdir(parents=True)
    say("making 4 GiB")
    path = place.tree / "big"
    _write_big(path)
    yield place.commit("commit, 4 GiB")
    yield place.on_head("publish, 4 GiB", "publish", "big@1", "stable")
    yield place.on_node("cold, 4 GiB", "--policy", "none")
    rng = random.Random(2)
    with path.open("r+b") as file:
        for _ in range(_BIG_EDITS):
            file.seek(rng.randrange(BIG_BYTES - 64))
            file.write(rng.randbytes(rng.randint(1, 64)))
    yield place.commit("commit 1,000 edits, 4 GiB")
    yield place.on_head("publish 1,000 edits, 4 GiB", "publish", "big@2", "stable")
    yield place.on_node("resync 1,000 edits, 4 GiB", "--policy", "none")
    yield place.on_node("check, 4 GiB", "--policy", "none")
    yield place.on_node("check every byte, 4 GiB", "--policy", "none", "--full")


def _grow(tree: Path, start: int, end: int) -> None:
    rng = random.Random(start)
    for number in range(start, end):
        path = _path(tree, number)
        if number % _FOLDER_FILES == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"%d %s\n" % (number, rng.randbytes(rng.randint(10, 200)).hex().encode()))


def _path(tree: Path, number: int) -> Path:
    folder = number // _FOLDER_FILES
    return tree / f"{folder // 100:03}" / f"{folder % 100:02}" / f"file-{number:07}"


def _write_big(path: Path) -> None:
    rng = random.Random(3)
    with path.open("xb") as file:
        for number in range(BIG_BYTES // _BLOCK_BYTES):
            noise = rng.randbytes(_BLOCK_BYTES // _RANDOM_PART)
            line = b"block %09d of a file that is longer than memory should be\n" % number
            rest = _BLOCK_BYTES - len(noise)
            file.write(noise + (line * (rest // len(line) + 1))[:rest])


def _count(files_: int) -> str:
    return f"{files_:,} files"


def measured(wire: Wire, folder: Path, scratch: Path, results: Path, say: Say) -> Scaled:
    """Run everything; what there is so far is written to `results` after each figure."""
    found = Scaled(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=limits.machine(folder),
        versions=limits.versions(),
        figures=(),
    )
    for one in run(wire, scratch, say):
        say(f"  {one.work}: {one.wall_s:.2f} s, {size(one.rss_bytes)}")
        found = msgspec.structs.replace(found, figures=(*found.figures, one))
        files.atomic_write(results / "scale.json", msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        files.atomic_write(results / "scale.md", page(found).encode() + b"\n")
    return found
