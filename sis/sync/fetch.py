"""Fetch chunks: single coalesced ranges of packs, streamed, decoded and verified on the way, in bounded memory."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from sis.errors import Corrupt, SisError, Unreachable
from sis.image.packs import decode
from sis.image.tables import Location
from sis.sync.source import ChunkSource

GAP_BYTES = 48 << 10
"""Bytes that are read and thrown away rather than asked around with a request of their own."""

_BATCH_BYTES = 512 << 10
_BATCHES_AHEAD = 6
_READERS = 3
_DECODERS = 2
_LEAVE_AFTER_S = 2.0
"""How long a reader that waits for its server is waited for when fetching is broken off."""


class Range(NamedTuple):
    """One request: `length` bytes of a pack from `offset`, and the wanted chunks in it, in order."""

    pack: int
    offset: int
    length: int
    chunks: tuple[Location, ...]


class Arrived(NamedTuple):
    """A chunk that came and is what its digest says."""

    digest: bytes
    data: bytes


def coalesce(wanted: Iterable[Location], gap_bytes: int = GAP_BYTES) -> tuple[Range, ...]:
    """The ranges to ask for, in pack order: neighbours less than `gap_bytes` apart share one."""
    ranges: list[Range] = []
    group: list[Location] = []
    end = 0
    for location in sorted(wanted):
        if group and (location.pack != group[0].pack or location.offset > end + gap_bytes):
            ranges.append(_range_of(group, end))
            group = []
        group.append(location)
        end = location.offset + location.stored
    if group:
        ranges.append(_range_of(group, end))
    return tuple(ranges)


class Fetching:
    """The chunks of `digests` from `source`, as they arrive. Counts `bytes_fetched`."""

    def __init__(
        self, source: ChunkSource, digests: Iterable[bytes], take: Callable[[bytes, bytes], bool] | None = None
    ) -> None:
        """`take` is offered each chunk, in the thread that decoded it; those it takes are not yielded."""
        self.bytes_fetched = 0
        self._take = take or (lambda _digest, _data: False)
        self._source = source
        self._ranges = iter(coalesce(_locate(source.locations, digests)))
        self._lock = threading.Lock()
        self._dictionaries: dict[int, bytes] = {}
        self._stop = threading.Event()
        self._ready: queue.Queue[Future[list[Arrived]] | BaseException | None] = queue.Queue(_BATCHES_AHEAD)

    def __iter__(self) -> Generator[Arrived, None, None]:
        """Yields in the order of arrival. Raises Unreachable, or Corrupt for a chunk that is bad twice."""
        with ThreadPoolExecutor(_DECODERS, "decode") as decoders:
            readers = [
                threading.Thread(target=self._read, args=(decoders,), name=f"fetch-{number}", daemon=True)
                for number in range(_READERS)
            ]
            for reader in readers:
                reader.start()
            try:
                ended = 0
                while ended < len(readers):
                    item = self._ready.get()
                    if item is None:
                        ended += 1
                    elif isinstance(item, BaseException):
                        raise item
                    else:
                        yield from item.result()
            finally:
                self._stop.set()
                given_up = time.monotonic() + _LEAVE_AFTER_S
                while any(reader.is_alive() for reader in readers) and time.monotonic() < given_up:
                    with contextlib.suppress(queue.Empty):
                        self._ready.get(timeout=0.05)

    def _read(self, decoders: ThreadPoolExecutor) -> None:
        try:
            while not self._stop.is_set():
                with self._lock:
                    wanted = next(self._ranges, None)
                if wanted is None:
                    break
                for batch in self._batches(wanted):
                    if self._stop.is_set():
                        return
                    self._ready.put(decoders.submit(self._decode, batch))
            self._ready.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that iterates
            self._ready.put(error)

    def _batches(self, wanted: Range) -> Iterator[list[tuple[Location, bytes]]]:
        """The stored chunks of a range, about _BATCH_BYTES at a time, as its bytes stream in.

        What came whole before a fault is given before the fault is raised.
        """
        held = bytearray()
        at = wanted.offset
        batch: list[tuple[Location, bytes]] = []
        batched = 0
        waiting = deque(wanted.chunks)
        name = self._source.pack_name(wanted.pack)
        try:
            for piece in self._source.store.read(name, wanted.offset, wanted.length):
                held += piece
                with self._lock:
                    self.bytes_fetched += len(piece)
                consumed = 0
                while waiting and waiting[0].offset + waiting[0].stored <= at + len(held):
                    location = waiting.popleft()
                    start = location.offset - at
                    consumed = start + location.stored
                    batch.append((location, bytes(held[start:consumed])))
                    batched += location.stored
                    if batched >= _BATCH_BYTES:
                        yield batch
                        batch, batched = [], 0
                del held[:consumed]
                at += consumed
            if waiting:
                raise Unreachable(f"{name} ended {waiting[0].stored - len(held)} bytes early")
        except SisError:
            if batch:
                yield batch
            raise
        if batch:
            yield batch

    def _decode(self, batch: list[tuple[Location, bytes]]) -> list[Arrived]:
        arrived = (Arrived(location.digest, self._decode_one(location, stored)) for location, stored in batch)
        return [chunk for chunk in arrived if not self._take(chunk.digest, chunk.data)]

    def _decode_one(self, location: Location, stored: bytes) -> bytes:
        name = self._source.pack_name(location.pack).removeprefix("packs/")
        dictionary = self._dictionary(location.pack)
        try:
            return decode(stored, location, dictionary, pack=name)
        except Corrupt:
            again = b"".join(self._source.store.read(f"packs/{name}", location.offset, location.stored))
            with self._lock:
                self.bytes_fetched += len(again)
            return decode(again, location, dictionary, pack=name)

    def _dictionary(self, pack: int) -> bytes:
        known = self._dictionaries.get(pack)
        if known is None:
            known = self._dictionaries[pack] = self._source.dictionary(pack)
        return known


def _range_of(group: list[Location], end: int) -> Range:
    return Range(group[0].pack, group[0].offset, end - group[0].offset, tuple(group))


def _locate(locations: Mapping[bytes, Location], digests: Iterable[bytes]) -> Iterator[Location]:
    for digest in digests:
        location = locations.get(digest)
        if location is None:
            raise Corrupt(
                f"chunk {digest.hex()[:12]} is in no pack of this version",
                hint="the store is not complete: check it with 'sis image verify'",
            )
        yield location
