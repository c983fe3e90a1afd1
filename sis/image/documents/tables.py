"""Chunk tables beside their manifests, in bulk: which chunks there are, where each lies, a table made of another."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

from sis.errors import Corrupt
from sis.image.model import DIGEST_BYTES, HOLE, RUN, RUN_BYTES, TABLE_ROW, ChunkTable, Entry, Manifest, PackRef
from sis.image.names import show_path

_NUMBER = struct.Struct("<I")
_SIZE_OF_ROW = struct.Struct("<16xI")
_ENTRIES = 4096
"""Entries whose chunks are gone through at a time."""


class Location(NamedTuple):
    """Where a chunk lies: in the `pack`-th pack of its table, `stored` bytes from `offset`; it is `size` bytes long."""

    pack: int
    offset: int
    stored: int
    size: int
    digest: bytes = b""


class Novel(NamedTuple):
    """A chunk the newer manifest has and the older has not."""

    digest: bytes
    size: int


class ChunkLocations(Mapping[bytes, Location]):
    """By digest, where each chunk of a manifest lies; unpacked when asked for."""

    def __init__(self, numbers: Mapping[bytes, int], rows: bytes) -> None:
        self._numbers = numbers
        self._rows = rows

    def __getitem__(self, digest: bytes) -> Location:
        row: tuple[int, int, int, int] = TABLE_ROW.unpack_from(self._rows, self._numbers[digest] * TABLE_ROW.size)
        return Location(*row, digest)

    def __contains__(self, digest: object) -> bool:
        return digest in self._numbers

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def distinct_runs(entries: Iterable[Entry]) -> list[bytes]:
    """The distinct runs (digest, length) of chunks, holes left out, in order of first appearance."""
    joined = b"".join([entry.chunks for entry in entries])
    runs = dict.fromkeys([joined[at : at + RUN_BYTES] for at in range(0, len(joined), RUN_BYTES)])
    return [run for run in runs if not run.startswith(HOLE)]


def novel_chunks(before: Manifest, after: Manifest) -> tuple[Novel, ...]:
    """The chunks `after` has and `before` has not, in order of first appearance."""
    known = {entry.chunks for entry in before.entries}
    novel: dict[bytes, int] = {}
    for digest, size in RUN.iter_unpack(b"".join([e.chunks for e in after.entries if e.chunks not in known])):
        novel.setdefault(digest, size)
    novel.pop(HOLE, None)
    for chunks in known if novel else ():
        for digest, _ in RUN.iter_unpack(chunks):
            novel.pop(digest, None)
    return tuple(map(Novel._make, novel.items()))


def chunk_locations(
    manifest: Manifest, table: ChunkTable, wanted: Mapping[bytes, bytes] | None = None
) -> ChunkLocations:
    """Where each chunk of `manifest` lies, by digest. Raises Corrupt if the table is not this manifest's.

    `wanted` are digests that will be asked for, by themselves: these very ones are used, and others left out.
    """
    entries = manifest.entries
    sizes = array("I", [size for (size,) in _SIZE_OF_ROW.iter_unpack(table.rows)])
    rows = len(sizes)
    numbers: dict[bytes, int] = {}
    digests = wanted or {}
    are_equal = True
    for start in range(0, len(entries), _ENTRIES):
        for digest, size in RUN.iter_unpack(b"".join([entry.chunks for entry in entries[start : start + _ENTRIES]])):
            number = numbers.get(digest)
            if number is None:
                if digest == HOLE:
                    continue
                number = numbers[digests.get(digest, digest)] = len(numbers)
            if number >= rows or sizes[number] != size:
                are_equal = False
    if rows < len(numbers):
        raise Corrupt("the chunk table ends before its manifest does")
    if rows > len(numbers):
        raise Corrupt("the chunk table has rows its manifest does not need")
    if not are_equal:
        _refuse_lengths(manifest, {digest: sizes[number] for digest, number in numbers.items()})
    if wanted is not None and len(wanted) < len(numbers):
        numbers = {digest: numbers[digest] for digest in wanted if digest in numbers}
    return ChunkLocations(numbers, table.rows)


def _refuse_lengths(manifest: Manifest, sizes: Mapping[bytes, int]) -> NoReturn:
    for entry in manifest.entries:
        for digest, size in entry.each_chunk():
            if digest != HOLE and sizes[digest] != size:
                name = f"{show_path(entry.path)}: chunk {digest.hex()[:12]}"
                raise Corrupt(f"{name} is {size} bytes, not {sizes[digest]}")
    raise AssertionError


def build_table(manifest: Manifest, index: Mapping[bytes, bytes], packs: Sequence[PackRef]) -> ChunkTable:
    """The table of a manifest; `index` gives the row of each of its chunks, numbered by position in `packs`."""
    renumbered: dict[bytes, bytes] = {}
    used: list[PackRef] = []
    rows = []
    for digest in dict.fromkeys([run[:DIGEST_BYTES] for run in distinct_runs(manifest.entries)]):
        row = index[digest]
        position = row[: _NUMBER.size]
        number = renumbered.get(position)
        if number is None:
            number = renumbered[position] = _NUMBER.pack(len(used))
            used.append(packs[_NUMBER.unpack(position)[0]])
        rows.append(number + row[_NUMBER.size :])
    return ChunkTable(packs=tuple(used), rows=b"".join(rows))


def rows_by_digest(manifest: Manifest, table: ChunkTable) -> dict[bytes, bytes]:
    """The packed row of each chunk of a manifest, as `build_table` takes them."""
    numbers = chunk_locations(manifest, table)
    rows = [table.rows[at : at + TABLE_ROW.size] for at in range(0, len(table.rows), TABLE_ROW.size)]
    return dict(zip(numbers, rows, strict=True))
