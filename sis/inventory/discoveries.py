"""Machines that asked for a boot answer and are no one's: recorded, and left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sis.inventory import schema
from sis.inventory.clock import now
from sis.inventory.database import Database
from sis.inventory.model import Discovery
from sis.inventory.stream import append, row

MOST = 10_000
"""Discoveries kept; a flood of made-up MACs cannot fill the disk."""


class Discoveries:
    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, mac: str, data: Mapping[str, Any]) -> None:
        """One more boot of an unknown MAC."""
        table = schema.discoveries
        moment = now()
        with self._database.write() as connection:
            changed = connection.execute(
                sa.update(table)
                .where(table.c.mac == mac)
                .values(last_seen=moment, boots=table.c.boots + 1, data=dict(data))
            ).rowcount
            if changed:
                return
            count = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            if count < MOST:
                connection.execute(
                    sa.insert(table).values(mac=mac, first_seen=moment, last_seen=moment, boots=1, data=dict(data))
                )
                about = ", ".join(f"{name} {value}" for name, value in data.items() if value)
                append(connection, [row("discovered", subject=mac, text=about, time=moment)])

    def list(self) -> tuple[Discovery, ...]:
        """Unknown machines, longest known first; those that became nodes are gone."""
        table, interfaces = schema.discoveries, schema.interfaces
        known = sa.select(interfaces.c.mac).where(interfaces.c.mac.is_not(None))
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(table).where(table.c.mac.not_in(known)).order_by(table.c.first_seen, table.c.mac)
            ).all()
        return tuple(Discovery(each.mac, each.first_seen, each.last_seen, each.boots, each.data) for each in rows)
