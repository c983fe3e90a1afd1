"""`sis figures`: what was fetched and saved, and how many nodes differed, by day or hour."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, cast

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit, human_bytes

if TYPE_CHECKING:
    from sis.inventory.trends import Grain


@click.command(epilog="Example: sis figures --by hour --last 24")
@click.option("--by", type=click.Choice(["day", "hour"]), default="day", show_default=True, help="Length of a row.")
@click.option("--last", default=30, show_default=True, type=click.IntRange(1, 1000), metavar="N", help="How many rows.")
@click.pass_obj
def figures(context: Context, by: str, last: int) -> None:
    """Show what nodes fetched, what they took from what they had, and how many were found to differ (UTC)."""
    with context.open_inventory() as inventory:
        periods = inventory.trends.periods(cast("Grain", by), last)
    rows = [{**asdict(each), "rate": each.rate} for each in periods]
    columns: list[str | Column] = [
        Column("name", title=by),
        Column("reports", right=True),
        Column("failed", right=True),
        Column("bytes_fetched", title="fetched", right=True, text=human_bytes),
        Column("bytes_local", title="saved", right=True, text=human_bytes),
        Column("rate", title="rate of a node", right=True, text=lambda rate: f"{human_bytes(round(rate))}/s"),
        Column("nodes", right=True),
        Column("differing", right=True),
    ]
    emit(rows, columns, context.output)
