"""What a foreign file told, as a change of the inventory: nodes to define, nodes to change, and what hinders either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from sis.errors import NotFound, UsageFault
from sis.inventory.db import Inventory
from sis.inventory.exchange.told import Reading, Told, Wire
from sis.inventory.intent import Done, Intent
from sis.inventory.model import Assignment, Interface, Network, NewNode, Node
from sis.inventory.nodes import Change
from sis.inventory.settings_words import Checks, change_of
from sis.inventory.wiring import FREE


@dataclass(frozen=True)
class Brought:
    """Names of what was, or with a dry run would be, added, changed, left as it is; `done` says what became what."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    done: Done
    notes: tuple[str, ...]


def bring(
    inventory: Inventory, intent: Intent, told: Sequence[Told], reading: Reading, checks: Checks, *, dry_run: bool
) -> Brought:
    """Define what is new and change what is told otherwise, all or none.

    What a file does not tell stays; groups are joined, never left. An image that is not there is left out, with a note.
    Raises SpecInvalid with every fault and its line.
    """
    networks = inventory.networks.list()
    known = {node.name: node for node in inventory.nodes.list()}
    images: dict[str, tuple[str, str] | None] = {}
    wanted = [_wanted(each, known.get(each.name), networks, images, checks, reading) for each in told]
    reading.refuse()
    new = [each for each in wanted if each.name not in known]
    there = [each for each in wanted if each.name in known]
    seen = {each.name: known[each.name].version for each in there}
    done = intent.replace(new, {each.name: each for each in there}, expected=seen, dry_run=dry_run)
    touched = {node.name for node in done.nodes}
    return Brought(
        tuple(each.name for each in new),
        tuple(each.name for each in there if each.name in touched),
        tuple(each.name for each in there if each.name not in touched),
        done,
        tuple(reading.notes),
    )


def _wanted(
    told: Told,
    node: Node | None,
    networks: Sequence[Network],
    images: dict[str, tuple[str, str] | None],
    checks: Checks,
    reading: Reading,
) -> NewNode:
    """What a node is to be: as it is, with what was told laid over."""
    before = node or Node(0, told.name, None, "", "")
    assignment = before.assignment
    image = _image(told, images, checks, reading) if told.image else None
    if image is not None and (assignment is None or assignment.reference != told.image):
        assignment = Assignment(*image, assignment.layout if assignment else None)
    if told.layout and assignment is not None:
        assignment = replace(assignment, layout=told.layout)
    made = replace(before, interfaces=_wired(told, before.interfaces, networks, reading))
    try:
        change = change_of(told.settings, [before], (), checks) if told.settings else Change()
    except (UsageFault, NotFound) as fault:
        reading.fault(told.line, f"{told.name}: {fault.message}" + (f" ({fault.hint})" if fault.hint else ""))
        change = Change()
    groups = tuple(dict.fromkeys((*before.groups, *told.groups)))
    profile = change.of(made).profile
    return NewNode(told.name, made.interfaces, groups, assignment, profile)


def _image(
    told: Told, images: dict[str, tuple[str, str] | None], checks: Checks, reading: Reading
) -> tuple[str, str] | None:
    reference = told.image or ""
    if reference not in images:
        try:
            images[reference] = checks.image(reference)
        except (NotFound, UsageFault) as fault:
            images[reference] = None
            reading.note(told.line, f"image {reference} is left out: {fault.message}")
    return images[reference]


def _wired(
    told: Told, before: tuple[Interface, ...], networks: Sequence[Network], reading: Reading
) -> tuple[Interface, ...]:
    wires: dict[str, Interface] = {each.name: each for each in before}
    if not told.wires and not before:
        wires["eth0"] = Interface("eth0", None, FREE, networks[0].name) if len(networks) == 1 else Interface("eth0")
    for wire in told.wires:
        known = wires.get(wire.name, Interface(wire.name))
        network = wire.network or known.network or _network_of(wire, networks)
        if wire.address and network is None:
            reading.fault(told.line, f"{told.name}: {wire.address} is in no network of the inventory")
        address = wire.address or known.address
        if address is None and network is None and len(networks) == 1 and not before:
            network, address = networks[0].name, FREE
        wires[wire.name] = replace(known, mac=wire.mac or known.mac, address=address, network=network)
    return tuple(wires.values())


def _network_of(wire: Wire, networks: Sequence[Network]) -> str | None:
    if not wire.address:
        return None
    address = ip_address(wire.address)
    return next((each.name for each in networks if address in each.range), None)


def told_lines(brought: Brought) -> Mapping[str, str]:
    """Node sets by what happens to them, for people."""
    from sis.inventory.names import fold

    parts = {"added": brought.added, "changed": brought.changed, "unchanged": brought.unchanged}
    return {what: fold(names) for what, names in parts.items() if names}
