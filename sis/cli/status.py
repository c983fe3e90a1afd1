"""`sis status`: every node on one screen, alike ones folded, what failed in red with its reason."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context, fancy
from sis.cli.nodesets import shown, takes_nodes
from sis.cli.output import Column, emit
from sis.cli.shown import age, held_image, state_style, summary

if TYPE_CHECKING:
    from sis.inventory.db import Inventory
    from sis.inventory.model import Node, StoredEvent

_WATCH_EVERY_S = 1.0
_ORDER = ("failed", "quarantined", "drifted")


@click.command(epilog="Example: sis status --watch")
@takes_nodes
@click.option("--watch", is_flag=True, help="Keep showing it until ^C.")
@click.pass_obj
def status(context: Context, nodeset: str | None, where: tuple[str, ...], watch: bool) -> None:
    """Show the state of all nodes, or of those of NODESET: what they hold, what they do, what failed and why."""
    with context.open_inventory() as inventory:
        while True:
            nodes = shown(inventory, nodeset, where)
            if watch and fancy(sys.stdout, context.color):
                click.clear()
            _show(context, inventory, nodes)
            if not watch:
                return
            time.sleep(_WATCH_EVERY_S)
            if not fancy(sys.stdout, context.color):
                click.echo()


def _show(context: Context, inventory: Inventory, nodes: Sequence[Node]) -> None:
    last = inventory.history.last_events()
    wanted = _wanted(context, nodes)
    rows = [_row(node, last.get(node.name), wanted) for node in nodes]
    if context.output != "table":
        emit(rows, ["name"], context.output)
        return
    columns: list[str | Column] = [
        "nodes",
        Column("state", style=state_style),
        Column("image"),
        Column("seen", text=age),
        Column("event", "last event"),
    ]
    if rows:
        emit(_folded(rows), columns)
    failed = [node.name for node in nodes if node.state.state == "failed"]
    if failed:
        click.echo(click.style(f"see why: sis node log {failed[0]}", fg="red"))
    strangers = len(inventory.discoveries.list())
    if strangers:
        click.echo(f"{strangers} unknown machines booted: sis node discover list")
    click.echo(summary(nodes))


def _wanted(context: Context, nodes: Sequence[Node]) -> dict[str, str]:
    """Image reference → "compute@12": what each means now; references that mean nothing are left out."""
    from sis.errors import SisError
    from sis.image.store import reference
    from sis.image.store.local import LocalStore

    store = LocalStore(context.store)
    found = {}
    for text in {node.assignment.reference for node in nodes if node.assignment}:
        try:
            resolved = reference.resolve(store, reference.parse(text))
        except SisError:
            continue
        found[text] = f"{resolved.image}@{resolved.generation}"
    return found


def _row(node: Node, event: StoredEvent | None, wanted: dict[str, str]) -> dict[str, Any]:
    state = node.state
    assigned = node.assignment.reference if node.assignment else None
    held = node.hold.held.name if node.hold else None
    return {
        "name": node.name,
        "state": state.state,
        "since": state.since,
        "has": held_image(state) or None,
        "assigned": assigned,
        "wanted": held or (wanted.get(assigned) if assigned else None),
        "held_by": f"rollout {node.hold.rollout_id}" if node.hold else None,
        "step": state.step or None,
        "reason": state.reason or None,
        "differences": state.drift,
        "reboot_needed": state.reboot_needed,
        "reboot_why": state.reboot_why or None,
        "armed": node.arming is not None,
        "seen": state.seen,
        "event": _event(node, event),
    }


def _event(node: Node, event: StoredEvent | None) -> str:
    state = node.state
    if state.state in ("failed", "quarantined", "maintenance"):
        return ": ".join(part for part in (state.step, state.reason) if part)
    notes = []
    if state.state == "armed":
        notes.append("waits for its network boot")
    elif state.drift and state.state == "drifted":
        notes.append(f"{state.drift} differences")
    elif state.state not in ("in-sync", "defined") and (state.progress or event):
        notes.append(state.progress or (f"{event.stage} {event.outcome}" if event else ""))
    if state.reboot_needed:
        notes.append("reboot needed" + (f": {state.reboot_why}" if state.reboot_why else ""))
    if node.hold:
        notes.append(f"held to {node.hold.held.name} by rollout {node.hold.rollout_id}")
    return ", ".join(notes)


def _folded(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nodes that look the same in one row, the troubled ones first."""
    from sis.inventory.names import fold

    alike: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault((row["state"], _image(row), row["event"]), []).append(row)
    shown = []
    for (state, image, event), members in alike.items():
        seen = [row["seen"] for row in members if row["seen"]]
        names = fold(row["name"] for row in members)
        shown.append({"nodes": names, "state": state, "image": image, "seen": min(seen, default=None), "event": event})
    return sorted(shown, key=lambda row: _ORDER.index(row["state"]) if row["state"] in _ORDER else len(_ORDER))


def _image(row: dict[str, Any]) -> str:
    """What it has, and what it is to have when that is something else: "compute@1 → compute@2"."""
    has, wanted = row["has"], row["wanted"] or row["assigned"]
    if not has or not wanted or has == wanted:
        return str(has or wanted or "")
    return f"{has} → {wanted}"
