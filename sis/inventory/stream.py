"""The one stream of what happened: every row has a growing id, so whoever follows it can go on where it was."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.inventory import schema, settings
from sis.inventory.clock import now
from sis.inventory.database import Database
from sis.inventory.model import NodeState, Occurrence, OccurrenceKind

KINDS: tuple[OccurrenceKind, ...] = get_args(OccurrenceKind)
KEPT_ROWS = 500_000
"""Rows `trim` leaves: some 100 for each of 5,000 nodes. Events and reports themselves are kept."""

_CHANNELS = "channels"


class Stream:
    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """The id of the last row; 0 when there is none."""
        with self._database.read() as connection:
            return int(connection.execute(sa.select(sa.func.max(schema.stream.c.id))).scalar() or 0)

    def after(
        self, since: int, *, limit: int = 1000, node: str | None = None, kinds: Collection[str] = ()
    ) -> tuple[Occurrence, ...]:
        """The first `limit` rows with an id above `since`, in order."""
        query = _query(node, kinds).where(schema.stream.c.id > since).order_by(schema.stream.c.id).limit(limit)
        with self._database.read() as connection:
            return tuple(_occurrence(row) for row in connection.execute(query))

    def last(
        self, limit: int = 200, *, node: str | None = None, kinds: Collection[str] = (), ref: int | None = None
    ) -> tuple[Occurrence, ...]:
        """The last `limit` rows (that tell of `ref`: an order, a rollout …), in order."""
        query = _query(node, kinds).order_by(schema.stream.c.id.desc()).limit(limit)
        if ref is not None:
            query = query.where(schema.stream.c.ref == ref)
        with self._database.read() as connection:
            return tuple(_occurrence(row) for row in connection.execute(query))[::-1]

    def tell(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows made with `row`, of what no other transaction tells."""
        with self._database.write() as connection:
            append(connection, rows)

    def note_channels(self, channels: Mapping[str, int]) -> None:
        """Tell of channels ("compute@stable" → generation) that moved since the last time, whoever moved them."""
        with self._database.read() as connection:
            if settings.get(connection, _CHANNELS) == dict(channels):
                return
        with self._database.write() as connection:
            known = settings.get(connection, _CHANNELS, {})
            rows = []
            for name, generation in sorted(channels.items()):
                if known.get(name) != generation:
                    was = f" (was {known[name]})" if name in known else ""
                    rows.append(row("published", subject=name, what="channel", text=f"generation {generation}{was}"))
            append(connection, rows)
            settings.put(connection, _CHANNELS, dict(channels))

    def trim(self, kept: int = KEPT_ROWS) -> int:
        """Drop the oldest rows, so that `kept` stay. Returns how many went."""
        table = schema.stream
        with self._database.write() as connection:
            newest = connection.execute(sa.select(sa.func.max(table.c.id))).scalar() or 0
            return connection.execute(sa.delete(table).where(table.c.id <= newest - kept)).rowcount


def row(
    kind: OccurrenceKind,
    node_id: int | None = None,
    *,
    subject: str = "",
    what: str = "",
    outcome: str = "",
    text: str = "",
    ref: int | None = None,
    size_bytes: int = 0,
    seconds: float = 0.0,
    time: str | None = None,
) -> dict[str, Any]:
    """One row for `append`."""
    return {
        "time": time or now(),
        "kind": kind,
        "node_id": node_id,
        "subject": subject[:160],
        "what": what[:32],
        "outcome": outcome[:16],
        "text": text,
        "ref": ref,
        "bytes": size_bytes,
        "seconds": seconds,
    }


def append(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows in order, within the caller's transaction: they are there when what they tell of is there.

    Readers take a row with a higher id as later: there is one writer at a time.
    """
    if not rows:
        return
    connection.execute(sa.insert(schema.stream), [dict(each) for each in rows])


def state_rows(node_id: int, before: NodeState, after: NodeState, moment: str) -> list[dict[str, Any]]:
    """A row when the state itself, or the reason of a failure, differs."""
    if (before.state, before.step, before.reason) == (after.state, after.step, after.reason):
        return []
    text = ": ".join(part for part in (after.step, after.reason) if part)
    return [row("state", node_id, what=after.state, subject=before.state, text=text, time=moment)]


def count(connection: Connection, by: Mapping[str, int]) -> None:
    """Add to counters, within the caller's transaction."""
    table = schema.counters
    for name, amount in by.items():
        changed = connection.execute(
            sa.update(table).where(table.c.name == name).values(value=table.c.value + amount)
        ).rowcount
        if not changed:
            connection.execute(sa.insert(table).values(name=name, value=amount))


def _query(node: str | None, kinds: Collection[str]) -> sa.Select[Any]:
    query = sa.select(*schema.stream.c, schema.nodes.c.name.label("node")).outerjoin_from(schema.stream, schema.nodes)
    if node is not None:
        query = query.where(schema.nodes.c.name == node)
    if kinds:
        query = query.where(schema.stream.c.kind.in_(list(kinds)))
    return query


def _occurrence(row: Any) -> Occurrence:
    return Occurrence(
        id=row.id,
        time=row.time,
        kind=row.kind,
        node=row.node,
        subject=row.subject,
        what=row.what,
        outcome=row.outcome,
        text=row.text,
        ref=row.ref,
        bytes=row.bytes,
        seconds=row.seconds,
    )
