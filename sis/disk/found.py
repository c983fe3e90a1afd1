"""What is on a machine's disks, as values; and the pure reading of what lsblk, sfdisk, blkid and wipefs said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

DiskKind = Literal["virtio", "nvme", "ssd", "hdd", "usb", "loop", "file"]

_DISK_TYPES = ("disk", "loop", "file")
_EXTENDED = ("5", "f", "85")
"""msdos types of a partition that only holds other partitions."""
_TABLE_SIGNATURES = ("gpt", "PMBR", "dos", "atari")


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A signature found: `type` as blkid names it ("ext4", "LVM2_member"), its label and UUID where it has them."""

    type: str
    label: str | None = None
    uuid: str | None = None

    def __str__(self) -> str:
        return f"{self.type} labelled '{self.label}'" if self.label else self.type


class FoundPartition(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a partition table. `type` is the GPT type in upper case, or the msdos type in hex."""

    number: int
    start_bytes: int
    size_bytes: int
    type: str
    label: str = ""
    uuid: str | None = None
    content: Content | None = None


class FoundTable(msgspec.Struct, frozen=True, kw_only=True):
    """A partition table: `label` is gpt, dos, …; `damaged` when one of the two copies of a GPT cannot be read."""

    label: str
    id: str | None = None
    damaged: bool = False
    partitions: tuple[FoundPartition, ...] = ()


class FoundDisk(msgspec.Struct, frozen=True, kw_only=True):
    """One disk, or a loop device or image file that stands for one.

    `links` are its other names below /dev/disk; `contents` are signatures on the whole disk, partition tables
    left out; `users` say what holds it now ("/dev/vda1 is mounted at /boot"), empty when it is free.
    """

    path: str
    kind: DiskKind
    size_bytes: int
    sector_bytes: int = 512
    serial: str | None = None
    model: str | None = None
    links: tuple[str, ...] = ()
    removable: bool = False
    read_only: bool = False
    table: FoundTable | None = None
    contents: tuple[Content, ...] = ()
    users: tuple[str, ...] = ()


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What the programs said about one machine, unchanged: a case in fixtures/disk is one of these in JSON.

    `lsblk` and `loops` hold the rows of `lsblk --json` and `losetup --json`; `tables`, `signatures` and `contents`
    are by disk path: the answer of `sfdisk --json`, the rows of `wipefs --json`, and by partition number the
    variables of `blkid -p`. `damaged` lists the disks where sfdisk warned of a corrupt GPT; `links` maps a name
    below /dev/disk to its device.
    """

    machine: str = ""
    lsblk: tuple[dict[str, Any], ...] = ()
    loops: tuple[dict[str, Any], ...] = ()
    links: dict[str, str] = {}
    tables: dict[str, dict[str, Any]] = {}
    damaged: tuple[str, ...] = ()
    signatures: dict[str, tuple[dict[str, Any], ...]] = {}
    contents: dict[str, dict[str, dict[str, str]]] = {}
    unreadable: dict[str, str] = {}
    """Why a disk could not be looked at, by path."""


def parse(recording: Recording) -> tuple[FoundDisk, ...]:
    """The disks of a recording, in the order of their names (vda, vdb, … vdaa)."""
    disks = [_disk(row, recording) for row in recording.lsblk if is_disk(row)]
    return tuple(sorted(disks, key=lambda disk: _natural(disk.path)))


def is_disk(row: Mapping[str, Any]) -> bool:
    """Whether an lsblk row is a disk that could be installed on: no empty drive, no compressed RAM."""
    name = str(row.get("kname") or "")
    return row.get("type") in _DISK_TYPES and bool(row.get("size")) and not name.startswith(("zram", "ram", "fd"))


def _disk(row: Mapping[str, Any], recording: Recording) -> FoundDisk:
    path = str(row["path"])
    sector_bytes = int(row.get("log-sec") or 512)
    return FoundDisk(
        path=path,
        kind=_kind(row),
        size_bytes=int(row["size"]),
        sector_bytes=sector_bytes,
        serial=_text(row.get("serial")),
        model=_text(row.get("model")),
        links=tuple(sorted(link for link, device in recording.links.items() if device == path)),
        removable=bool(row.get("rm")) or row.get("tran") == "usb",
        read_only=bool(row.get("ro")),
        table=_table(path, sector_bytes, recording),
        contents=tuple(
            Content(type=str(found["type"]), label=_text(found.get("label")), uuid=_text(found.get("uuid")))
            for found in recording.signatures.get(path, ())
            if found.get("type") not in _TABLE_SIGNATURES
        ),
        users=tuple(_users(row, recording)),
    )


def _kind(row: Mapping[str, Any]) -> DiskKind:
    name = str(row.get("kname") or "")
    if row["type"] == "file":
        return "file"
    if row["type"] == "loop":
        return "loop"
    if row.get("tran") == "usb":
        return "usb"
    if name.startswith("nvme"):
        return "nvme"
    if name.startswith("vd"):
        return "virtio"
    return "hdd" if row.get("rota") else "ssd"


def _table(path: str, sector_bytes: int, recording: Recording) -> FoundTable | None:
    answer = recording.tables.get(path)
    if answer is None:
        return None
    told = answer["partitiontable"]
    unit_bytes = int(told.get("sectorsize") or sector_bytes)
    contents = recording.contents.get(path, {})
    partitions = [
        FoundPartition(
            number=partition_number(str(found["node"])),
            start_bytes=int(found["start"]) * unit_bytes,
            size_bytes=int(found["size"]) * unit_bytes,
            type=str(found["type"]).upper() if told["label"] == "gpt" else str(found["type"]),
            label=str(found.get("name") or ""),
            uuid=_text(found.get("uuid")),
            content=_content(contents.get(str(partition_number(str(found["node"]))))),
        )
        for found in told.get("partitions", ())
        if told["label"] != "dos" or found["type"] not in _EXTENDED
    ]
    return FoundTable(
        label=str(told["label"]),
        id=_text(told.get("id")),
        damaged=path in recording.damaged,
        partitions=tuple(sorted(partitions, key=lambda partition: partition.number)),
    )


def _content(told: Mapping[str, str] | None) -> Content | None:
    if not told:
        return None
    if "TYPE" in told:
        return Content(type=told["TYPE"], label=told.get("LABEL"), uuid=told.get("UUID"))
    if "AMBIVALENT" in told:
        return Content(type="several contradicting signatures")
    if "PTTYPE" in told:
        return Content(type=f"a {told['PTTYPE']} partition table")
    return None


def _users(row: Mapping[str, Any], recording: Recording) -> Iterator[str]:
    path = str(row["path"])
    if path in recording.unreadable:
        yield f"{path} cannot be read: {recording.unreadable[path]}"
    for mounted_at in _mountpoints(row):
        yield _use(path, mounted_at)
    for child in row.get("children") or ():
        if child.get("type") == "part":
            yield from _users(child, recording)
        else:
            yield f"{path} belongs to {child['path']} ({child.get('type')})"
    by_path = {str(each["path"]): each for each in recording.lsblk}
    for loop in recording.loops:
        if loop.get("back-file") == path and str(loop["name"]) in by_path:
            yield from _users(by_path[str(loop["name"])], recording)


def _use(path: str, mounted_at: str) -> str:
    return f"{path} is used as swap" if mounted_at == "[SWAP]" else f"{path} is mounted at {mounted_at}"


def _mountpoints(row: Mapping[str, Any]) -> list[str]:
    told = row.get("mountpoints") or [row.get("mountpoint")]
    return [str(each) for each in told if each]


def partition_number(node: str) -> int:
    """3 of "/dev/vda3", "/dev/nvme0n1p3" and "disk.img3"."""
    found = re.search(r"(\d+)$", node)
    assert found is not None, node
    return int(found[1])


def partition_node(disk: str, number: int) -> str:
    """ "/dev/vda3" of "/dev/vda"; a name that ends in a digit gets a "p" between."""
    return f"{disk}p{number}" if disk[-1:].isdigit() else f"{disk}{number}"


def _natural(path: str) -> tuple[int, list[tuple[int, int, str]]]:
    words = re.findall(r"\d+|\D+", path)
    return len(re.sub(r"\d", "", path)), [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in words]


def _text(value: object) -> str | None:
    text = str(value).strip() if value is not None else ""
    return text or None
