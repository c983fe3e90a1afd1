"""What becomes of a node's disks, as a frozen value: a DiskPlan that tells itself in words and in commands.

A partition whose file system is not finished bears its label with ".new" behind; the final label is put on last.
So whoever finds a partition with its final label finds a whole file system in it, wherever an install was cut.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Literal

import msgspec

from sis.disk.model import FileSystem, Role
from sis.disk.sizes import size_text

Action = Literal["create", "format", "reuse", "keep"]
"""create: a new partition · format: it is there, its file system is made afresh · reuse: it is there with its file
system, content included · keep: told to keep it, never touched."""

TABLE_PROGRAM = ("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", "--wipe-partitions=never")

_ACTION_WORDS: dict[Action, str] = {
    "create": "create",
    "format": "format",
    "reuse": "use as it is",
    "keep": "keep, not touched",
}

UNFINISHED = ".new"
NAME_CHARS_MAX = 36
"""The longest name GPT gives a partition."""


class PlannedPartition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition as it will be. `mkfs` is the program that makes its file system, () when none is made."""

    number: int
    label: str
    role: Role
    filesystem: FileSystem
    start_bytes: int
    size_bytes: int
    type: str
    uuid: str | None
    mount: str | None
    options: str
    node: str
    """Where the kernel shows it when it scans partitions; `mkfs` names it so."""
    action: Action
    mkfs: tuple[str, ...] = ()

    @property
    def unfinished_label(self) -> str:
        """The name it bears while its file system is being made."""
        return unfinished(self.label)

    @property
    def end_bytes(self) -> int:
        return self.start_bytes + self.size_bytes


class PlannedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """One disk as it will be.

    `script` is what sfdisk is given, "" when the table stays as it is; `clear` are the (offset, length) ranges in
    bytes that are zeroed before, so that no old signature shows up in a new partition; `lost` says what is given up.
    """

    path: str
    kind: str
    size_bytes: int
    sector_bytes: int
    serial: str | None
    model: str | None
    script: str
    clear: tuple[tuple[int, int], ...]
    partitions: tuple[PlannedPartition, ...]
    lost: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        return bool(self.script) or any(partition.mkfs for partition in self.partitions)


class DiskPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `apply` will do to a node's disks, and nothing else."""

    layout: str
    disks: tuple[PlannedDisk, ...]

    @property
    def changes(self) -> bool:
        return any(disk.changes for disk in self.disks)

    def describe(self) -> list[str]:
        """The plan in words, a line each: what a dry run prints."""
        lines: list[str] = []
        for disk in self.disks:
            named = [disk.kind, disk.model, f"serial {disk.serial}" if disk.serial else None]
            title = f"{disk.path}  {size_text(disk.size_bytes)}  {', '.join(word for word in named if word)}"
            lines.append(f"{title}: {_table_words(disk)}")
            lines += [f"  lost: {what}" for what in disk.lost]
            lines += [f"  {line}" for line in _columns([_row(partition) for partition in disk.partitions])]
        return lines

    def commands(self) -> list[str]:
        """The programs `apply` will run, as lines for a shell; sfdisk's script as a here-document."""
        lines: list[str] = []
        for disk in self.disks:
            if disk.script:
                argv = (*TABLE_PROGRAM, disk.path)
                lines += [f"{shlex.join(argv)} <<END", *disk.script.splitlines(), "END"]
            lines += [shlex.join(partition.mkfs) for partition in disk.partitions if partition.mkfs]
        return lines


def unfinished(label: str) -> str:
    """The partition name that says: the file system for `label` is not finished."""
    return label[: NAME_CHARS_MAX - len(UNFINISHED)] + UNFINISHED


def _table_words(disk: PlannedDisk) -> str:
    if disk.script:
        renewed = any(partition.action == "create" for partition in disk.partitions)
        return "a new GPT partition table" if renewed else "the damaged partition table is written again"
    return "the partition table stays" if disk.changes else "nothing to do"


def _row(partition: PlannedPartition) -> tuple[str, ...]:
    return (
        str(partition.number),
        partition.label,
        size_text(partition.size_bytes),
        f"at {size_text(partition.start_bytes)}",
        "-" if partition.filesystem == "none" else partition.filesystem,
        partition.mount or "-",
        _ACTION_WORDS[partition.action],
    )


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
