"""Numbers of disks: alignment, what a GPT takes, partition types, least sizes of file systems, sizes in words."""

from __future__ import annotations

from sis.disk.model import FileSystem, Role

MIB = 1 << 20

GPT_TYPES: dict[Role, str] = {
    "bios-boot": "21686148-6449-6E6F-744E-656564454649",
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "swap": "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
    "data": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "root": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
}

_GPT_ENTRIES_BYTES = 128 * 128
_LEAST_BYTES: dict[FileSystem, int] = {
    "xfs": 300 * MIB,
    "vfat": 34 * MIB,
    "ext4": 16 * MIB,
    "swap": MIB,
    "none": MIB,
}


def gpt_backup_bytes(sector_bytes: int) -> int:
    """What the second copy of a GPT takes at the end of a disk: 128 entries of 128 bytes and one header sector."""
    return -(-_GPT_ENTRIES_BYTES // sector_bytes) * sector_bytes + sector_bytes


def least_bytes(filesystem: FileSystem) -> int:
    """The smallest partition the file system's mkfs accepts."""
    return _LEAST_BYTES[filesystem]


def size_text(size_bytes: int) -> str:
    """ "20 GiB", "512 MiB", "1.5 TiB": one decimal, left out when it says nothing."""
    value = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def mib_text(size_bytes: int) -> str:
    """ "20484 MiB": for sizes that are compared, where "20 GiB" would hide the difference."""
    return f"{size_bytes / MIB:.2f}".rstrip("0").removesuffix(".") + " MiB"
