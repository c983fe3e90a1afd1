"""Ranges: what is asked for in one request."""

from __future__ import annotations

from sis.image.documents.tables import Location
from sis.sync.staging.fetch import GAP_BYTES, coalesce


def at(pack: int, offset: int, stored: int = 100) -> Location:
    return Location(pack, offset, stored, 200, bytes(32))


def test_neighbours_share_a_request_whatever_their_order() -> None:
    (range_,) = coalesce([at(0, 200), at(0, 0), at(0, 100)])
    assert (range_.pack, range_.offset, range_.length) == (0, 0, 300)
    assert [location.offset for location in range_.chunks] == [0, 100, 200]


def test_a_small_gap_is_read_through_and_a_large_one_is_not() -> None:
    assert len(coalesce([at(0, 0), at(0, 100 + GAP_BYTES)])) == 1
    far = coalesce([at(0, 0), at(0, 101 + GAP_BYTES)])
    assert [(range_.offset, range_.length) for range_ in far] == [(0, 100), (101 + GAP_BYTES, 100)]


def test_packs_are_asked_for_in_order_and_apart() -> None:
    assert [(range_.pack, range_.offset) for range_ in coalesce([at(1, 0), at(0, 100)])] == [(0, 100), (1, 0)]
    assert coalesce([]) == ()
