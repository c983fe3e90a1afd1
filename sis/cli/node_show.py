"""`sis node show`: all that is known of one node: requested beside observed, and where each value comes from."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit, emit_one, printable
from sis.cli.shown import age, held_image
from sis.errors import SisError

if TYPE_CHECKING:
    from sis.inventory.db import Inventory
    from sis.inventory.model import Node
    from sis.spec.expansion import NodeSpec

_REPORTS_SHOWN = 20
_AGREES = {True: "=", False: "≠", None: ""}


@click.command(epilog="Example: sis node show n001 --blame")
@click.argument("name")
@click.option("--blame", "blamed", is_flag=True, help="Show where each value comes from: file and line, or who set it.")
@click.option("--changes", "changed", is_flag=True, help="Show who changed what of it, newest first.")
@click.pass_obj
def show(context: Context, name: str, blamed: bool, changed: bool) -> None:
    """Show all that is known of one node: what is requested beside what is observed."""
    with context.open_inventory() as inventory:
        found = inventory.nodes.get(name)
        if blamed:
            _show_blame(context, inventory, found)
        elif changed:
            _show_changes(context, inventory, found)
        else:
            _show_all(context, inventory, found)


def _show_all(context: Context, inventory: Inventory, node: Node) -> None:
    from sis.inventory.sides import sides

    facts = inventory.history.facts(node.id)
    reports = inventory.history.reports(node.name, 1 if context.output == "table" else _REPORTS_SHOWN)
    both = sides(node, facts, means=_means(context, node))
    row = _full_row(node)
    if context.output != "table":
        import msgspec

        told = {"facts": facts, "reports": msgspec.to_builtins(reports), "sides": [asdict(side) for side in both]}
        emit_one({**row, **told}, context.output)
        return
    short = ("name", "id", "groups", "since", "seen", "armed", "created", "version_of_intent")
    emit_one({key: row[key] for key in short} | _said(row))
    if reports:
        last = reports[0]
        click.echo(
            printable(
                f"last report: {last.kind} {last.outcome}, {age(last.received)} ago, {last.seconds:.0f} s"
                + (f": {last.error}" if last.error else "")
            )
        )
    click.echo()
    agrees = Column("agrees", "", text=lambda agrees: _AGREES[agrees])
    columns: list[str | Column] = ["what", "requested", agrees, "observed"]
    emit([asdict(side) for side in both], columns)


def _said(row: dict[str, Any]) -> dict[str, Any]:
    """Profile settings as rows of their own."""
    from sis.inventory.changes import shown

    return {"profile": {name: shown(value) for name, value in row["profile"].items()}} if row["profile"] else {}


def _show_blame(context: Context, inventory: Inventory, node: Node) -> None:
    from sis.inventory.blame import blame

    found = blame(inventory, node, _in_the_file(context, node.name))
    emit([asdict(each) for each in found], ["setting", "value", "origin"], context.output)


def _in_the_file(context: Context, name: str) -> NodeSpec | None:
    """The node in the cluster file applied last."""
    from sis.head import applied
    from sis.spec import cluster

    text = applied.cluster(context.state)
    spec = cluster.parse(text.text.encode(), text.file) if text is not None else None
    return next((node for node in spec.expand() if node.name == name), None) if spec is not None else None


def _show_changes(context: Context, inventory: Inventory, node: Node) -> None:
    from sis.inventory.changes import describe

    found = inventory.changes.last(50, node=node.name)
    if context.output != "table":
        emit([asdict(each) for each in found], ["id"], context.output)
        return
    for change in found:
        for line in describe(change):
            click.echo(printable(line))


def _means(context: Context, node: Node) -> str | None:
    """What the node's image reference means now; None when it means nothing."""
    from sis.image.store import reference
    from sis.image.store.local import LocalStore

    if node.assignment is None:
        return None
    try:
        resolved = reference.resolve(LocalStore(context.store), reference.parse(node.assignment.reference))
    except SisError:
        return None
    return f"{resolved.image}@{resolved.generation}"


def _full_row(node: Node) -> dict[str, Any]:
    from sis.inventory.profile import shown_profile

    state = node.state
    return {
        "name": node.name,
        "state": state.state,
        "image": node.assignment.reference if node.assignment else None,
        "has": held_image(state) or None,
        "address": node.address,
        "mac": node.macs[0] if node.macs else None,
        "groups": list(node.groups),
        "seen": state.seen,
        "armed": node.arming is not None,
        "id": node.id,
        "layout": node.assignment.layout if node.assignment else None,
        "since": state.since,
        "step": state.step or None,
        "reason": state.reason or None,
        "version": state.version or None,
        "differences": state.drift,
        "reboot_needed": state.reboot_needed,
        "reboot_why": state.reboot_why or None,
        "interfaces": [
            {"name": each.name, "mac": each.mac, "address": each.address, "network": each.network}
            for each in node.interfaces
        ],
        "profile": shown_profile(node.profile),
        "machine_id": node.machine_id,
        "created": node.created,
        "version_of_intent": node.version,
    }
