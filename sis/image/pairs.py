"""Which old file a new one is most like: by path, by content or path with its numbers alike, by name and size."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from sis.image.model import DIGEST_BYTES, HOLE, RUN_BYTES, Entry, Kind, Manifest

_NUMBERS = re.compile(rb"[0-9]+")
_ALIKE_MAX = 16
"""A name that more old files than this have says nothing."""

_SIZE_FACTOR_MAX = 4


class Pairing:
    """The files of an older manifest, ready to be asked for the old self of a new file."""

    def __init__(self, before: Manifest, after: Manifest) -> None:
        self._entries = before.entries
        self._staying = {entry.path for entry in after.entries}
        self._by_path: dict[bytes, int] = {}
        self._by_chunk: dict[bytes, int] = {}
        self._by_shape: defaultdict[bytes, list[int]] = defaultdict(list)
        self._by_place: defaultdict[bytes, list[int]] = defaultdict(list)
        self._by_name: defaultdict[bytes, list[int]] = defaultdict(list)
        for number, entry in enumerate(before.entries):
            if entry.kind is Kind.FILE and entry.size:
                self._add(number, entry)

    def _add(self, number: int, entry: Entry) -> None:
        self._by_path[entry.path] = number
        for digest in _digests(entry):
            self._by_chunk.setdefault(digest, number)
        shape = _shape(entry.path)
        self._by_shape[shape].append(number)
        self._by_place[_place(shape)].append(number)
        self._by_name[_name(shape)].append(number)

    def old_self(self, entry: Entry) -> int | None:
        """The number of the old entry that `entry` is most likely made from; None if nothing is like it."""
        same = self._by_path.get(entry.path)
        if same is not None:
            return same
        shape = _shape(entry.path)
        found = self._nearest(entry, self._by_shape.get(shape, ()), lambda _: True)
        holder, held_bytes = self._holder(entry)
        if holder is not None and (found is None or held_bytes > 2 * self._held_bytes(entry, found)):
            return holder
        if found is None:
            alike = self._by_place.get(_place(shape), ())
            found = self._nearest(entry, alike if len(alike) <= _ALIKE_MAX else (), self._is_near_in_size(entry))
        if found is None:
            alike = self._by_name.get(_name(shape), ())
            found = self._nearest(entry, alike if len(alike) <= _ALIKE_MAX else (), self._is_near_in_size(entry))
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
        here = set(_digests(self._entries[number]))
        return sum(size for digest, size in entry.each_chunk() if digest in here)

    def _nearest(self, entry: Entry, numbers: Iterable[int], fits: Callable[[Entry], bool]) -> int | None:
        """The one that is gone from the newer tree rather than one that stays, the nearest in size, the first."""
        entries = self._entries
        fitting = [number for number in numbers if fits(entries[number])]
        return min(
            fitting,
            key=lambda at: (entries[at].path in self._staying, abs(entries[at].size - entry.size), at),
            default=None,
        )

    def _is_near_in_size(self, entry: Entry) -> Callable[[Entry], bool]:
        def near(old: Entry) -> bool:
            return max(old.size, entry.size) <= _SIZE_FACTOR_MAX * min(old.size, entry.size)

        return near


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
