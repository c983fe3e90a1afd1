"""A manifest as the rows its bytes are made of, and what is other in the next one, with nothing else decoded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from sis.errors import Corrupt
from sis.image.documents import codec, wellformed
from sis.image.documents.tables import Novel
from sis.image.model import FORMAT, HOLE, Entry, Kind

CHANGES_MAX = 4000
"""Rows and chunks from which on it is quicker to decode all."""

_LOOKED_FOR_MAX = 200
"""Chunks that are looked for in the bytes of the older manifest."""


class _Raw(msgspec.Struct, array_like=True):
    entries: list[msgspec.Raw]
    format: int


_raw_decoder = msgspec.msgpack.Decoder(_Raw)
_entry_decoder = msgspec.msgpack.Decoder(Entry)
_encoder = msgspec.msgpack.Encoder()


class Rows:
    """The canonical bytes of a manifest, an entry a row; an entry is decoded when it is asked for."""

    def __init__(self, data: bytes) -> None:
        """Raises Corrupt unless `data` is rows in the one form that rows have."""
        try:
            raw = _raw_decoder.decode(data)
        except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
            raise Corrupt(f"manifest is malformed: {error}") from error
        self.data = data
        self.rows = raw.entries
        outer, end = codec.array_header(2), _encoder.encode(FORMAT)
        if b"".join((outer, codec.array_header(len(self.rows)), *self.rows, end)) != data:
            raise Corrupt("manifest is not in its canonical form")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Entry:
        """Raises Corrupt."""
        try:
            return _entry_decoder.decode(self.rows[number])
        except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
            raise Corrupt(f"manifest is malformed: {error}") from error

    def go_through(self, note: Callable[[int, Entry], None]) -> None:
        """Decode one entry after the other, and note each once it is found to be well-formed. Raises Corrupt."""

        def proved() -> Iterator[Entry]:
            for number, row in enumerate(self.rows):
                entry = self[number]
                if _encoder.encode(entry) != bytes(row):
                    raise Corrupt("manifest is not in its canonical form")
                yield entry
                note(number, entry)

        wellformed.check_entries(proved())

    def get(self, path: bytes) -> Entry | None:
        """The entry of a path. The rows must be in order."""
        number = bisect_left(range(len(self.rows)), path, key=lambda at: self[at].path)
        if number == len(self.rows):
            return None
        entry = self[number]
        return entry if entry.path == path else None


@dataclass(frozen=True)
class RowChanges:
    """Single paths that are other in `after` than in `before`: no directory came or went, no hard link is among them.

    old, new  by path, the entries that differ, in order; a path that is in one alone was removed or is new
    """

    before: Rows
    after: Rows
    old: Mapping[bytes, Entry]
    new: Mapping[bytes, Entry]

    def novel(self, count: int) -> tuple[Novel, ...] | None:
        """The chunks the newer manifest has and the older has not, in order; None if too many are to be looked for.

        `count` of them are said to be there. Where no more come into question that is believed: whatever they are
        taken for, what comes out of the delta is proved by their digests.
        """
        asked: dict[bytes, int] = {}
        for path, entry in self.new.items():
            had = self.old.get(path)
            known = {chunk.digest for chunk in had.each_chunk()} if had is not None else set()
            for digest, size in entry.each_chunk():
                if digest not in known:
                    asked.setdefault(digest, size)
        asked.pop(HOLE, None)
        if len(asked) != count:
            if len(asked) > _LOOKED_FOR_MAX:
                return None
            asked = {digest: size for digest, size in asked.items() if digest not in self.before.data}
        return tuple(map(Novel._make, asked.items()))


def row_changes(before: Rows, after: Rows) -> RowChanges | None:
    """What differs between a manifest known to be well-formed and one that is proved to be so where it differs.

    None where more has changed than can be told so, or what has changed is not well-formed: decoding tells then.
    """
    try:
        places = differing(before, after, most=CHANGES_MAX)
        if places is None:
            return None
        old_at, new_at = places
        old = {entry.path: entry for entry in map(before.__getitem__, old_at)}
        new = {entry.path: entry for entry in map(after.__getitem__, new_at)}
        are_sound = _are_in_order(after, new_at) and all(_is_sound(after, number) for number in new_at)
    except Corrupt:
        return None
    if not are_sound or any(not _is_plain(old.get(path), new.get(path)) for path in old.keys() | new.keys()):
        return None
    return RowChanges(before, after, old, new)


def differing(before: Rows, after: Rows, *, most: int) -> tuple[list[int], list[int]] | None:
    """The numbers of the rows each has alone, the others being in the same order; None if these are more than `most`.

    Both are gone through at once, by their paths where rows differ.
    """
    old, new = before.rows, after.rows
    old_at: list[int] = []
    new_at: list[int] = []
    at = to = 0
    while at < len(old) and to < len(new):
        if old[at] == new[to]:
            at, to = at + 1, to + 1
            continue
        here, there = before[at].path, after[to].path
        if here <= there:
            old_at.append(at)
            at += 1
        if there <= here:
            new_at.append(to)
            to += 1
        if len(old_at) + len(new_at) > most:
            return None
    if len(old_at) + len(new_at) + len(old) - at + len(new) - to > most:
        return None
    return [*old_at, *range(at, len(old))], [*new_at, *range(to, len(new))]


def novel_rows(before: Rows, after: Rows) -> tuple[Novel, ...]:
    """The chunks the newer manifest has and the older has not, in order of first appearance. Raises Corrupt."""
    places = differing(before, after, most=len(before) + len(after))
    assert places is not None
    novel: dict[bytes, int] = {}
    for number in places[1]:
        for digest, size in after[number].each_chunk():
            novel.setdefault(digest, size)
    novel.pop(HOLE, None)
    for number in range(len(before)) if novel else ():
        for digest, _ in before[number].each_chunk():
            novel.pop(digest, None)
    return tuple(map(Novel._make, novel.items()))


def _are_in_order(rows: Rows, numbers: list[int]) -> bool:
    """Whether the paths of these rows are above those before them and below those after them."""
    for number in numbers:
        path = rows[number].path
        if number and rows[number - 1].path >= path:
            return False
        if number + 1 < len(rows) and rows[number + 1].path <= path:
            return False
    return True


def _is_sound(rows: Rows, number: int) -> bool:
    """Whether an entry is well-formed, alone and by the directory it is in. Raises Corrupt if it is not alone."""
    entry = rows[number]
    if _encoder.encode(entry) != bytes(rows.rows[number]):
        return False
    wellformed.check_entry(entry)
    if entry.path == b".":
        return entry.kind is Kind.DIR
    parent = wellformed.check_path(entry.path)
    above = rows.get(parent or b".")
    is_inside = parent != b"." and not entry.path.startswith(b"/")
    return is_inside and above is not None and above.kind is Kind.DIR


def _is_plain(old: Entry | None, new: Entry | None) -> bool:
    """Whether a change touches nothing but its own path."""
    was_directory, is_directory = (each is not None and each.kind is Kind.DIR for each in (old, new))
    return was_directory == is_directory and not any(each.link for each in (old, new) if each is not None)
