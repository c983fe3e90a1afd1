"""Make what is missing from a delta and the old files it was made against, streamed once, in bounded memory.

An item whose base is not on this node as the older version had it, or that does not come out right, is left to be
fetched as chunks; so is everything when the delta itself cannot be read.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

from sis.errors import Corrupt, Unreachable
from sis.image.codec import show_path
from sis.image.delta import Placed
from sis.image.delta_read import Delta, decode_item
from sis.image.model import Entry, Kind
from sis.sync.fetch import GAP_BYTES, Arrived
from sis.sync.observe import Observed
from sis.system.beneath import Beneath

_DECODERS = 2
_AHEAD_BYTES = 12 << 20
_AHEAD_ITEMS = 64
_SOURCE_LOST = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.ENXIO, errno.EACCES)
_PATHS_TOLD = 3


class _BaseLostError(Exception):
    """A file that a base lies in is no longer what it was."""


class DeltaUse:
    """One delta on one tree: what it can make there, what that costs, and what came of it."""

    def __init__(self, delta: Delta, tree: Beneath, observed: Observed, chunk_cost: Callable[[bytes], int]) -> None:
        """`chunk_cost` tells what fetching a chunk takes otherwise, in bytes."""
        self.bytes_fetched = 0
        self._delta = delta
        self._tree = tree
        self._observed = observed
        self._chunk_cost = chunk_cost
        self._drifted: set[bytes] = set()
        self._faults: list[str] = []

    def cost(self, digest: bytes) -> int:
        """What a missing chunk takes: its share of its item where that can be used, else what it takes in its pack."""
        number = self._delta.number_of.get(digest)
        by_chunk = self._chunk_cost(digest)
        if number is None or number not in self._usable:
            return by_chunk
        placed = self._delta.items[number]
        size = next(chunk.size for chunk in placed.chunks if chunk.digest == digest)
        return min(by_chunk, -(-placed.item.stored * size // placed.size))

    def chosen(self, missing: Iterable[bytes]) -> tuple[Placed, ...]:
        """The items to use, in file order: those that cost no more than the missing chunks they make."""
        by_chunks: dict[int, int] = {}
        for digest in missing:
            number = self._delta.number_of.get(digest)
            if number is not None:
                by_chunks[number] = by_chunks.get(number, 0) + self._chunk_cost(digest)
        chosen = []
        for number in sorted(by_chunks):
            placed = self._delta.items[number]
            if number not in self._usable:
                self._drifted.update(entry.path for entry in self._bases(placed) if not self._is_here(entry))
            elif placed.item.stored <= by_chunks[number]:
                chosen.append(placed)
        return tuple(chosen)

    def estimate(self, missing: Iterable[bytes]) -> tuple[int, int]:
        """The bytes of the delta, and of chunks, that making `missing` will take."""
        wanted = set(missing)
        items = self.chosen(wanted)
        wanted.difference_update(chunk.digest for placed in items for chunk in placed.chunks)
        return sum(placed.item.stored for placed in items), sum(map(self._chunk_cost, wanted))

    def make(
        self, missing: Iterable[bytes], take: Callable[[bytes, bytes], bool] | None = None
    ) -> Generator[Arrived, None, None]:
        """The chunks of `missing` that the delta gives, each proved by its digest. Never raises for what is damaged.

        `take` is offered each chunk, in the thread that made it; those it takes are not yielded.
        """
        wanted = frozenset(missing)

        def is_left(digest: bytes, data: bytes) -> bool:
            return digest in wanted and not (take is not None and take(digest, data))

        for pairs in self._decoded(self.chosen(wanted), is_left):
            yield from itertools.starmap(Arrived, pairs)

    def notices(self) -> Iterator[str]:
        """What did not go by the delta, a sentence each."""
        if self._drifted:
            first = ", ".join(show_path(path) for path in sorted(self._drifted)[:_PATHS_TOLD])
            more = len(self._drifted) - _PATHS_TOLD
            told = f"{first} and {more} more" if more > 0 else first
            yield f"what the delta makes from {told} came as chunks: they are not here as the older version has them"
        yield from self._faults

    @cached_property
    def _usable(self) -> frozenset[int]:
        """The items whose base files are here as the older version has them."""
        items = enumerate(self._delta.items)
        return frozenset(number for number, placed in items if all(map(self._is_here, self._bases(placed))))

    def _bases(self, placed: Placed) -> list[Entry]:
        return [self._delta.entries[number] for number in {stretch.entry for stretch in placed.item.base}]

    def _is_here(self, entry: Entry) -> bool:
        found = self._observed.found.get(entry.path)
        if found is None or found.entry is None:
            return False
        return found.entry.kind is Kind.FILE and found.entry.chunks == entry.chunks

    def _decoded(
        self, items: tuple[Placed, ...], is_left: Callable[[bytes, bytes], bool]
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """What is left of the outcome of each item, in order; a bounded amount under way at any time."""
        under_way: deque[tuple[Placed, Future[list[tuple[bytes, bytes]]]]] = deque()
        ahead_bytes = 0
        with ThreadPoolExecutor(_DECODERS, "delta") as pool:
            for placed, payload in self._payloads(items):
                weight = _weight(placed)
                while under_way and (ahead_bytes + weight > _AHEAD_BYTES or len(under_way) >= _AHEAD_ITEMS):
                    ahead_bytes -= _weight(under_way[0][0])
                    yield self._outcome(*under_way.popleft())
                ahead_bytes += weight
                under_way.append((placed, pool.submit(self._decode, placed, payload, is_left)))
            while under_way:
                yield self._outcome(*under_way.popleft())

    def _payloads(self, items: tuple[Placed, ...]) -> Iterator[tuple[Placed, bytes]]:
        """The items' payloads as they stream in. Ends early, with a notice, when the delta cannot be read further."""
        try:
            for group in _ranges(items):
                yield from self._stream(group)
        except (Corrupt, Unreachable) as error:
            self._faults.append(f"the delta could not be read to its end: {error.message}")

    def _stream(self, group: list[Placed]) -> Iterator[tuple[Placed, bytes]]:
        held = bytearray()
        at = group[0].offset
        waiting = deque(group)
        end = group[-1].offset + group[-1].item.stored
        for piece in self._delta.read(at, end - at):
            held += piece
            self.bytes_fetched += len(piece)
            while waiting and waiting[0].offset + waiting[0].item.stored <= at + len(held):
                placed = waiting.popleft()
                start = placed.offset - at
                payload = bytes(held[start : start + placed.item.stored])
                del held[: start + placed.item.stored]
                at = placed.offset + placed.item.stored
                yield placed, payload

    def _decode(
        self, placed: Placed, payload: bytes, is_left: Callable[[bytes, bytes], bool]
    ) -> list[tuple[bytes, bytes]]:
        return [pair for pair in decode_item(placed, payload, self._base_of(placed)) if is_left(*pair)]

    def _base_of(self, placed: Placed) -> bytes:
        parts = []
        for stretch in placed.item.base:
            path = self._delta.entries[stretch.entry].path
            try:
                parts.append(self._read(path, stretch.offset, stretch.length))
            except OSError as error:
                if error.errno not in _SOURCE_LOST:
                    raise
                raise _BaseLostError(path) from error
        return b"".join(parts)

    def _read(self, path: bytes, offset: int, length: int) -> bytes:
        handle = self._tree.open(path)
        try:
            data = os.pread(handle, length, offset)
        finally:
            os.close(handle)
        if len(data) != length:
            raise _BaseLostError(path)
        return data

    def _outcome(self, placed: Placed, future: Future[list[tuple[bytes, bytes]]]) -> list[tuple[bytes, bytes]]:
        try:
            return future.result()
        except _BaseLostError as lost:
            self._drifted.add(lost.args[0])
        except Corrupt as error:
            self._faults.append(f"{error.message}; {len(placed.chunks)} chunks came from the packs instead")
        return []


def _ranges(items: Iterable[Placed]) -> Iterator[list[Placed]]:
    """Items to be read with one request each group: neighbours with less than a gap between them."""
    group: list[Placed] = []
    for placed in items:
        if group and placed.offset > group[-1].offset + group[-1].item.stored + GAP_BYTES:
            yield group
            group = []
        group.append(placed)
    if group:
        yield group


def _weight(placed: Placed) -> int:
    """Bytes of memory that making an item takes, roughly."""
    return placed.item.stored + 2 * placed.size + sum(stretch.length for stretch in placed.item.base)
