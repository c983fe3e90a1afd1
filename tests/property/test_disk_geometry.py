"""Whatever the layout and the disk: partitions are aligned, apart, inside the disk, and kept ones are never cleared."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sis.disk.found import Content, FoundDisk, FoundPartition, FoundTable
from sis.disk.model import Disk, DiskChoice, FileSystem, Layout, Partition
from sis.disk.plan import make_plan
from sis.disk.planned import PlannedDisk
from sis.disk.sizes import MIB, gpt_backup_bytes
from sis.errors import Refused

filesystems: st.SearchStrategy[FileSystem] = st.sampled_from(("ext4", "xfs", "vfat", "swap"))


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    count = draw(st.integers(1, 6))
    growing = draw(st.integers(0, count))
    partitions = []
    for at in range(count):
        size = draw(st.integers(1, 2000)) * MIB + draw(st.sampled_from((0, 1, 511, 4096)))
        partitions.append(
            Partition(
                role="root" if at == 0 else "data",
                label=f"sis-p{at}",
                filesystem="ext4" if at == 0 else draw(filesystems),
                size=None if at == growing else size,
                mount="/" if at == 0 else f"/p{at}",
                keep=at > 0 and draw(st.booleans()),
            )
        )
    return Layout(name="any", disks=(Disk(choice=DiskChoice(), partitions=tuple(partitions)),))


sectors = st.sampled_from((512, 4096))
sizes = st.integers(1, 30_000).map(lambda mib: mib * MIB)


@given(layouts(), sizes, st.integers(0, 255), sectors)
def test_partitions_lie_well(layout: Layout, size_bytes: int, odd_sectors: int, sector_bytes: int) -> None:
    size_bytes += odd_sectors * sector_bytes
    empty = FoundDisk(path="/dev/vda", kind="virtio", size_bytes=size_bytes, sector_bytes=sector_bytes)
    try:
        plan = make_plan(layout, [empty])
    except Refused:
        fixed = sum(-(-part.size // MIB) for part in layout.disks[0].partitions if part.size)
        assert size_bytes < (fixed + 302) * MIB
        return
    disk = plan.disks[0]
    at = MIB
    for wanted, partition in zip(layout.disks[0].partitions, disk.partitions, strict=True):
        assert partition.start_bytes == at
        assert partition.start_bytes % MIB == partition.size_bytes % MIB == 0
        assert partition.size_bytes >= (wanted.size or 1)
        at = partition.end_bytes
    assert at <= size_bytes - gpt_backup_bytes(sector_bytes)
    _cleared_only_inside(disk)


@given(layouts(), st.booleans(), st.data())
def test_a_second_plan_changes_nothing_and_kept_partitions_are_out_of_reach(
    layout: Layout, fresh: bool, data: st.DataObject
) -> None:
    empty = FoundDisk(path="/dev/vda", kind="virtio", size_bytes=40_000 * MIB)
    done = _as_found(empty, make_plan(layout, [empty]).disks[0])
    again = make_plan(layout, [done])
    assert not again.changes

    smaller = data.draw(st.integers(0, len(layout.disks[0].partitions) - 1))
    try:
        other = make_plan(_renamed(layout, smaller), [done], fresh=fresh)
    except Refused:
        return
    kept = [part for part in other.disks[0].partitions if part.action == "keep"]
    for offset, length in other.disks[0].clear:
        assert all(offset + length <= part.start_bytes or part.end_bytes <= offset for part in kept)
    assert not any(part.mkfs for part in kept)
    _cleared_only_inside(other.disks[0])


def _cleared_only_inside(disk: PlannedDisk) -> None:
    made = [part for part in disk.partitions if part.action in ("create", "format")]
    for offset, length in disk.clear:
        assert any(part.start_bytes <= offset and offset + length <= part.end_bytes for part in made)


def _as_found(disk: FoundDisk, planned: PlannedDisk) -> FoundDisk:
    partitions = tuple(
        FoundPartition(
            number=part.number,
            start_bytes=part.start_bytes,
            size_bytes=part.size_bytes,
            type=part.type,
            label=part.label,
            uuid=f"uuid-{part.number}",
            content=Content(type=part.filesystem),
        )
        for part in planned.partitions
    )
    return msgspec.structs.replace(disk, table=FoundTable(label="gpt", id="disk", partitions=partitions))


def _renamed(layout: Layout, at: int) -> Layout:
    """The same places under another name: the table has to be written anew."""
    disk = layout.disks[0]
    partitions = list(disk.partitions)
    partitions[at] = msgspec.structs.replace(partitions[at], label="sis-other")
    return msgspec.structs.replace(layout, disks=(msgspec.structs.replace(disk, partitions=tuple(partitions)),))
