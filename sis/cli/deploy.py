"""`sis deploy`: arm nodes, so that their next network boot installs them, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sis.cli.context import Context
from sis.cli.output import emit
from sis.cli.shown import confirm, counted, held_image

if TYPE_CHECKING:
    from sis.head.installs import Install


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
    from sis.head import installs
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
        planned = installs.plan(context.state, Renders(context.state, inventory), nodes)
        _show(planned, context.output, allow_foreign_disk=allow_foreign_disk)
        if dry_run:
            return
        folded = fold(node.name for node in nodes)
        confirm(f"Install {counted(len(nodes), 'node')} ({folded}) and wipe the disks named above?", yes=yes)
        inventory.access.arm([node.id for node in nodes], allow_foreign_disk=allow_foreign_disk)
    if context.output == "table":
        click.echo(f"{counted(len(nodes), 'node')} armed: {folded}")
        click.echo("boot them from the network now; watch with: sis status --watch")


def _show(planned: list[Install], output: str, *, allow_foreign_disk: bool) -> None:
    from sis.head.installs import describe_layout

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

    folded: dict[tuple[str, str, str], list[Install]] = {}
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
