"""`sis deploy`: arm nodes, so that their next network boot installs them, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sis.cli.context import Context
from sis.cli.output import emit, human_bytes
from sis.cli.shown import confirm, counted, held_image
from sis.errors import Refused, SisError

if TYPE_CHECKING:
    from sis.disk.model import Disk, Layout, Partition
    from sis.head.renders import Renders
    from sis.inventory.model import Node


@dataclass(frozen=True)
class _Planned:
    """What an install of one node would do."""

    node: Node
    image: str
    version: str
    layout: Layout


@click.command(epilog="Example: sis deploy n[001-002] -n")
@click.argument("nodeset")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be installed and wiped; arm nothing.")
@click.option("--allow-foreign-disk", is_flag=True, help="Wipe disks even when they hold what sis did not make.")
@click.option("--cancel", is_flag=True, help="Take arming back: their next network boot starts their disk.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def deploy(context: Context, nodeset: str, dry_run: bool, allow_foreign_disk: bool, cancel: bool, yes: bool) -> None:
    """Arm the nodes of NODESET: their next network boot installs them, once.

    An interrupted install goes on at the next network boot; after a good one the node boots its disk.
    """
    from sis.head.renders import Renders
    from sis.inventory.names import fold

    with context.open_inventory() as inventory:
        nodes = inventory.nodes.select(nodeset)
        if cancel:
            armed = [node for node in nodes if node.arming is not None]
            inventory.access.disarm([node.id for node in armed])
            click.echo(
                f"{counted(len(armed), 'node')} disarmed" + (f": {fold(n.name for n in armed)}" if armed else "")
            )
            return
        planned = _plan(context, Renders(context.state, inventory), nodes)
        _show(planned, context.output, allow_foreign_disk=allow_foreign_disk)
        if dry_run:
            return
        folded = fold(node.name for node in nodes)
        confirm(f"Install {counted(len(nodes), 'node')} ({folded}) and wipe the disks named above?", yes=yes)
        inventory.access.arm([node.id for node in nodes], allow_foreign_disk=allow_foreign_disk)
    if context.output == "table":
        click.echo(f"{counted(len(nodes), 'node')} armed: {folded}")
        click.echo("boot them from the network now; watch with: sis status --watch")


def _plan(context: Context, renders: Renders, nodes: tuple[Node, ...]) -> list[_Planned]:
    """What each node would get. Raises Refused with every hindrance of all of them at once."""
    from sis.inventory.names import fold
    from sis.netboot import installer

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
            installer.load(context.state / "boot" / image.version_id)
            renders.layer(node, image.version, image.version_id, layout)
        except SisError as fault:
            hindrances.setdefault((str(fault.message), fault.hint), []).append(node.name)
        else:
            planned.append(_Planned(node, f"{image.image}@{image.generation}", image.version_id, layout))
    if hindrances:
        lines = [
            f"{fold(names)}: {message}" + (f" ({hint})" if hint else "")
            for (message, hint), names in hindrances.items()
        ]
        raise Refused("these nodes cannot be installed, none was armed", details=lines)
    return planned


def _show(planned: list[_Planned], output: str, *, allow_foreign_disk: bool) -> None:
    rows = [
        {
            "name": each.node.name,
            "image": each.image,
            "version": each.version,
            "has": held_image(each.node.state) or None,
            "layout": each.layout.name,
            "disks": describe_layout(each.layout),
            "allow_foreign_disk": allow_foreign_disk,
        }
        for each in planned
    ]
    if output != "table":
        emit(rows, ["name"], output)
        return
    from sis.inventory.names import fold

    folded: dict[tuple[str, str, str], list[_Planned]] = {}
    for each in planned:
        folded.setdefault((each.image, each.version, each.layout.name), []).append(each)
    for (image, version, name), group in folded.items():
        click.echo(f"{fold(each.node.name for each in group)}: install {image} (b3:{version[:12]}), disk layout {name}")
        for line in describe_layout(group[0].layout):
            click.echo(f"  {line}")
        if allow_foreign_disk:
            click.echo("  whatever these disks hold is lost, also what sis did not make")
        else:
            click.echo("  a disk that holds what sis did not make is refused (--allow-foreign-disk)")


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
