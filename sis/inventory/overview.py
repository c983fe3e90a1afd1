"""The whole cluster in a few small queries: for the map, the drift page and metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sis.inventory import schema
from sis.inventory.database import Database
from sis.inventory.drift import diffs_of
from sis.inventory.names import natural_key
from sis.wire import FileDiff, State


@dataclass(frozen=True, slots=True)
class Tile:
    """One node as the map shows it. `drift`: paths that differed at its last report; `note`: why it failed, or that a
    reboot is due."""

    name: str
    state: State
    note: str
    drift: int
    groups: tuple[str, ...]


class Overview:
    def __init__(self, database: Database) -> None:
        self._database = database

    def tiles(self) -> tuple[Tile, ...]:
        """Every node, in natural order."""
        nodes, states = schema.nodes, schema.states
        groups: dict[int, list[str]] = defaultdict(list)
        with self._database.read() as connection:
            for row in connection.execute(
                sa.select(schema.memberships.c.node_id, schema.groups.c.name)
                .join_from(schema.memberships, schema.groups)
                .order_by(schema.groups.c.name)
            ):
                groups[row.node_id].append(row.name)
            known = (states.c.state, states.c.step, states.c.reason, states.c.drift, states.c.reboot_needed)
            rows = connection.execute(
                sa.select(nodes.c.id, nodes.c.name, *known).select_from(nodes).outerjoin(states)
            ).all()
        tiles = [
            Tile(
                row.name,
                row.state or "defined",
                ": ".join(part for part in (row.step, row.reason) if part)
                or ("reboot needed" if row.reboot_needed else ""),
                row.drift or 0,
                tuple(groups.get(row.id, ())),
            )
            for row in rows
        ]
        return tuple(sorted(tiles, key=lambda tile: natural_key(tile.name)))

    def changes_of_drifted(self) -> dict[str, tuple[Mapping[str, Any], ...]]:
        """Of each node whose last good report found differences: what it found, as in `sis.wire.Report.changes`."""
        reports, states = schema.reports, schema.states
        newest = (
            sa.select(sa.func.max(reports.c.id))
            .join_from(reports, states, states.c.node_id == reports.c.node_id)
            .where(states.c.drift > 0, reports.c.outcome == "ok")
            .group_by(reports.c.node_id)
            .scalar_subquery()
        )
        query = (
            sa.select(schema.nodes.c.name, reports.c.changes)
            .join_from(reports, schema.nodes)
            .where(reports.c.id.in_(newest), reports.c.in_sync.is_(False))
        )
        with self._database.read() as connection:
            return {row.name: tuple(row.changes) for row in connection.execute(query)}

    def diffs(self, names: Collection[str] | None = None) -> dict[str, tuple[FileDiff, ...]]:
        """What drifted files hold on these nodes (on all), as their last checks told it."""
        with self._database.read() as connection:
            return diffs_of(connection, names)

    def last_reports(self) -> dict[str, str]:
        """When each node that ever reported did so last, by the head's clock."""
        reports = schema.reports
        newest = sa.select(sa.func.max(reports.c.id)).group_by(reports.c.node_id).scalar_subquery()
        query = (
            sa.select(schema.nodes.c.name, reports.c.received)
            .join_from(reports, schema.nodes)
            .where(reports.c.id.in_(newest))
        )
        with self._database.read() as connection:
            return {row.name: row.received for row in connection.execute(query)}

    def counters(self) -> dict[str, int]:
        """Sums that only grow: bytes_fetched, reports_sync_ok, events_failed, …"""
        with self._database.read() as connection:
            return {row.name: int(row.value) for row in connection.execute(sa.select(schema.counters))}
