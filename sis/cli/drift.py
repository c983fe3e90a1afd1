"""`sis drift`: what differs from the image on which nodes, folded by node set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.nodesets import chosen, takes_nodes
from sis.cli.output import emit, printable
from sis.cli.shown import counted
from sis.errors import DifferencesFound

if TYPE_CHECKING:
    from sis.inventory.drift import FoldedDiff

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


@click.command(epilog="Example: sis drift n[003-008] --diff")
@takes_nodes
@click.option("--diff", "differing", is_flag=True, help="Show what drifted text files hold, as their last check told.")
@click.pass_obj
def drift(context: Context, nodeset: str | None, where: tuple[str, ...], differing: bool) -> None:
    """Show what differed at the last good report of each node that is not in sync. Exit code 4 when something does.

    Asks no node: 'sis sync NODESET -n' has them look now. With --diff also how text files of the node's own and of
    /etc differ: from - what they are to hold to + what they hold on the node. What others may not read is never told.
    """
    from sis.inventory.drift import fold_changes, fold_diffs
    from sis.inventory.names import fold

    with context.open_inventory() as inventory:
        asked = {node.name for node in chosen(inventory, nodeset, where)} if nodeset or where else None
        found = inventory.overview.changes_of_drifted()
        changes = {name: each for name, each in found.items() if asked is None or name in asked}
        diffs = inventory.overview.diffs(changes.keys()) if differing else {}
    folded, folded_diffs = fold_changes(changes), fold_diffs(diffs)
    if context.output == "table":
        for each in folded:
            click.echo(printable(each.line))
        if not folded:
            click.echo("no drift is known")
        if differing and folded:
            _show_diffs(folded_diffs)
    else:
        emit(_rows(folded, folded_diffs, differing=differing), ["nodes"], context.output)
    if changes:
        raise DifferencesFound(
            f"{counted(len(changes), 'node')} differ: {fold(changes)}", hint=f"repair: sis sync {fold(changes)}"
        )


def _rows(changes: Sequence[Any], diffs: Sequence[FoldedDiff], *, differing: bool) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = [asdict(each) for each in changes]
    if differing:
        rows += [asdict(each) for each in diffs]
    return rows


def _show_diffs(diffs: Sequence[FoldedDiff]) -> None:
    if not diffs:
        click.echo("no diff is known: have the nodes tell them with 'sis sync NODESET -n'")
    for each in diffs:
        click.echo()
        click.echo(printable(f"{each.nodes} {each.path}" + (f": {each.why}" if each.why else "")))
        for line in each.text.split("\n") if each.text else ():
            click.echo(click.style(printable(line), fg=_STYLES.get(line[:1])))
