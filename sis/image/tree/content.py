"""The content of a tree's files: read, hashed and compressed in threads, delivered in path order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

from sis.image.model import HOLE, RUN
from sis.image.progress import Progress
from sis.image.tree import chunk, dictionary
from sis.image.tree.found import Found
from sis.image.tree.reading import WHOLE_BYTES, Piece, attempts, opened, pieces

_BATCH_BYTES = 1 << 20
_BATCH_FILES = 256
_BATCHES_AHEAD = 3

_T = TypeVar("_T")


class ChunkSink(Protocol):
    """Where the content goes. `wants` and `encode` are asked in any thread; `put` is called in path order in one.

    Before all of them, `learn` is told how much there is in small files, and can have some of it read.
    """

    def learn(self, small_bytes: int, samples: Callable[[], list[bytes]]) -> None: ...
    def wants(self, digest: bytes) -> bool: ...
    def encode(self, data: memoryview) -> bytes: ...
    def put(self, digest: bytes, size_bytes: int, stored: bytes) -> None: ...


class _Done(NamedTuple):
    """A piece with its digest, and its stored form if the sink wants it."""

    piece: Piece
    digest: bytes
    stored: bytes | None


class Content:
    """Reads files, hashes and compresses their chunks in threads, and delivers them in path order.

    Short files are read by the workers, many at a time; long ones are streamed through, a window at a time.
    """

    def __init__(self, root: int, sink: ChunkSink | None, threads: int, progress: Progress | None) -> None:
        self.bytes_done = 0
        self._root = root
        self._sink = sink
        self._progress = progress
        self._total = 0
        self._ahead = threads * _BATCHES_AHEAD
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="chunks")
        self._under_way: deque[tuple[Future[list[_Done]], Sequence[Found]]] = deque()

    def read(self, found: list[Found]) -> None:
        first_of: dict[tuple[int, int], Found] = {}
        waiting = []
        for one in found:
            if one.runs is None:
                continue
            if one.inode is not None and first_of.setdefault(one.inode, one) is not one:
                continue
            waiting.append(one)
            self._total += one.entry.size
        if self._sink is not None:
            small = [one for one in waiting if one.entry.size <= dictionary.SMALL_BYTES]
            self._sink.learn(sum(one.entry.size for one in small), lambda: self._samples(small))
        try:
            self._read_all(waiting)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for one in found:
            if one.inode is not None and one.runs is not None:
                first = first_of[one.inode]
                one.runs, one.identity, one.settled = first.runs, first.identity, first.settled

    def _samples(self, small: list[Found]) -> list[bytes]:
        """The content of some small files, as far as it can be read."""
        samples = []
        for one in dictionary.chosen(small):
            with opened(self._root, one.entry.path) as handle:
                samples.append(os.pread(handle, dictionary.SMALL_BYTES, 0))
        return samples

    def _read_all(self, waiting: list[Found]) -> None:
        group: list[Found] = []
        group_bytes = 0
        for one in waiting:
            if one.entry.size > WHOLE_BYTES:
                self._send(self._short_files, group, group)
                group, group_bytes = [], 0
                self._long_file(one)
                continue
            group.append(one)
            group_bytes += one.entry.size
            if group_bytes >= _BATCH_BYTES or len(group) >= _BATCH_FILES:
                self._send(self._short_files, group, group)
                group, group_bytes = [], 0
        self._send(self._short_files, group, group)
        while self._under_way:
            self._deliver()

    def _short_files(self, group: list[Found]) -> list[_Done]:
        """In a worker: everything about some files."""
        done: list[_Done] = []
        for found in group:
            mark = len(done)
            with opened(self._root, found.entry.path) as handle:
                for runs in attempts(found, handle):
                    del done[mark:]
                    done += self._chunks(list(pieces(handle, runs)))
        return done

    def _long_file(self, found: Found) -> None:
        with opened(self._root, found.entry.path) as handle:
            for runs in attempts(found, handle):
                batch: list[Piece] = []
                batch_bytes = 0
                for piece in pieces(handle, runs):
                    batch.append(piece)
                    batch_bytes += piece.size if piece.data is not None else 0
                    if batch_bytes >= _BATCH_BYTES:
                        self._send(self._chunks, batch)
                        batch, batch_bytes = [], 0
                self._send(self._chunks, batch)

    def _chunks(self, pieces: list[Piece]) -> list[_Done]:
        """In a worker: digests and stored forms."""
        done = []
        for piece in pieces:
            if piece.data is None:
                done.append(_Done(piece, HOLE, None))
                continue
            digest = chunk.digest(piece.data)
            sink = self._sink
            stored = sink.encode(piece.data) if sink is not None and sink.wants(digest) else None
            done.append(_Done(piece, digest, stored))
        return done

    def _send(self, work: Callable[[list[_T]], list[_Done]], items: list[_T], ended: Sequence[Found] = ()) -> None:
        """Have a worker do it; `ended` are the files whose content is all there after that."""
        if not items:
            return
        while len(self._under_way) >= self._ahead:
            self._deliver()
        self._under_way.append((self._pool.submit(work, items), ended))

    def _deliver(self) -> None:
        future, ended = self._under_way.popleft()
        for (runs, data, size), digest, stored in future.result():
            runs += RUN.pack(digest, size)
            if stored is not None:
                assert self._sink is not None
                self._sink.put(digest, size, stored)
            if data is not None:
                self.bytes_done += size
        for found in ended:
            found.runs = bytes(found.runs or b"")
        if self._progress is not None:
            self._progress("reading", self.bytes_done, self._total)
