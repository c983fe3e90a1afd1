"""`sis node discover`: machines that booted and are no one's: seen, named, accepted or turned away."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit, printable
from sis.cli.shown import age, confirm, counted
from sis.errors import NotFound, SisError, UsageFault

if TYPE_CHECKING:
    from sis.inventory.db import Inventory
    from sis.inventory.naming import NamedBy, Proposal, Template

F = TypeVar("F", bound=Callable[..., Any])

_EVERY_S = 1.0


@click.group("discover")
def discover() -> None:
    """Machines that booted from the network and are no one's. Nothing is installed on them until they are accepted.

    Names come in order of the first boot (--name-by order --nodes NODESET), or from a file (--names FILE) whose lines
    hold a MAC (list), a serial number (serial) or a switch and its port (switch), and the name.
    """


@dataclass(frozen=True, slots=True)
class _Naming:
    """What decides machines' names: the order of first boots, or the lines of a file."""

    by: NamedBy
    nodeset: str
    names: Path | None


@dataclass(frozen=True, slots=True)
class _Making:
    """What nodes made of machines are to be."""

    image: str | None
    groups: tuple[str, ...]
    layout: str | None
    network: str | None
    interface: str


def _takes_naming(command: F) -> F:
    """Give a command the options of `_Naming`; it gets them as `naming`."""

    @functools.wraps(command)
    def run(*args: Any, name_by: NamedBy, nodeset: str, names: Path | None, **kwargs: Any) -> Any:
        return command(*args, naming=_Naming(name_by, nodeset, names), **kwargs)

    for option in (
        click.option("--names", type=click.Path(path_type=Path), metavar="FILE", help="Keys and names, one a line."),
        click.option("--nodes", "nodeset", default="", metavar="NODESET", help="Names to give, in order."),
        click.option(
            "--name-by",
            type=click.Choice(["order", "list", "serial", "switch"]),
            default="order",
            show_default=True,
            help="What decides a machine's name.",
        ),
    ):
        run = option(run)
    return cast("F", run)


def _takes_making(command: F) -> F:
    """Give a command the options of `_Making`; it gets them as `making`."""

    @functools.wraps(command)
    def run(
        *args: Any,
        image: str | None,
        groups: tuple[str, ...],
        layout: str | None,
        network: str | None,
        interface: str,
        **kwargs: Any,
    ) -> Any:
        return command(*args, making=_Making(image, groups, layout, network, interface), **kwargs)

    for option in (
        click.option("--interface", default="eth0", show_default=True, metavar="NAME", help="Name of their interface."),
        click.option("--network", metavar="NAME", help="Network they are on; needed when there are several."),
        click.option("--layout", metavar="NAME", help="Disk layout, instead of the image's own."),
        click.option("--group", "groups", multiple=True, metavar="NAME", help="A group they are in (may be repeated)."),
        click.option("--image", metavar="IMAGE[@…]", help="What they are to be: compute@stable, compute@12."),
    ):
        run = option(run)
    return cast("F", run)


@discover.command("list", epilog="Example: sis node discover list --name-by order --nodes n[001-016]")
@_takes_naming
@click.option("--rejected", is_flag=True, help="List those turned away instead.")
@click.pass_obj
def list_(context: Context, naming: _Naming, rejected: bool) -> None:
    """List machines that are no one's, with the name each would get."""
    with context.open_inventory() as inventory:
        if rejected:
            rows = [_row(each) for each in inventory.discoveries.list(rejected=True)]
        else:
            rows = [_proposed(each) for each in _propose(inventory, naming)]
    emit(rows, _COLUMNS, context.output)
    if context.output == "table" and not rows:
        click.echo("no machine is waiting: boot one from the network")


@discover.command(epilog="Example: sis node discover accept --name-by order --nodes n[001-016] --image compute@stable")
@click.argument("machines", nargs=-1, metavar="[MAC[=NAME]]…")
@_takes_naming
@_takes_making
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be defined; change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def accept(
    context: Context,
    machines: tuple[str, ...],
    naming: _Naming,
    making: _Making,
    dry_run: bool,
    yes: bool,
) -> None:
    """Make nodes of machines: of those given, or of all that get a name. Nodes that lack their MAC only get it.

    MAC=NAME names one machine; a MAC alone is named as --name-by says.
    """
    with context.open_inventory() as inventory:
        chosen = _chosen(inventory, machines, naming)
        template = _template(context, inventory, making)
        _accept(context, inventory, chosen, template, dry_run=dry_run, yes=yes)


@discover.command(epilog="Example: sis node discover reject 52:54:00:12:34:56")
@click.argument("macs", nargs=-1, required=True, metavar="MAC…")
@click.option("--again", is_flag=True, help="Take them back into consideration instead.")
@click.pass_obj
def reject(context: Context, macs: tuple[str, ...], again: bool) -> None:
    """Turn machines away: they are shown no more, and named by nothing."""
    from sis.inventory.names import check_mac

    wanted = [check_mac(mac) for mac in macs]
    with context.open_inventory() as inventory:
        if again:
            inventory.discoveries.reconsider(wanted)
        else:
            inventory.discoveries.reject(wanted)
    if context.output == "table":
        click.echo(f"{counted(len(wanted), 'machine')} {'considered again' if again else 'turned away'}")


@discover.command(epilog="Example: sis node discover watch --nodes n[001-016] --accept --image compute@stable")
@_takes_naming
@_takes_making
@click.option("--accept", "accepting", is_flag=True, help="Accept each machine as it comes, until all names are given.")
@click.pass_obj
def watch(context: Context, naming: _Naming, making: _Making, accepting: bool) -> None:
    """Show machines as they boot, with the name each would get, until ^C. Switch them on one after the other.

    With --accept each is accepted at once under that name; it ends when all names of --nodes are given.
    """
    if accepting and not naming.nodeset and naming.names is None:
        raise UsageFault("--accept needs names", hint="give --nodes n[001-016], or --names FILE")
    told: dict[str, str] = {}
    with context.open_inventory() as inventory:
        template = _template(context, inventory, making) if accepting else None
        while True:
            for each in _propose(inventory, naming):
                if template is not None and each.name:
                    _take(inventory, each, template)
                elif told.get(each.machine.mac) != each.name:
                    told[each.machine.mac] = each.name
                    click.echo(printable(f"{each.machine.mac} → {each.name or '?'} ({each.why})"))
            sys.stdout.flush()
            if accepting and naming.nodeset and not _left(inventory, naming.nodeset):
                click.echo("all names are given")
                return
            time.sleep(_EVERY_S)


_COLUMNS: list[str | Column] = [
    "mac",
    "name",
    "why",
    Column("boots", right=True),
    Column("first_seen", text=age),
    Column("last_seen", text=age),
    "address",
    "serial",
    "product",
    "port",
]


def _row(machine: Any) -> dict[str, Any]:
    row = {
        "mac": machine.mac,
        "boots": machine.boots,
        "first_seen": machine.first_seen,
        "last_seen": machine.last_seen,
        **machine.data,
    }
    if machine.rejected:
        row["rejected"] = machine.rejected
    return row


def _proposed(proposal: Proposal) -> dict[str, Any]:
    row = _row(proposal.machine)
    port = " ".join(filter(None, (proposal.machine.said("switch"), proposal.machine.said("port"))))
    proposed = {"name": proposal.name or None, "why": proposal.why, "defined": proposal.defined}
    return {**row, "port": port or None, **proposed}


def _propose(inventory: Inventory, naming: _Naming) -> tuple[Proposal, ...]:
    from sis.inventory.intent import Intent
    from sis.inventory.names import expand
    from sis.inventory.naming import read_list

    by, names = naming.by, naming.names
    if by != "order" and names is None:
        raise UsageFault(f"--name-by {by} needs --names FILE", hint="lines such as: " + _EXAMPLES[by])
    known = inventory.nodes.groups(), inventory.nodes.names()
    wanted = expand(naming.nodeset, *known) if naming.nodeset else []
    listed = read_list(_read(names), by, str(names)) if names is not None else {}
    return Intent(inventory).proposals(by, names=wanted, listed=listed)


_EXAMPLES = {"list": "52:54:00:12:34:56,n001", "serial": "CZ1234ABCD,n001", "switch": "switch1 Ethernet1/3,n001"}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SisError(f"{path} cannot be read: {error}") from error


def _chosen(inventory: Inventory, machines: Sequence[str], naming: _Naming) -> dict[str, str]:
    from sis.inventory.names import check_mac
    from sis.inventory.naming import without_names

    said = {check_mac(mac): name for mac, _, name in (word.partition("=") for word in machines)}
    if said and all(said.values()):
        return said
    proposals = [each for each in _propose(inventory, naming) if not said or each.machine.mac in said]
    named = {each.machine.mac: each.name for each in proposals if each.name}
    chosen = {**({mac: named[mac] for mac in said if mac in named} if said else named)}
    chosen.update({mac: name for mac, name in said.items() if name})
    left = without_names(proposals)
    missing = [mac for mac in said if mac not in chosen]
    if missing or not chosen:
        raise SisError(
            "no name is known for " + (", ".join(missing) if missing else "any machine"),
            details=left.splitlines(),
            hint="give names: --nodes n[001-016], --names FILE, or MAC=NAME",
        )
    for line in left.splitlines():
        click.echo(printable(line), err=True)
    return chosen


def _template(context: Context, inventory: Inventory, making: _Making) -> Template:
    from sis.head.inventory_acts import assignment_of, network_of
    from sis.inventory.naming import Template

    assignment = assignment_of(context.state, making.image, making.layout)
    return Template(making.interface, network_of(inventory, making.network), making.groups, assignment)


def _accept(
    context: Context, inventory: Inventory, chosen: dict[str, str], template: Template, *, dry_run: bool, yes: bool
) -> None:
    from sis.inventory.intent import Intent
    from sis.inventory.names import fold

    intent = Intent(inventory)
    done = intent.accept(chosen, template, dry_run=True)
    if not dry_run:
        confirm(f"Accept {counted(len(chosen), 'machine')} as {fold(chosen.values())}?", yes=yes)
        done = intent.accept(chosen, template)
    rows = [{"name": node.name, "mac": node.macs[0], "address": node.address} for node in done.nodes]
    emit(rows, ["name", "mac", "address"], context.output)
    if context.output == "table":
        click.echo(f"{counted(len(rows), 'machine')} {'would be ' if dry_run else ''}accepted: {fold(chosen.values())}")
        if not dry_run:
            click.echo(f"install them: sis deploy {fold(chosen.values())}")


def _take(inventory: Inventory, proposal: Proposal, template: Template) -> None:
    """Accept one machine as it comes; what hinders it is told, and the next one goes on."""
    from sis.inventory.intent import Intent

    try:
        Intent(inventory).accept({proposal.machine.mac: proposal.name}, template)
    except SisError as fault:
        click.echo(printable(f"{proposal.machine.mac} → {proposal.name}: {fault.message}"), err=True)
    else:
        click.echo(printable(f"{proposal.machine.mac} → {proposal.name} accepted ({proposal.why})"))


def _left(inventory: Inventory, nodeset: str) -> list[str]:
    """The names that no machine has yet."""
    from sis.inventory.names import expand

    known = {node.name for node in inventory.nodes.list() if node.macs}
    return [name for name in expand(nodeset, inventory.nodes.groups(), inventory.nodes.names()) if name not in known]
