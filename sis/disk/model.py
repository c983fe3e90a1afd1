"""The nouns of disks as values the node can hold without pydantic: Layout, DiskChoice, Partition."""

from __future__ import annotations

from typing import Literal

import msgspec

Role = Literal["bios-boot", "esp", "swap", "data", "root"]
FileSystem = Literal["ext4", "xfs", "vfat", "swap", "none"]


class DiskChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which disk: every given condition must hold; among several candidates `pick` decides.

    `path` /dev/… or /dev/disk/by-…; `serial` exact; `type` as found by facts; sizes in bytes.
    """

    path: str | None = None
    serial: str | None = None
    type: Literal["disk", "nvme", "ssd", "hdd", "virtio"] | None = None
    min_size: int | None = None
    max_size: int | None = None
    pick: Literal["smallest", "largest", "first"] = "first"


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition, in on-disk order. `size` in bytes, or None: grow into what is left (at most one a disk).

    `label` is the GPT partition name (default "sis-<role>", for data "sis-<mount with dashes>"), unique in a layout:
    file systems are found as PARTLABEL=<label>. `keep` partitions are never formatted when they already exist.
    """

    role: Role
    label: str
    filesystem: FileSystem
    size: int | None = None
    mount: str | None = None
    options: str = "defaults"
    keep: bool = False


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    choice: DiskChoice
    partitions: tuple[Partition, ...]
    wipe: Literal["if-ours", "always"] = "if-ours"
    """`if-ours`: refuse a disk with content not made by sis; `always`: told so by the admin."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """A whole node's disks. Exactly one partition has role root."""

    name: str
    disks: tuple[Disk, ...]
    kernel_cmdline: str = ""
    serial_console: str | None = None
    """For example "ttyS0,115200": kernel and GRUB both use it."""
