"""Which disk a layout means: every condition must hold; a disk that does not fit is named with the reason. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from sis.disk.found import FoundDisk
from sis.disk.model import DiskChoice, Layout
from sis.disk.sizes import size_text
from sis.errors import NotFound, Refused, UsageFault


def choose(layout: Layout, found: Sequence[FoundDisk]) -> list[FoundDisk]:
    """One disk for each entry of the layout, in its order.

    Raises NotFound with every candidate and why it does not fit; Refused when two entries mean the same disk.
    """
    chosen: list[FoundDisk] = []
    for number, wanted in enumerate(layout.disks, 1):
        disk = _chosen(layout, number, wanted.choice, found)
        if disk in chosen:
            raise Refused(
                f"layout {layout.name}: disks {chosen.index(disk) + 1} and {number} both mean {disk.path}",
                hint="tell them apart with 'path', 'serial' or 'size' under 'match'",
            )
        chosen.append(disk)
    return chosen


def on_paths(layout: Layout, paths: Sequence[str]) -> Layout:
    """The layout on given disks, one path for each of its disks, whatever its own conditions say."""
    if len(paths) != len(layout.disks):
        raise UsageFault(f"layout {layout.name} has {len(layout.disks)} disks, {len(paths)} paths were given")
    disks = (
        msgspec.structs.replace(disk, choice=DiskChoice(path=path))
        for disk, path in zip(layout.disks, paths, strict=True)
    )
    return msgspec.structs.replace(layout, disks=tuple(disks))


def _chosen(layout: Layout, number: int, choice: DiskChoice, found: Sequence[FoundDisk]) -> FoundDisk:
    reasons = [(disk, list(_reasons(choice, disk))) for disk in found]
    fitting = [disk for disk, why_not in reasons if not why_not]
    if not fitting:
        raise NotFound(
            f"layout {layout.name}: no disk fits disk {number} ({_words(choice)})",
            details=[f"{disk.path}: {', '.join(why_not)}" for disk, why_not in reasons] or ["no disk was found at all"],
            hint="see: lsblk --output PATH,SIZE,SERIAL,MODEL",
        )
    if choice.pick == "smallest":
        return min(fitting, key=lambda disk: disk.size_bytes)
    if choice.pick == "largest":
        return max(fitting, key=lambda disk: disk.size_bytes)
    return fitting[0]


def _reasons(choice: DiskChoice, disk: FoundDisk) -> Iterator[str]:
    """Why the disk does not fit, each in a few words."""
    if choice.path is not None:
        if choice.path != disk.path and choice.path not in disk.links:
            yield f"is not {choice.path}"
    elif disk.kind in ("loop", "file"):
        yield "a loop device is used only when named by 'path'"
    elif disk.removable and choice.serial is None:
        yield "is removable, so it must be named by 'path' or 'serial'"
    if choice.serial is not None and choice.serial != disk.serial:
        yield f"has serial {disk.serial}" if disk.serial else "has no serial"
    if choice.type is not None and not _is_type(disk, choice.type):
        yield f"is of type {disk.kind}"
    if choice.min_size is not None and disk.size_bytes < choice.min_size:
        yield f"has only {size_text(disk.size_bytes)}"
    if choice.max_size is not None and disk.size_bytes > choice.max_size:
        yield f"has {size_text(disk.size_bytes)}"
    if disk.read_only:
        yield "is read-only"


def _is_type(disk: FoundDisk, wanted: str) -> bool:
    return wanted in ("disk", disk.kind) or (wanted == "ssd" and disk.kind == "nvme")


def _words(choice: DiskChoice) -> str:
    words = []
    if choice.path is not None:
        words.append(f"path {choice.path}")
    if choice.serial is not None:
        words.append(f"serial {choice.serial}")
    if choice.type is not None:
        words.append(f"type {choice.type}")
    if choice.min_size is not None:
        words.append(f"at least {size_text(choice.min_size)}")
    if choice.max_size is not None:
        words.append(f"at most {size_text(choice.max_size)}")
    return ", ".join(words) or "any disk"
