"""Machines that asked for a boot answer and are no one's: recorded and left alone, until someone names them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.errors import NotFound
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
        """One more boot of an unknown MAC. What it said before and does not say now is kept."""
        table = schema.discoveries
        moment = now()
        with self._database.write() as connection:
            known = connection.execute(sa.select(table.c.data, table.c.boots).where(table.c.mac == mac)).first()
            if known is not None:
                values = {"last_seen": moment, "boots": known.boots + 1, "data": _merged(known.data, data)}
                connection.execute(sa.update(table).where(table.c.mac == mac).values(**values))
                return
            count = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            if count < MOST:
                connection.execute(
                    sa.insert(table).values(mac=mac, first_seen=moment, last_seen=moment, boots=1, data=dict(data))
                )
                about = ", ".join(f"{name} {value}" for name, value in data.items() if value)
                append(connection, [row("discovered", subject=mac, what="seen", text=about, time=moment)])

    def learn(self, mac: str, data: Mapping[str, Any]) -> bool:
        """Add to what is known of a discovered machine, such as its switch and port. False when there is none."""
        table = schema.discoveries
        query = sa.select(table.c.data).where(table.c.mac == mac)
        with self._database.read() as connection:
            known = connection.execute(query).scalar()
        if known is None or _merged(known, data) == known:
            return known is not None
        with self._database.write() as connection:
            known = connection.execute(query).scalar()
            if known is not None:
                connection.execute(sa.update(table).where(table.c.mac == mac).values(data=_merged(known, data)))
        return known is not None

    def list(self, *, rejected: bool = False) -> tuple[Discovery, ...]:
        """Unknown machines, longest known first; those that became nodes are gone. With `rejected` the turned away."""
        with self._database.read() as connection:
            return tuple(each for each in strangers(connection) if bool(each.rejected) == rejected)

    def get(self, macs: Collection[str]) -> tuple[Discovery, ...]:
        """Discoveries by MAC, rejected ones too, longest known first. Raises NotFound with near ones."""
        with self._database.read() as connection:
            known = {each.mac: each for each in strangers(connection)}
        for mac in macs:
            if mac not in known:
                raise NotFound.of("discovered machine", mac, known)
        wanted = set(macs)
        return tuple(each for each in known.values() if each.mac in wanted)

    def reject(self, macs: Collection[str]) -> None:
        """Turn machines away: they are shown no more and named by nothing, until `reconsider`."""
        self._mark(macs, now())

    def reconsider(self, macs: Collection[str]) -> None:
        """Take `reject` back."""
        self._mark(macs, None)

    def _mark(self, macs: Collection[str], moment: str | None) -> None:
        table = schema.discoveries
        self.get(macs)
        with self._database.write() as connection:
            for mac in macs:
                connection.execute(sa.update(table).where(table.c.mac == mac).values(rejected=moment))
            what = "rejected" if moment else "reconsidered"
            append(connection, [row("discovered", subject=mac, what=what) for mac in macs])


def strangers(connection: Connection) -> list[Discovery]:
    """Every discovery that is no node's, longest known first."""
    table, interfaces = schema.discoveries, schema.interfaces
    known = sa.select(interfaces.c.mac).where(interfaces.c.mac.is_not(None))
    rows = connection.execute(
        sa.select(table).where(table.c.mac.not_in(known)).order_by(table.c.first_seen, table.c.mac)
    )
    return [Discovery(each.mac, each.first_seen, each.last_seen, each.boots, each.data, each.rejected) for each in rows]


def _merged(known: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    return {**known, **{name: value for name, value in told.items() if value}}
