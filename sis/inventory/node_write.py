"""Nodes defined, changed and deleted within a transaction; only what differs is touched, every change is recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.errors import SisError, UsageFault
from sis.inventory import changes, schema, settings
from sis.inventory.clock import now
from sis.inventory.model import Assignment, NewNode, Node, SettingChange
from sis.inventory.names import check_group, check_name, natural_key, number_of
from sis.inventory.node_read import all_names, in_parts, node_ids
from sis.inventory.wiring import put_interfaces, settle


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Nodes as they are after a change, in the order given, and what became what."""

    nodes: tuple[Node, ...]
    lines: tuple[SettingChange, ...]


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
    settled, more = settle(connection, {node.name: node.interfaces for node in new})
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
    put_interfaces(connection, ids, settled)
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
    settled, more = settle(connection, rewired)
    _raise_all([*faults, *more])
    delete_of(connection, schema.interfaces, [ids[name] for name in settled])
    put_interfaces(connection, ids, settled)
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
    for part in in_parts(ids.values()):
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


def drop_empty_groups(connection: Connection) -> None:
    used = sa.select(schema.memberships.c.group_id)
    connection.execute(sa.delete(schema.groups).where(schema.groups.c.id.not_in(used)))


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
    for part in in_parts(ids):
        connection.execute(sa.delete(table).where(table.c.node_id.in_(part)))


def _sign(connection: Connection, ids: Mapping[str, int], version: int) -> None:
    """Give nodes the version of the change that was just made to them."""
    for part in in_parts(ids.values()):
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
