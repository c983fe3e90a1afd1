"""Make what is missing from a delta and the old files it was made against, in bounded memory.

An item whose base is not on this node as the older version had it, or that does not come out right, is left to be
fetched as chunks; so is everything when the delta itself cannot be read.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from sis.errors import Corrupt, Unreachable
from sis.image.deltas import patches
from sis.image.deltas.delta import Placed, split
from sis.image.deltas.reading import Delta, decode_item, inflate_item
from sis.image.deltas.solid import Inflating
from sis.image.model import Entry, Kind
from sis.image.names import show_path
from sis.sync.staging.fetch import GAP_BYTES, RANGE_BYTES, Put
from sis.sync.walk.observe import Observed
from sis.system.beneath import Beneath

MADE_BYTES = 16 << 20
"""What the items of one request come to, about."""

_HARDLY = 32
"""By this part of it an item may be the dearer: chunks take requests of their own, and the chunk table read."""

_SOURCE_LOST = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.ENXIO, errno.EACCES)
_PATHS_TOLD = 3


class _BaseLostError(Exception):
    """A file that a base lies in is no longer what it was."""


class Made(msgspec.Struct, array_like=True, gc=False):
    """What came of some items.

    lost     digests of the chunks that did not come of them
    drifted  paths of base files that are not what they were
    faults   what is wrong with the delta, a sentence each
    """

    lost: list[bytes] = []
    drifted: list[bytes] = []
    faults: list[str] = []
    is_unreadable: bool = False
    bytes_fetched: int = 0


class DeltaUse:
    """One delta on one tree: what it can make there, what that costs, and what came of it."""

    def __init__(self, delta: Delta, tree: Beneath, observed: Observed, chunk_cost: Callable[[bytes], int]) -> None:
        """`chunk_cost` tells what fetching a chunk takes otherwise, in bytes."""
        self.bytes_fetched = 0
        self.is_unreadable = False
        self._delta = delta
        self._tree = tree
        self._observed = observed
        self._chunk_cost = chunk_cost
        self._drifted: set[bytes] = set()
        self._faults: list[str] = []
        self._failed: set[bytes] = set()

    def cost(self, digest: bytes) -> int:
        """What a missing chunk takes: its share of its item where that can be used, else what it takes in its pack."""
        number = self._delta.number_of.get(digest)
        by_chunk = self._chunk_cost(digest)
        if number is None or number not in self._usable:
            return by_chunk
        placed = self._delta.items[number]
        return min(by_chunk, -(-placed.item.stored * self._sizes[digest] // placed.size))

    def chosen(self, missing: Iterable[bytes]) -> tuple[Placed, ...]:
        """The items to use, in file order: those that cost hardly more than the missing chunks they make, or less.

        A solid run is taken from its beginning to the last item that makes one of them, or not at all.
        """
        if self.is_unreadable:
            return ()
        by_chunks: dict[int, int] = {}
        for digest in missing:
            number = self._delta.number_of.get(digest)
            if number is not None and digest not in self._failed:
                by_chunks[number] = by_chunks.get(number, 0) + self._chunk_cost(digest)
        spans = {self._beginnings.get(number, number): number for number in sorted(by_chunks)}
        chosen: list[Placed] = []
        for first, last in spans.items():
            items = self._delta.items[first : last + 1]
            if first not in self._usable:
                self._drifted.update(entry.path for entry in self._bases(items[0]) if not self._is_here(entry))
                continue
            by_items = sum(placed.item.stored for placed in items)
            by_packs = sum(by_chunks.get(number, 0) for number in range(first, last + 1))
            if by_items - by_items // _HARDLY <= by_packs:
                chosen += items
        return tuple(chosen)

    def estimate(self, missing: Iterable[bytes]) -> tuple[int, int]:
        """The bytes of the delta, and of chunks, that making `missing` will take."""
        wanted = set(missing)
        items = self.chosen(wanted)
        wanted.difference_update(chunk.digest for placed in items for chunk in placed.chunks)
        return sum(placed.item.stored for placed in items), sum(map(self._chunk_cost, wanted))

    def requests(self, missing: Set[bytes]) -> Requests:
        """The requests by which to make of `missing` what is worth it."""
        groups = tuple(map(tuple, together(self.chosen(missing))))
        lacking = [sum(chunk.digest in missing for placed in group for chunk in placed.chunks) for group in groups]
        number_of = self._delta.number_of
        of_item = {number_of[placed.chunks[0].digest]: at for at, group in enumerate(groups) for placed in group}
        return Requests(groups, lacking, of_item, number_of)

    def make(self, items: Iterable[Placed], put: Put) -> Made:
        """Put the chunks of items that lie together, each proved by its digest. Never raises for what is damaged."""
        made = Made()
        waiting = deque(items)
        run: Inflating | None = None
        try:
            for placed, payload in self._stream(waiting, made):
                if placed.item.method == patches.SOLID:
                    run = Inflating()
                try:
                    if placed.item.method not in patches.SOLID_METHODS:
                        put(decode_item(placed, payload, self._base_of(placed)))
                        continue
                    if run is not None:
                        put(split(placed, inflate_item(placed, payload, run)))
                        continue
                except _BaseLostError as lost:
                    made.drifted.append(lost.args[0])
                except Corrupt as error:
                    made.faults.append(error.message)
                    run = None
                made.lost += (chunk.digest for chunk in placed.chunks)
        except (Corrupt, Unreachable) as error:
            made.faults.append(f"it could not be read to its end: {error.message}")
            made.is_unreadable = True
            made.lost += (chunk.digest for placed in waiting for chunk in placed.chunks)
        return made

    def learn(self, made: Made) -> None:
        """Take note of what came of some items."""
        self.bytes_fetched += made.bytes_fetched
        self._failed.update(made.lost)
        self._drifted.update(made.drifted)
        if not (made.is_unreadable and self.is_unreadable):
            self._faults += made.faults
        self.is_unreadable |= made.is_unreadable

    def notices(self, own: Container[bytes] = ()) -> Iterator[str]:
        """What did not go by the delta, a sentence each; `own` are paths that never are as the image has them."""
        drifted = sorted(path for path in self._drifted if path not in own)
        if drifted:
            first = ", ".join(map(show_path, drifted[:_PATHS_TOLD]))
            more = len(drifted) - _PATHS_TOLD
            told = f"{first} and {more} more" if more > 0 else first
            yield f"what the delta makes from {told} came as chunks: they are not here as the older version has them"
        if self._faults:
            others = f" and {len(self._faults) - 1} faults more" if len(self._faults) > 1 else ""
            yield f"{len(self._failed)} chunks did not come by the delta but from the packs: {self._faults[0]}{others}"

    @cached_property
    def _sizes(self) -> dict[bytes, int]:
        return {chunk.digest: chunk.size for placed in self._delta.items for chunk in placed.chunks}

    @cached_property
    def _usable(self) -> frozenset[int]:
        """The items whose base files are here as the older version has them."""
        items = enumerate(self._delta.items)
        return frozenset(number for number, placed in items if all(map(self._is_here, self._bases(placed))))

    @cached_property
    def _beginnings(self) -> dict[int, int]:
        """By number of an item in a solid run, the number of the run's first."""
        beginnings = {}
        first = 0
        for number, placed in enumerate(self._delta.items):
            if placed.item.method in patches.SOLID_METHODS:
                first = number if placed.item.method == patches.SOLID else first
                beginnings[number] = first
        return beginnings

    def _bases(self, placed: Placed) -> list[Entry]:
        return [self._delta.entries[number] for number in {stretch.entry for stretch in placed.item.base}]

    def _is_here(self, entry: Entry) -> bool:
        found = self._observed.found.get(entry.path)
        if found is None or found.entry is None:
            return False
        return found.entry.kind is Kind.FILE and found.entry.chunks == entry.chunks

    def _stream(self, waiting: deque[Placed], made: Made) -> Iterator[tuple[Placed, bytes]]:
        """The items' payloads as they come in; each is taken from `waiting` before."""
        held = bytearray()
        at = waiting[0].offset
        end = waiting[-1].offset + waiting[-1].item.stored
        for piece in self._delta.read(at, end - at):
            held += piece
            made.bytes_fetched += len(piece)
            while waiting and waiting[0].offset + waiting[0].item.stored <= at + len(held):
                placed = waiting.popleft()
                start = placed.offset - at
                payload = bytes(held[start : start + placed.item.stored])
                del held[: start + placed.item.stored]
                at = placed.offset + placed.item.stored
                yield placed, payload

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


@dataclass
class Requests:
    """Groups of items, each to be read with one request once all that is missing of it is waited for.

    lacking  by group, how many of its chunks are not waited for yet
    """

    groups: tuple[tuple[Placed, ...], ...] = ()
    lacking: list[int] = field(default_factory=list)
    _of_item: Mapping[int, int] = field(default_factory=dict)
    _number_of: Mapping[bytes, int] = field(default_factory=dict)

    def sorted_out(self, asked: Iterable[bytes]) -> tuple[list[tuple[Placed, ...]], list[bytes]]:
        """More chunks are waited for: the groups that can be asked for now, and the chunks that are in no group."""
        ready, others = [], []
        number_of, of_item, lacking = self._number_of, self._of_item, self.lacking
        for digest in asked:
            number = number_of.get(digest)
            group = None if number is None else of_item.get(number)
            if group is None:
                others.append(digest)
                continue
            lacking[group] -= 1
            if not lacking[group]:
                ready.append(self.groups[group])
        return ready, others

    def not_ready(self, asked: Iterable[bytes]) -> list[bytes]:
        """The chunks of `asked` that are in groups of which more was missing than is waited for."""
        if not any(self.lacking):
            return []
        groups = ((digest, self._of_item.get(self._number_of.get(digest, -1))) for digest in asked)
        return [digest for digest, group in groups if group is not None and self.lacking[group]]


def together(items: Iterable[Placed]) -> Iterator[list[Placed]]:
    """Items to be read with one request each group: neighbours with less than a gap between them, up to its size.

    A solid run is in one group, however long it is.
    """
    group: list[Placed] = []
    size = 0
    for placed in items:
        end = group[-1].offset + group[-1].item.stored if group else 0
        is_continued = placed.item.method == patches.CONTINUED
        if group and (
            placed.offset > end + GAP_BYTES
            or (not is_continued and placed.offset + placed.item.stored > group[0].offset + RANGE_BYTES)
            or (not is_continued and size + placed.size > MADE_BYTES)
        ):
            yield group
            group, size = [], 0
        group.append(placed)
        size += placed.size
    if group:
        yield group
