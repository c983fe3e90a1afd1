"""`sis audit`: who changed what: by commands, through the API and in the console."""

from __future__ import annotations

from dataclasses import asdict

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit

_OUTCOMES = {"refused": "bold red", "failed": "red", "begun": "yellow", "ok": "green"}


@click.command(epilog="Example: sis audit --limit 20")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many.")
@click.pass_obj
def audit(context: Context, limit: int) -> None:
    """List the last changes asked for by commands, through the API and in the console, oldest first.

    outcome: begun (the head ended before it knew), ok, failed, refused (the role was too small).
    """
    with context.open_inventory() as inventory:
        entries = inventory.audit.last(limit)[::-1]
    columns: list[str | Column] = [
        Column("id", right=True),
        "time",
        "who",
        "role",
        "via",
        "action",
        "target",
        Column("outcome", style=lambda outcome: _OUTCOMES.get(str(outcome))),
        "detail",
    ]
    emit([asdict(entry) for entry in entries], columns, context.output)
