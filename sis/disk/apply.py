"""Do what a DiskPlan says. Cut anywhere, planning and applying again ends in the same disks."""

from __future__ import annotations

import os
from collections.abc import Callable

from sis.disk import devices, unready
from sis.disk.planned import TABLE_PROGRAM, DiskPlan, PlannedDisk
from sis.errors import NotFound
from sis.system import process

Observe = Callable[[str], None]

PROGRAMS = {
    "sfdisk": "fdisk",
    "partx": "util-linux",
    "losetup": "util-linux",
    "blkid": "util-linux",
    "mount": "mount",
    "mkswap": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "grub-mkimage": "grub-common",
}
"""What this room runs, and the Debian package it comes in: an installer must bring them all."""

_ALWAYS = ("sfdisk", "partx", "losetup", "blkid", "mount")

_MKFS_TIMEOUT_S = 1800.0


def _silent(_: str) -> None:
    """Nobody watches."""


def apply(plan: DiskPlan, *, observe: Observe = _silent) -> None:
    """Bring the disks to what the plan says; `observe` gets a line before each step.

    The plan must have been made from the disks as they are now. Raises Refused when a disk is in use by now,
    Locked when another run works on it, NotFound when a program is missing (nothing is changed then), ProgramFailed
    when one fails.
    """
    _check_programs(plan)
    for disk in plan.disks:
        if disk.changes:
            _apply(disk, observe)
    devices.settle()


def needed_programs(plan: DiskPlan) -> tuple[str, ...]:
    """The programs this plan, mounting it and its boot loader take."""
    needed = set(_ALWAYS)
    for disk in plan.disks:
        for partition in disk.partitions:
            needed.update(partition.mkfs[:1])
            if partition.role in ("bios-boot", "esp"):
                needed.add("grub-mkimage")
            if partition.role == "esp":
                needed.add("mcopy")
    return tuple(sorted(needed))


def _check_programs(plan: DiskPlan) -> None:
    missing = [program for program in needed_programs(plan) if process.find(program) is None]
    if missing:
        packages = sorted({PROGRAMS[program] for program in missing if program in PROGRAMS})
        raise NotFound(f"programs are missing: {', '.join(missing)}", hint=f"install {' '.join(packages)}")


def _apply(disk: PlannedDisk, observe: Observe) -> None:
    with devices.whole_disk(disk) as device, devices.locked(device):
        if not disk.script:
            _mark_unfinished(disk, device, observe)
        _clear_signatures(disk, device, observe)
        if disk.script:
            _write_table(disk, device, observe)
        if unready.is_booted_by_bios(disk):
            unready.mark(device)
        _make_filesystems(disk, device, observe)


def _mark_unfinished(disk: PlannedDisk, device: str, observe: Observe) -> None:
    for partition in disk.partitions:
        if partition.mkfs:
            observe(f"mark {partition.label} on {disk.path} as unfinished")
            _name(device, partition.number, partition.unfinished_label)


def _clear_signatures(disk: PlannedDisk, device: str, observe: Observe) -> None:
    if not disk.clear:
        return
    observe(f"clear old signatures on {disk.path}")
    handle = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for offset, length in disk.clear:
            written = 0
            while written < length:
                written += os.pwrite(handle, bytes(length - written), offset + written)
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_table(disk: PlannedDisk, device: str, observe: Observe) -> None:
    observe(f"write the partition table of {disk.path}")
    process.run([*TABLE_PROGRAM, device], stdin=disk.script)


def _make_filesystems(disk: PlannedDisk, device: str, observe: Observe) -> None:
    with devices.partition_devices(device, disk.partitions) as nodes:
        for partition in disk.partitions:
            if not partition.mkfs:
                continue
            observe(f"make {partition.filesystem} on {partition.label}")
            node = nodes[partition.label]
            process.run(
                [node if word == partition.node else word for word in partition.mkfs], timeout_s=_MKFS_TIMEOUT_S
            )
            _flush(node)
            observe(f"name {partition.label} on {disk.path}")
            _name(device, partition.number, partition.label)


def _name(device: str, number: int, label: str) -> None:
    process.run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--part-label", device, str(number), label])


def _flush(node: str) -> None:
    handle = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
