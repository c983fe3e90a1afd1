"""What an install of nodes would do, before any is armed: image, layout, and every hindrance of all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sis.disk.model import Disk, Layout, Partition
from sis.errors import Refused, SisError
from sis.head.renders import Renders
from sis.inventory.model import Node
from sis.inventory.names import fold
from sis.netboot import installer
from sis.system.amounts import human_bytes


@dataclass(frozen=True)
class Install:
    """What an install of one node would do. `image` such as "compute@12"."""

    node: Node
    image: str
    version: str
    layout: Layout


def plan(state: Path, renders: Renders, nodes: Sequence[Node]) -> list[Install]:
    """What each node would get. Raises Refused with every hindrance of all of them at once."""
    planned = []
    hindrances: dict[tuple[str, str | None], list[str]] = {}
    for node in nodes:
        try:
            image = renders.image(node)
            layout = renders.layout(node, image.version)
            if layout is None:
                raise SisError("neither node nor image names a disk layout", hint="sis node set NODESET layout=single")
            if not node.macs:
                raise SisError("no MAC is known, so no boot request can be answered", hint="sis node set NODE mac=…")
            installer.load(state / "boot" / image.version_id)
            renders.layer(node, image.version, image.version_id, layout)
        except SisError as fault:
            hindrances.setdefault((str(fault.message), fault.hint), []).append(node.name)
        else:
            planned.append(Install(node, f"{image.image}@{image.generation}", image.version_id, layout))
    if hindrances:
        lines = [
            f"{fold(names)}: {message}" + (f" ({hint})" if hint else "")
            for (message, hint), names in hindrances.items()
        ]
        raise Refused("these nodes cannot be installed, none was armed", details=lines)
    return planned


def describe_layout(layout: Layout) -> list[str]:
    """Each disk of a layout in a line: how it is chosen, and what becomes of it."""
    return [
        f"{_choice(disk)}: wiped, then " + ", ".join(_partition(each) for each in disk.partitions)
        for disk in layout.disks
    ]


def _choice(disk: Disk) -> str:
    choice = disk.choice
    if choice.path:
        return choice.path
    words = [f"the {choice.pick}", choice.type or "disk"]
    if choice.type and choice.type != "disk":
        words.append("disk")
    if choice.serial:
        words.append(f"with serial {choice.serial}")
    if choice.min_size is not None:
        words.append(f"of {human_bytes(choice.min_size)} or more")
    if choice.max_size is not None:
        words.append(f"of at most {human_bytes(choice.max_size)}")
    return " ".join(words)


def _partition(partition: Partition) -> str:
    size = "the rest" if partition.size is None else human_bytes(partition.size)
    words = [partition.mount or partition.role, size]
    if partition.filesystem not in ("none", "swap"):
        words.append(partition.filesystem)
    return " ".join(words) + (" (kept when it is there)" if partition.keep else "")
