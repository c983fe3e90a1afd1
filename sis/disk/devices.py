"""Block devices of a planned disk: loop devices for image files, and nodes for partitions the kernel did not scan.

Not every kernel reads partition tables (some have no GPT parser at all), and a loop device is often made without
partition scanning. So partitions are told to the kernel one by one (partx), and where even that gives no node, a
loop device over the partition's bytes stands for it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sis.disk.found import partition_node
from sis.disk.planned import PlannedDisk, PlannedPartition
from sis.errors import Locked, NotFound, Refused
from sis.system import process

_SYSFS = Path("/sys/class/block")
_SYSFS_SECTOR_BYTES = 512
_DETACH_WAIT_S = 5.0
_SHOW_TRIES = 10
_SHOW_WAIT_S = 0.2
_UDEV_CONTROL = Path("/run/udev/control")


@contextlib.contextmanager
def whole_disk(disk: PlannedDisk) -> Iterator[str]:
    """A block device for the disk: itself, or a loop device over an image file, detached when the block is left.

    Loop devices that a killed run left over the same file are detached first: two over one file do not see each
    other's writes. Raises Refused when the disk is in use, Locked when another run works on the image file.
    """
    if is_block_device(disk.path):
        _refuse_used(disk.path, disk.path)
        yield disk.path
        return
    with locked(disk.path):
        for loop in loops_over(disk.path):
            _refuse_used(loop, disk.path)
            _detach(loop)
        loop = _attach(disk.path, "--sector-size", str(disk.sector_bytes))
        try:
            yield loop
        finally:
            _detach(loop)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold a disk or image file against a second run, and against udev, which leaves a locked disk alone.

    Raises Locked.
    """
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Locked(f"{path} is being worked on by another program", hint="wait for it to end") from error
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def partition_devices(device: str, partitions: Sequence[PlannedPartition]) -> Iterator[dict[str, str]]:
    """Block devices of the partitions by label, as long as the block lasts; the table is already on `device`."""
    with contextlib.ExitStack() as stack:
        if _show(device, partitions, stack):
            yield {each.label: partition_node(device, each.number) for each in partitions}
        else:
            yield {each.label: stack.enter_context(_window(device, each)) for each in partitions}


def partition_device(disk: PlannedDisk, partition: PlannedPartition) -> str:
    """The device that now stands for a partition, while `partition_devices` holds it. Raises NotFound."""
    for device in (disk.path, *loops_over(disk.path)):
        node = partition_node(device, partition.number)
        if is_block_device(node) and _is_at(node, partition):
            return node
        for loop in loops_over(device, partition.start_bytes):
            return loop
    raise NotFound(f"no device for partition {partition.number} '{partition.label}' of {disk.path}")


def disk_device(disk: PlannedDisk) -> str:
    """The block device that now stands for the disk, or the image file itself."""
    if not is_block_device(disk.path):
        for loop in loops_over(disk.path):
            return loop
    return disk.path


def settle() -> None:
    """Wait until udev has looked at what changed, where udev runs."""
    if _UDEV_CONTROL.exists():
        process.run(["udevadm", "settle", "--timeout=30"], check=False)


def is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def loops_over(path: str, offset_bytes: int = 0) -> list[str]:
    """The loop devices over `path` that begin at `offset_bytes`."""
    answer = process.run(["losetup", "--json", "--list", "--output", "NAME,OFFSET", "--associated", path], check=False)
    rows = json.loads(answer.stdout)["loopdevices"] if answer.returncode == 0 and answer.stdout.strip() else []
    return [str(row["name"]) for row in rows if int(row["offset"]) == offset_bytes]


@contextlib.contextmanager
def _window(device: str, partition: PlannedPartition) -> Iterator[str]:
    place = ("--offset", str(partition.start_bytes), "--sizelimit", str(partition.size_bytes))
    for left in loops_over(device, partition.start_bytes):
        _detach(left)
    loop = _attach(device, *place)
    try:
        yield loop
    finally:
        _detach(loop)


def _attach(path: str, *options: str) -> str:
    return process.run(["losetup", "--find", "--show", *options, path]).stdout.strip()


def _detach(loop: str) -> None:
    """Detach, and wait for it: the kernel only does so once the last mount on it is gone for good."""
    shown = _SYSFS / os.path.basename(loop) / "loop" / "backing_file"
    backing = _read(shown)
    process.run(["partx", "--delete", loop], check=False)
    process.run(["losetup", "--detach", loop])
    deadline = time.monotonic() + _DETACH_WAIT_S
    while backing is not None and _read(shown) == backing and time.monotonic() < deadline:
        time.sleep(0.02)


def _refuse_used(device: str, path: str) -> None:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise Refused(f"{path} cannot be written: {error.strerror}") from error
        raise Refused(f"{path} is in use", hint="something on it is mounted or held; see: lsblk") from error


def _show(device: str, partitions: Sequence[PlannedPartition], stack: contextlib.ExitStack) -> bool:
    """Have the kernel show the partitions until `stack` is left; False when it cannot.

    udev opens disks when it likes, which may be in the way for a moment: then it is tried again.
    """
    for attempt in range(_SHOW_TRIES if _UDEV_CONTROL.exists() else 1):
        if attempt:
            time.sleep(_SHOW_WAIT_S)
        added = not _kernel_knows(device, partitions)
        if added:
            process.run(["partx", "--delete", device], check=False)
            process.run(["partx", "--add", device], check=False)
        if _hold(device, partitions, stack, forget=added and os.path.basename(device).startswith("loop")):
            return True
    return False


def _hold(device: str, partitions: Sequence[PlannedPartition], stack: contextlib.ExitStack, *, forget: bool) -> bool:
    """Keep the partitions' nodes open: udev reads a table again whenever a disk was written, and while it does,
    partitions nobody has open are gone for a moment."""
    with contextlib.ExitStack() as handles:
        if forget:
            handles.callback(process.run, ["partx", "--delete", device], check=False)
        for each in partitions:
            try:
                handle = os.open(partition_node(device, each.number), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return False
            handles.callback(os.close, handle)
        if not _kernel_knows(device, partitions):
            return False
        stack.enter_context(handles.pop_all())
    return True


def _kernel_knows(device: str, partitions: Sequence[PlannedPartition]) -> bool:
    name = os.path.basename(os.path.realpath(device))
    shown = {each.name for each in (_SYSFS / name).glob(f"{name}*") if (each / "partition").exists()}
    nodes = [partition_node(os.path.realpath(device), each.number) for each in partitions]
    return shown == {os.path.basename(node) for node in nodes} and all(
        is_block_device(node) and _is_at(node, each) for node, each in zip(nodes, partitions, strict=True)
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _is_at(node: str, partition: PlannedPartition) -> bool:
    shown = _SYSFS / os.path.basename(node)
    try:
        start, size = (int((shown / name).read_text()) * _SYSFS_SECTOR_BYTES for name in ("start", "size"))
    except OSError:
        return False
    return (start, size) == (partition.start_bytes, partition.size_bytes)
