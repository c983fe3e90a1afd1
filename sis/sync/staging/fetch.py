"""Fetch chunks: single coalesced ranges of packs, decoded and verified as they stream in, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from sis.errors import Corrupt, SisError, Unreachable
from sis.image.documents.tables import Location
from sis.image.store.packs import decode
from sis.sync.staging.source import ChunkSource

GAP_BYTES = 48 << 10
"""Bytes that are read and thrown away rather than asked around with a request of their own."""

RANGE_BYTES = 4 << 20
"""What one request asks for, about; it is held in memory."""

_DECODED_AT_BYTES = 256 << 10

Put = Callable[[Iterable[tuple[bytes, bytes | memoryview]]], None]
"""Given chunks that are what their digests say, to be written before it returns."""


class Range(NamedTuple):
    """One request: `length` bytes of a pack from `offset`, and the wanted chunks in it, in order."""

    pack: int
    offset: int
    length: int
    chunks: tuple[Location, ...]


def coalesce(
    wanted: Iterable[Location], gap_bytes: int = GAP_BYTES, range_bytes: int = RANGE_BYTES
) -> tuple[Range, ...]:
    """The ranges to ask for, in pack order: neighbours less than `gap_bytes` apart share one, up to its size."""
    ranges: list[Range] = []
    group: list[Location] = []
    end = 0
    for location in sorted(wanted):
        if group and (
            location.pack != group[0].pack
            or location.offset > end + gap_bytes
            or location.offset + location.stored > group[0].offset + range_bytes
        ):
            ranges.append(_range_of(group, end))
            group = []
        group.append(location)
        end = location.offset + location.stored
    if group:
        ranges.append(_range_of(group, end))
    return tuple(ranges)


def located(locations: Mapping[bytes, Location], digests: Iterable[bytes]) -> Iterator[Location]:
    """Where chunks lie. Raises Corrupt for one that is in no pack."""
    for digest in digests:
        location = locations.get(digest)
        if location is None:
            raise Corrupt(
                f"chunk {digest.hex()[:12]} is in no pack of this version",
                hint="the store is not complete: check it with 'sis image verify'",
            )
        yield location


class Fetching:
    """Reads ranges of a source, one after another. Counts `bytes_fetched`."""

    def __init__(self, source: ChunkSource) -> None:
        self.bytes_fetched = 0
        self._source = source
        self._dictionaries: dict[int, bytes] = {}
        self._distinct: dict[bytes, bytes] = {}

    def fetch(self, wanted: Range, put: Put) -> None:
        """Put all chunks of a range. What came whole before a fault is put before the fault is raised.

        Raises Unreachable, or Corrupt for a chunk that is bad twice.
        """
        name = self._source.pack_name(wanted.pack)
        held = bytearray()
        done = undecoded = 0
        pieces = self._source.store.read(name, wanted.offset, wanted.length)
        fault: SisError | None = None
        while fault is None and len(held) < wanted.length:
            try:
                piece = next(pieces, b"")
            except SisError as error:
                fault = error
            else:
                if not piece:
                    fault = Unreachable(f"{name} ended {wanted.length - len(held)} bytes early")
                held += piece
                self.bytes_fetched += len(piece)
                undecoded += len(piece)
            if fault is not None or undecoded >= _DECODED_AT_BYTES or len(held) >= wanted.length:
                done, undecoded = self._put_what_is_whole(wanted, held, done, put), 0
        for _ in pieces:  # to its end, so that the connection can be used again
            pass
        if fault is not None:
            raise fault

    def _put_what_is_whole(self, wanted: Range, held: bytearray, done: int, put: Put) -> int:
        """Put the chunks that have come since `done` of them were put. Returns how many are put now."""
        after = done
        came = wanted.offset + len(held)
        while after < len(wanted.chunks) and wanted.chunks[after].offset + wanted.chunks[after].stored <= came:
            after += 1
        if after > done:
            with memoryview(held) as view:
                put(self._decoded(wanted, view, wanted.chunks[done:after]))
        return after

    def _decoded(self, wanted: Range, view: memoryview, chunks: Iterable[Location]) -> Iterator[tuple[bytes, bytes]]:
        dictionary = self._dictionary(wanted.pack)
        for location in chunks:
            at = location.offset - wanted.offset
            yield location.digest, self._decode(location, bytes(view[at : at + location.stored]), dictionary)

    def _decode(self, location: Location, stored: bytes, dictionary: bytes) -> bytes:
        name = self._source.pack_name(location.pack).removeprefix("packs/")
        try:
            return decode(stored, location, dictionary, pack=name)
        except Corrupt:
            again = b"".join(self._source.store.read(f"packs/{name}", location.offset, location.stored))
            self.bytes_fetched += len(again)
            return decode(again, location, dictionary, pack=name)

    def _dictionary(self, pack: int) -> bytes:
        """The same value for all packs that share one: what was digested for it is found by it, a hundred kB long."""
        known = self._dictionaries.get(pack)
        if known is None:
            read = self._source.dictionary(pack)
            known = self._dictionaries[pack] = self._distinct.setdefault(read, read)
        return known


def _range_of(group: list[Location], end: int) -> Range:
    return Range(group[0].pack, group[0].offset, end - group[0].offset, tuple(group))
