"""`sis node`: define nodes, show them, change them, render their own files, read their logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.nodesets import chosen, shown, takes_nodes
from sis.cli.output import Column, emit, human_bytes, printable
from sis.cli.shown import age, confirm, counted, held_image, state_style, summary
from sis.errors import UsageFault

if TYPE_CHECKING:
    from sis.inventory.db import Inventory
    from sis.inventory.model import Node, StoredReport

_NO_NETWORK = "define one: sis head init --network mgmt=10.77.0.0/24 --address 10.77.0.1"


@click.group("node")
def node() -> None:
    """Define nodes, show them, and render their own files.

    NODESET is a ClusterShell node set: n001, n[001-016], n[001-016]!n004, @group, @* (all).
    """


@node.command(
    epilog="Example: sis node add n[001-002] --mac 52:54:00:00:00:01,52:54:00:00:00:02 --image compute@stable"
)
@click.argument("nodeset")
@click.option("--mac", "macs", default="", metavar="A,B,…", help="MACs, in the order of the nodes.")
@click.option("--ip", "addresses", default="", metavar="A,B,…", help="Addresses; without them the next free ones.")
@click.option("--image", "image", metavar="IMAGE[@…]", help="What they are to be: compute@stable, compute@12.")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="A group they are in (may be repeated).")
@click.option("--layout", metavar="NAME", help="Disk layout, instead of the image's own.")
@click.option("--network", metavar="NAME", help="Network they are on; needed when there are several.")
@click.option("--interface", default="eth0", show_default=True, metavar="NAME", help="Name of their interface.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be defined; change nothing.")
@click.pass_obj
def add(
    context: Context,
    nodeset: str,
    macs: str,
    addresses: str,
    image: str | None,
    groups: tuple[str, ...],
    layout: str | None,
    network: str | None,
    interface: str,
    dry_run: bool,
) -> None:
    """Define the nodes of NODESET."""
    from sis.head.inventory_acts import assignment_of, network_of
    from sis.inventory.model import Interface, NewNode
    from sis.inventory.names import expand
    from sis.inventory.settings_words import listed, one_each
    from sis.inventory.wiring import FREE

    with context.open_inventory(create=True) as inventory:
        names = expand(nodeset, inventory.nodes.groups(), inventory.nodes.names())
        own_macs = one_each("MAC", listed(macs), names)
        own_addresses = one_each("address", listed(addresses), names)
        on = network_of(inventory, network)
        if own_addresses and on is None:
            raise UsageFault("addresses need a network", hint=_NO_NETWORK)
        assignment = assignment_of(context.state, image, layout)
        free = FREE if on else None
        new = [
            NewNode(
                name,
                (Interface(interface, own_macs.get(name), own_addresses.get(name) or free, on),),
                groups,
                assignment,
            )
            for name in names
        ]
        done = context.intent(inventory).add(new, dry_run=dry_run)
    _emit_nodes(done.nodes, context.output)
    if context.output == "table":
        _echo_text(done.text, dry_run=dry_run)
        click.echo(f"{counted(len(done.nodes), 'node')} {'would be ' if dry_run else ''}defined")


@node.command("list", epilog="Example: sis node list @rack1 -l state=failed -o json")
@takes_nodes
@click.pass_obj
def list_nodes(context: Context, nodeset: str | None, where: tuple[str, ...]) -> None:
    """List all nodes, or those of NODESET; -l selects by what is wanted of them and known of them."""
    with context.open_inventory() as inventory:
        nodes = shown(inventory, nodeset, where)
    _emit_nodes(nodes, context.output)
    if context.output == "table":
        click.echo(summary(nodes))


@node.command("set", epilog="Example: sis node set n[001-128] image=compute@stable groups+=rack2 overlays+=gpu")
@takes_nodes
@click.argument("settings", nargs=-1, metavar="NAME=VALUE…")
@click.option("-n", "--dry-run", is_flag=True, help="Show the change; make none.")
@click.pass_obj
def set_nodes(
    context: Context, nodeset: str | None, where: tuple[str, ...], settings: tuple[str, ...], dry_run: bool
) -> None:
    """Change the nodes of NODESET. Where the inventory follows a cluster file, its text is changed too.

    NAME is image, layout, groups, overlays, mac, ip, vars.NAME, or a profile setting: timezone, kernel_cmdline,
    serial_console, resync, modules, blacklist, kerrighed, nameservers, search, domain, root_authorized_keys, …
    = sets, += adds to a list, -= takes from it; an empty VALUE is the default again.
    """
    from sis.head.inventory_acts import checks
    from sis.inventory.settings_words import change_of

    if nodeset and "=" in nodeset and where:
        settings = (nodeset, *settings)
        nodeset = None
    if not settings:
        raise UsageFault("what is to be set?", hint="write NAME=VALUE, such as image=compute@stable")
    with context.open_inventory() as inventory:
        nodes = chosen(inventory, nodeset, where)
        change = change_of(settings, nodes, inventory.nodes.groups(), checks(context.state))
        seen = {node.name: node.version for node in nodes}
        done = context.intent(inventory).change(list(seen), change, expected=seen, dry_run=dry_run)
    if context.output != "table":
        emit([asdict(line) for line in done.lines], ["nodes", "setting", "before", "after"], context.output)
        return
    for line in done.lines:
        click.echo(printable(line.line))
    _echo_text(done.text, dry_run=dry_run)
    if not done.lines:
        click.echo("nothing to change")


@node.command(epilog="Example: sis node delete n[017-018] --yes")
@takes_nodes
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(context: Context, nodeset: str | None, where: tuple[str, ...], yes: bool) -> None:
    """Remove the nodes of NODESET and every trace of them."""
    from sis.inventory.names import fold

    with context.open_inventory() as inventory:
        names = [node.name for node in chosen(inventory, nodeset, where)]
        confirm(f"Delete {counted(len(names), 'node')}: {fold(names)}?", yes=yes)
        removed = context.intent(inventory).delete(names)
    click.echo(f"{counted(removed, 'node')} deleted: {fold(names)}")


@node.command(epilog="Example: sis node log n001 --last 100")
@click.argument("name")
@click.option("--last", default=40, show_default=True, metavar="N", help="How many events.")
@click.pass_obj
def log(context: Context, name: str, last: int) -> None:
    """Show what NAME told: its stages and reports in order, the log of failed ones below them."""
    with context.open_inventory() as inventory:
        inventory.nodes.get(name)
        told = _story(inventory, name, last)
    if context.output != "table":
        emit(told, ["time", "stage", "outcome", "message"], context.output)
        return
    if not told:
        click.echo(f"{name} has told nothing yet")
    shown: set[str] = set()
    for each in told:
        _echo_told(each, with_log=each["log"] not in shown)
        shown.add(each["log"])


def _story(inventory: Inventory, name: str, last: int) -> list[dict[str, Any]]:
    """The last events and reports of a node as rows, in order of arrival."""
    rows: list[dict[str, Any]] = [
        {
            "time": event.received,
            "stage": event.stage,
            "outcome": event.outcome,
            "message": event.message,
            "bytes": event.bytes,
            "seconds": event.seconds,
            "log": event.log,
        }
        for event in inventory.history.events(name, limit=last)
    ]
    rows += [
        {
            "time": report.received,
            "stage": f"{report.kind} report",
            "outcome": report.outcome,
            "message": report.error or _told_by(report),
            "bytes": int(report.totals.get("bytes_fetched", 0)),
            "seconds": report.seconds,
            "log": report.log,
        }
        for report in inventory.history.reports(name, last)
    ]
    return sorted(rows, key=lambda row: str(row["time"]))[-last:]


def _told_by(report: StoredReport) -> str:
    changes = len(report.changes) + report.changes_left_out
    held = "in-sync" if report.in_sync else "not in-sync"
    return f"{report.image}@{report.generation} {held}, {counted(changes, 'change')}"


def _echo_told(told: Mapping[str, Any], *, with_log: bool) -> None:
    colour = {"failed": "red", "ok": "green"}.get(told["outcome"])
    measures = [f"{told['seconds']:.1f} s"] if told["seconds"] else []
    measures += [human_bytes(told["bytes"])] if told["bytes"] else []
    outcome = click.style(f"{told['outcome']:<6}", fg=colour)
    when = told["time"][:19].replace("T", " ")
    line = f"{when}  {told['stage']:<14}  {outcome}  {printable(told['message'])}"
    click.echo(line.rstrip() + (f" ({', '.join(measures)})" if measures else ""))
    for text in told["log"].splitlines() if with_log else ():
        click.echo(f"    | {printable(text)}")


def _echo_text(text: str, *, dry_run: bool) -> None:
    """Show what becomes of the cluster file's text: all of it before it is done, in short after."""
    lines = [line for line in text.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    if dry_run:
        for line in text.splitlines():
            click.echo(printable(line))
    elif lines:
        click.echo(f"{text.splitlines()[0].removeprefix('--- ')}: {counted(len(lines), 'line')} changed")


def _row(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "state": node.state.state,
        "image": node.assignment.reference if node.assignment else None,
        "has": held_image(node.state) or None,
        "address": node.address,
        "mac": node.macs[0] if node.macs else None,
        "groups": list(node.groups),
        "seen": node.state.seen,
        "armed": node.arming is not None,
    }


def _emit_nodes(nodes: Sequence[Node], output: str) -> None:
    columns: list[str | Column] = [
        "name",
        Column("state", style=state_style),
        Column("image"),
        Column("has"),
        Column("address"),
        Column("mac"),
        Column("groups"),
        Column("seen", text=age),
    ]
    emit([_row(node) for node in nodes], columns, output)
