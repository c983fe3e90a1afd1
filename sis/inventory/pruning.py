"""What is kept of the past: by age and by count, but always the last word of every node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.errors import NotFound, UsageFault
from sis.inventory import schema, settings
from sis.inventory.clock import now
from sis.inventory.database import Database

_SETTING = "keep"
_LAST = "pruned"
_BATCH = 2_000
"""Rows deleted in one transaction: writers wait no longer than that takes."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of the past is kept. Days count from when the head received it; the rest are numbers for each node."""

    event_days: int = 90
    events_each: int = 5_000
    report_days: int = 400
    reports_each: int = 1_000
    order_days: int = 90
    discovery_days: int = 90
    change_days: int = 1_000
    audit_days: int = 1_000


@dataclass(frozen=True, slots=True)
class Pruned:
    """Rows that went, by what they were."""

    events: int = 0
    reports: int = 0
    orders: int = 0
    discoveries: int = 0
    changes: int = 0
    audit: int = 0

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


class Past:
    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self) -> Keep:
        """What is kept, as the admin said it."""
        with self._database.read() as connection:
            said = settings.get(connection, _SETTING) or {}
        known = {field.name for field in fields(Keep)}
        return Keep(**{name: value for name, value in said.items() if name in known})

    def set_keep(self, changed: Mapping[str, int]) -> Keep:
        """Change what is kept. Raises NotFound for an unknown name, UsageFault for less than one."""
        for name, value in changed.items():
            if name not in {field.name for field in fields(Keep)}:
                raise NotFound.of("kind of past", name, [field.name for field in fields(Keep)])
            if value < 1:
                raise UsageFault(f"{name}={value}: at least 1 is kept")
        made = replace(self.keep(), **changed)
        with self._database.write() as connection:
            settings.put(connection, _SETTING, asdict(made))
        return made

    def last(self) -> str | None:
        """When it was pruned last."""
        with self._database.read() as connection:
            found = settings.get(connection, _LAST)
        return str(found) if found else None

    def prune(self, *, dry_run: bool = False) -> Pruned:
        """Drop what need not be kept. Of every node the last event, and the last report of each kind, stay."""
        keep = self.keep()
        wanted: dict[str, tuple[sa.Table, sa.Select[Any]]] = {
            "events": (schema.events, _old_events(keep)),
            "reports": (schema.reports, _old_reports(keep)),
            "orders": (schema.orders, _old_orders(keep)),
            "discoveries": (schema.discoveries, _older(schema.discoveries, "mac", "last_seen", keep.discovery_days)),
            "changes": (schema.changes, _old_changes(keep)),
            "audit": (schema.audit, _older(schema.audit, "id", "time", keep.audit_days)),
        }
        gone = {name: self._drop(table, query, dry_run=dry_run) for name, (table, query) in wanted.items()}
        if not dry_run:
            with self._database.write() as connection:
                settings.put(connection, _LAST, now())
        return Pruned(**gone)

    def _drop(self, table: sa.Table, query: sa.Select[Any], *, dry_run: bool) -> int:
        with self._database.read() as connection:
            keys = list(connection.execute(query).scalars())
        if not dry_run:
            (column,) = table.primary_key.columns
            for at in range(0, len(keys), _BATCH):
                with self._database.write() as connection:
                    _delete(connection, table, column, keys[at : at + _BATCH])
        return len(keys)


def _delete(connection: Connection, table: sa.Table, column: sa.Column[Any], keys: list[Any]) -> None:
    for at in range(0, len(keys), 500):
        connection.execute(sa.delete(table).where(column.in_(keys[at : at + 500])))


def _old_events(keep: Keep) -> sa.Select[Any]:
    table = schema.events
    rank = sa.func.row_number().over(partition_by=table.c.node_id, order_by=table.c.id.desc()).label("rank")
    ranked = sa.select(table.c.id, table.c.received, rank).subquery()
    why = sa.select(schema.states.c.event_id).where(schema.states.c.event_id.is_not(None))
    too_old = sa.and_(ranked.c.received < _days_ago(keep.event_days), ranked.c.rank > 1)
    too_many = ranked.c.rank > keep.events_each
    return sa.select(ranked.c.id).where(sa.or_(too_old, too_many), ranked.c.id.not_in(why)).order_by(ranked.c.id)


def _old_reports(keep: Keep) -> sa.Select[Any]:
    table = schema.reports
    each = sa.func.row_number().over(partition_by=table.c.node_id, order_by=table.c.id.desc()).label("rank")
    kinds = [table.c.node_id, table.c.kind, table.c.outcome]
    of_kind = sa.func.row_number().over(partition_by=kinds, order_by=table.c.id.desc()).label("of_kind")
    ranked = sa.select(table.c.id, table.c.received, each, of_kind).subquery()
    too_old, too_many = ranked.c.received < _days_ago(keep.report_days), ranked.c.rank > keep.reports_each
    return sa.select(ranked.c.id).where(sa.or_(too_old, too_many), ranked.c.of_kind > 1).order_by(ranked.c.id)


def _old_orders(keep: Keep) -> sa.Select[Any]:
    """Only orders that are done."""
    table = schema.orders
    return sa.select(table.c.id).where(table.c.done < _days_ago(keep.order_days)).order_by(table.c.id)


def _old_changes(keep: Keep) -> sa.Select[Any]:
    """Not those that are the version of a node."""
    table = schema.changes
    versions = sa.select(schema.nodes.c.version)
    old = table.c.time < _days_ago(keep.change_days)
    return sa.select(table.c.id).where(old, table.c.id.not_in(versions)).order_by(table.c.id)


def _older(table: sa.Table, key: str, time: str, days: int) -> sa.Select[Any]:
    return sa.select(table.c[key]).where(table.c[time] < _days_ago(days)).order_by(table.c[key])


def _days_ago(days: int) -> str:
    """A time as the inventory writes it."""
    moment = datetime.now(UTC) - timedelta(days=days)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
