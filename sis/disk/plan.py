"""Layout × disks found → a frozen DiskPlan: which disk, which sectors, what is made and what is left alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sis.disk.choose import choose
from sis.disk.filesystems import mkfs
from sis.disk.found import Content, FoundDisk, FoundPartition, partition_node
from sis.disk.model import Disk, Layout, Partition
from sis.disk.planned import UNFINISHED, Action, DiskPlan, PlannedDisk, PlannedPartition, unfinished
from sis.disk.sizes import GPT_TYPES, MIB, gpt_backup_bytes, least_bytes, mib_text, size_text
from sis.errors import Refused

OUR_PREFIX = "sis-"
_CLEARED_BYTES = MIB


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
        label = partition.label.removesuffix(UNFINISHED)
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
