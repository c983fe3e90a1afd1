"""Nodes, their interfaces, groups and assignments: defined, shown, changed and deleted as whole node sets."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.errors import NotFound, SisError, UsageFault
from sis.inventory import changes, schema, selectors, settings
from sis.inventory.clock import now
from sis.inventory.database import Database
from sis.inventory.model import Arming, Assignment, Interface, Network, NewNode, Node, NodeState, SettingChange
from sis.inventory.names import (
    check_address,
    check_group,
    check_mac,
    check_name,
    expand,
    fold,
    natural_key,
    number_of,
)
from sis.inventory.networks import all_networks, free_addresses, network_ids
from sis.inventory.profile import stored_profile
from sis.inventory.rollout import Held, Hold

FREE = "free"
"""As an interface's address: the next free one of its network."""


@dataclass(frozen=True, slots=True)
class Change:
    """What `Nodes.change` sets. None in `profile` and "" in `vars` take a value away; `interfaces` are whole sets.

    `added` and `taken` are items of the profile's lists.
    """

    assignment: Callable[[Assignment | None], Assignment] | None = None
    profile: Mapping[str, Any] = field(default_factory=dict)
    added: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    taken: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    vars: Mapping[str, str] = field(default_factory=dict)
    join: Sequence[str] = ()
    leave: Sequence[str] = ()
    groups: Sequence[str] | None = None
    interfaces: Mapping[str, tuple[Interface, ...]] = field(default_factory=dict)

    def of(self, node: Node) -> NewNode:
        """What the node is to be after this change."""
        kept = node.groups if self.groups is None else tuple(self.groups)
        groups = [group for group in (*kept, *self.join) if group not in self.leave]
        return NewNode(
            name=node.name,
            interfaces=self.interfaces.get(node.name, node.interfaces),
            groups=tuple(dict.fromkeys(groups)),
            assignment=self.assignment(node.assignment) if self.assignment else node.assignment,
            profile=self._profile(node.profile),
        )

    def _profile(self, known: Mapping[str, Any]) -> dict[str, Any]:
        merged = {name: value for name, value in {**known, **self.profile}.items() if value is not None}
        for name in dict.fromkeys((*self.added, *self.taken)):
            there, gone = list(merged.pop(name, ())), self.taken.get(name, ())
            there += [item for item in self.added.get(name, ()) if item not in there]
            items = [item for item in there if item not in gone and _named(item) not in gone]
            merged.update({name: items} if items else {})
        if self.vars:
            site = {name: value for name, value in {**(merged.pop("vars", {})), **self.vars}.items() if value}
            merged.update({"vars": site} if site else {})
        return merged


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Nodes as they are after a change, in the order given, and what became what."""

    nodes: tuple[Node, ...]
    lines: tuple[SettingChange, ...]


def _named(item: Any) -> Any:
    """How an item that has parts is named when it is to be taken away: `modules-=nvidia` takes it with its options."""
    return {"name": item["name"]} if isinstance(item, Mapping) and "name" in item else item


class Nodes:
    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, names: Collection[str] | None = None) -> tuple[Node, ...]:
        """All nodes, or those of the given names, in natural order. Names not there are left out."""
        with self._database.read() as connection:
            return load(connection, names)

    def get(self, name: str) -> Node:
        """Raises NotFound with near names."""
        with self._database.read() as connection:
            found = load(connection, [name])
            if not found:
                raise NotFound.of("node", name, all_names(connection))
            return found[0]

    def by_mac(self, mac: str) -> Node | None:
        """The node one of whose interfaces has this MAC."""
        with self._database.read() as connection:
            name = connection.execute(
                sa.select(schema.nodes.c.name)
                .join_from(schema.nodes, schema.interfaces)
                .where(schema.interfaces.c.mac == mac)
            ).scalar()
            return load(connection, [name])[0] if name is not None else None

    def select(self, nodeset: str, where: Sequence[str] = ()) -> tuple[Node, ...]:
        """The nodes of a node set ("n[001-016]", "@rack1!n003", "@*") for which all selectors hold ("state=failed").

        With selectors an empty node set means all nodes, and none may be left. Raises UsageFault for what is no node
        set or selector, NotFound for unknown groups, nodes and attributes, with near names.
        """
        if where:
            wanted_of = [selectors.parse(text) for text in where]
            return selectors.matching(self.select(nodeset) if nodeset else self.list(), wanted_of)
        with self._database.read() as connection:
            known = all_names(connection)
            wanted = expand(nodeset, groups_of(connection), known)
            if not wanted:
                raise UsageFault(f"the node set {nodeset!r} is empty", hint="see 'sis node list'")
            missing = [name for name in wanted if name not in known]
            if missing:
                raise NotFound.of("node", fold(missing), known if len(missing) == 1 else [fold(known)] if known else [])
            return load(connection, wanted)

    def names(self) -> tuple[str, ...]:
        with self._database.read() as connection:
            return tuple(sorted(all_names(connection), key=natural_key))

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group name → its members in natural order."""
        with self._database.read() as connection:
            return groups_of(connection)

    def add(self, new: Sequence[NewNode]) -> tuple[Node, ...]:
        """Define nodes, all or none; an interface's address FREE becomes the next free one of its network.

        Raises SisError with every fault at once: names, MACs, addresses taken, malformed, or not of the network.
        """
        with self._database.write() as connection:
            add_nodes(connection, new)
            settings.touch(connection)
            return load(connection, [node.name for node in new])

    def change(
        self, names: Collection[str], change: Change, *, expected: Mapping[str, int] | None = None
    ) -> tuple[Node, ...]:
        """Change nodes, all or none. Raises SisError as `add` does.

        With `expected` (node → version looked at) it raises Conflict when someone else changed one of them since.
        """
        with self._database.write() as connection:
            before = load(connection, names)
            changes.refuse_stale(connection, before, expected or {})
            done = rewrite_nodes(connection, before, [change.of(node) for node in before])
            settings.touch(connection)
            return done.nodes

    def delete(self, names: Collection[str]) -> int:
        """Remove nodes with every trace of them. Their ids are never used again."""
        with self._database.write() as connection:
            removed = delete_nodes(connection, names)
            settings.touch(connection)
            return removed


def all_names(connection: Connection) -> set[str]:
    return set(connection.execute(sa.select(schema.nodes.c.name)).scalars())


def groups_of(connection: Connection) -> dict[str, tuple[str, ...]]:
    rows = connection.execute(
        sa.select(schema.groups.c.name, schema.nodes.c.name.label("node"))
        .join_from(schema.groups, schema.memberships)
        .join(schema.nodes, schema.nodes.c.id == schema.memberships.c.node_id)
    )
    members: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        members[row.name].append(row.node)
    return {name: tuple(sorted(members[name], key=natural_key)) for name in sorted(members, key=natural_key)}


def load(connection: Connection, names: Collection[str] | None = None) -> tuple[Node, ...]:
    """Nodes with all that belongs to them, by four queries however many they are."""
    few = names is not None and len(names) <= 500
    nodes = schema.nodes
    chosen = nodes.c.name.in_(list(names)) if few and names is not None else sa.true()
    interfaces: dict[int, list[Interface]] = defaultdict(list)
    wire = schema.interfaces.c
    for node_id, name, mac, address, network, data in connection.execute(
        sa.select(wire.node_id, wire.name, wire.mac, wire.address, schema.networks.c.name, sa.cast(wire.data, sa.Text))
        .join_from(schema.interfaces, nodes, nodes.c.id == wire.node_id)
        .outerjoin(schema.networks, schema.networks.c.id == wire.network_id)
        .where(chosen)
        .order_by(wire.node_id, wire.position)
    ).all():
        said = json.loads(data) if data != "{}" else {}
        interfaces[node_id].append(Interface(name, mac, address, network, said))
    groups: dict[int, list[str]] = defaultdict(list)
    for node_id, group in connection.execute(
        sa.select(schema.memberships.c.node_id, schema.groups.c.name)
        .join_from(schema.memberships, schema.groups)
        .join(nodes, nodes.c.id == schema.memberships.c.node_id)
        .where(chosen)
        .order_by(schema.groups.c.name)
    ).all():
        groups[node_id].append(group)
    rows = connection.execute(
        sa.select(
            *(
                column.label("intent") if column.name == "version" else column
                for column in nodes.c
                if column.name != "data"
            ),
            sa.cast(nodes.c.data, sa.Text).label("profile"),
            schema.assignments.c.image.label("assigned_image"),
            schema.assignments.c.selector,
            schema.assignments.c.layout,
            schema.armings.c.armed,
            schema.armings.c.allow_foreign_disk,
            schema.armings.c.failures,
            *(column.label(f"hold_{column.name}") for column in schema.holds.c if column.name != "node_id"),
            *(column for column in schema.states.c if column.name != "node_id"),
        )
        .select_from(nodes)
        .outerjoin(schema.assignments)
        .outerjoin(schema.armings)
        .outerjoin(schema.holds, schema.holds.c.node_id == nodes.c.id)
        .outerjoin(schema.states)
        .where(chosen)
    ).all()
    found = [
        Node(
            id=row.id,
            name=row.name,
            number=row.number,
            machine_id=row.machine_id,
            created=row.created,
            profile=stored_profile(row.profile),
            interfaces=tuple(interfaces.get(row.id, ())),
            groups=tuple(groups.get(row.id, ())),
            assignment=Assignment(row.assigned_image, row.selector, row.layout) if row.assigned_image else None,
            state=NodeState("defined", row.created) if row.state is None else state_of(row),
            arming=Arming(row.armed, row.allow_foreign_disk, row.failures) if row.armed else None,
            hold=_hold(row),
            version=row.intent,
        )
        for row in rows
    ]
    if names is not None and not few:
        wanted = set(names)
        found = [node for node in found if node.name in wanted]
    return tuple(sorted(found, key=lambda node: natural_key(node.name)))


def _hold(row: Any) -> Hold | None:
    if row.hold_image is None:
        return None
    return Hold(Held(row.hold_image, row.hold_generation, row.hold_version), row.hold_since, row.hold_rollout_id)


def state_of(row: Any) -> NodeState:
    """A row of `states` as a value."""
    return NodeState(
        state=row.state,
        since=row.since,
        step=row.step,
        reason=row.reason,
        event_id=row.event_id,
        progress=row.progress,
        seen=row.seen,
        image=row.image,
        generation=row.generation,
        version=row.version,
        drift=row.drift,
        reboot_needed=row.reboot_needed,
        reboot_why=row.reboot_why,
        story_started=row.story_started,
        story_ended=row.story_ended,
    )


def add_nodes(connection: Connection, new: Sequence[NewNode]) -> None:
    known = all_names(connection)
    faults = []
    seen: set[str] = set()
    for node in new:
        if node.name in known:
            faults.append(f"node {node.name} is defined already")
        elif node.name in seen:
            faults.append(f"node {node.name} is named twice")
        seen.add(node.name)
        faults += _faults_of(check_name, node.name)
        for group in node.groups:
            faults += _faults_of(check_group, group)
    settled, more = _settle(connection, {node.name: node.interfaces for node in new})
    _raise_all([*faults, *more], hint="change nodes that are there with 'sis node set'" if known & seen else None)
    if not new:
        return
    identity = settings.identity(connection)
    created = now()
    for node in new:
        connection.execute(
            sa.insert(schema.nodes).values(
                name=node.name, number=number_of(node.name), machine_id="", created=created, data=dict(node.profile)
            )
        )
    ids = node_ids(connection, [node.name for node in new])
    connection.execute(
        sa.update(schema.nodes).where(schema.nodes.c.id == sa.bindparam("of")).values(machine_id=sa.bindparam("made")),
        [{"of": ids[node.name], "made": machine_id(identity, ids[node.name], node.name)} for node in new],
    )
    _put_interfaces(connection, ids, settled)
    _join(connection, ids, {node.name: node.groups for node in new})
    assigned = [{"node_id": ids[node.name], **_columns(node.assignment)} for node in new if node.assignment]
    if assigned:
        connection.execute(sa.insert(schema.assignments), assigned)
    blank = [Node(0, node.name, None, "", "") for node in new]
    made = [replace(node, interfaces=settled[node.name]) for node in new]
    _sign(connection, ids, changes.record(connection, "add", ids, changes.differences(blank, made)))


def rewrite_nodes(connection: Connection, before: Sequence[Node], after: Sequence[NewNode]) -> Rewritten:
    """Make defined nodes what `after` says, in the same order as `before`; only what differs is touched."""
    ids = {node.name: node.id for node in before}
    pairs = list(zip(before, after, strict=True))
    faults = [fault for _, new in pairs for group in new.groups for fault in _faults_of(check_group, group)]
    rewired = {new.name: new.interfaces for old, new in pairs if new.interfaces != old.interfaces}
    settled, more = _settle(connection, rewired)
    _raise_all([*faults, *more])
    delete_of(connection, schema.interfaces, [ids[name] for name in settled])
    _put_interfaces(connection, ids, settled)
    assigned = [(old.id, new.assignment) for old, new in pairs if new.assignment != old.assignment]
    delete_of(connection, schema.assignments, [node_id for node_id, _ in assigned])
    # Who says what a node is to be takes it back from the rollout that held it.
    reassigned = [old.id for old, new in pairs if _reference(old.assignment) != _reference(new.assignment)]
    delete_of(connection, schema.holds, reassigned)
    rows = [{"node_id": node_id, **_columns(assignment)} for node_id, assignment in assigned if assignment]
    if rows:
        connection.execute(sa.insert(schema.assignments), rows)
    profiles = [{"of": old.id, "to": dict(new.profile)} for old, new in pairs if new.profile != old.profile]
    if profiles:
        connection.execute(
            sa.update(schema.nodes)
            .where(schema.nodes.c.id == sa.bindparam("of"))
            .values(data=sa.bindparam("to", type_=sa.JSON())),
            profiles,
        )
    regrouped = {new.name: new.groups for old, new in pairs if set(new.groups) != set(old.groups)}
    delete_of(connection, schema.memberships, [ids[name] for name in regrouped])
    _join(connection, ids, regrouped)
    drop_empty_groups(connection)
    made = [replace(new, interfaces=settled[new.name]) if new.name in settled else new for _, new in pairs]
    lines = changes.differences(before, made)
    touched = {old.name: old.id for (old, _), new in zip(pairs, made, strict=True) if differs(old, new)}
    version = 0
    if touched:
        version = changes.record(connection, "change", touched, lines)
        _sign(connection, touched, version)
    return Rewritten(
        tuple(_made(old, new, version) if old.name in touched else old for old, new in zip(before, made, strict=True)),
        lines,
    )


def _made(old: Node, new: NewNode, version: int) -> Node:
    groups = tuple(sorted(new.groups))
    profile = dict(new.profile)
    return replace(
        old, interfaces=new.interfaces, groups=groups, assignment=new.assignment, profile=profile, version=version
    )


def delete_nodes(connection: Connection, names: Collection[str]) -> int:
    """Remove nodes with every trace of them. Returns how many there were.

    Whatever bears a node's id goes with its row; what is known of its MACs only by their own goes here.
    """
    ids = node_ids(connection, names)
    if not ids:
        return 0
    for part in _parts(ids.values()):
        macs = sa.select(schema.interfaces.c.mac).where(
            schema.interfaces.c.node_id.in_(part), schema.interfaces.c.mac.is_not(None)
        )
        connection.execute(sa.delete(schema.discoveries).where(schema.discoveries.c.mac.in_(macs)))
        stream = schema.stream
        connection.execute(sa.delete(stream).where(stream.c.kind == "discovered", stream.c.subject.in_(macs)))
        connection.execute(sa.delete(schema.nodes).where(schema.nodes.c.id.in_(part)))
    drop_empty_groups(connection)
    changes.record(connection, "delete", ids, ())
    return len(ids)


def differs(old: Node, new: NewNode) -> bool:
    """Whether `new` says something else than what the node is."""
    return (
        old.interfaces != new.interfaces
        or set(old.groups) != set(new.groups)
        or old.assignment != new.assignment
        or dict(old.profile) != dict(new.profile)
    )


def machine_id(identity: str, node_id: int, name: str) -> str:
    """A node's machine id: 32 hex digits, always the same for one cluster, id and name."""
    return hashlib.sha256(f"sis machine-id {identity} {node_id} {name}".encode()).hexdigest()[:32]


def node_ids(connection: Connection, names: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in _parts(names):
        rows = connection.execute(
            sa.select(schema.nodes.c.name, schema.nodes.c.id).where(schema.nodes.c.name.in_(part))
        )
        found.update((row.name, row.id) for row in rows)
    return found


def drop_empty_groups(connection: Connection) -> None:
    used = sa.select(schema.memberships.c.group_id)
    connection.execute(sa.delete(schema.groups).where(schema.groups.c.id.not_in(used)))


def _settle(
    connection: Connection, wanted: Mapping[str, Sequence[Interface]]
) -> tuple[dict[str, tuple[Interface, ...]], list[str]]:
    """Interfaces with MACs and addresses in their one form and free addresses filled in, and all that is wrong."""
    if not wanted:
        return {}, []
    networks = all_networks(connection)
    mac_owner: dict[str, str] = {}
    address_owner: dict[str, str] = {}
    for row in connection.execute(
        sa.select(schema.nodes.c.name, schema.interfaces.c.mac, schema.interfaces.c.address).join_from(
            schema.nodes, schema.interfaces
        )
    ):
        if row.name not in wanted:
            if row.mac:
                mac_owner[row.mac] = row.name
            if row.address:
                address_owner[row.address] = row.name
    faults: list[str] = []
    settled: dict[str, tuple[Interface, ...]] = {}
    for name, interfaces in wanted.items():
        done = []
        for interface in interfaces:
            checked, wrong = _check_interface(name, interface, networks)
            faults += wrong
            if checked.mac:
                faults += _claim(mac_owner, "MAC", checked.mac, name)
            if checked.address not in (None, FREE):
                faults += _claim(address_owner, "address", str(checked.address), name)
            done.append(checked)
        settled[name] = tuple(done)
        labels = [interface.name for interface in done]
        faults += [f"{name} has two interfaces {label}" for label in {x for x in labels if labels.count(x) > 1}]
    if faults:
        return settled, faults
    pools: dict[str, Iterator[str]] = {}
    taken = set(address_owner)
    for name, done_already in settled.items():
        filled = []
        for interface in done_already:
            if interface.address == FREE:
                assert interface.network is not None
                pool = pools.setdefault(interface.network, free_addresses(networks[interface.network], taken))
                interface = replace(interface, address=next(pool))
            filled.append(interface)
        settled[name] = tuple(filled)
    return settled, []


def _check_interface(name: str, interface: Interface, networks: Mapping[str, Network]) -> tuple[Interface, list[str]]:
    faults = []
    try:
        if interface.mac is not None:
            interface = replace(interface, mac=check_mac(interface.mac))
        if interface.address not in (None, FREE):
            interface = replace(interface, address=check_address(str(interface.address)))
    except UsageFault as fault:
        return replace(interface, mac=None, address=None), [f"{name}: {fault.message}"]
    if interface.network is None:
        if interface.address is not None:
            faults.append(f"{name}: address {interface.address} belongs to no network")
        return interface, faults
    network = networks.get(interface.network)
    if network is None:
        hint = NotFound.of("network", interface.network, networks)
        return interface, [f"{name}: {hint.message}" + (f" ({hint.hint})" if hint.hint else "")]
    if interface.address not in (None, FREE) and ip_address(str(interface.address)) not in network.range:
        faults.append(f"{name}: {interface.address} is outside network {network.name} ({network.cidr})")
    elif interface.address is not None and interface.address in (network.gateway, network.data.get("head")):
        whose = "the gateway" if interface.address == network.gateway else "the head"
        faults.append(f"{name}: {interface.address} is {whose} of network {network.name}")
    return interface, faults


def _claim(owners: dict[str, str], what: str, value: str, name: str) -> list[str]:
    owner = owners.setdefault(value, name)
    if owner != name:
        return [f"{what} {value} belongs to {owner}: {name} cannot have it too"]
    if owners.get(f"{name} {value}"):
        return [f"{name} has {what} {value} twice"]
    owners[f"{name} {value}"] = name
    return []


def _put_interfaces(connection: Connection, ids: Mapping[str, int], settled: Mapping[str, Sequence[Interface]]) -> None:
    numbers = network_ids(connection)
    rows = [
        {
            "node_id": ids[name],
            "position": position,
            "name": interface.name,
            "mac": interface.mac,
            "address": interface.address,
            "network_id": numbers[interface.network] if interface.network else None,
            "data": dict(interface.data),
        }
        for name, interfaces in settled.items()
        for position, interface in enumerate(interfaces)
    ]
    if rows:
        connection.execute(sa.insert(schema.interfaces), rows)


def _join(connection: Connection, ids: Mapping[str, int], joining: Mapping[str, Sequence[str]]) -> None:
    wanted = {group for groups in joining.values() for group in groups}
    if not wanted:
        return
    table = schema.groups
    there = set(connection.execute(sa.select(table.c.name)).scalars())
    missing = sorted(wanted - there, key=natural_key)
    if missing:
        connection.execute(sa.insert(table), [{"name": name} for name in missing])
    numbers = {row.name: row.id for row in connection.execute(sa.select(table))}
    memberships = schema.memberships
    already = {
        (row.group_id, row.node_id)
        for row in connection.execute(
            sa.select(memberships).where(memberships.c.group_id.in_([numbers[name] for name in wanted]))
        )
    }
    rows = [
        {"group_id": numbers[group], "node_id": ids[name]}
        for name, groups in joining.items()
        for group in dict.fromkeys(groups)
        if (numbers[group], ids[name]) not in already
    ]
    if rows:
        connection.execute(sa.insert(memberships), rows)


def delete_of(connection: Connection, table: sa.Table, ids: Collection[int]) -> None:
    """Delete the rows nodes have in a table with a `node_id`."""
    for part in _parts(ids):
        connection.execute(sa.delete(table).where(table.c.node_id.in_(part)))


def _sign(connection: Connection, ids: Mapping[str, int], version: int) -> None:
    """Give nodes the version of the change that was just made to them."""
    for part in _parts(ids.values()):
        connection.execute(sa.update(schema.nodes).where(schema.nodes.c.id.in_(part)).values(version=version))


def _reference(assignment: Assignment | None) -> str:
    return assignment.reference if assignment else ""


def _columns(assignment: Assignment) -> dict[str, Any]:
    return {"image": assignment.image, "selector": assignment.selector, "layout": assignment.layout}


def _faults_of(check: Callable[[str], str], name: str) -> list[str]:
    try:
        check(name)
    except UsageFault as fault:
        return [fault.message]
    return []


def _raise_all(faults: Sequence[str], hint: str | None = None) -> None:
    if len(faults) == 1:
        raise SisError(faults[0], hint=hint)
    if faults:
        raise SisError(
            f"{len(faults)} faults, nothing was changed", details=list(dict.fromkeys(faults))[:20], hint=hint
        )


def _parts(values: Collection[Any], size: int = 500) -> Iterable[list[Any]]:
    """Values in lists short enough for one IN."""
    whole = list(values)
    return (whole[at : at + size] for at in range(0, len(whole), size))
