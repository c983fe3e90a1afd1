"""Which old file a new one is most like: by path, by content or path with its numbers alike, by name and size."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sis.image.documents.rows import Rows, differing
from sis.image.model import DIGEST_BYTES, HOLE, RUN_BYTES, Entry, Kind

_NUMBERS = re.compile(rb"[0-9]+")
_ALIKE_MAX = 16
"""A name that more old files than this have says nothing."""

_SIZE_FACTOR_MAX = 4
_NUMBER_BITS = 32


class Pairing:
    """The files of an older manifest, ready to be asked for the old self of some new files.

    Of the old ones no more is held than what these may ask for.
    """

    def __init__(self, before: Rows, after: Rows, asking: Iterable[int]) -> None:
        """`asking` are the numbers of the new entries."""
        self._before = before
        self._by_path, self._gone = _differing_files(before, after)
        self._by_chunk: dict[bytes, int] = {}
        self._by_shape: dict[bytes, _BySize] = {}
        self._by_place: dict[bytes, list[int]] = {}
        self._by_name: dict[bytes, list[int]] = {}
        strangers = (entry for entry in map(after.__getitem__, asking) if entry.path not in self._by_path)
        wanted = _wanted_by(strangers)
        if wanted.shapes:
            self._find(wanted)

    def _find(self, wanted: _Wanted) -> None:
        self._by_shape = {shape: _BySize() for shape in wanted.shapes}
        self._by_place = {place: [] for place in map(_place, wanted.shapes)}
        self._by_name = {name: [] for name in map(_name, wanted.shapes)}
        for number, entry in _files(self._before):
            for digest in _digests(entry):
                if digest in wanted.chunks:
                    self._by_chunk.setdefault(digest, number)
            shape = _shape(entry.path)
            alike = self._by_shape.get(shape)
            if alike is not None:
                alike.add(entry.size, number, is_gone=number in self._gone)
            for known, key in ((self._by_place, _place(shape)), (self._by_name, _name(shape))):
                numbers = known.get(key)
                if numbers is not None and len(numbers) <= _ALIKE_MAX:
                    numbers.append(number)

    def old_self(self, entry: Entry) -> int | None:
        """The number of the old entry that one of those asking is most likely made from; None if nothing is like it."""
        same = self._by_path.get(entry.path)
        if same is not None:
            return same
        shape = _shape(entry.path)
        found = self._by_shape[shape].nearest(entry.size)
        holder, held_bytes = self._holder(entry)
        if holder is not None and (found is None or held_bytes > 2 * self._held_bytes(entry, found)):
            return holder
        if found is None:
            found = self._nearest(entry, self._by_place[_place(shape)])
        if found is None:
            found = self._nearest(entry, self._by_name[_name(shape)])
        return found

    def _holder(self, entry: Entry) -> tuple[int | None, int]:
        """The old file that holds most of the chunks of `entry`, and how many bytes these are."""
        held: Counter[int] = Counter()
        for digest, size in entry.each_chunk():
            if digest in self._by_chunk:
                held[self._by_chunk[digest]] += size
        number = max(held, key=lambda at: (held[at], -at), default=None)
        return number, held[number] if number is not None else 0

    def _held_bytes(self, entry: Entry, number: int) -> int:
        here = set(_digests(self._before[number]))
        return sum(size for digest, size in entry.each_chunk() if digest in here)

    def _nearest(self, entry: Entry, numbers: Sequence[int]) -> int | None:
        """Of a few that are near in size, as `_BySize` has it."""
        alike = _BySize()
        for number in numbers if len(numbers) <= _ALIKE_MAX else ():
            size = self._before[number].size
            if max(size, entry.size) <= _SIZE_FACTOR_MAX * min(size, entry.size):
                alike.add(size, number, is_gone=number in self._gone)
        return alike.nearest(entry.size)


class _BySize:
    """Old files: the one that is gone from the newer tree rather than one that stays, the nearest in size, the first.

    Size and number of each are one integer.
    """

    def __init__(self) -> None:
        self._gone: list[int] = []
        self._staying: list[int] = []
        self._is_sorted = False

    def add(self, size: int, number: int, *, is_gone: bool) -> None:
        (self._gone if is_gone else self._staying).append(size << _NUMBER_BITS | number)

    def nearest(self, size: int) -> int | None:
        if not self._is_sorted:
            self._gone.sort()
            self._staying.sort()
            self._is_sorted = True
        group = self._gone or self._staying
        at = bisect_left(group, size << _NUMBER_BITS)
        near = group[at : at + 1]
        if at:
            below = group[at - 1] >> _NUMBER_BITS << _NUMBER_BITS
            near.append(group[bisect_left(group, below)])
        found = min(near, key=lambda one: (abs((one >> _NUMBER_BITS) - size), _number_of(one)), default=None)
        return None if found is None else _number_of(found)


class _Wanted(NamedTuple):
    """What new files of which no old one has the path are sought by."""

    shapes: set[bytes]
    chunks: set[bytes]


def _wanted_by(entries: Iterable[Entry]) -> _Wanted:
    wanted = _Wanted(set(), set())
    for entry in entries:
        wanted.shapes.add(_shape(entry.path))
        wanted.chunks.update(_digests(entry))
    return wanted


def _differing_files(before: Rows, after: Rows) -> tuple[Mapping[bytes, int], set[int]]:
    """The numbers of the old files that are not the same in the newer tree: by path, and of those that are gone."""
    places = differing(before, after, most=len(before) + len(after))
    assert places is not None
    old_at, new_at = places
    by_path = {entry.path: number for number, entry in _files(before, old_at)}
    staying = {path for number in new_at if (path := after[number].path) in by_path}
    return by_path, {number for path, number in by_path.items() if path not in staying}


def _files(rows: Rows, numbers: Iterable[int] | None = None) -> Iterator[tuple[int, Entry]]:
    """Those that have content."""
    for number in range(len(rows)) if numbers is None else numbers:
        entry = rows[number]
        if entry.kind is Kind.FILE and entry.size:
            yield number, entry


def _number_of(one: int) -> int:
    return one & ((1 << _NUMBER_BITS) - 1)


def _digests(entry: Entry) -> Iterable[bytes]:
    raw = entry.chunks
    digests = (raw[at : at + DIGEST_BYTES] for at in range(0, len(raw), RUN_BYTES))
    return (digest for digest in digests if digest != HOLE)


def _shape(path: bytes) -> bytes:
    return _NUMBERS.sub(b"0", path)


def _place(shape: bytes) -> bytes:
    """The last two names of a path."""
    return b"/".join(shape.rsplit(b"/", 2)[-2:])


def _name(shape: bytes) -> bytes:
    return shape.rpartition(b"/")[2]
