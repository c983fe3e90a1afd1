"""Reports summed over time, for pictures: what was fetched and saved by hour or day, how many nodes differed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from sis.inventory import schema
from sis.inventory.database import Database

Grain = Literal["hour", "day"]

_LETTERS: dict[Grain, int] = {"hour": 13, "day": 10}
"""How much of a time's text names its hour or day: text order is time order."""


@dataclass(frozen=True, slots=True)
class Period:
    """Reports of one hour ("2026-01-31T02") or day ("2026-01-31"), by the head's clock.

    `seconds` is how long nodes worked, all together; `differing` how many of `nodes` were found to differ.
    """

    name: str
    reports: int
    failed: int
    bytes_fetched: int
    bytes_local: int
    seconds: float
    nodes: int
    differing: int

    @property
    def rate(self) -> float:
        """Bytes a second that a node fetched while it worked."""
        return self.bytes_fetched / self.seconds if self.seconds > 0 else 0.0


class Trends:
    def __init__(self, database: Database) -> None:
        self._database = database

    def periods(self, grain: Grain, count: int, *, until: datetime | None = None) -> tuple[Period, ...]:
        """The last `count` hours or days, oldest first; those without reports are there, with zeros."""
        names = period_names(grain, count, until or datetime.now(UTC))
        reports, letters = schema.reports, _LETTERS[grain]
        name = sa.func.substr(reports.c.received, 1, letters)
        totals = reports.c.totals
        differs = sa.case((reports.c.in_sync.is_(False), reports.c.node_id))
        query = (
            sa.select(
                name.label("name"),
                sa.func.count().label("reports"),
                sa.func.sum(sa.case((reports.c.outcome == "failed", 1), else_=0)).label("failed"),
                sa.func.sum(totals["bytes_fetched"].as_integer()).label("fetched"),
                sa.func.sum(totals["bytes_local"].as_integer()).label("local"),
                sa.func.sum(reports.c.seconds).label("seconds"),
                sa.func.count(sa.distinct(reports.c.node_id)).label("nodes"),
                sa.func.count(sa.distinct(differs)).label("differing"),
            )
            .where(reports.c.received >= names[0])
            .group_by(name)
        )
        with self._database.read() as connection:
            found = {row.name: row for row in connection.execute(query)}
        return tuple(_period(each, found.get(each)) for each in names)


def period_names(grain: Grain, count: int, until: datetime) -> list[str]:
    """The names of the last `count` hours or days up to a moment, oldest first."""
    step = timedelta(hours=1) if grain == "hour" else timedelta(days=1)
    return [(until - step * back).isoformat()[: _LETTERS[grain]] for back in reversed(range(count))]


def _period(name: str, row: sa.Row[tuple[object, ...]] | None) -> Period:
    if row is None:
        return Period(name, 0, 0, 0, 0, 0.0, 0, 0)
    return Period(
        name=name,
        reports=row.reports,
        failed=row.failed or 0,
        bytes_fetched=row.fetched or 0,
        bytes_local=row.local or 0,
        seconds=row.seconds or 0.0,
        nodes=row.nodes,
        differing=row.differing,
    )
