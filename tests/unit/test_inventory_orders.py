"""Orders and reports: handed out, handed out again when lost, done by their report, cancelled when not taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.inventory import db, orders
from sis.inventory.db import Inventory
from sis.inventory.model import NewNode
from sis.wire import Order, Report


@pytest.fixture
def inventory(place: str | Path) -> Iterator[Inventory]:
    with db.open(place) as opened:
        opened.nodes.add([NewNode("n1"), NewNode("n2")])
        yield opened


def report(order: int | None, outcome: str = "ok") -> Report:
    return Report(
        kind="sync", outcome=outcome, in_sync=True, image="i", generation=1, version="v",  # type: ignore[arg-type]
        started="2026-01-01T00:00:00.000Z", seconds=1, error="" if outcome == "ok" else "no space", order=order,
    )  # fmt: skip


def test_an_order_goes_to_its_node_only(inventory: Inventory) -> None:
    (first,) = inventory.orders.create([1], "sync", full=True)
    assert inventory.orders.waiting_nodes() == {1}
    assert inventory.orders.take(2) is None
    assert inventory.orders.take(1) == Order(id=first, kind="sync", full=True)
    assert inventory.orders.waiting_nodes() == frozenset()


def test_a_lost_order_is_given_again_and_then_given_up(inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "AGAIN_AFTER_S", 0)
    (first,) = inventory.orders.create([1], "sync")
    assert [inventory.orders.take(1) for _ in range(3)] == [Order(id=first, kind="sync")] * 2 + [None]
    (order,) = inventory.orders.get([first])
    assert order.done
    assert order.failure == "taken 2 times and never reported"


def test_two_requests_at_once_get_one_order(inventory: Inventory) -> None:
    inventory.orders.create([1], "sync")
    assert inventory.orders.take(1) is not None
    assert inventory.orders.take(1) is None


def test_a_reboot_is_done_by_being_taken(inventory: Inventory) -> None:
    (first,) = inventory.orders.create([1], "reboot")
    assert inventory.orders.take(1) == Order(id=first, kind="reboot")
    assert inventory.orders.take(1) is None


def test_a_report_ends_its_order_and_only_its_nodes(inventory: Inventory) -> None:
    first, second = inventory.orders.create([1, 2], "sync")
    inventory.history.record_report(1, report(second))
    assert [order.done for order in inventory.orders.get([first, second])] == [None, None]
    inventory.history.record_report(2, report(second, "failed"))
    one, two = inventory.orders.get([first, second])
    assert one.done is None
    assert (two.failure, two.report_id is not None) == ("no space", True)


def test_only_untaken_orders_are_cancelled(inventory: Inventory) -> None:
    both = inventory.orders.create([1, 2], "sync")
    inventory.orders.take(1)
    assert inventory.orders.cancel(both, "not taken in time") == 1
    assert [order.failure for order in inventory.orders.get(both)] == ["", "not taken in time"]
    assert inventory.orders.take(2) is None
