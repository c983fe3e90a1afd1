"""Layout × disks found → a frozen DiskPlan: which disk, which sectors, what is made and what is left alone. Pure.

A partition whose file system is not finished bears its label with ".new" behind; the final label is put on last.
So whoever finds a partition with its final label finds a whole file system in it, wherever an install was cut.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from sis.disk.choose import choose
from sis.disk.found import Content, FoundDisk, FoundPartition, partition_node
from sis.disk.model import Disk, FileSystem, Layout, Partition, Role
from sis.disk.sizes import GPT_TYPES, MIB, gpt_backup_bytes, least_bytes, mib_text, size_text
from sis.errors import Refused

Action = Literal["create", "format", "reuse", "keep"]
"""create: a new partition · format: it is there, its file system is made afresh · reuse: it is there with its file
system, content included · keep: told to keep it, never touched."""

OUR_PREFIX = "sis-"
_UNFINISHED = ".new"
_MAX_NAME = 36
_CLEARED_BYTES = MIB


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


TABLE_PROGRAM = ("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", "--wipe-partitions=never")


def make_plan(
    layout: Layout, found: Sequence[FoundDisk], *, allow_foreign: bool = False, fresh: bool = False
) -> DiskPlan:
    """Decide what becomes of the disks found.

    By default partitions that are already as wanted are used with their content, which is how an interrupted
    install goes on; `fresh` makes every file system anew, except those told to `keep`. `allow_foreign` permits the
    loss of content that sis did not make, as `wipe: always` in the layout does.

    Raises NotFound when no disk fits; Refused when a disk is in use, too small, chosen twice, holds foreign
    content, or when a partition to keep is not where the layout puts it.
    """
    chosen = choose(layout, found)
    boot = _holds_boot(layout)
    return DiskPlan(
        layout=layout.name,
        disks=tuple(
            _plan_disk(layout, wanted, disk, boot=boot, allow_foreign=allow_foreign, fresh=fresh)
            for wanted, disk in zip(layout.disks, chosen, strict=True)
        ),
    )


def unfinished(label: str) -> str:
    """The partition name that says: the file system for `label` is not finished."""
    return label[: _MAX_NAME - len(_UNFINISHED)] + _UNFINISHED


def _plan_disk(
    layout: Layout, wanted: Disk, disk: FoundDisk, *, boot: str, allow_foreign: bool, fresh: bool
) -> PlannedDisk:
    if disk.users:
        raise Refused(
            f"{disk.path} is in use", details=disk.users, hint="unmount or release it, or choose another disk"
        )
    places = _places(layout, wanted, disk)
    if wanted.wipe != "always" and not allow_foreign:
        _refuse_foreign(wanted, disk, places)
    as_wanted = _table_as_wanted(wanted, disk, places)
    rewrite = not as_wanted or (disk.table is not None and disk.table.damaged)
    partitions = tuple(
        _plan_partition(partition, number, place, disk, as_wanted=as_wanted, fresh=fresh, boot=boot)
        for number, (partition, place) in enumerate(zip(wanted.partitions, places, strict=True), 1)
    )
    kept = {part.label for part in partitions if part.action in ("keep", "reuse")}
    formatted = {part.number for part in partitions if part.action == "format"}
    return PlannedDisk(
        path=disk.path,
        kind=disk.kind,
        size_bytes=disk.size_bytes,
        sector_bytes=disk.sector_bytes,
        serial=disk.serial,
        model=disk.model,
        script=_script(disk, partitions) if rewrite else "",
        clear=tuple(_clear(partitions)),
        partitions=partitions,
        lost=tuple(_lost(disk, as_wanted, kept, formatted)),
    )


def _places(layout: Layout, wanted: Disk, disk: FoundDisk) -> list[tuple[int, int]]:
    """(start, size) in bytes of each partition: whole MiB, one after the other, the growing one takes the rest."""
    sizes = [None if each.size is None else -(-each.size // MIB) * MIB for each in wanted.partitions]
    end_bytes = (disk.size_bytes - gpt_backup_bytes(disk.sector_bytes)) // MIB * MIB
    fixed = sum(size for size in sizes if size is not None)
    least = sum(least_bytes(each.filesystem) for each in wanted.partitions if each.size is None)
    room = end_bytes - MIB - fixed
    if room < least:
        need = 2 * MIB + fixed + least
        raise Refused(
            f"{disk.path} is too small for layout {layout.name}: "
            f"needs {mib_text(need)}, has {mib_text(disk.size_bytes)}",
            hint="choose a larger disk, or make the partitions of the layout smaller",
        )
    places: list[tuple[int, int]] = []
    at = MIB
    for size in sizes:
        length = room if size is None else size
        places.append((at, length))
        at += length
    return places


def _refuse_foreign(wanted: Disk, disk: FoundDisk, places: Sequence[tuple[int, int]]) -> None:
    foreign = [f"{content} on {disk.path}" for content in disk.contents]
    foreign += [_what(disk, partition) for partition in _foreign_partitions(wanted, disk, places)]
    if foreign:
        raise Refused(
            f"{disk.path} holds content that sis did not make",
            details=foreign,
            hint="choose another disk, or write 'wipe: always' for it in the layout if all of this may be lost",
        )


def _foreign_partitions(wanted: Disk, disk: FoundDisk, places: Sequence[tuple[int, int]]) -> Iterator[FoundPartition]:
    """Partitions sis did not make: it makes GPT only, and names them "sis-…" or as the layout says at that place."""
    named = {(each.label, start, size) for each, (start, size) in zip(wanted.partitions, places, strict=True)}
    for partition in disk.table.partitions if disk.table else ():
        label = partition.label.removesuffix(_UNFINISHED)
        at_its_place = (label, partition.start_bytes, partition.size_bytes) in named
        ours = label.startswith(OUR_PREFIX) or at_its_place
        if not ours or (disk.table is not None and disk.table.label != "gpt"):
            yield partition


def _table_as_wanted(wanted: Disk, disk: FoundDisk, places: Sequence[tuple[int, int]]) -> bool:
    if disk.table is None or disk.table.label != "gpt":
        return False
    want = [
        (number, start, size, GPT_TYPES[partition.role])
        for number, (partition, (start, size)) in enumerate(zip(wanted.partitions, places, strict=True), 1)
    ]
    have = [(each.number, each.start_bytes, each.size_bytes, each.type) for each in disk.table.partitions]
    names = zip(disk.table.partitions, wanted.partitions, strict=False)
    return want == have and all(there.label in (new.label, unfinished(new.label)) for there, new in names)


def _plan_partition(
    partition: Partition,
    number: int,
    place: tuple[int, int],
    disk: FoundDisk,
    *,
    as_wanted: bool,
    fresh: bool,
    boot: str,
) -> PlannedPartition:
    there = _kept(partition, place, disk) if partition.keep else None
    action: Action = "create"
    if there is not None:
        action = "keep"
    elif as_wanted:
        there = _by_number(disk, number)
        whole = there.label == partition.label and (
            partition.filesystem == "none" or _type(there.content) == partition.filesystem
        )
        action = "reuse" if whole and (not fresh or partition.filesystem == "none") else "format"
    node = partition_node(disk.path, number)
    makes = action in ("create", "format")
    return PlannedPartition(
        number=number,
        label=partition.label,
        role=partition.role,
        filesystem=partition.filesystem,
        start_bytes=place[0],
        size_bytes=place[1],
        type=GPT_TYPES[partition.role],
        uuid=there.uuid if there is not None else None,
        mount=partition.mount,
        options=partition.options,
        node=node,
        action=action,
        mkfs=mkfs(partition, place[1], node, boot=partition.label == boot) if makes else (),
    )


def _kept(partition: Partition, place: tuple[int, int], disk: FoundDisk) -> FoundPartition | None:
    """The partition on disk that `keep` speaks of, or None when there is none yet."""
    same = [each for each in (disk.table.partitions if disk.table else ()) if each.label == partition.label]
    if not same:
        return None
    there = same[0]
    node = partition_node(disk.path, there.number)
    if len(same) > 1:
        nodes = ", ".join(partition_node(disk.path, each.number) for each in same)
        raise Refused(f"'{partition.label}' is to be kept, but several partitions bear that name: {nodes}")
    if (there.start_bytes, there.size_bytes) != place:
        raise Refused(
            f"{node} '{partition.label}' is to be kept, but the layout puts it elsewhere",
            details=(
                f"on disk: {mib_text(there.size_bytes)} at {mib_text(there.start_bytes)}",
                f"layout: {mib_text(place[1])} at {mib_text(place[0])}",
            ),
            hint="give the partitions before it the sizes they have on disk, or drop 'keep' to give up its content",
        )
    if partition.filesystem != "none" and _type(there.content) != partition.filesystem:
        raise Refused(
            f"{node} '{partition.label}' is to be kept as {partition.filesystem}, but holds "
            f"{there.content or 'nothing that is known'}",
            hint="write the file system it has in the layout, or drop 'keep' to give up its content",
        )
    return there


def _by_number(disk: FoundDisk, number: int) -> FoundPartition:
    assert disk.table is not None
    return next(each for each in disk.table.partitions if each.number == number)


def _type(content: Content | None) -> str | None:
    return content.type if content else None


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
    return label[: {"ext4": 16, "swap": 15, "xfs": 12, "none": _MAX_NAME}[filesystem]]


def _holds_boot(layout: Layout) -> str:
    """The label of the partition that holds /boot."""
    mounts = {partition.mount: partition.label for disk in layout.disks for partition in disk.partitions}
    return mounts.get("/boot") or mounts["/"]


def _script(disk: FoundDisk, partitions: Sequence[PlannedPartition]) -> str:
    keeps = any(partition.uuid for partition in partitions)
    lines = ["label: gpt"]
    if keeps and disk.table is not None and disk.table.id:
        lines.append(f"label-id: {disk.table.id}")
    lines += ["unit: sectors", ""]
    for partition in partitions:
        fields = [
            f"start={partition.start_bytes // disk.sector_bytes}",
            f"size={partition.size_bytes // disk.sector_bytes}",
            f"type={partition.type}",
            f'name="{partition.unfinished_label if partition.mkfs else partition.label}"',
        ]
        if partition.uuid:
            fields.append(f"uuid={partition.uuid}")
        lines.append(", ".join(fields))
    return "\n".join(lines) + "\n"


def _clear(partitions: Sequence[PlannedPartition]) -> Iterator[tuple[int, int]]:
    for partition in partitions:
        if partition.action not in ("create", "format"):
            continue
        head = min(_CLEARED_BYTES, partition.size_bytes)
        yield partition.start_bytes, head
        tail = min(_CLEARED_BYTES, partition.size_bytes - head)
        if tail:
            yield partition.end_bytes - tail, tail


def _lost(disk: FoundDisk, as_wanted: bool, kept: set[str], formatted: set[int]) -> Iterator[str]:
    if not as_wanted:
        yield from (f"{content} on {disk.path}" for content in disk.contents)
    for partition in disk.table.partitions if disk.table else ():
        if as_wanted:
            if partition.number in formatted and partition.content:
                yield _what(disk, partition)
        elif partition.label not in kept and partition.type != GPT_TYPES["bios-boot"]:
            yield _what(disk, partition)


def _what(disk: FoundDisk, partition: FoundPartition) -> str:
    node = partition_node(disk.path, partition.number)
    if partition.content:
        return f"{partition.content} on {node}"
    named = f" '{partition.label}'" if partition.label else ""
    return f"partition {node}{named}, {size_text(partition.size_bytes)}, content unknown"


def _table_words(disk: PlannedDisk) -> str:
    if disk.script:
        renewed = any(partition.action == "create" for partition in disk.partitions)
        return "a new GPT partition table" if renewed else "the damaged partition table is written again"
    return "the partition table stays" if disk.changes else "nothing to do"


_ACTION_WORDS: dict[Action, str] = {
    "create": "create",
    "format": "format",
    "reuse": "use as it is",
    "keep": "keep, not touched",
}


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
