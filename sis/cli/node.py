"""`sis node`: define nodes, show them, change them, render their own files, read their logs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit, emit_one, human_bytes, printable
from sis.cli.shown import age, confirm, counted, held_image, state_style, summary
from sis.errors import NotFound, UsageFault

if TYPE_CHECKING:
    from sis.inventory.db import Inventory
    from sis.inventory.model import Assignment, Interface, Network, NewNode, Node, StoredReport
    from sis.inventory.nodes import Change


_REPORTS_SHOWN = 20


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
    from sis.inventory.names import expand
    from sis.inventory.nodes import FREE

    with context.open_inventory(create=True) as inventory:
        names = expand(nodeset, inventory.nodes.groups(), inventory.nodes.names())
        own_macs = _one_each("MAC", macs, names)
        own_addresses = _one_each("address", addresses, names)
        on = _network(inventory, network, needed=bool(addresses))
        assignment = _assignment(context, image, layout)
        new = [
            _new_node(
                name,
                interface,
                own_macs.get(name),
                own_addresses.get(name) or (FREE if on else None),
                on.name if on else None,
                groups,
                assignment,
            )
            for name in names
        ]
        added = inventory.nodes.preview(new) if dry_run else inventory.nodes.add(new)
    _emit_nodes(added, context.output)
    if context.output == "table":
        click.echo(f"{counted(len(added), 'node')} {'would be ' if dry_run else ''}defined")


@node.command("list", epilog="Example: sis node list @rack1 -o json")
@click.argument("nodeset", required=False)
@click.option("--discovered", is_flag=True, help="List machines that booted and are no node's instead.")
@click.pass_obj
def list_nodes(context: Context, nodeset: str | None, discovered: bool) -> None:
    """List all nodes, or those of NODESET."""
    with context.open_inventory() as inventory:
        if discovered:
            _emit_discovered(inventory, context.output)
            return
        nodes = inventory.nodes.select(nodeset) if nodeset else inventory.nodes.list()
    _emit_nodes(nodes, context.output)
    if context.output == "table":
        click.echo(summary(nodes))


@node.command(epilog="Example: sis node show n001")
@click.argument("name")
@click.pass_obj
def show(context: Context, name: str) -> None:
    """Show all that is known of one node."""
    with context.open_inventory() as inventory:
        found = inventory.nodes.get(name)
        facts = inventory.history.facts(found.id)
        reports = inventory.history.reports(name, 1 if context.output == "table" else _REPORTS_SHOWN)
    row = _full_row(found)
    if context.output != "table":
        import msgspec

        emit_one({**row, "facts": facts, "reports": msgspec.to_builtins(reports)}, context.output)
        return
    row["facts"] = _few_facts(facts)
    if reports:
        last = reports[0]
        row["last_report"] = f"{last.kind} {last.outcome}, {age(last.received)} ago, {last.seconds:.0f} s" + (
            f": {last.error}" if last.error else ""
        )
    emit_one(row, context.output)


@node.command("set", epilog="Example: sis node set n[001-016] image=compute@12 groups+=rack2 timezone=Europe/Paris")
@click.argument("nodeset")
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE…")
@click.option("-n", "--dry-run", is_flag=True, help="Show the change; make none.")
@click.pass_obj
def set_nodes(context: Context, nodeset: str, settings: tuple[str, ...], dry_run: bool) -> None:
    """Change the nodes of NODESET.

    NAME is image, layout, groups (also += and -=), mac, ip, or a profile setting: timezone, kernel_cmdline,
    serial_console, resync, modules, blacklist, kerrighed, nameservers, search, domain, root_authorized_keys, vars.NAME.
    An empty VALUE is the default again.
    """
    with context.open_inventory() as inventory:
        nodes = inventory.nodes.select(nodeset)
        change = _change(context, inventory, nodes, settings)
        after = inventory.nodes.preview_change(nodes, change) if dry_run else None
        if after is None:
            after = inventory.nodes.change([node.name for node in nodes], change)
    _emit_changes(nodes, after, context.output)


@node.command(epilog="Example: sis node delete n[017-018] --yes")
@click.argument("nodeset")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(context: Context, nodeset: str, yes: bool) -> None:
    """Remove the nodes of NODESET and every trace of them."""
    from sis.inventory.names import fold

    with context.open_inventory() as inventory:
        names = [node.name for node in inventory.nodes.select(nodeset)]
        confirm(f"Delete {counted(len(names), 'node')}: {fold(names)}?", yes=yes)
        removed = inventory.nodes.delete(names)
    click.echo(f"{counted(removed, 'node')} deleted: {fold(names)}")


@node.command(epilog="Example: sis node render n001 /etc/hosts")
@click.argument("name")
@click.argument("path", required=False)
@click.pass_obj
def render(context: Context, name: str, path: str | None) -> None:
    """Render NAME's own files for its image: list them, or print the one at PATH."""
    from sis.head.renders import Renders

    with context.open_inventory() as inventory:
        desired = Renders(context.state, inventory).desired(inventory.nodes.get(name))
    if path is None:
        rows = [
            {
                "path": file.path,
                "kind": file.kind,
                "mode": f"{file.mode:04o}",
                "size": len(file.content) if file.kind == "file" else None,
                "target": file.target or None,
                "origin": file.origin,
            }
            for file in desired.layer
        ]
        emit(rows, ["path", "kind", "mode", Column("size", right=True), "target", "origin"], context.output)
        return
    files = {file.path: file for file in desired.layer}
    if path not in files:
        raise NotFound.of(f"file in the layer of {name}", path, files)
    file = files[path]
    if file.kind == "symlink":
        click.echo(f"{file.path} -> {file.target}")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(file.content)


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


def _one_each(what: str, text: str, names: Sequence[str]) -> dict[str, str]:
    """Comma-separated values, one a node. Raises UsageFault when there are more or fewer of them than nodes."""
    values = [value.strip() for value in text.split(",") if value.strip()]
    if values and len(values) != len(names):
        plural = "" if len(values) == 1 else "es" if what == "address" else "s"
        raise UsageFault(
            f"{len(values)} {what}{plural} for {counted(len(names), 'node')}", hint=f"give one {what} for each node"
        )
    return dict(zip(names, values, strict=False))


def _network(inventory: Inventory, name: str | None, *, needed: bool) -> Network | None:
    if name is not None:
        return inventory.networks.get(name)
    networks = inventory.networks.list()
    if len(networks) > 1:
        raise UsageFault(
            "which network?", hint="give --network " + " or --network ".join(network.name for network in networks)
        )
    if not networks and needed:
        raise UsageFault(
            "addresses need a network", hint="define one: sis head init --network mgmt=10.77.0.0/24 --address 10.77.0.1"
        )
    return networks[0] if networks else None


def _assignment(context: Context, image: str | None, layout: str | None) -> Assignment | None:
    """The assignment of --image and --layout, both there. Raises NotFound with near names."""
    from sis.inventory.model import Assignment

    if image is None:
        if layout is not None:
            raise UsageFault("--layout needs --image")
        return None
    name, selector = _image(context, image)
    if layout is not None:
        _check_layout(context, layout)
    return Assignment(name, selector, layout)


def _image(context: Context, text: str) -> tuple[str, str]:
    from sis.image import reference
    from sis.image.store import LocalStore

    wanted = reference.parse(text)
    reference.resolve(LocalStore(context.store), wanted)
    name, _, selector = str(wanted).partition("@")
    return name, selector


def _check_layout(context: Context, name: str) -> None:
    from sis.head.renders import load_layout

    load_layout(context.state, name)


def _new_node(
    name: str,
    interface: str,
    mac: str | None,
    address: str | None,
    network: str | None,
    groups: tuple[str, ...],
    assignment: Assignment | None,
) -> NewNode:
    from sis.inventory.model import Interface, NewNode

    return NewNode(name, (Interface(interface, mac, address, network),), groups, assignment)


def _change(context: Context, inventory: Inventory, nodes: Sequence[Node], settings: Sequence[str]) -> Change:
    """The change that NAME=VALUE words describe. Raises UsageFault and NotFound."""
    from sis.inventory.model import Assignment
    from sis.inventory.names import check_group
    from sis.inventory.nodes import Change
    from sis.inventory.profile import parse_setting, read_profile

    names = [node.name for node in nodes]
    image: tuple[str, str] | None = None
    layout: str | None = None
    join: list[str] = []
    leave: list[str] = []
    groups: list[str] | None = None
    profile: dict[str, Any] = {}
    site_vars: dict[str, str] = {}
    wiring: dict[str, dict[str, str]] = {}
    for word in settings:
        name, sign, value = _split(word)
        listed = [part.strip() for part in value.split(",") if part.strip()]
        if name == "image" and sign == "=":
            image = _image(context, value)
        elif name == "layout" and sign == "=":
            layout = value
            if value:
                _check_layout(context, value)
        elif name in ("group", "groups"):
            listed = [check_group(group) for group in listed]
            if sign == "=":
                groups = listed
            else:
                (join if sign == "+=" else leave).extend(listed)
        elif name in ("mac", "ip") and sign == "=":
            wiring[name] = _one_each("MAC" if name == "mac" else "address", value, names)
        elif sign != "=":
            raise UsageFault(f"{word}: only groups can be added to or taken from", hint=f"write {name}=VALUE")
        elif name.startswith("vars."):
            site_vars[name.removeprefix("vars.")] = value
        else:
            profile[name] = parse_setting(name, value)

    def assigned(known: Assignment | None) -> Assignment:
        chosen = image or ((known.image, known.selector) if known else None)
        if chosen is None:
            raise UsageFault("a layout alone is no assignment", hint="give image=NAME@stable too")
        return Assignment(*chosen, (layout or None) if layout is not None else (known.layout if known else None))

    change = Change(
        assignment=assigned if image or layout is not None else None,
        profile=profile,
        vars=site_vars,
        join=join,
        leave=leave,
        groups=groups,
        interfaces={node.name: _rewired(node, wiring) for node in nodes} if wiring else {},
    )
    for each in nodes:
        read_profile(change.of(each).profile, each.name)
    _known_groups(inventory, leave)
    return change


def _known_groups(inventory: Inventory, names: Sequence[str]) -> None:
    known = inventory.nodes.groups()
    for name in names:
        if name not in known:
            raise NotFound.of("group", name, known)


def _rewired(node: Node, wiring: Mapping[str, Mapping[str, str]]) -> tuple[Interface, ...]:
    """The node's interfaces with the first one's MAC or address changed."""
    from dataclasses import replace

    if not node.interfaces:
        raise UsageFault(f"node {node.name} has no interface")
    first = node.interfaces[0]
    if mac := wiring.get("mac", {}).get(node.name):
        first = replace(first, mac=mac)
    if address := wiring.get("ip", {}).get(node.name):
        first = replace(first, address=address)
    return (first, *node.interfaces[1:])


def _split(word: str) -> tuple[str, str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name.rstrip("+-"):
        raise UsageFault(f"not understood: {word}", hint="write NAME=VALUE, such as image=compute@stable")
    sign = {"+": "+=", "-": "-="}.get(name[-1], "=")
    return name.rstrip("+-").strip(), sign, value


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


def _full_row(node: Node) -> dict[str, Any]:
    from sis.inventory.profile import shown_profile

    state = node.state
    return {
        **_row(node),
        "id": node.id,
        "layout": node.assignment.layout if node.assignment else None,
        "since": state.since,
        "step": state.step or None,
        "reason": state.reason or None,
        "version": state.version or None,
        "differences": state.drift,
        "reboot_needed": state.reboot_needed,
        "interfaces": [
            {"name": each.name, "mac": each.mac, "address": each.address, "network": each.network}
            for each in node.interfaces
        ],
        "profile": shown_profile(node.profile),
        "machine_id": node.machine_id,
        "created": node.created,
    }


def _few_facts(facts: Mapping[str, Any] | None) -> str:
    if not facts:
        return "none yet"
    cpu = facts.get("cpu")
    parts = [
        f"{facts.get('manufacturer', '')} {facts.get('product', '')}".strip(),
        str(cpu.get("model", "")) if isinstance(cpu, Mapping) else "",
        human_bytes(int(facts["memory_bytes"])) if facts.get("memory_bytes") else "",
        str(facts.get("boot_mode", "")),
    ]
    return ", ".join(part for part in parts if part) or "none yet"


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


def _emit_discovered(inventory: Inventory, output: str) -> None:
    rows = [
        {"mac": each.mac, "boots": each.boots, "first_seen": each.first_seen, "last_seen": each.last_seen, **each.data}
        for each in inventory.discoveries.list()
    ]
    columns: list[str | Column] = ["mac", Column("boots", right=True), "address", Column("last_seen", text=age), "uuid"]
    emit(rows, columns, output)


def _emit_changes(before: Sequence[Node], after: Sequence[Node], output: str) -> None:
    from sis.inventory.names import fold

    rows = []
    for old, new in zip(before, after, strict=True):
        one, two = _full_row(old), _full_row(new)
        rows += [
            {"name": new.name, "setting": key, "before": one[key], "after": two[key]}
            for key in ("image", "layout", "groups", "interfaces", "profile")
            if one[key] != two[key]
        ]
    if output != "table":
        emit(rows, ["name", "setting", "before", "after"], output)
        return
    folded: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        key = (row["setting"], _short(row["before"]), _short(row["after"]))
        folded.setdefault(key, []).append(row["name"])
    for (setting, old_value, new_value), names in folded.items():
        click.echo(f"{fold(names)}: {setting}: {old_value} → {new_value}")
    if not rows:
        click.echo("nothing to change")


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "; ".join(f"{each['name']} {each['mac'] or '-'} {each['address'] or '-'}" for each in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_short(each)}" for key, each in value.items()) or "-"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "-"
    return str(value) if value is not None else "-"
