"""Work asked of nodes: created by a command, taken by the node's agent, done when its report comes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.inventory import schema
from sis.inventory.clock import now, seconds_since
from sis.inventory.database import Database
from sis.inventory.model import OrderKind, StoredOrder
from sis.inventory.node_states import apply_happening
from sis.inventory.state import Happening
from sis.inventory.stream import append, row
from sis.wire import Order

TRIES = 2
"""How often an order is handed out: a node that asks again without a report lost it, or its agent was restarted."""


AGAIN_AFTER_S = 10.0
"""An order is not handed out again sooner: two requests of one agent may overlap."""


class Orders:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, node_ids: Collection[int], kind: OrderKind, *, full: bool = False) -> tuple[int, ...]:
        """One order for each node, in the order given. Returns their ids."""
        with self._database.write() as connection:
            return create(connection, node_ids, kind, full=full)

    def take(self, node_id: int) -> Order | None:
        """The oldest order a node has not answered, handed out. A reboot is done by being taken: no report follows."""
        table = schema.orders
        waiting = sa.select(table).where(table.c.node_id == node_id, table.c.done.is_(None)).order_by(table.c.id)
        with self._database.read() as connection:
            if connection.execute(waiting.limit(1)).first() is None:
                return None
        moment = now()
        with self._database.write() as connection:
            for each in connection.execute(waiting).all():
                if each.taken is not None and seconds_since(each.taken) < AGAIN_AFTER_S:
                    continue
                values: dict[str, Any] = {"taken": moment, "attempts": each.attempts + 1}
                lost = each.attempts >= TRIES
                if lost:
                    values = {"done": moment, "failure": f"taken {TRIES} times and never reported"}
                elif each.kind == "reboot":
                    values["done"] = moment
                connection.execute(sa.update(table).where(table.c.id == each.id).values(**values))
                outcome, text = ("failed", values["failure"]) if lost else ("taken", "")
                told = row("order", node_id, what=each.kind, outcome=outcome, text=text, ref=each.id, time=moment)
                append(connection, [told])
                if each.kind == "reboot" and not lost:
                    apply_happening(connection, [node_id], Happening("rebooting"), moment)
                if not lost:
                    return Order(id=each.id, kind=each.kind, full=each.full)
        return None

    def waiting_nodes(self) -> frozenset[int]:
        """Ids of nodes that have an order no one has taken."""
        table = schema.orders
        with self._database.read() as connection:
            return frozenset(
                connection.execute(
                    sa.select(table.c.node_id).where(table.c.done.is_(None), table.c.taken.is_(None))
                ).scalars()
            )

    def get(self, ids: Collection[int]) -> tuple[StoredOrder, ...]:
        """Orders by id, in order of id."""
        with self._database.read() as connection:
            return load(connection, ids)

    def cancel(self, ids: Collection[int], reason: str) -> int:
        """Take back orders no one has taken. Returns how many."""
        with self._database.write() as connection:
            return cancel(connection, ids, reason)


def create(
    connection: Connection, node_ids: Collection[int], kind: OrderKind, *, full: bool = False
) -> tuple[int, ...]:
    """`Orders.create` within the caller's transaction."""
    moment = now()
    made = []
    for node_id in node_ids:
        result = connection.execute(
            sa.insert(schema.orders).values(
                node_id=node_id, kind=kind, full=full, created=moment, attempts=0, failure=""
            )
        )
        assert result.inserted_primary_key is not None
        made.append(int(result.inserted_primary_key[0]))
    told = [
        row("order", node_id, what=kind, outcome="asked", ref=order, time=moment)
        for node_id, order in zip(node_ids, made, strict=True)
    ]
    append(connection, told)
    return tuple(made)


def load(connection: Connection, ids: Collection[int]) -> tuple[StoredOrder, ...]:
    """`Orders.get` within the caller's transaction."""
    table = schema.orders
    wanted = sorted(ids)
    found: list[StoredOrder] = []
    for at in range(0, len(wanted), 500):
        part = wanted[at : at + 500]
        rows = connection.execute(
            sa.select(table, schema.nodes.c.name.label("node"))
            .join_from(table, schema.nodes)
            .where(table.c.id.in_(part))
            .order_by(table.c.id)
        )
        found += [_order(row) for row in rows]
    return tuple(found)


def cancel(connection: Connection, ids: Collection[int], reason: str) -> int:
    """`Orders.cancel` within the caller's transaction."""
    table = schema.orders
    moment = now()
    cancelled = 0
    for order_id in ids:
        open_order = (table.c.id == order_id, table.c.done.is_(None), table.c.taken.is_(None))
        found = connection.execute(sa.select(table.c.node_id, table.c.kind).where(*open_order)).first()
        if found is None:
            continue
        cancelled += connection.execute(
            sa.update(table).where(*open_order).values(done=moment, failure=reason)
        ).rowcount
        told = row("order", found.node_id, what=found.kind, outcome="cancelled", text=reason, ref=order_id)
        append(connection, [told])
    return cancelled


def _order(row: Any) -> StoredOrder:
    return StoredOrder(
        id=row.id,
        node=row.node,
        kind=row.kind,
        full=row.full,
        created=row.created,
        taken=row.taken,
        attempts=row.attempts,
        done=row.done,
        report_id=row.report_id,
        failure=row.failure,
    )
