"""The programs that make file systems, and the labels these can hold."""

from __future__ import annotations

from sis.disk.model import FileSystem, Partition
from sis.disk.planned import NAME_CHARS_MAX
from sis.disk.sizes import MIB


def mkfs(partition: Partition, size_bytes: int, node: str, *, boot: bool) -> tuple[str, ...]:
    """The program that makes the file system. `boot`: GRUB reads it, so it has only features GRUB knows."""
    label = filesystem_label(partition.label, partition.filesystem)
    match partition.filesystem:
        case "ext4":
            lazy = ("-E", "lazy_itable_init=1,lazy_journal_init=1")
            plain = ("-O", "^metadata_csum_seed") if boot else ()
            return ("mkfs.ext4", "-q", "-F", "-L", label, *lazy, *plain, node)
        case "xfs":
            return ("mkfs.xfs", "-q", "-f", "-L", label, node)
        case "vfat":
            wide = ("-F", "32") if size_bytes > 33 * MIB else ()
            return ("mkfs.vfat", *wide, "-n", label, node)
        case "swap":
            return ("mkswap", "-f", "-L", label, node)
        case "none":
            return ()


def filesystem_label(label: str, filesystem: FileSystem) -> str:
    """The partition's label as far as the file system can hold it: ext4 16 bytes, swap 15, xfs 12, vfat 11."""
    if filesystem == "vfat":
        return label.upper().replace(".", "_")[:11]
    return label[: {"ext4": 16, "swap": 15, "xfs": 12, "none": NAME_CHARS_MAX}[filesystem]]
