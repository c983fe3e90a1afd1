"""`sis events`: what happened, of every kind, in one order; with --follow, what happens."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit, human_bytes
from sis.errors import NotFound, UsageFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sis.inventory.model import Occurrence

_LOOK_EVERY_S = 0.3
_OUTCOMES = {"failed": "bold red", "ok": "green", "done": "green"}


@click.command(epilog="Example: sis events --follow --kind state,report")
@click.option(
    "-f", "--follow", "--watch", "follow", is_flag=True, help="Go on until ^C. With -o json: one object a line."
)
@click.option("--node", metavar="NODE", help="Only of this node.")
@click.option("--kind", "kinds", metavar="KIND,…", default="", help="event, report, state, order, arming, published, …")
@click.option("--since", type=click.IntRange(min=0), metavar="ID", help="Only rows after this id.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many rows.")
@click.pass_obj
def events(context: Context, follow: bool, node: str | None, kinds: str, since: int | None, limit: int) -> None:
    """Show the last rows of the event stream, oldest first."""
    from sis.inventory.stream import KINDS

    chosen = tuple(each for each in kinds.split(",") if each)
    unknown = [each for each in chosen if each not in KINDS]
    if unknown:
        raise UsageFault(f"no such kind: {unknown[0]}", hint=f"there is: {', '.join(KINDS)}")
    with context.open_inventory() as inventory:
        if node is not None and node not in inventory.nodes.names():
            raise NotFound.of("node", node, inventory.nodes.names())
        place = inventory.stream.newest()
        if since is None:
            rows = inventory.stream.last(limit, node=node, kinds=chosen)
        else:
            rows = inventory.stream.after(since, limit=limit, node=node, kinds=chosen)
        if not follow:
            _show(rows, context.output)
            return
        while True:
            _show_lines(rows, context.output)
            # What was shown last, or, when nothing of what is asked for was there, what there is.
            place = rows[-1].id if rows else place
            time.sleep(_LOOK_EVERY_S)
            rows = inventory.stream.after(place, limit=1000, node=node, kinds=chosen)


def _show(rows: Sequence[Occurrence], output: str) -> None:
    columns: list[str | Column] = [
        Column("id", right=True),
        "time",
        "kind",
        Column("about", "node"),
        "what",
        Column("outcome", style=lambda outcome: _OUTCOMES.get(str(outcome))),
        Column("told", "text"),
    ]
    shown = [asdict(row) for row in rows]
    if output in ("json", "yaml"):
        emit(shown, columns, output)
        return
    for row, values in zip(rows, shown, strict=True):
        values |= {"about": row.node or row.subject, "told": _told(row)}
    if shown:
        emit(shown, columns, output)


def _show_lines(rows: Sequence[Occurrence], output: str) -> None:
    from sis.cli.output import printable

    for row in rows:
        if output in ("json", "yaml"):
            click.echo(json.dumps(asdict(row), ensure_ascii=False))
        elif output == "name":
            click.echo(row.id)
        else:
            words = (row.time, row.kind, row.node or row.subject, row.what, row.outcome, _told(row))
            color = {"failed": "red"}.get("failed" if row.what == "failed" else row.outcome)
            click.echo(click.style(printable("  ".join(word for word in words if word)), fg=color))


def _told(row: Occurrence) -> str:
    """Its text, with what a state was before, and the bytes and seconds it took."""
    words = [f"was {row.subject}"] if row.kind == "state" and row.subject else []
    words += [row.text] if row.text else []
    words += [human_bytes(row.bytes)] if row.bytes else []
    words += [f"{row.seconds:.1f} s"] if row.seconds else []
    return ", ".join(words)
