"""Disks for tests: layouts and recordings of fixtures/disk, image files, and the proof that nothing is left behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sis.disk.choose import on_paths
from sis.disk.found import FoundDisk, Recording, parse
from sis.disk.model import Layout
from sis.disk.plan import make_plan
from sis.disk.planned import DiskPlan, PlannedPartition
from sis.disk.probe import found_disks
from sis.disk.translate import layout_from_spec
from sis.spec import layout as layout_spec
from sis.system import process

_BLOCK_BYTES = 1 << 16
FIXTURES = Path(__file__).parent.parent / "fixtures" / "disk"


def layout(name: str, *paths: Path) -> Layout:
    """A layout of fixtures/disk, on the given image files."""
    read = layout_from_spec(layout_spec.load(FIXTURES / "layouts" / f"{name}.yaml"))
    return on_paths(read, [str(path.resolve()) for path in paths]) if paths else read


def machine(name: str) -> tuple[FoundDisk, ...]:
    """The disks of a recorded machine."""
    text = (FIXTURES / "machines" / f"{name}.json").read_bytes()
    return parse(msgspec.json.decode(text, type=Recording))


def image(path: Path, size_bytes: int) -> Path:
    """A sparse image file."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


def plan_for(name: str, path: Path, *, fresh: bool = False, allow_foreign: bool = False) -> DiskPlan:
    """The plan for a layout of one disk on an image file as it is now."""
    return make_plan(layout(name, path), found_disks([path]), fresh=fresh, allow_foreign=allow_foreign)


def actions(plan: DiskPlan) -> dict[str, str]:
    """What happens to each partition, by label."""
    return {partition.label: partition.action for disk in plan.disks for partition in disk.partitions}


def partition(plan: DiskPlan, label: str) -> PlannedPartition:
    return next(each for disk in plan.disks for each in disk.partitions if each.label == label)


def digest(path: Path, part: PlannedPartition) -> str:
    """SHA-256 of what a partition holds in an image file: its blocks that are not zero, with their places."""
    total = hashlib.sha256()
    handle = os.open(path, os.O_RDONLY)
    try:
        at = part.start_bytes
        while True:
            try:
                at = os.lseek(handle, at, os.SEEK_DATA) // _BLOCK_BYTES * _BLOCK_BYTES
            except OSError:
                break
            if at >= part.end_bytes:
                break
            block = os.pread(handle, _BLOCK_BYTES, at)
            if at >= part.start_bytes and block.count(0) != len(block):
                total.update(at.to_bytes(8, "little") + block)
            at += _BLOCK_BYTES
    finally:
        os.close(handle)
    return total.hexdigest()


@contextlib.contextmanager
def nothing_left_behind(folder: Path) -> Iterator[None]:
    """Fails when, after the block, a mount or a loop device still uses something below `folder`."""
    yield
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]
    loops = [f"{name} over {backing}" for name, backing in _loops().items() if _leads_to(backing, folder)]
    assert (mounts, loops) == ([], [])


def _loops() -> dict[str, str]:
    answer = process.run(["losetup", "--json", "--list", "--output", "NAME,BACK-FILE"]).stdout
    rows = json.loads(answer)["loopdevices"] if answer.strip() else []
    return {row["name"]: row["back-file"] or "" for row in rows}


def _leads_to(backing: str, folder: Path) -> bool:
    loops = _loops()
    while backing in loops:
        backing = loops[backing]
    return backing.startswith(str(folder))
