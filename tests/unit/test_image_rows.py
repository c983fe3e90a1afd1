"""What differs between two manifests, told by their rows."""

from __future__ import annotations

import random

import pytest

from sis.image.documents import codec, rows
from sis.image.documents.rows import Rows, row_changes
from sis.image.model import Chunk, Entry, Kind, Manifest, pack_chunks

ROOT = Entry(b".", Kind.DIR, 0o755, 0, 0, 1)


def file(number: int, *content: int) -> Entry:
    chunks = [Chunk(bytes([each]) * 32, 10) for each in content]
    return Entry(b"%03d" % number, Kind.FILE, 0o644, 0, 0, 1, 10 * len(chunks), pack_chunks(chunks))


def rows_of(*entries: Entry) -> Rows:
    return Rows(codec.encode_manifest(Manifest(tuple(sorted((ROOT, *entries), key=lambda entry: entry.path)))))


@pytest.mark.parametrize("seed", range(8))
def test_any_mixture_of_changes_is_told(seed: int) -> None:
    rng = random.Random(seed)
    old = {number: file(number, 1) for number in rng.sample(range(200), 120)}
    new = dict(old)
    for number in rng.sample(range(200), 40):
        if number in new and rng.random() < 0.5:
            del new[number]
        else:
            new[number] = file(number, 2)
    changes = row_changes(rows_of(*old.values()), rows_of(*new.values()))
    assert changes is not None
    differ = [number for number in range(200) if old.get(number) != new.get(number)]
    assert list(changes.old.values()) == [old[number] for number in differ if number in old]
    assert list(changes.new.values()) == [new[number] for number in differ if number in new]


def test_more_than_is_worth_it_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "CHANGES_MAX", 10)
    before = rows_of(*(file(number, 1) for number in range(20)))
    assert row_changes(before, rows_of(*(file(number, 1 + (number < 5)) for number in range(20)))) is not None
    assert row_changes(before, rows_of(*(file(number, 1 + (number < 6)) for number in range(20)))) is None
    assert row_changes(before, rows_of(*(file(number, 1) for number in range(31)))) is None
    assert row_changes(before, rows_of(*(file(number, 1) for number in range(9)))) is None


def test_rows_out_of_order_are_not_believed() -> None:
    before = rows_of(file(1, 1), file(2, 1), file(3, 1))
    swapped = Rows(codec.encode_manifest(Manifest((ROOT, file(1, 1), file(3, 1), file(2, 1))), checked=True))
    assert row_changes(before, swapped) is None


def test_what_is_elsewhere_already_is_not_novel(monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows_of(file(1, 1), file(2, 2), file(3, 3))
    changes = row_changes(before, rows_of(file(1, 1), file(2, 1, 4, 4), file(3, 3)))
    assert changes is not None
    found = changes.novel(1)
    assert found is not None
    assert [chunk.digest for chunk in found] == [bytes([4]) * 32]
    monkeypatch.setattr(rows, "_LOOKED_FOR_MAX", 1)
    assert changes.novel(1) is None, "two to be looked for"
    told = changes.novel(2)
    assert told is not None, "as many as there can be"
    assert len(told) == 2
