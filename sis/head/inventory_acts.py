"""What an admin can have done to the inventory through the API or the console: asked values in, done values out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sis.errors import UsageFault
from sis.inventory import naming
from sis.inventory.db import Inventory
from sis.inventory.intent import Done, Intent
from sis.inventory.model import Assignment, Interface, NewNode, SettingChange
from sis.inventory.names import NAME, check_mac, expand, fold
from sis.inventory.naming import Template
from sis.inventory.settings_words import Checks, change_of, one_each
from sis.inventory.wiring import FREE

NodeSet = Annotated[str, msgspec.Meta(max_length=65_536)]


class Naming(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How discovered machines are to be named: by `nodeset` in order, or by the lines of `listed`."""

    by: Literal["order", "list", "serial", "switch"] = "order"
    nodeset: NodeSet = ""
    listed: str = ""


class ProposedName(msgspec.Struct, frozen=True):
    """`name` is "" when there is none, `why` says why; `defined`: the node is there and lacks its MAC only."""

    mac: str
    name: str
    why: str
    defined: bool
    first_seen: str
    last_seen: str
    boots: int
    said: dict[str, str]


class Proposed(msgspec.Struct, frozen=True):
    machines: tuple[ProposedName, ...]


class Accept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """MAC → name, and what new nodes are to be. `network` None: the only one there is."""

    machines: dict[str, str]
    image: str | None = None
    layout: str | None = None
    groups: tuple[str, ...] = ()
    network: str | None = None
    interface: str = "eth0"
    dry_run: bool = False


class Reject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Machines to turn away, or with `again` to take back into consideration."""

    macs: tuple[str, ...]
    again: bool = False


class AddNodes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nodes to define. `macs` and `addresses` one each or none; without addresses the next free ones."""

    nodeset: NodeSet
    macs: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    image: str | None = None
    layout: str | None = None
    groups: tuple[str, ...] = ()
    network: str | None = None
    interface: str = "eth0"
    dry_run: bool = False


class SetNodes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words as `sis node set` takes them: image=compute@stable, groups+=rack1.

    `versions` (node → version looked at) or, for all nodes alike, the header If-Match make it fail with 412 when
    someone else changed a node since.
    """

    settings: tuple[str, ...]
    nodeset: NodeSet = ""
    where: tuple[str, ...] = ()
    versions: dict[str, int] = {}
    dry_run: bool = False


class DeleteNodes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    nodeset: NodeSet


@dataclass(frozen=True, slots=True)
class Rejected:
    macs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deleted:
    nodes: str
    count: int


@dataclass(frozen=True, slots=True)
class Changed:
    """The node set, each node's version now, and what became what."""

    nodes: str
    versions: dict[str, int]
    changes: tuple[SettingChange, ...]


def propose(inventory: Inventory, asked: Naming) -> Proposed:
    """A name for each discovered machine. Raises SpecInvalid for a list with faults."""
    names = expand(asked.nodeset, inventory.nodes.groups(), inventory.nodes.names()) if asked.nodeset else []
    listed = naming.read_list(asked.listed, asked.by) if asked.by != "order" else {}
    found = Intent(inventory).proposals(asked.by, names=names, listed=listed)
    return Proposed(
        tuple(
            ProposedName(
                mac=each.machine.mac,
                name=each.name,
                why=each.why,
                defined=each.defined,
                first_seen=each.machine.first_seen,
                last_seen=each.machine.last_seen,
                boots=each.machine.boots,
                said={name: str(value) for name, value in each.machine.data.items()},
            )
            for each in found
        )
    )


def accept(state: Path, inventory: Inventory, asked: Accept) -> Changed:
    """Make nodes of discovered machines; nothing is installed by it. Raises NotFound, UsageFault, SisError."""
    chosen = {check_mac(mac): name for mac, name in asked.machines.items() if name}
    if not chosen:
        raise UsageFault("no machine was given a name")
    template = Template(
        interface=asked.interface,
        network=network_of(inventory, asked.network),
        groups=asked.groups,
        assignment=assignment_of(state, asked.image, asked.layout),
    )
    return _changed(intent(state, inventory).accept(chosen, template, dry_run=asked.dry_run))


def target_of(asked: Accept) -> str:
    """What an acceptance is told to be about in the audit log; what can be no node's name stands there as it came."""
    names = [name for name in asked.machines.values() if name]
    sound = [name for name in names if NAME.fullmatch(name)]
    return ",".join(([fold(sound)] if sound else []) + [name for name in names if name not in sound])


def reject(inventory: Inventory, asked: Reject) -> Rejected:
    macs = tuple(check_mac(mac) for mac in asked.macs)
    if asked.again:
        inventory.discoveries.reconsider(macs)
    else:
        inventory.discoveries.reject(macs)
    return Rejected(macs)


def add(state: Path, inventory: Inventory, asked: AddNodes) -> Changed:
    """Define nodes, all or none."""
    return _changed(intent(state, inventory).add(new_nodes(state, inventory, asked), dry_run=asked.dry_run))


def new_nodes(state: Path, inventory: Inventory, asked: AddNodes) -> list[NewNode]:
    """The nodes that are asked for, their images and networks looked up. Raises NotFound, UsageFault."""
    names = expand(asked.nodeset, inventory.nodes.groups(), inventory.nodes.names())
    macs = one_each("MAC", asked.macs, names)
    addresses = one_each("address", asked.addresses, names)
    network = network_of(inventory, asked.network)
    assignment = assignment_of(state, asked.image, asked.layout)
    return [
        NewNode(
            name,
            (
                Interface(
                    asked.interface,
                    macs.get(name),
                    addresses.get(name) or (FREE if network else None),
                    network,
                ),
            ),
            asked.groups,
            assignment,
        )
        for name in names
    ]


def change(state: Path, inventory: Inventory, asked: SetNodes, expected: Mapping[str, int] | int | None) -> Changed:
    """Change nodes, all or none. Raises Conflict when one is not of the version expected."""
    if not asked.nodeset and not asked.where:
        raise UsageFault("which nodes?", hint="give a nodeset, or selectors in `where`")
    nodes = inventory.nodes.select(asked.nodeset, asked.where)
    wanted = change_of(asked.settings, nodes, inventory.nodes.groups(), checks(state))
    known = {node.name: expected for node in nodes} if isinstance(expected, int) else dict(expected or {})
    names = [node.name for node in nodes]
    return _changed(intent(state, inventory).change(names, wanted, expected=known, dry_run=asked.dry_run))


def expected_of(if_match: str, asked: SetNodes) -> Mapping[str, int] | int | None:
    """The versions a caller looked at: from the body, or the header If-Match (`"17"`). Raises UsageFault."""
    text = if_match.strip().removeprefix("W/").strip('"')
    if not text or text == "*":
        return asked.versions or None
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise UsageFault(f"If-Match is the version of a node, not {if_match[:40]}")
    return int(text)


def delete(state: Path, inventory: Inventory, asked: DeleteNodes) -> Deleted:
    names = [node.name for node in inventory.nodes.select(asked.nodeset)]
    return Deleted(fold(names), intent(state, inventory).delete(names))


def intent(state: Path, inventory: Inventory) -> Intent:
    """Changes of what is wanted; a cluster file changed by them is remembered as the one applied last."""

    def kept(path: Path, raw: bytes) -> None:
        from sis.head import applied

        applied.keep_cluster(state, path, raw)

    return Intent(inventory, kept)


def checks(state: Path) -> Checks:
    """How images and layouts named in words are looked up."""
    return Checks(image=lambda text: image_of(state, text), layout=lambda name: _layout(state, name))


def image_of(state: Path, text: str) -> tuple[str, str]:
    """Name and selector of an image that is there. Raises NotFound with near names, UsageFault."""
    from sis.image.store import reference
    from sis.image.store.local import LocalStore

    wanted = reference.parse(text)
    reference.resolve(LocalStore(state / "store"), wanted)
    name, _, selector = str(wanted).partition("@")
    return name, selector


def assignment_of(state: Path, image: str | None, layout: str | None) -> Assignment | None:
    """The assignment of an image and a layout, both there. Raises NotFound with near names, UsageFault."""
    if image is None:
        if layout is not None:
            raise UsageFault("a layout alone is no assignment", hint="give an image too")
        return None
    name, selector = image_of(state, image)
    if layout is not None:
        _layout(state, layout)
    return Assignment(name, selector, layout)


def network_of(inventory: Inventory, name: str | None) -> str | None:
    """The network named, or the only one there is; None when there is none. Raises NotFound, UsageFault."""
    if name is not None:
        return inventory.networks.get(name).name
    networks = inventory.networks.list()
    if len(networks) > 1:
        raise UsageFault(
            "which network?", hint="give --network " + " or --network ".join(network.name for network in networks)
        )
    return networks[0].name if networks else None


def _layout(state: Path, name: str) -> None:
    from sis.head.renders import load_layout

    load_layout(state, name)


def _changed(done: Done) -> Changed:
    return Changed(fold(node.name for node in done.nodes), {node.name: node.version for node in done.nodes}, done.lines)
