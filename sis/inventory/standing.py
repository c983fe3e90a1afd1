"""States an admin sets and ends: maintenance, and what a quarantined or held node is released from."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.inventory import schema
from sis.inventory.clock import now
from sis.inventory.database import Database
from sis.inventory.names import natural_key
from sis.inventory.node_states import apply_happening
from sis.inventory.rollouts import holds_of, let_go
from sis.inventory.state import Happening
from sis.inventory.stream import append, row


class Standing:
    def __init__(self, database: Database) -> None:
        self._database = database

    def maintenance(self, node_ids: Collection[int], why: str) -> None:
        """Rollouts leave these nodes alone until `resume`; what they report is noted, their state stays."""
        with self._database.write() as connection:
            apply_happening(connection, node_ids, Happening("maintenance", why), now())

    def resume(self, node_ids: Collection[int]) -> tuple[int, ...]:
        """End maintenance. Returns the nodes that were in it."""
        with self._database.write() as connection:
            ended = _in_state(connection, node_ids, "maintenance")
            _release(connection, ended)
            return ended

    def release(self, node_ids: Collection[int]) -> tuple[int, ...]:
        """End quarantine, and holds of rollouts: nodes follow their assignment again. Returns those concerned."""
        moment = now()
        with self._database.write() as connection:
            freed = _in_state(connection, node_ids, "quarantined")
            _release(connection, freed)
            held = holds_of(connection, node_ids)
            let_go(connection, held)
            told = [
                row("rollout", node_id, what="node", outcome="note", ref=hold.rollout_id, time=moment)
                | {"text": f"not held to {hold.held.name} any more"}
                for node_id, hold in held.items()
            ]
            append(connection, told)
            return tuple(dict.fromkeys((*freed, *held)))


def quarantined_among(connection: Connection, node_ids: Collection[int]) -> list[str]:
    """Names of those that are quarantined, in natural order."""
    ids = _in_state(connection, node_ids, "quarantined")
    names = connection.execute(sa.select(schema.nodes.c.name).where(schema.nodes.c.id.in_(ids))).scalars()
    return sorted(names, key=natural_key)


def _in_state(connection: Connection, node_ids: Collection[int], state: str) -> tuple[int, ...]:
    table = schema.states
    found: list[int] = []
    for part in _parts(node_ids):
        query = sa.select(table.c.node_id).where(table.c.node_id.in_(part), table.c.state == state)
        found += connection.execute(query).scalars()
    return tuple(found)


def _release(connection: Connection, node_ids: Collection[int]) -> None:
    moment = now()
    apply_happening(connection, node_ids, Happening("released"), moment)
    table = schema.armings
    armed: list[int] = []
    for part in _parts(node_ids):
        armed += connection.execute(sa.select(table.c.node_id).where(table.c.node_id.in_(part))).scalars()
    apply_happening(connection, armed, Happening("armed"), moment)


def _parts(values: Collection[int]) -> Iterable[list[int]]:
    whole = list(values)
    return (whole[at : at + 500] for at in range(0, len(whole), 500))
