"""`sis node maintenance`, `release` and `reboot`: nodes set aside, freed, and started anew."""

from __future__ import annotations

import click

from sis.cli.context import Context
from sis.cli.nodesets import named, takes_nodes
from sis.cli.shown import confirm, counted


@click.command(epilog="Example: sis node maintenance on n[003-004] --why 'new fan'")
@click.argument("switch", type=click.Choice(["on", "off"]))
@takes_nodes
@click.option("--why", default="", metavar="TEXT", help="Shown wherever the nodes are; needed with on.")
@click.pass_obj
def maintenance(context: Context, switch: str, nodeset: str | None, where: tuple[str, ...], why: str) -> None:
    """Set the nodes of NODESET aside, or take them back.

    Rollouts leave them alone, and their state stays whatever they report; what they hold is noted all the same.
    """
    from sis.head.aside import maintenance as set_aside

    with context.open_inventory() as inventory:
        done = set_aside(inventory, named(inventory, nodeset, where), on=switch == "on", why=why)
        count = len(inventory.nodes.select(done.nodes)) if done.nodes else 0
    said = "in maintenance" if switch == "on" else "out of maintenance"
    click.echo(f"{counted(count, 'node')} {said}" + (f": {done.nodes}" if done.nodes else ""))
    if switch == "off" and done.nodes:
        click.echo(f"see whether they are still in-sync: sis sync {done.nodes} -n")


@click.command(epilog="Example: sis node release n001")
@takes_nodes
@click.pass_obj
def release(context: Context, nodeset: str | None, where: tuple[str, ...]) -> None:
    """Free the nodes of NODESET: from quarantine after failed installs, and from what a rollout holds them to."""
    from sis.head.aside import release as free

    with context.open_inventory() as inventory:
        done = free(inventory, named(inventory, nodeset, where))
        count = len(inventory.nodes.select(done.nodes)) if done.nodes else 0
    click.echo(f"{counted(count, 'node')} released" + (f": {done.nodes}" if done.nodes else ": none was held"))


@click.command(epilog="Example: sis node reboot -l reboot_needed=true")
@takes_nodes
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reboot(context: Context, nodeset: str | None, where: tuple[str, ...], yes: bool) -> None:
    """Have the agents of the nodes of NODESET reboot them, at once and all together; in waves: sis deploy --canary.

    Nothing is drained first. Ends when they are asked; 'sis status --watch' shows them come back.
    """
    from sis.head import acts

    with context.open_inventory() as inventory:
        folded = named(inventory, nodeset, where)
        count = len(inventory.nodes.select(folded))
        confirm(f"Reboot {counted(count, 'node')} ({folded})?", yes=yes)
        acts.order(inventory, folded, "reboot", full=False)
    click.echo(f"{counted(count, 'node')} asked to reboot: {folded}")
