"""The stream tells of everything once, in order, within the transaction that did it; admins' keys; audit; folding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sis.errors import NotFound, UsageFault
from sis.inventory import admins, db, schema
from sis.inventory.db import Inventory
from sis.inventory.drift import fold_changes
from sis.inventory.model import NewNode
from sis.inventory.stream import row
from sis.sync.model import Change, Totals
from sis.wire import Event, Report

STARTED = "2026-01-01T00:00:00.000Z"


@pytest.fixture
def inventory(place: str | Path) -> Iterator[Inventory]:
    with db.open(place) as opened:
        opened.nodes.add([NewNode("n1", groups=("rack1",)), NewNode("n2")])
        yield opened


def told(inventory: Inventory, since: int = 0) -> list[tuple[str, str | None, str, str]]:
    return [(each.kind, each.node, each.what, each.outcome) for each in inventory.stream.after(since)]


def report(kind: str = "sync", **more: object) -> Report:
    values = {
        "kind": kind, "outcome": "ok", "in_sync": True, "image": "compute", "generation": 2, "version": "ab" * 32,
        "started": STARTED, "seconds": 1.5, "totals": Totals(bytes_fetched=1000, bytes_written=2000), **more,
    }  # fmt: skip
    return Report(**values)  # type: ignore[arg-type]


def test_a_nodes_story_is_told_in_order(inventory: Inventory) -> None:
    inventory.access.arm([1])
    token = inventory.access.issue_token(1)
    assert token
    inventory.history.record_events(1, [Event(time=STARTED, stage="partitioning", outcome="start", message="sda")])
    inventory.history.record_events(1, [Event(time=STARTED, stage="partitioning", outcome="failed", message="no disk")])
    assert told(inventory) == [
        ("arming", "n1", "armed", ""),
        ("state", "n1", "armed", ""),
        ("state", "n1", "netbooted", ""),
        ("event", "n1", "partitioning", "start"),
        ("state", "n1", "partitioning", ""),
        ("event", "n1", "partitioning", "failed"),
        ("state", "n1", "failed", ""),
    ]
    last = inventory.stream.last(1)[0]
    assert (last.subject, last.text) == ("partitioning", "partitioning: no disk")


def test_orders_and_reports_are_told_once(inventory: Inventory) -> None:
    (order,) = inventory.orders.create([1], "sync")
    assert inventory.orders.take(1)
    inventory.history.record_report(1, report(order=order))
    before = inventory.stream.newest()
    inventory.history.record_report(1, report(order=order))
    assert inventory.stream.newest() == before
    assert told(inventory) == [
        ("order", "n1", "sync", "asked"),
        ("order", "n1", "sync", "taken"),
        ("report", "n1", "sync", "ok"),
        ("state", "n1", "in-sync", ""),
        ("order", "n1", "sync", "done"),
    ]
    (cancelled,) = inventory.orders.create([2], "check")
    assert inventory.orders.cancel([cancelled, cancelled], "not taken in time") == 1
    assert told(inventory)[-1] == ("order", "n2", "check", "cancelled")
    assert inventory.overview.counters()["bytes_fetched"] == 1000
    assert inventory.overview.counters()["reports_sync_ok"] == 1


def test_strangers_are_told_when_they_first_boot(inventory: Inventory) -> None:
    inventory.discoveries.record("52:54:00:99:99:99", {"platform": "efi", "uuid": ""})
    inventory.discoveries.record("52:54:00:99:99:99", {"platform": "efi"})
    (only,) = inventory.stream.last()
    assert (only.kind, only.subject, only.text, only.node) == ("discovered", "52:54:00:99:99:99", "platform efi", None)


def test_channels_are_told_when_they_move_whoever_asks(inventory: Inventory) -> None:
    for _ in range(2):
        inventory.stream.note_channels({"compute@stable": 1})
    inventory.stream.note_channels({"compute@stable": 2, "thin@stable": 1})
    assert [(each.subject, each.text) for each in inventory.stream.last()] == [
        ("compute@stable", "generation 1"),
        ("compute@stable", "generation 2 (was 1)"),
        ("thin@stable", "generation 1"),
    ]
    assert "channels" not in inventory.settings.all()


def test_filters_pages_and_trimming(inventory: Inventory) -> None:
    inventory.access.arm([1, 2])
    assert [each.node for each in inventory.stream.after(0, node="n2")] == ["n2", "n2"]
    assert {each.kind for each in inventory.stream.after(0, kinds=("state",))} == {"state"}
    assert [each.id for each in inventory.stream.after(1, limit=2)] == [2, 3]
    assert [each.id for each in inventory.stream.last(2)] == [3, 4]
    assert inventory.stream.trim(kept=1) == 3
    assert [each.id for each in inventory.stream.after(0)] == [4]
    inventory.access.arm([1])
    assert inventory.stream.newest() == 5


def test_what_is_taken_back_is_not_told(inventory: Inventory) -> None:
    from sis.inventory.stream import append

    def fail() -> None:
        with inventory.database.write() as connection:
            append(connection, [row("state", 1, what="armed")])
            raise RuntimeError("killed here")

    with pytest.raises(RuntimeError):
        fail()
    assert inventory.stream.newest() == 0


def test_deleting_a_node_removes_its_rows_and_only_its(inventory: Inventory) -> None:
    inventory.access.arm([1, 2])
    inventory.nodes.delete(["n1"])
    assert {each.node for each in inventory.stream.after(0)} == {"n2"}


def test_the_overview_is_the_cluster(inventory: Inventory) -> None:
    changes = (Change(action="update", path="/etc/motd", what=("content",)),)
    for node_id in (1, 2):
        inventory.history.record_report(node_id, report("check", in_sync=False, changes=changes))
    first, second = inventory.overview.tiles()
    assert (first.name, first.state, first.drift, first.groups) == ("n1", "drifted", 1, ("rack1",))
    assert (second.name, second.groups) == ("n2", ())
    (folded,) = fold_changes(inventory.overview.changes_of_drifted())
    assert folded.line == "n[1-2] update /etc/motd (content)"
    inventory.history.record_report(1, report("sync", started="2026-01-02T00:00:00.000Z"))
    assert list(inventory.overview.changes_of_drifted()) == ["n2"]
    assert sorted(inventory.overview.last_reports()) == ["n1", "n2"]


# --- who may


def test_a_token_is_known_by_its_value_and_kept_as_a_hash(inventory: Inventory) -> None:
    token = inventory.admins.add_token("grafana", "view")
    assert inventory.admins.by_token(token) == admins.Known("grafana", "view")
    assert inventory.admins.by_token(token + "x") is None
    with inventory.database.read() as connection:
        (kept,) = connection.execute(sa.select(schema.tokens)).all()
    assert token not in str(kept)
    assert kept.used is not None
    with pytest.raises(UsageFault, match="there is a token grafana already"):
        inventory.admins.add_token("grafana", "admin")
    with pytest.raises(UsageFault, match="cannot be a name here"):
        inventory.admins.add_token("<script>", "admin")
    with pytest.raises(NotFound, match="no such token: grafna") as caught:
        inventory.admins.revoke_token("grafna")
    assert caught.value.hint == "did you mean grafana?"
    inventory.admins.revoke_token("grafana")
    assert inventory.admins.by_token(token) is None


def test_a_login_code_is_good_once_and_for_ten_minutes(inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    code = inventory.admins.new_login("ada", "operate")
    session = inventory.admins.log_in(code)
    assert session
    assert inventory.admins.by_session(session) == admins.Known("ada", "operate")
    assert inventory.admins.log_in(code) is None
    assert inventory.admins.log_in("made-up") is None
    late = inventory.admins.new_login("ada", "operate")
    monkeypatch.setattr(admins, "LOGIN_LIFE_S", -1)
    assert inventory.admins.log_in(late) is None
    monkeypatch.setattr(admins, "SESSION_LIFE_S", -1)
    assert inventory.admins.by_session(session) is None


def test_logging_out_ends_the_session(inventory: Inventory) -> None:
    first, second = (inventory.admins.log_in(inventory.admins.new_login("ada", "view")) for _ in range(2))
    assert first
    assert second
    inventory.admins.log_out(first)
    assert inventory.admins.by_session(first) is None
    assert inventory.admins.log_out_everyone() == 1
    assert inventory.admins.by_session(second) is None


def test_roles_hold_what_the_lesser_ones_hold() -> None:
    assert admins.may("admin", "view")
    assert admins.may("operate", "operate")
    assert not admins.may("view", "operate")


def test_the_audit_log_has_a_row_before_the_change(inventory: Inventory) -> None:
    entry = inventory.audit.begin("ada", "operate", "token", "sync", "n[1-2]")
    assert inventory.audit.last()[0].outcome == "begun"
    inventory.audit.end(entry, "failed", "no such node")
    inventory.audit.begin("eve", "view", "session", "deploy", "n1", outcome="refused")
    newest, oldest = inventory.audit.last()
    assert (newest.who, newest.outcome) == ("eve", "refused")
    assert (oldest.who, oldest.action, oldest.outcome, oldest.detail) == ("ada", "sync", "failed", "no such node")
    assert inventory.audit.last(before=newest.id) == (oldest,)
