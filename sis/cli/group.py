"""`sis group`: groups of nodes: list them, put nodes in, take nodes out."""

from __future__ import annotations

import click

from sis.cli.context import Context
from sis.cli.nodesets import chosen, takes_nodes
from sis.cli.output import Column, emit
from sis.cli.shown import confirm, counted
from sis.errors import NotFound


@click.group("group")
def group() -> None:
    """Groups of nodes; @NAME names one in every node set. A group is there as long as it has members."""


@group.command("list", epilog="Example: sis group list")
@click.pass_obj
def list_groups(context: Context) -> None:
    """List groups and their members, folded."""
    from sis.inventory.names import fold

    with context.open_inventory() as inventory:
        groups = inventory.nodes.groups()
    rows = [{"name": name, "count": len(members), "nodes": fold(members)} for name, members in groups.items()]
    emit(rows, ["name", Column("count", right=True), "nodes"], context.output)


@group.command(epilog="Example: sis group add rack2 n[017-032]")
@click.argument("name")
@takes_nodes
@click.pass_obj
def add(context: Context, name: str, nodeset: str | None, where: tuple[str, ...]) -> None:
    """Put nodes into a group; it is made when it is not there."""
    from sis.inventory.names import check_group
    from sis.inventory.nodes import Change

    check_group(name)
    with context.open_inventory() as inventory:
        names = [node.name for node in chosen(inventory, nodeset, where) if name not in node.groups]
        context.intent(inventory).change(names, Change(join=(name,)))
    _say(context, name, f"{counted(len(names), 'node')} added")


@group.command(epilog="Example: sis group remove rack2 n017")
@click.argument("name")
@takes_nodes
@click.pass_obj
def remove(context: Context, name: str, nodeset: str | None, where: tuple[str, ...]) -> None:
    """Take nodes out of a group."""
    from sis.inventory.nodes import Change

    with context.open_inventory() as inventory:
        _check(name, inventory.nodes.groups())
        names = [node.name for node in chosen(inventory, nodeset, where) if name in node.groups]
        context.intent(inventory).change(names, Change(leave=(name,)))
    _say(context, name, f"{counted(len(names), 'node')} taken out")


@group.command(epilog="Example: sis group delete rack2 --yes")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(context: Context, name: str, yes: bool) -> None:
    """Take all nodes out of a group; the nodes stay."""
    from sis.inventory.nodes import Change

    with context.open_inventory() as inventory:
        groups = inventory.nodes.groups()
        _check(name, groups)
        members = groups[name]
        confirm(f"Take {counted(len(members), 'node')} out of @{name}?", yes=yes)
        context.intent(inventory).change(members, Change(leave=(name,)))
    _say(context, name, f"{counted(len(members), 'node')} taken out")


def _check(name: str, groups: dict[str, tuple[str, ...]]) -> None:
    if name not in groups:
        raise NotFound.of("group", name, groups)


def _say(context: Context, name: str, what: str) -> None:
    if context.output == "table":
        click.echo(f"@{name}: {what}")
