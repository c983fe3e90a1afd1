"""Deltas made behind the admin's back: what is wanted is made by the head, told, and tried again when it failed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sis.errors import NotFound
from sis.head import acts
from sis.head.deltas import DeltaMaker
from sis.image.commit import commit
from sis.image.deltas.delta import NOTHING
from sis.image.deltas.making import WHOLE_BYTES_MIN
from sis.image.deltas.wanted import make_wanted, make_whole, want, wanted, wanted_whole
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.inventory import db
from sis.inventory.stream import Stream
from tests.image_trees import make_simple


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An image web with two generations; stable is the first."""
    store = LocalStore(tmp_path / "store")
    tree = make_simple(tmp_path / "tree")
    for number in range(2):
        (tree / "etc/new").write_text(f"number {number}\n" * 90)
        commit(store, "web", tree)
    acts.publish(store, "web", "stable", 1)
    assert list(make_wanted(store, "web", "stable")) == []
    return store


def deltas(store: LocalStore) -> list[str]:
    return sorted(store.names("deltas"))


def test_a_channel_that_moved_wants_deltas_until_they_are_there(store: LocalStore) -> None:
    assert wanted(store) == ()
    acts.publish(store, "web", "stable", 2)
    assert wanted(store) == (("web", "stable"),)
    (made,) = make_wanted(store, "web", "stable")
    assert made.before == "web@1"
    assert wanted(store) == ()
    acts.publish(store, "web", "stable", None)
    (made,) = make_wanted(store, "web", "stable")
    assert made.before == "web@2"
    assert len(deltas(store)) == 2


def test_what_is_no_more_is_forgotten(store: LocalStore) -> None:
    moved = refs.publish(store.ref("web"), 2, "old")
    want(store, moved, "old")
    with pytest.raises(NotFound, match="no such channel: web@old"):
        list(make_wanted(store, "web", "old"))
    assert wanted(store) == ()
    want(store, moved, "stable")
    (store.path / "refs/web").unlink()
    with pytest.raises(NotFound, match="no such image"):
        list(make_wanted(store, "web", "stable"))
    assert wanted(store) == ()


def _grow(store: LocalStore, tree: Path) -> None:
    """A third generation, long enough for a file for new nodes; most of it is a hole."""
    with (tree / "etc/long").open("wb") as file:
        file.truncate(WHOLE_BYTES_MIN)
    commit(store, "web", tree)


def test_the_file_for_new_nodes_comes_after_the_others(store: LocalStore, tmp_path: Path) -> None:
    _grow(store, tmp_path / "tree")
    acts.publish(store, "web", "stable", 3)
    assert wanted_whole(store) == ()
    assert [made.before for made in make_wanted(store, "web", "stable")] == ["web@1"]
    assert (wanted(store), wanted_whole(store)) == ((), (("web", "stable"),))
    made = make_whole(store, "web", "stable")
    assert made is not None
    assert made.before == "nothing"
    assert set(made.by_method) == {"solid"}
    assert wanted_whole(store) == ()
    assert make_whole(store, "web", "stable") is None


def _until(maker: DeltaMaker, stream: Stream) -> tuple[str, str]:
    for _ in range(6000):
        maker.look()
        told = stream.last(kinds=["published"])
        if told:
            return told[-1].outcome, told[-1].text
        time.sleep(0.02)
    raise AssertionError(maker.log_path.read_text())


def test_the_head_makes_them_in_the_background(store: LocalStore, tmp_path: Path) -> None:
    inventory = db.open(tmp_path / "state.db")
    maker = DeltaMaker(tmp_path, store, inventory.stream)
    maker.look()
    assert not maker.log_path.exists()
    acts.publish(store, "web", "stable", 2)
    assert _until(maker, inventory.stream) == ("ok", "deltas made")
    assert len(deltas(store)) == 1
    assert maker.log_path.read_text().startswith("delta from web@1: ")


def test_what_fails_is_told_and_not_tried_all_the_time(store: LocalStore, tmp_path: Path) -> None:
    inventory = db.open(tmp_path / "state.db")
    maker = DeltaMaker(tmp_path, store, inventory.stream)
    acts.publish(store, "web", "stable", 2)
    for name in store.names("manifests"):
        (store.path / "manifests" / name).write_bytes(b"not a manifest")
    outcome, text = _until(maker, inventory.stream)
    assert outcome == "failed"
    assert text.startswith("no deltas, nodes fetch chunks: ")
    before = maker.log_path.stat().st_size
    maker.look()
    assert maker.log_path.stat().st_size == before
    assert wanted(store) == (("web", "stable"),)


def test_a_head_that_ends_begins_nothing_more(store: LocalStore, tmp_path: Path) -> None:
    maker = DeltaMaker(tmp_path, store, db.open(tmp_path / "state.db").stream)
    acts.publish(store, "web", "stable", 2)
    maker.look()
    maker.stop()
    maker.look()
    assert deltas(store) == []
    assert wanted(store) == (("web", "stable"),)


def test_the_file_for_new_nodes_is_left_when_a_channel_moves(store: LocalStore, tmp_path: Path) -> None:
    _grow(store, tmp_path / "tree")
    acts.publish(store, "web", "stable", 3)
    assert len(list(make_wanted(store, "web", "stable"))) == 1
    inventory = db.open(tmp_path / "state.db")
    maker = DeltaMaker(tmp_path, store, inventory.stream)
    maker.look()
    acts.publish(store, "web", "stable", 2)
    maker.look()
    told: list[str] = []
    for _ in range(6000):
        maker.look()
        told = [event.text for event in inventory.stream.last(kinds=["published"])]
        if told:
            break
        time.sleep(0.02)
    maker.stop()
    assert told == ["deltas made"]
    assert not any(name.startswith(NOTHING) for name in deltas(store))
