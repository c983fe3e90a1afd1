"""The file systems of a DiskPlan mounted below a directory, and the lines they become in fstab."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sis.disk import devices
from sis.disk.model import Layout, Partition
from sis.disk.planned import DiskPlan, PlannedPartition
from sis.errors import NotFound, ProgramFailed
from sis.system import process

_SYSTEM = ("/dev", "/proc", "/sys")
_BUSY_TRIES = 25
_BUSY_WAIT_S = 0.2


class FstabMount(NamedTuple):
    """One line of fstab."""

    source: str
    path: str
    filesystem: str
    options: str
    dump: int
    passno: int


def fstab_mounts(layout: Layout) -> tuple[FstabMount, ...]:
    """The lines a node's fstab has for its layout: file systems in the order they are mounted, then swap.

    The EFI system partition is `nofail`: nothing that runs needs it.
    """
    partitions = [partition for disk in layout.disks for partition in disk.partitions]
    mounted = sorted((each for each in partitions if each.mount), key=lambda each: _depth(each.mount))
    swaps = [each for each in partitions if each.role == "swap"]
    return (*(_fstab_mount(each) for each in mounted), *(_fstab_swap(each) for each in swaps))


@contextlib.contextmanager
def mounted(plan: DiskPlan, target: Path, *, bind_system: bool = False) -> Iterator[Path]:
    """The plan's file systems mounted below `target`, the root first; unmounted in reverse, also after errors.

    The EFI system partition stays unmounted: it is not part of the tree, the boot loader writes it itself (and the
    installer's kernel need not know vfat). `bind_system` adds /dev, /proc and /sys for programs that run in there.

    Raises ProgramFailed when a file system cannot be mounted, or is still busy after some seconds (it is then
    detached as soon as whoever holds it lets go).
    """
    devices.settle()
    with contextlib.ExitStack() as stack:
        sources: list[tuple[PlannedPartition, str]] = []
        for disk in plan.disks:
            device = stack.enter_context(devices.whole_disk(disk))
            nodes = stack.enter_context(devices.partition_devices(device, disk.partitions))
            sources += [(each, nodes[each.label]) for each in disk.partitions if _belongs_to_tree(each)]
        for partition, source in sorted(sources, key=lambda pair: _depth(pair[0].mount)):
            assert partition.mount is not None
            place = target / partition.mount.lstrip("/")
            _mount(["-t", partition.filesystem, "-o", partition.options, source], place, stack)
        if bind_system:
            for path in _SYSTEM:
                _mount(["--rbind", "--make-rslave", path], target / path.lstrip("/"), stack)
        yield target


def release(target: Path) -> None:
    """Unmount everything at and below `target`, the last mounted first: what a killed run left behind."""
    for place in reversed(mounted_below(target)):
        _unmount(place)


def mounted_below(target: Path) -> list[Path]:
    """Mount points at and below `target`, in the order they were mounted."""
    real = os.path.realpath(target)
    return [Path(place) for place, _ in _mount_table() if place == real or place.startswith(real.rstrip("/") + "/")]


def source_of(place: Path) -> str:
    """The device mounted at `place`. Raises NotFound when nothing is mounted there."""
    real = os.path.realpath(place)
    for mounted_at, source in reversed(_mount_table()):
        if mounted_at == real:
            return source
    raise NotFound(f"nothing is mounted at {place}")


def _mount_table() -> list[tuple[str, str]]:
    """(mount point, source) of every mount, in the order they were mounted."""
    table = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        table.append((_unescaped(before.split(" ")[4]), _unescaped(after.split(" ")[1])))
    return table


def _belongs_to_tree(partition: PlannedPartition) -> bool:
    return partition.mount is not None and partition.role != "esp"


def _mount(options: Sequence[str], place: Path, stack: contextlib.ExitStack) -> None:
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    process.run(["mount", *options, place])
    stack.callback(_unmount_all, place)


def _unmount_all(place: Path) -> None:
    """The mount at `place` and whatever came to be mounted below it."""
    release(place)


def _unmount(place: Path) -> None:
    for _ in range(_BUSY_TRIES):
        answer = process.run(["umount", place], check=False)
        if answer.returncode == 0 or "not mounted" in answer.stderr:
            return
        time.sleep(_BUSY_WAIT_S)
    process.run(["umount", "--lazy", place], check=False)
    raise ProgramFailed(answer.argv, answer.returncode, answer.stdout + answer.stderr, hint=f"see: fuser -vm {place}")


def _depth(path: str | None) -> tuple[int, str]:
    words = [word for word in (path or "").split("/") if word]
    return len(words), "/".join(words)


def _unescaped(field: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field


def _fstab_mount(partition: Partition) -> FstabMount:
    assert partition.mount is not None
    options = partition.options
    if partition.role == "esp" and "nofail" not in options.split(","):
        options = f"{options},nofail"
    passno = 0
    if partition.filesystem == "ext4":
        passno = 1 if partition.mount == "/" else 2
    return FstabMount(f"PARTLABEL={partition.label}", partition.mount, partition.filesystem, options, 0, passno)


def _fstab_swap(partition: Partition) -> FstabMount:
    options = "sw" if partition.options == "defaults" else partition.options
    return FstabMount(f"PARTLABEL={partition.label}", "none", "swap", options, 0, 0)
