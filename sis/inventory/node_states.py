"""The states of nodes as they are stored, moved along by what happens."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.inventory import schema
from sis.inventory.clock import now
from sis.inventory.model import NodeState
from sis.inventory.node_read import state_of
from sis.inventory.state import Happening, after_happening
from sis.inventory.stream import append, state_rows


def current_state(connection: Connection, node_id: int) -> NodeState:
    """A node's state; of one that has none yet, that it is defined."""
    found = connection.execute(sa.select(schema.states).where(schema.states.c.node_id == node_id)).first()
    return NodeState("defined", now()) if found is None else state_of(found)


def put_state(connection: Connection, node_id: int, state: NodeState) -> None:
    table = schema.states
    values = _columns(state)
    if not connection.execute(sa.update(table).where(table.c.node_id == node_id).values(**values)).rowcount:
        connection.execute(sa.insert(table).values(node_id=node_id, **values))


def apply_happening(connection: Connection, node_ids: Collection[int], happening: Happening, moment: str) -> None:
    """Move the states of nodes along, in three statements however many they are."""
    table = schema.states
    wanted = list(node_ids)
    known: dict[int, NodeState] = {}
    for at in range(0, len(wanted), 500):
        rows = connection.execute(sa.select(table).where(table.c.node_id.in_(wanted[at : at + 500])))
        known.update((each.node_id, state_of(each)) for each in rows)
    after = {
        node_id: after_happening(known.get(node_id, NodeState("defined", moment)), happening, moment)
        for node_id in wanted
    }
    told = [
        each
        for node_id, state in after.items()
        for each in state_rows(node_id, known.get(node_id, NodeState("defined", moment)), state, moment)
    ]
    old = [{"of": node_id, **_columns(after[node_id])} for node_id in known]
    new = [{"node_id": node_id, **_columns(state)} for node_id, state in after.items() if node_id not in known]
    if old:
        connection.execute(sa.update(table).where(table.c.node_id == sa.bindparam("of")), old)
    if new:
        connection.execute(sa.insert(table), new)
    append(connection, told)


def _columns(state: NodeState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in NodeState.__slots__}
