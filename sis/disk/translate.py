"""A layout as the admin wrote it → the layout the node is told (no pydantic over there)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sis.disk.model import Disk, DiskChoice, Layout, Partition

if TYPE_CHECKING:
    from sis.spec.layout import DiskSpec, LayoutSpec, PartitionSpec


def layout_from_spec(spec: LayoutSpec) -> Layout:
    """The same layout as values; the spec has been checked when it was read."""
    return Layout(
        name=spec.layout,
        disks=tuple(_disk(disk) for disk in spec.disks),
        kernel_cmdline=spec.kernel_cmdline,
        serial_console=spec.serial_console,
    )


def _disk(spec: DiskSpec) -> Disk:
    match = spec.match
    choice = DiskChoice(
        path=match.path,
        serial=match.serial,
        type=match.type,
        min_size=match.size.least,
        max_size=match.size.most,
        pick=match.pick,
    )
    return Disk(choice=choice, partitions=tuple(_partition(each) for each in spec.partitions), wipe=spec.wipe)


def _partition(spec: PartitionSpec) -> Partition:
    return Partition(
        role=spec.role,
        label=spec.label,
        filesystem=spec.filesystem,
        size=spec.size,
        mount=spec.mount,
        options=spec.options,
        keep=spec.keep,
    )
