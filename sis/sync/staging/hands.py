"""What writes into staged files: the hands of one process, or of one thread. Nothing here is shared with others.

Content is verified by whoever brings it, and what is copied on this node is verified here; a file is given its
metadata when all of it has come, by the hands that wrote all of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from blake3 import blake3

from sis.image.model import ANY_MTIME, HOLE, RUN_BYTES, Entry
from sis.sync.planning.planned import Part, Source
from sis.sync.staging.making import Making, Makings, places
from sis.sync.walk.listing import Row, row_of
from sis.sync.walk.look import run_matches
from sis.system.beneath import Beneath, set_metadata_of

COPIED_BY_KERNEL_BYTES_MIN = 1 << 20
"""A run of chunks that lie together in an old file is copied (or shared) by the kernel from this length."""

_OPEN_FILES_MAX = 32
_PIECES_MAX = 64
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.ETXTBSY)
_SOURCE_LOST = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.ENXIO)

Data = bytes | memoryview


class Lacking(NamedTuple):
    """A run that was to be copied and is not on this node any more: the number of its file, its offset and chunk."""

    number: int
    offset: int
    digest: bytes


class Done(msgspec.Struct, array_like=True, gc=False):
    """What hands have done since they were last asked.

    rows     of files that are ready: number, and lstat
    lacking  what could not be copied
    written  bytes of content; `local` of them from this node
    """

    rows: list[tuple[int, Row]] = []
    lacking: list[Lacking] = []
    written: int = 0
    local: int = 0


class Plain(NamedTuple):
    """What a new file of ours is anyway, so that it need not be given it."""

    owner: tuple[int, int]
    modes: frozenset[int]


@dataclass
class Hands:
    """Use within `with`; leaves no handle open.

    tree    the tree that is copied from
    stages  by mount, the staging directory; handles that are these hands' own
    blobs   content of the layer
    """

    tree: Beneath
    stages: Mapping[bytes, Beneath]
    makings: Makings
    blobs: Mapping[bytes, bytes]
    plain: Plain
    done: Done = field(default_factory=Done)

    def __post_init__(self) -> None:
        self._came: Counter[int] = Counter()
        self._open: OrderedDict[int, int] = OrderedDict()
        self._source: tuple[bytes, int] | None = None
        self._pieces: list[Data] = []
        self._pieces_of: Making | None = None
        self._pieces_at = self._pieces_end = 0

    def __enter__(self) -> Hands:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()
        self._close_source()
        for stage in self.stages.values():
            stage.close()

    def told(self) -> Done:
        """What was done since this was last asked."""
        done, self.done = self.done, Done()
        return done

    def put(self, chunks: Iterable[tuple[bytes, Data]]) -> None:
        """Write verified chunks everywhere they are waited for."""
        waiting = self.makings.waiting
        for digest, data in chunks:
            known = waiting.get(digest)
            if known is None:
                continue
            for making, offset in places(known):
                if making.is_whole:
                    self._write_whole(making, data)
                else:
                    self._write_piece(making, offset, data)
        self._write_pieces()

    def copy(self, making: Making) -> None:
        """Write all of a file that is on this node or in the layer; create it if there is nothing else of it."""
        parts = [part for part in making.copied if part.source is not None]
        for part in making.copied:
            if part.source is None:
                self._write(making, part.offset, self.blobs[part.chunk.digest])
        lacking = [part for run in _runs(parts) for part in self._copy_run(making, run)]
        self.done.lacking += (Lacking(making.number, part.offset, part.chunk.digest) for part in lacking)
        self._came[making.number] += 1
        if not lacking:
            self._finish_if_whole(making)

    def finish(self, making: Making) -> Row:
        """Everything is in it: give it its metadata and close it."""
        handle = self._handle(making)
        self._dress(handle, making.entry, fresh=not making.is_resumed)
        row = row_of(os.fstat(handle))
        del self._open[making.number]
        os.close(handle)
        return row

    # Chunks that were brought.

    def _write_whole(self, making: Making, data: Data) -> None:
        entry = making.entry
        handle = self.stages[making.mount].create(making.name, entry.mode)
        try:
            _write_all(handle, [data], 0)
            self._dress(handle, entry, fresh=True)
            self.done.rows.append((making.number, row_of(os.fstat(handle))))
        finally:
            os.close(handle)
        self.done.written += len(data)

    def _write_piece(self, making: Making, offset: int, data: Data) -> None:
        """Pieces that follow one another are written at once."""
        if making is not self._pieces_of or offset != self._pieces_end or len(self._pieces) >= _PIECES_MAX:
            self._write_pieces()
            self._pieces_of, self._pieces_at, self._pieces_end = making, offset, offset
        self._pieces.append(data)
        self._pieces_end += len(data)

    def _write_pieces(self) -> None:
        making, pieces = self._pieces_of, self._pieces
        if making is None:
            return
        _write_all(self._handle(making), pieces, self._pieces_at)
        self.done.written += self._pieces_end - self._pieces_at
        self._came[making.number] += len(pieces)
        self._pieces_of, self._pieces = None, []
        self._finish_if_whole(making)

    def _finish_if_whole(self, making: Making) -> None:
        """Nobody else wrote any of it."""
        if self._came[making.number] == making.awaited:
            self.done.rows.append((making.number, self.finish(making)))

    def _write(self, making: Making, offset: int, data: Data) -> None:
        _write_all(self._handle(making), [data], offset)
        self.done.written += len(data)

    def _handle(self, making: Making) -> int:
        """Other hands may have created it already: the staging directory is ours alone, and was tidied before."""
        known = self._open.get(making.number)
        if known is not None:
            self._open.move_to_end(making.number)
            return known
        entry = making.entry
        handle = self.stages[making.mount].create(making.name, entry.mode, exclusively=False)
        self._open[making.number] = handle
        if len(entry.chunks) > RUN_BYTES or entry.chunks.startswith(HOLE):
            os.ftruncate(handle, entry.size)
        if len(self._open) > _OPEN_FILES_MAX:
            os.close(self._open.popitem(last=False)[1])
        return handle

    def _dress(self, handle: int, entry: Entry, *, fresh: bool) -> None:
        mtime_ns = None if entry.mtime_ns == ANY_MTIME else entry.mtime_ns
        is_dressed = (entry.uid, entry.gid) == self.plain.owner and entry.mode in self.plain.modes and not entry.xattrs
        if not (fresh and is_dressed):
            set_metadata_of(handle, entry.uid, entry.gid, entry.mode, entry.xattrs, mtime_ns, fresh=fresh)
        elif mtime_ns is not None:
            os.utime(handle, ns=(mtime_ns, mtime_ns))

    # What is on this node.

    def _copy_run(self, making: Making, run: list[Part]) -> list[Part]:
        """Copy parts that lie together. Returns those that are not what they were when they were looked at."""
        source = run[0].source
        assert source is not None
        origin = self._open_source(source.path)
        if origin is None:
            return run
        length = sum(part.chunk.size_bytes for part in run)
        if length >= COPIED_BY_KERNEL_BYTES_MIN and self._copy_by_kernel(making, run, origin, source, length):
            handle = self._handle(making)
            lacking = [part for part in run if not _is_in(handle, part)]
            copied = length - sum(part.chunk.size_bytes for part in lacking)
            self.done.written += copied
            self.done.local += copied
            return lacking
        return [part for part in run if not self._copy_by_reading(making, part, origin)]

    def _copy_by_kernel(self, making: Making, run: list[Part], origin: int, source: Source, length: int) -> bool:
        handle = self._handle(making)
        done = 0
        try:
            while done < length:
                copied = os.copy_file_range(origin, handle, length - done, source.offset + done, run[0].offset + done)
                if not copied:
                    break
                done += copied
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            return False
        return True

    def _copy_by_reading(self, making: Making, part: Part, origin: int) -> bool:
        digest, size = part.chunk
        assert part.source is not None
        data = _read(origin, size, part.source.offset)
        if len(data) != size or blake3(data).digest() != digest:
            return False
        self._write(making, part.offset, data)
        self.done.local += size
        return True

    def _open_source(self, path: bytes) -> int | None:
        if self._source is not None and self._source[0] == path:
            return self._source[1]
        self._close_source()
        try:
            handle = self.tree.open(path)
        except OSError as error:
            if error.errno in _SOURCE_LOST:
                return None
            raise
        self._source = (path, handle)
        return handle

    def _close_source(self) -> None:
        if self._source is not None:
            os.close(self._source[1])
            self._source = None


def plain() -> Plain:
    """Of this process, its umask considered."""
    kept = _umask()
    return Plain((os.geteuid(), os.getegid()), frozenset(mode for mode in range(0o1000) if not mode & kept))


def _umask() -> int:
    """What this process keeps from the modes of new files; everything where that cannot be read."""
    with contextlib.suppress(OSError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777


def _write_all(handle: int, pieces: list[Data], offset: int) -> None:
    written = os.pwritev(handle, pieces, offset)
    for piece in pieces:
        if written >= len(piece):
            written -= len(piece)
            offset += len(piece)
            continue
        rest = memoryview(piece)[written:]
        offset += written
        written = 0
        while rest:
            more = os.pwrite(handle, rest, offset)
            offset += more
            rest = rest[more:]


def _runs(parts: list[Part]) -> Iterator[list[Part]]:
    """Parts whose sources follow one another in one file as they do in the new one, together."""
    run: list[Part] = []
    for part in parts:
        if run and not _follows(run[-1], part):
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def _follows(before: Part, after: Part) -> bool:
    assert before.source is not None
    assert after.source is not None
    size = before.chunk.size_bytes
    return (
        before.source.path == after.source.path
        and before.source.offset + size == after.source.offset
        and before.offset + size == after.offset
    )


def _is_in(handle: int, part: Part) -> bool:
    return run_matches(handle, part.offset, part.chunk.size_bytes, part.chunk.digest)


def _read(handle: int, size: int, offset: int) -> bytes:
    try:
        return os.pread(handle, size, offset)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise
