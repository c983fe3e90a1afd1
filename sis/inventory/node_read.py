"""Nodes as the inventory holds them, read whole: by a few queries however many they are."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.inventory import schema
from sis.inventory.model import Arming, Assignment, Interface, Node, NodeState
from sis.inventory.names import natural_key
from sis.inventory.profile import stored_profile
from sis.inventory.rollout import Held, Hold


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


def node_ids(connection: Connection, names: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in in_parts(names):
        rows = connection.execute(
            sa.select(schema.nodes.c.name, schema.nodes.c.id).where(schema.nodes.c.name.in_(part))
        )
        found.update((row.name, row.id) for row in rows)
    return found


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


def in_parts(values: Collection[Any], size: int = 500) -> Iterable[list[Any]]:
    """Values in lists short enough for one IN."""
    whole = list(values)
    return (whole[at : at + size] for at in range(0, len(whole), size))
