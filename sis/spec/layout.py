"""Disk layouts: which disks a node uses, their partitions, file systems and mounts (imagespecs/disks/*.yaml)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema, model_validator

from sis.spec import search as spec_search
from sis.spec import yamlio
from sis.spec.model import AbsolutePath, Console, Flag, Name, Reading, SizeBytes, Spec, Text, said, size_bytes
from sis.spec.places import Fault, Path, Place, dotted

Role = Literal["bios-boot", "esp", "swap", "root", "data"]
FileSystem = Literal["ext4", "xfs", "vfat", "swap", "none"]
DiskType = Literal["disk", "nvme", "ssd", "hdd", "virtio"]

_FILESYSTEM_OF: dict[str, FileSystem] = {
    "bios-boot": "none",
    "esp": "vfat",
    "swap": "swap",
    "root": "ext4",
    "data": "ext4",
}
_MOUNT_OF = {"root": "/", "esp": "/boot/efi"}
_ALLOWED: dict[Role, tuple[FileSystem, ...]] = {
    "bios-boot": ("none",),
    "esp": ("vfat",),
    "swap": ("swap",),
    "root": ("ext4", "xfs"),
    "data": ("ext4", "xfs", "vfat"),
}
_LEAST_BYTES: dict[FileSystem, int] = {"xfs": 300 * 1024**2, "vfat": 33 * 1024**2, "ext4": 16 * 1024**2}
_MAX_LABEL = 36


def _size_or_grow(value: object) -> object:
    if value == "grow":
        return None
    if isinstance(value, str) and not value[:1].isdigit():
        raise ValueError(f"must be a size such as 512M, or grow, not '{value}'")
    return value


_BOUND = re.compile(r"(>=|<=)\s*(\S+)")


class SizeRange(Spec):
    """Bounds of a disk's size in bytes; None is unbounded."""

    least: int | None = None
    most: int | None = None


def _range(value: object) -> object:
    bounds = re.findall(r"(?:>=|<=)\s*\S+", value) if isinstance(value, str) else []
    if not isinstance(value, str) or not bounds or re.sub(r"(?:>=|<=)\s*\S+", "", value).strip():
        raise ValueError(f"must be '>=SIZE', '<=SIZE' or both, such as '>=200G <=4T', not {said(value)}")
    found: dict[str, int] = {}
    for bound in bounds:
        sign, size = _BOUND.fullmatch(bound).groups()  # type: ignore[union-attr]  # findall matched the same shape
        found["least" if sign == ">=" else "most"] = size_bytes(size)
    return found


class DiskMatch(Spec):
    """Conditions that must all hold for a disk; `pick` decides among those that fit."""

    path: AbsolutePath | None = None
    serial: Text | None = None
    type: DiskType | None = None
    size: Annotated[SizeRange, BeforeValidator(_range), WithJsonSchema({"type": "string"})] = SizeRange()
    pick: Literal["first", "smallest", "largest"] = "first"


class PartitionSpec(Spec):
    """One partition, in on-disk order. What is not written is filled in from its role."""

    role: Role
    size: Annotated[SizeBytes | None, BeforeValidator(_size_or_grow), WithJsonSchema({"type": ["string", "integer"]})]
    """Bytes, or None for `grow`: what is left of the disk."""
    filesystem: FileSystem
    mount: AbsolutePath | None = None
    options: Text = "defaults"
    label: Annotated[Text, Field(max_length=_MAX_LABEL, pattern=r"^[A-Za-z0-9._-]+$")]
    keep: Flag = False

    @model_validator(mode="before")
    @classmethod
    def _from_role(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        role, mount = str(given.get("role")), given.get("mount")
        tail = mount.strip("/").replace("/", "-") if role == "data" and isinstance(mount, str) else ""
        filled: dict[str, Any] = {
            "filesystem": _FILESYSTEM_OF.get(role, "none"),
            "label": f"sis-{tail or role}"[:_MAX_LABEL],
        }
        if role in _MOUNT_OF:
            filled["mount"] = _MOUNT_OF[role]
        return {**filled, **given}


class DiskSpec(Spec):
    """One disk: how it is chosen and what becomes of it."""

    match: DiskMatch = DiskMatch()
    wipe: Literal["if-ours", "always"] = "if-ours"
    partitions: Annotated[tuple[PartitionSpec, ...], Field(min_length=1)]


class LayoutSpec(Spec):
    """A node's disks."""

    layout: Name
    disks: Annotated[tuple[DiskSpec, ...], Field(min_length=1)]
    kernel_cmdline: Text = ""
    serial_console: Console | None = None
    """For example `ttyS0,115200`."""

    _document: yamlio.Document = PrivateAttr()

    def place(self, *path: str | int) -> Place:
        """Where the value at `path` (such as "disks", 0, "partitions", 2) is written."""
        return self._document.place(path)


def load(name_or_path: str | FilePath, *, search: Sequence[FilePath] | None = None) -> LayoutSpec:
    """Read a layout by name (`<folder>/disks/<name>.yaml` of the spec folders) or path.

    Raises NotFound with near names, SpecInvalid with every fault.
    """
    places = [folder / "disks" for folder in (spec_search.folders() if search is None else search)]
    path = spec_search.find("disk layout", str(name_or_path), places)
    faults: list[Fault] = []
    document = yamlio.load(path, faults)
    reading = Reading[LayoutSpec](document, faults=faults)
    spec = reading.finish(LayoutSpec, _one_root, _one_grows, _boots, _partitions_hold, _unique)
    spec._document = document
    return spec


def _each(spec: LayoutSpec) -> Iterator[tuple[Path, PartitionSpec]]:
    for at, disk in enumerate(spec.disks):
        for below, partition in enumerate(disk.partitions):
            yield ("disks", at, "partitions", below), partition


def _one_root(spec: LayoutSpec) -> Iterator[tuple[Path, str]]:
    roots = [path for path, partition in _each(spec) if partition.role == "root"]
    if not roots:
        yield ("disks",), "no partition has role root"
    for path in roots[1:]:
        yield (*path, "role"), "a second root; there is exactly one"


def _one_grows(spec: LayoutSpec) -> Iterator[tuple[Path, str]]:
    for at, disk in enumerate(spec.disks):
        growing = [below for below, partition in enumerate(disk.partitions) if partition.size is None]
        for below in growing[1:]:
            yield ("disks", at, "partitions", below, "size"), "a second partition that grows; one a disk can"


def _boots(spec: LayoutSpec) -> Iterator[tuple[Path, str]]:
    for at, disk in enumerate(spec.disks):
        roles = {partition.role for partition in disk.partitions}
        if "root" in roles and not roles & {"bios-boot", "esp"}:
            yield (
                ("disks", at, "partitions"),
                "nothing boots it; add a partition with role bios-boot (BIOS) or esp (UEFI)",
            )


def _partitions_hold(spec: LayoutSpec) -> Iterator[tuple[Path, str]]:
    for path, partition in _each(spec):
        role, filesystem = partition.role, partition.filesystem
        if filesystem not in _ALLOWED[role]:
            yield (*path, "filesystem"), f"must be {' or '.join(_ALLOWED[role])} for role {role}, not '{filesystem}'"
        elif partition.size is not None and partition.size < _LEAST_BYTES.get(filesystem, 1):
            yield (*path, "size"), f"too small for {filesystem}, which needs {_LEAST_BYTES[filesystem] // 1024**2}M"
        if role == "root" and partition.mount != "/":
            yield (*path, "mount"), f"must be / for role root, not '{partition.mount}'"
        if role in ("bios-boot", "swap") and partition.mount is not None:
            yield (*path, "mount"), f"a partition with role {role} is not mounted"
        if role == "data" and partition.mount is None:
            yield path, "'mount' is missing"
        if partition.keep and role != "data":
            yield (*path, "keep"), f"only a data partition can be kept, not one with role {role}"


def _unique(spec: LayoutSpec) -> Iterator[tuple[Path, str]]:
    labels: dict[str, Path] = {}
    mounts: dict[str, Path] = {}
    for path, partition in _each(spec):
        for what, value, seen in (("label", partition.label, labels), ("mount", partition.mount, mounts)):
            if value is None:
                continue
            if value in seen:
                yield (*path, what), f"{what} '{value}' is used twice (also by {dotted(seen[value])})"
            else:
                seen[value] = path
