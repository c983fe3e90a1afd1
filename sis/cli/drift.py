"""`sis drift`: what differs from the image on which nodes, folded by node set."""

from __future__ import annotations

from dataclasses import asdict

import click

from sis.cli.context import Context
from sis.cli.output import emit, printable
from sis.cli.shown import counted
from sis.errors import DifferencesFound


@click.command(epilog="Example: sis drift")
@click.pass_obj
def drift(context: Context) -> None:
    """Show what differed at the last good report of each node that is not in sync. Exit code 4 when something does.

    Asks no node: 'sis sync NODESET -n' has them look now.
    """
    from sis.inventory.drift import fold_changes
    from sis.inventory.names import fold

    with context.open_inventory() as inventory:
        changes = inventory.overview.changes_of_drifted()
    folded = fold_changes(changes)
    if context.output == "table":
        for each in folded:
            click.echo(printable(each.line))
        if not folded:
            click.echo("no drift is known")
    else:
        emit([asdict(each) for each in folded], ["nodes"], context.output)
    if changes:
        raise DifferencesFound(
            f"{counted(len(changes), 'node')} differ: {fold(changes)}", hint=f"repair: sis sync {fold(changes)}"
        )
