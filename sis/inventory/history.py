"""What nodes told: events and reports, kept as they came, and the state that follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.inventory import schema
from sis.inventory.clock import now
from sis.inventory.database import Database
from sis.inventory.drift import put_diffs
from sis.inventory.facts import FactsChange, facts_changes, put_facts
from sis.inventory.model import StoredEvent, StoredReport
from sis.inventory.node_states import apply_happening, current_state, put_state
from sis.inventory.rollout import Held
from sis.inventory.rollouts import note_good
from sis.inventory.state import Happening, after_event, after_report, quarantined
from sis.inventory.stream import append, count, row, state_rows
from sis.wire import Event, FileDiff, Report

INSTALL_TRIES = 3
"""Failed installs in a row after which a node is quarantined: it is looked at, not looped."""


class History:
    def __init__(self, database: Database) -> None:
        self._database = database

    def record_events(self, node_id: int, events: Sequence[Event]) -> None:
        """Append events of one node and move its state along."""
        received = now()
        with self._database.write() as connection:
            state = current_state(connection, node_id)
            told: list[dict[str, Any]] = []
            for event in events:
                event_id = _insert_event(connection, node_id, event, received)
                before, state = state, after_event(state, event, event_id, received)
                told.append(_event_row(node_id, event, event_id, received))
                told += state_rows(node_id, before, state, received)
            put_state(connection, node_id, state)
            append(connection, told)
            count(connection, Counter(f"events_{event.outcome}" for event in events))

    def record_report(self, node_id: int, report: Report, diffs: Sequence[FileDiff] = ()) -> int:
        """Append a report and all that follows from it; the same report sent twice is one. Returns its id.

        An install that went well disarms the node; a failed one leaves it armed, so that the next network boot goes
        on, up to INSTALL_TRIES times: then the node is quarantined. In-sync and healthy, its version becomes the one it
        was last good at. The order the report answers is done. `diffs` tell what a check found in drifted files: kept
        until the next sync or check.
        """
        received = now()
        table = schema.reports
        with self._database.write() as connection:
            known = connection.execute(
                sa.select(table.c.id).where(
                    table.c.node_id == node_id, table.c.kind == report.kind, table.c.started == report.started
                )
            ).scalar()
            if known is not None:
                return int(known)
            report_id = _insert_report(connection, node_id, report, received)
            before = current_state(connection, node_id)
            after = after_report(before, report, received)
            if report.kind == "install" and _after_install(connection, node_id, report):
                after = quarantined(after, f"{INSTALL_TRIES} installs failed in a row: {report.error}", received)
            put_state(connection, node_id, after)
            told = [_report_row(node_id, report, report_id, received), *state_rows(node_id, before, after, received)]
            count(connection, _counted(report))
            if report.outcome == "ok" and report.kind != "stage":
                put_diffs(connection, node_id, diffs, received)
            if is_good(report):
                note_good(connection, node_id, Held(report.image, report.generation, report.version), received)
            if report.order is not None:
                orders = schema.orders
                done = connection.execute(
                    sa.update(orders)
                    .where(orders.c.id == report.order, orders.c.node_id == node_id, orders.c.done.is_(None))
                    .values(done=received, report_id=report_id, failure=report.error)
                ).rowcount
                if done:
                    ended = "failed" if report.error else "done"
                    told.append(row("order", node_id, what=report.kind, outcome=ended, ref=report.order, time=received))
            append(connection, told)
            return report_id

    def record_facts(self, node_id: int, facts: Mapping[str, Any]) -> None:
        """Keep the facts a node told, and what became different of them."""
        with self._database.write() as connection:
            put_facts(connection, node_id, facts)

    def facts(self, node_id: int) -> dict[str, Any] | None:
        with self._database.read() as connection:
            found = connection.execute(sa.select(schema.facts.c.data).where(schema.facts.c.node_id == node_id)).scalar()
            return None if found is None else dict(found)

    def facts_changes(self, node_id: int) -> tuple[FactsChange, ...]:
        """What became different of a node's hardware, newest first."""
        with self._database.read() as connection:
            return facts_changes(connection, node_id)

    def all_facts(self) -> dict[int, dict[str, Any]]:
        """The facts every node told last, by its id."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(schema.facts.c.node_id, schema.facts.c.data)).all()
        return {row.node_id: dict(row.data) for row in rows}

    def happened(self, node_ids: Collection[int], happening: Happening) -> None:
        """Move the state of nodes along by something the head did or saw."""
        with self._database.write() as connection:
            apply_happening(connection, node_ids, happening, now())

    def seen(self, times: Mapping[int, str]) -> None:
        """Note when nodes gave a sign of life."""
        if not times:
            return
        states = schema.states
        with self._database.write() as connection:
            connection.execute(
                sa.update(states).where(states.c.node_id == sa.bindparam("of")).values(seen=sa.bindparam("at")),
                [{"of": node_id, "at": moment} for node_id, moment in times.items()],
            )

    def events(
        self, node: str | None = None, *, after: int = 0, limit: int = 200, newest: bool = True
    ) -> tuple[StoredEvent, ...]:
        """Events in order of arrival: the last `limit` of them, or (`newest` false) the first after id `after`."""
        table = schema.events
        query = _events_query().where(table.c.id > after)
        if node is not None:
            query = query.where(schema.nodes.c.name == node)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.id.desc() if newest else table.c.id).limit(limit)).all()
        found = tuple(_event(each) for each in rows)
        return found[::-1] if newest else found

    def event(self, event_id: int) -> StoredEvent | None:
        with self._database.read() as connection:
            found = connection.execute(_events_query().where(schema.events.c.id == event_id)).first()
            return None if found is None else _event(found)

    def last_events(self) -> dict[str, StoredEvent]:
        """The newest event of each node, by name."""
        table = schema.events
        newest = sa.select(sa.func.max(table.c.id)).group_by(table.c.node_id).scalar_subquery()
        with self._database.read() as connection:
            rows = connection.execute(_events_query(with_log=False).where(table.c.id.in_(newest))).all()
        return {each.node: _event(each) for each in rows}

    def reports(self, node: str | None, limit: int = 20) -> tuple[StoredReport, ...]:
        """The last reports of a node, or (None) of all, newest first."""
        query = _reports_query().order_by(schema.reports.c.id.desc()).limit(limit)
        if node is not None:
            query = query.where(schema.nodes.c.name == node)
        with self._database.read() as connection:
            return tuple(_report(each) for each in connection.execute(query))

    def reports_by_id(self, ids: Collection[int]) -> dict[int, StoredReport]:
        with self._database.read() as connection:
            return reports_of(connection, ids)


def reports_of(connection: Connection, ids: Collection[int]) -> dict[int, StoredReport]:
    """Reports by id."""
    found: dict[int, StoredReport] = {}
    wanted = list(ids)
    for at in range(0, len(wanted), 500):
        part = wanted[at : at + 500]
        for each in connection.execute(_reports_query().where(schema.reports.c.id.in_(part))):
            found[each.id] = _report(each)
    return found


def newest_report_ids(connection: Connection, node_ids: Collection[int], kinds: Collection[str] = ()) -> dict[int, int]:
    """The id of each node's last report (of these kinds), by node id; nodes without any are left out."""
    table = schema.reports
    found: dict[int, int] = {}
    wanted = list(node_ids)
    for at in range(0, len(wanted), 500):
        query = sa.select(table.c.node_id, sa.func.max(table.c.id).label("newest")).group_by(table.c.node_id)
        query = query.where(table.c.node_id.in_(wanted[at : at + 500]))
        if kinds:
            query = query.where(table.c.kind.in_(list(kinds)))
        found.update((each.node_id, each.newest) for each in connection.execute(query))
    return found


def _event_row(node_id: int, event: Event, event_id: int, received: str) -> dict[str, Any]:
    return row(
        "event",
        node_id,
        what=event.stage,
        outcome=event.outcome,
        text=event.message,
        ref=event_id,
        size_bytes=event.bytes,
        seconds=event.seconds,
        time=received,
    )


def _report_row(node_id: int, report: Report, report_id: int, received: str) -> dict[str, Any]:
    found = len(report.changes) + report.changes_left_out
    text = report.error or (f"{found} changes" if found else "nothing to change")
    return row(
        "report",
        node_id,
        subject=f"{report.image}@{report.generation}",
        what=report.kind,
        outcome=report.outcome,
        text=text,
        ref=report_id,
        size_bytes=report.totals.bytes_fetched,
        seconds=report.seconds,
        time=received,
    )


def _counted(report: Report) -> dict[str, int]:
    totals = report.totals
    return {
        f"reports_{report.kind}_{report.outcome}": 1,
        "bytes_fetched": totals.bytes_fetched,
        "bytes_local": totals.bytes_local,
        "bytes_written": totals.bytes_written,
    }


def is_good(report: Report) -> bool:
    """Whether a report shows that its version is sound on the node: equal to it, healthy, and no reboot is due."""
    well = report.outcome == "ok" and report.in_sync and not report.reboot_needed
    return well and report.kind in ("sync", "check") and all(each.ok for each in report.health)


def _after_install(connection: Connection, node_id: int, report: Report) -> bool:
    """Disarm a node that is installed, or that failed too often. Returns whether it failed too often."""
    table = schema.armings
    if report.outcome == "ok":
        connection.execute(sa.delete(table).where(table.c.node_id == node_id))
        return False
    failed = {"failures": table.c.failures + 1, "boots": 0}
    connection.execute(sa.update(table).where(table.c.node_id == node_id).values(**failed))
    too_often = sa.delete(table).where(table.c.node_id == node_id, table.c.failures >= INSTALL_TRIES)
    return bool(connection.execute(too_often).rowcount)


def _insert_event(connection: Connection, node_id: int, event: Event, received: str) -> int:
    result = connection.execute(
        sa.insert(schema.events).values(
            node_id=node_id,
            received=received,
            time=event.time,
            stage=event.stage,
            outcome=event.outcome,
            message=event.message,
            bytes=event.bytes,
            seconds=event.seconds,
            log=event.log,
        )
    )
    return _key(result)


def _insert_report(connection: Connection, node_id: int, report: Report, received: str) -> int:
    result = connection.execute(
        sa.insert(schema.reports).values(
            node_id=node_id,
            received=received,
            kind=report.kind,
            outcome=report.outcome,
            in_sync=report.in_sync,
            image=report.image,
            generation=report.generation,
            version=report.version,
            started=report.started,
            seconds=report.seconds,
            totals=msgspec.to_builtins(report.totals),
            changes=msgspec.to_builtins(report.changes),
            changes_left_out=report.changes_left_out,
            reboot_needed=report.reboot_needed,
            error=report.error,
            log=report.log,
            order_id=report.order,
            health=msgspec.to_builtins(report.health),
            boot_id=report.boot_id[:36],
            reboot_why=list(report.reboot_why),
        )
    )
    return _key(result)


def _key(result: sa.CursorResult[Any]) -> int:
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def _events_query(*, with_log: bool = True) -> sa.Select[Any]:
    columns: Iterable[Any] = schema.events.c if with_log else (c for c in schema.events.c if c.name != "log")
    return sa.select(*columns, schema.nodes.c.name.label("node")).join_from(schema.events, schema.nodes)


def _reports_query() -> sa.Select[Any]:
    return sa.select(*schema.reports.c, schema.nodes.c.name.label("node")).join_from(schema.reports, schema.nodes)


def _event(row: Any) -> StoredEvent:
    return StoredEvent(
        id=row.id,
        node=row.node,
        received=row.received,
        time=row.time,
        stage=row.stage,
        outcome=row.outcome,
        message=row.message,
        bytes=row.bytes,
        seconds=row.seconds,
        log=getattr(row, "log", ""),
    )


def _report(row: Any) -> StoredReport:
    return StoredReport(
        id=row.id,
        node=row.node,
        received=row.received,
        kind=row.kind,
        outcome=row.outcome,
        in_sync=row.in_sync,
        image=row.image,
        generation=row.generation,
        version=row.version,
        started=row.started,
        seconds=row.seconds,
        totals=row.totals,
        changes=tuple(row.changes),
        changes_left_out=row.changes_left_out,
        reboot_needed=row.reboot_needed,
        error=row.error,
        log=row.log,
        order_id=row.order_id,
        health=tuple(row.health),
        boot_id=row.boot_id,
        reboot_why=tuple(row.reboot_why),
    )
