"""`sis rollout`: how far waves are, folded by node set; pause, resume and abort them."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context, fancy
from sis.cli.output import Column, emit, emit_one, human_bytes, printable
from sis.cli.shown import age, confirm, counted
from sis.errors import NotFound, SomeNodesFailed

if TYPE_CHECKING:
    from sis.head.rollouts import RolloutDetail, RolloutRow
    from sis.inventory.db import Inventory
    from sis.inventory.rollout import Rollout

_LOOK_EVERY_S = 0.3
_REDRAW_EVERY_S = 1.0
_STYLES = {
    "running": "cyan", "paused": "yellow", "stopped": "bold red", "aborted": "red", "done": "green",
    "good": "green", "failed": "bold red", "lost": "bold red", "returned": "yellow", "returning": "yellow",
    "put-off": "magenta", "left": "magenta", "waiting": "dim",
}  # fmt: skip


@click.group("rollout")
def rollout() -> None:
    """Waves of nodes brought to their image: made by 'sis deploy', driven by the head."""


@rollout.command("list", epilog="Example: sis rollout list -o json")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.pass_obj
def list_rollouts(context: Context, limit: int) -> None:
    """List the last rollouts, newest first."""
    from sis.head import rollouts

    with context.open_inventory() as inventory:
        rows = rollouts.recent(inventory, limit)
    columns: list[str | Column] = [
        Column("id", right=True),
        Column("state", style=_style),
        Column("nodeset", "nodes"),
        "target",
        Column("good", right=True),
        Column("failed", right=True),
        Column("total", right=True),
        Column("created", "begun", text=age),
        "who",
        "reason",
    ]
    emit([asdict(row) for row in rows], columns, context.output)


@rollout.command(epilog="Example: sis rollout status --watch")
@click.argument("number", required=False, metavar="[ID]")
@click.option("--watch", is_flag=True, help="Keep showing it until it has ended.")
@click.pass_obj
def status(context: Context, number: str | None, watch: bool) -> None:
    """Show how far a rollout (the last one) is: its waves, its nodes folded, what failed and why.

    Exit code 3 when it has ended and some nodes failed.
    """
    from sis.head import rollouts

    with context.open_inventory() as inventory:
        rollout_id = _number(inventory, number)
        found = rollouts.detail(inventory, rollout_id)
        while watch and found.rollout.ended is None:
            if fancy(sys.stdout, context.color):
                click.clear()
            _show(found, context.output)
            _await_news(inventory, rollout_id)
            found = rollouts.detail(inventory, rollout_id)
        if watch and fancy(sys.stdout, context.color):
            click.clear()
        _show(found, context.output)
    if found.rollout.ended is not None and found.rollout.failed:
        names = ", ".join(group.nodes for group in found.groups if group.step in ("failed", "returned", "lost"))
        raise SomeNodesFailed(
            f"{found.rollout.failed} of {counted(found.rollout.total, 'node')} failed: {names}",
            hint=f"see why: sis node log {next(group.first for group in found.groups)}",
        )


@rollout.command(epilog="Example: sis rollout pause")
@click.argument("number", required=False, metavar="[ID]")
@click.pass_obj
def pause(context: Context, number: str | None) -> None:
    """Begin no more nodes; those at work come to their end."""
    from sis.head import rollouts_act

    with context.open_inventory() as inventory:
        _say(context, inventory, rollouts_act.pause(inventory, _number(inventory, number)))


@rollout.command(epilog="Example: sis rollout resume 3 --max-fail 10%")
@click.argument("number", required=False, metavar="[ID]")
@click.option("--max-fail", metavar="N|N%", help="How many may fail from now on.")
@click.pass_obj
def resume(context: Context, number: str | None, max_fail: str | None) -> None:
    """Go on with a rollout that was paused or has stopped; after a stop the nodes that failed are tried again."""
    from sis.head import rollouts_act

    with context.open_inventory() as inventory:
        _say(context, inventory, rollouts_act.resume(inventory, _number(inventory, number), max_fail=max_fail))


@rollout.command(epilog="Example: sis rollout abort 3 --back")
@click.argument("number", required=False, metavar="[ID]")
@click.option("--back", is_flag=True, help="Nodes that are good at the new version go back too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def abort(context: Context, number: str | None, back: bool, yes: bool) -> None:
    """End a rollout: what has not begun stays as it is, what failed goes back to its last good version."""
    from sis.head import rollouts, rollouts_act

    with context.open_inventory() as inventory:
        rollout_id = _number(inventory, number)
        row = rollouts.detail(inventory, rollout_id).rollout
        going = f" and send {counted(row.good, 'good node')} back" if back and row.good else ""
        confirm(f"Abort rollout {rollout_id} ({row.nodeset} → {row.target}){going}?", yes=yes)
        _say(context, inventory, rollouts_act.abort(inventory, rollout_id, back=back))


def _number(inventory: Inventory, text: str | None) -> int:
    from sis.head import rollouts_act

    if text is not None:
        return rollouts_act.number(text)
    last = inventory.rollouts.list(1)
    if not last:
        raise NotFound("there is no rollout yet", hint="make one: sis deploy NODESET --canary 1 --then 10%")
    return last[0].id


def _await_news(inventory: Inventory, rollout_id: int) -> None:
    """Until the stream tells of this rollout or of a node's work, or the figures have grown old."""
    place = inventory.stream.newest()
    until = time.monotonic() + _REDRAW_EVERY_S
    while time.monotonic() < until:
        time.sleep(_LOOK_EVERY_S)
        rows = inventory.stream.after(place, kinds=("rollout",))
        if any(row.ref == rollout_id for row in rows):
            return


def _say(context: Context, inventory: Inventory, changed: Rollout) -> None:
    from sis.head import rollouts

    row = rollouts.row_of(changed, inventory.rollouts.nodes(changed.id))
    if context.output != "table":
        emit_one(asdict(row), context.output)
        return
    click.echo(_heading(row))


def _show(found: RolloutDetail, output: str) -> None:
    if output != "table":
        emit_one(asdict(found), output)
        return
    row = found.rollout
    click.echo(_heading(row))
    click.echo(f"  {row.command}")
    if len(found.waves) > 1:
        waves: list[str | Column] = [
            Column("number", "wave", right=True),
            Column("state", style=_style),
            "nodes",
            Column("good", right=True),
            Column("failed", right=True),
            Column("bytes", "moved", right=True, text=lambda size: human_bytes(size) if size else ""),
            Column("seconds", "took", right=True, text=lambda seconds: f"{seconds:.0f} s" if seconds else ""),
            "why",
        ]
        emit([asdict(wave) for wave in found.waves], waves)
    groups: list[str | Column] = [
        Column("step", style=_style),
        Column("count", right=True),
        "nodes",
        "target",
        "before",
        Column("since", text=age),
        "reason",
    ]
    emit([asdict(group) for group in found.groups], groups)


def _heading(row: RolloutRow) -> str:
    parts = [f"rollout {row.id} {click.style(row.state, fg=_color(row.state))}"]
    parts[0] += f": {printable(row.reason)}" if row.reason and row.state != "done" else ""
    parts.append(f"wave {row.wave} of {row.waves}")
    parts.append(f"{row.good} of {counted(row.total, 'node')} good")
    parts += [f"{row.failed} failed"] if row.failed else []
    parts += [f"{human_bytes(row.bytes)} moved"] if row.bytes else []
    parts.append(_span(row.seconds))
    parts += [f"about {_span(row.eta_s)} left"] if row.eta_s else []
    return ", ".join(parts)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _style(state: Any) -> str:
    return _STYLES.get(str(state), "cyan")


def _color(state: str) -> str:
    return _style(state).split()[-1]
