"""Who changed what: a row is written before the change, and completed after it, so that none goes unseen."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa

from sis.inventory import schema
from sis.inventory.clock import now
from sis.inventory.database import Database
from sis.inventory.model import AuditEntry

_DETAIL_CHARS = 4000


class Audit:
    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, who: str, role: str, via: str, action: str, target: str, *, outcome: str = "begun") -> int:
        """A row for what is about to be done, or (`outcome` "refused") was not let be done. Returns its id."""
        with self._database.write() as connection:
            result = connection.execute(
                sa.insert(schema.audit).values(
                    time=now(),
                    who=who[:64],
                    role=role,
                    via=via,
                    action=action[:64],
                    target=target[:_DETAIL_CHARS],
                    outcome=outcome,
                    detail="",
                )
            )
            assert result.inserted_primary_key is not None
            return int(result.inserted_primary_key[0])

    def end(self, entry_id: int, outcome: Literal["ok", "failed"], detail: str = "") -> None:
        table = schema.audit
        with self._database.write() as connection:
            connection.execute(
                sa.update(table).where(table.c.id == entry_id).values(outcome=outcome, detail=detail[:_DETAIL_CHARS])
            )

    def last(self, limit: int = 200, *, before: int | None = None) -> tuple[AuditEntry, ...]:
        """The last `limit` entries (with an id below `before`), newest first."""
        table = schema.audit
        query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(table.c.id < before)
        with self._database.read() as connection:
            return tuple(_entry(row) for row in connection.execute(query))


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        time=row.time,
        who=row.who,
        role=row.role,
        via=row.via,
        action=row.action,
        target=row.target,
        outcome=row.outcome,
        detail=row.detail,
    )
