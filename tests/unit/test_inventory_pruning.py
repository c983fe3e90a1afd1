"""What is kept of the past, and that commands which change something are in the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from sis.errors import NotFound, UsageFault
from sis.head.nightly import is_due
from sis.inventory import db, schema
from sis.inventory.clock import now
from sis.inventory.db import Inventory
from sis.inventory.model import NewNode
from sis.inventory.nodes import Change
from sis.inventory.pruning import Keep
from sis.sync.model import Totals
from sis.wire import Event, Report
from tests.unit.test_cli_nodes import Admin

OLD = "2020-01-01T00:00:00.000Z"


@pytest.fixture
def inventory(place: str | Path) -> Iterator[Inventory]:
    with db.open(place) as opened:
        opened.nodes.add([NewNode("n1"), NewNode("n10")])
        yield opened


def event(at: int, outcome: str = "ok") -> Event:
    return Event(time=f"2026-01-01T00:00:{at:02}.000Z", stage="pulling", outcome=outcome, message=str(at))  # type: ignore[arg-type]


def report(at: int, kind: str = "sync") -> Report:
    return Report(
        kind=kind,  # type: ignore[arg-type]
        outcome="ok", in_sync=True, image="compute", generation=1, version="v", seconds=1.0, totals=Totals(),
        started=f"2026-01-01T00:00:{at:02}.000Z", changes=(), changes_left_out=0, reboot_needed=False, error="", log="",
    )  # fmt: skip


def aged(inventory: Inventory, table: sa.Table, column: str) -> None:
    """Have every row of a table be years old."""
    with inventory.database.write() as connection:
        connection.execute(sa.update(table).values({column: OLD}))


def test_old_rows_go_but_the_last_word_of_every_node_stays(inventory: Inventory) -> None:
    one, ten = (node.id for node in inventory.nodes.list())
    inventory.history.record_events(one, [event(1), event(2, "failed"), event(3, "note"), event(4, "note")])
    inventory.history.record_events(ten, [event(1), event(2)])
    for at in (1, 2, 3):
        inventory.history.record_report(one, report(at))
    inventory.history.record_report(one, report(4, "check"))
    inventory.orders.create([one], "sync")
    for table in (schema.events, schema.reports):
        aged(inventory, table, "received")
    aged(inventory, schema.orders, "created")
    tried = inventory.past.prune(dry_run=True)
    gone = inventory.past.prune()
    assert tried == gone
    assert (gone.events, gone.reports, gone.orders) == (4, 2, 0)
    assert [each.message for each in inventory.history.events("n1")] == ["4"]
    assert [each.message for each in inventory.history.events("n10")] == ["2"]
    assert [(each.kind, each.started[-6:]) for each in inventory.history.reports("n1")] == [
        ("check", "4.000Z".rjust(6)), ("sync", "3.000Z"),
    ]  # fmt: skip
    assert inventory.past.prune().total == 0
    assert inventory.past.last() is not None


def test_the_event_a_failure_points_at_stays(inventory: Inventory) -> None:
    one = inventory.nodes.get("n1").id
    inventory.history.record_events(one, [event(1), event(2, "failed"), event(3, "note")])
    aged(inventory, schema.events, "received")
    inventory.past.prune()
    state = inventory.nodes.get("n1").state
    assert state.event_id is not None
    found = inventory.history.event(state.event_id)
    assert found is not None
    assert found.message == "2"


def test_no_node_keeps_more_than_its_number(inventory: Inventory) -> None:
    one, ten = (node.id for node in inventory.nodes.list())
    inventory.history.record_events(one, [event(at) for at in range(20)])
    inventory.history.record_events(ten, [event(at) for at in range(3)])
    inventory.past.set_keep({"events_each": 5})
    assert inventory.past.prune().events == 15
    assert [each.message for each in inventory.history.events("n1")] == ["15", "16", "17", "18", "19"]
    assert len(inventory.history.events("n10")) == 3


def test_changes_that_are_a_nodes_version_stay(inventory: Inventory) -> None:
    inventory.nodes.change(["n1"], Change(profile={"timezone": "Asia/Tokyo"}))
    inventory.nodes.change(["n1"], Change(profile={"timezone": "UTC"}))
    inventory.discoveries.record("52:54:00:00:00:01", {})
    aged(inventory, schema.changes, "time")
    aged(inventory, schema.discoveries, "last_seen")
    gone = inventory.past.prune()
    assert (gone.changes, gone.discoveries) == (1, 1)
    versions = {node.version for node in inventory.nodes.list()}
    assert {change.id for change in inventory.changes.last()} == versions


def test_what_is_kept_is_said_with_care(inventory: Inventory) -> None:
    assert inventory.past.keep() == Keep()
    assert inventory.past.set_keep({"report_days": 7}).report_days == 7
    assert inventory.past.keep().report_days == 7
    with pytest.raises(NotFound, match="no such kind of past: report_day"):
        inventory.past.set_keep({"report_day": 7})
    with pytest.raises(UsageFault, match="report_days=0: at least 1 is kept"):
        inventory.past.set_keep({"report_days": 0})


@pytest.mark.parametrize(
    ("last_days", "hour", "due"),
    [(None, 3, True), (None, 12, False), (0.1, 3, False), (1, 3, True), (1, 12, False), (3, 12, True)],
)
def test_the_head_prunes_by_night_or_when_it_is_late(last_days: float | None, hour: int, due: bool) -> None:
    moment = datetime.fromisoformat(now()).replace(hour=hour)
    before = datetime.fromisoformat(now()) - timedelta(days=last_days or 0)
    assert is_due(before.isoformat() if last_days is not None else None, moment) is due


def test_commands_that_change_something_are_in_the_audit_log(tmp_path: Path) -> None:
    admin = Admin(tmp_path)
    admin.adds_two()
    admin.said("node", "set", "n001", "timezone=UTC", "-n")
    admin.said("node", "list")
    admin.told_off("node", "set", "n001", "timezon=UTC")
    admin.said("inventory", "keep", "event_days=30")
    admin.said("node", "delete", "n002", "--yes")
    rows = json.loads(admin.said("audit", "-o", "json"))
    told = [(row["action"], row["target"], row["outcome"]) for row in rows]
    assert told[0] == ("head init", "--network=mgmt=10.77.0.0/24 --address=10.77.0.1", "ok")
    assert told[-3:] == [
        ("node set", "n001 timezon=UTC", "failed"),
        ("inventory keep", "event_days=30", "ok"),
        ("node delete", "n002 --yes", "ok"),
    ]
    assert "no such setting: timezon" in rows[-3]["detail"]
    assert {(row["who"], row["via"]) for row in rows} == {("root", "command")}
