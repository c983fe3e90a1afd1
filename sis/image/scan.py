"""A tree on disk → the entries of its manifest, the content of its files cut into chunks on the way."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from sis.errors import NotFound, SisError
from sis.image import chunk, dictionary
from sis.image.codec import PATH_BYTES_MAX, show_path
from sis.image.model import ANY_MTIME, HOLE, KIND_OF_TYPE, Entry, Kind
from sis.system.files import Run, Xattrs, member_path, open_beneath, read_xattrs, runs_of

IDENTITY = struct.Struct("<QQQqq")
"""What tells that an inode is unchanged: device, inode, size, mtime_ns, ctime_ns."""

UNKNOWN = bytes(IDENTITY.size)

_SETTLED_NS = 1_000_000_000
_WHOLE_BYTES = 1 << 20
_BATCH_BYTES = 1 << 20
_BATCH_FILES = 256
_BATCHES_AHEAD = 3
_ATTEMPTS = 3

_T = TypeVar("_T")

Progress = Callable[[str, int, int], None]
"""Told (step, bytes done, bytes in all) as work goes on."""


class ChunkSink(Protocol):
    """Where the content goes. `wants` and `encode` are asked in any thread; `put` is called in path order in one.

    Before all of them, `learn` is told how much there is in small files, and can have some of it read.
    """

    def learn(self, small_bytes: int, samples: Callable[[], list[bytes]]) -> None: ...
    def wants(self, digest: bytes) -> bool: ...
    def encode(self, data: memoryview) -> bytes: ...
    def put(self, digest: bytes, size_bytes: int, stored: bytes) -> None: ...


@dataclass(frozen=True)
class ScanCache:
    """What the last scan of a tree found: its entries, and the identity each path's inode had then."""

    entries: Sequence[Entry]
    identities: bytes
    """IDENTITY rows in the order of `entries`; UNKNOWN where an inode was too fresh to trust."""

    def positions(self) -> dict[bytes, int]:
        return {entry.path: at for at, entry in enumerate(self.entries)}


@dataclass(frozen=True)
class Scan:
    """A scanned tree. `entries` is in manifest order; `notices` say what was left out and why."""

    entries: tuple[Entry, ...]
    identities: bytes
    notices: tuple[str, ...]
    bytes_read: int


def scan(
    root: Path,
    *,
    reuse: ScanCache | None = None,
    sink: ChunkSink | None = None,
    one_filesystem: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Read a whole tree. Files whose inode is as `reuse` knew it are not opened.

    Content goes to `sink`, if given, in path order; memory use does not depend on the size of files. Sockets and
    other file systems are left out with a notice. Raises NotFound for a missing root, SisError for a tree that
    changes while it is read.
    """
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"no such directory: {root}") from error
    try:
        walk = _Walk(handle, reuse, one_filesystem)
        walk.run()
        walk.found.sort(key=_path_of)
        content = _Content(handle, sink, threads or max(2, os.cpu_count() or 2), progress)
        content.read([found for found in walk.found if isinstance(found, _Found)])
        identities = _identities(walk.found, reuse)
        return Scan(
            entries=_finish(walk.found),
            identities=identities,
            notices=tuple(walk.notices),
            bytes_read=content.bytes_done,
        )
    finally:
        os.close(handle)


@dataclass(slots=True)
class _Found:
    """One path on the way to its entry. `runs` collects the content of a file that has to be read.

    A path that is as it was, with one name, is its entry from the start: a million of them should cost little.
    """

    entry: Entry
    identity: bytes
    settled: bool
    inode: tuple[int, int] | None
    runs: bytes | bytearray | None = None


_TO_READ = b""
"""The runs of a file whose content has not been read yet."""


def _path_of(found: Entry | _Found) -> bytes:
    return found.path if isinstance(found, Entry) else found.entry.path


class _Walk:
    """Lists the tree: lstat of everything, xattrs and link targets of what is new."""

    def __init__(self, root: int, reuse: ScanCache | None, one_filesystem: bool) -> None:
        self.found: list[Entry | _Found] = []
        self.notices: list[str] = []
        self._root = root
        self._reuse = reuse
        self._positions = reuse.positions() if reuse else {}
        self._one_filesystem = one_filesystem
        self._device = os.fstat(root).st_dev
        self._settled_before = time.time_ns() - _SETTLED_NS

    def run(self) -> None:
        self._add(b".", os.fstat(self._root), self._root, b".")
        waiting = [b"."]
        while waiting:
            waiting.extend(self._directory(waiting.pop()))
        self._positions.clear()

    def _directory(self, path: bytes) -> list[bytes]:
        below = []
        handle = self._open(path)
        try:
            prefix = b"" if path == b"." else path + b"/"
            with os.scandir(handle) as members:
                for member in members:
                    name = os.fsencode(member.name)
                    where = prefix + name
                    if len(where) > PATH_BYTES_MAX:
                        raise SisError(f"{show_path(where)[:200]}…: the path is longer than {PATH_BYTES_MAX} bytes")
                    try:
                        status = member.stat(follow_symlinks=False)
                        self._add(where, status, handle, name)
                    except FileNotFoundError as error:
                        raise _vanished(where) from error
                    if stat.S_ISDIR(status.st_mode):
                        if status.st_dev == self._device or not self._one_filesystem:
                            below.append(where)
                        else:
                            self.notices.append(f"{show_path(where)}: another file system: its content is left out")
        finally:
            os.close(handle)
        return below

    def _open(self, path: bytes) -> int:
        try:
            return open_beneath(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise _vanished(path) from error
            raise

    def _add(self, path: bytes, status: os.stat_result, directory: int, name: bytes) -> None:
        identity = _identity(status)
        inode = None
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            inode = (status.st_dev, status.st_ino)
        settled = status.st_ctime_ns < self._settled_before
        position = self._positions.get(path)
        if self._reuse is not None and position is not None:
            start = position * IDENTITY.size
            if self._reuse.identities[start : start + IDENTITY.size] == identity:
                entry = self._reuse.entries[position]
                is_done = settled and inode is None and not entry.link
                self.found.append(entry if is_done else _Found(entry, identity, settled, inode))
                return
        kind = KIND_OF_TYPE.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            self.notices.append(f"{show_path(path)}: a socket: left out")
            return
        target = os.readlink(name, dir_fd=directory) if kind is Kind.SYMLINK else b""
        entry = _entry(path, kind, status, target, read_xattrs(member_path(directory, name)))
        runs = _TO_READ if kind is Kind.FILE and status.st_size else None
        self.found.append(_Found(entry, identity, settled, inode, runs))


class _Piece(NamedTuple):
    """A run of a file's content: data, or None for a hole. `runs` is where its digest will go."""

    runs: bytearray
    data: memoryview | None
    size: int


class _Done(NamedTuple):
    """A piece with its digest, and its stored form if the sink wants it."""

    piece: _Piece
    digest: bytes
    stored: bytes | None


class _Content:
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
        self._under_way: deque[tuple[Future[list[_Done]], Sequence[_Found]]] = deque()

    def read(self, found: list[_Found]) -> None:
        first_of: dict[tuple[int, int], _Found] = {}
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

    def _samples(self, small: list[_Found]) -> list[bytes]:
        """The content of some small files, as far as it can be read."""
        samples = []
        for one in dictionary.chosen(small):
            with _opened(self._root, one.entry.path) as handle:
                samples.append(os.pread(handle, dictionary.SMALL_BYTES, 0))
        return samples

    def _read_all(self, waiting: list[_Found]) -> None:
        group: list[_Found] = []
        group_bytes = 0
        for one in waiting:
            if one.entry.size > _WHOLE_BYTES:
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

    def _short_files(self, group: list[_Found]) -> list[_Done]:
        """In a worker: everything about some files."""
        done: list[_Done] = []
        for found in group:
            mark = len(done)
            with _opened(self._root, found.entry.path) as handle:
                for runs in _attempts(found, handle):
                    del done[mark:]
                    done += self._chunks(list(_pieces(handle, runs)))
        return done

    def _long_file(self, found: _Found) -> None:
        with _opened(self._root, found.entry.path) as handle:
            for runs in _attempts(found, handle):
                batch: list[_Piece] = []
                batch_bytes = 0
                for piece in _pieces(handle, runs):
                    batch.append(piece)
                    batch_bytes += piece.size if piece.data is not None else 0
                    if batch_bytes >= _BATCH_BYTES:
                        self._send(self._chunks, batch)
                        batch, batch_bytes = [], 0
                self._send(self._chunks, batch)

    def _chunks(self, pieces: list[_Piece]) -> list[_Done]:
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

    def _send(self, work: Callable[[list[_T]], list[_Done]], items: list[_T], ended: Sequence[_Found] = ()) -> None:
        """Have a worker do it; `ended` are the files whose content is all there after that."""
        if not items:
            return
        while len(self._under_way) >= self._ahead:
            self._deliver()
        self._under_way.append((self._pool.submit(work, items), ended))

    def _deliver(self) -> None:
        future, ended = self._under_way.popleft()
        for (runs, data, size), digest, stored in future.result():
            runs += digest + size.to_bytes(8, "little")
            if stored is not None:
                assert self._sink is not None
                self._sink.put(digest, size, stored)
            if data is not None:
                self.bytes_done += size
        for found in ended:
            found.runs = bytes(found.runs or b"")
        if self._progress is not None:
            self._progress("reading", self.bytes_done, self._total)


@contextmanager
def _opened(root: int, path: bytes) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_NONBLOCK
    try:
        try:
            handle = open_beneath(root, path, flags | os.O_NOATIME)
        except PermissionError:
            handle = open_beneath(root, path, flags)
    except PermissionError as error:
        raise SisError(f"{show_path(path)} cannot be read: {error.strerror}", hint="commit as root") from error
    except OSError as error:
        raise _vanished(path) from error
    try:
        yield handle
    finally:
        os.close(handle)


def _attempts(found: _Found, handle: int) -> Iterator[bytearray]:
    """Gives a place for the runs of a file whose content the caller then reads; again if it changed meanwhile.

    In the end `found` is the file as it was read. Raises SisError if it never holds still.
    """
    path = found.entry.path
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(0.05 * attempt)
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            raise _vanished(path)
        runs = bytearray()
        yield runs
        after = os.fstat(handle)
        identity = _identity(after)
        if _identity(before) != identity:
            continue
        found.runs = runs
        if identity != found.identity:
            found.entry = _entry(path, Kind.FILE, after, b"", read_xattrs(handle))
            found.identity = identity
            found.settled = False
        return
    raise SisError(
        f"{show_path(path)} changed while it was read, {_ATTEMPTS} times",
        hint="commit a tree nobody is writing to",
    )


def _pieces(handle: int, runs: bytearray) -> Iterator[_Piece]:
    """The content of a file, cut; whatever the size, a window at a time. Ends early if the file does."""
    status = os.fstat(handle)
    size = status.st_size
    stretches: Iterable[Run] = (Run(0, size, hole=False),)
    if status.st_blocks * 512 < size:
        stretches = runs_of(handle, size)
    for offset, length, hole in stretches:
        if hole:
            yield _Piece(runs, None, length)
        elif length <= _WHOLE_BYTES:
            for data in chunk.cut(os.pread(handle, length, offset)):
                yield _Piece(runs, data, len(data))
        else:
            for data in chunk.cut_stream(_Reader(handle, offset, length).read):
                yield _Piece(runs, data, len(data))


@dataclass
class _Reader:
    handle: int
    at: int
    rest: int

    def read(self, count: int) -> bytes:
        data = os.pread(self.handle, min(count, self.rest), self.at)
        self.at += len(data)
        self.rest -= len(data)
        return data


def _identities(found: list[Entry | _Found], reuse: ScanCache | None) -> bytes:
    """The IDENTITY rows of what was found, in order; of what is as it was they are in `reuse`, in the same order."""
    rows = io.BytesIO()
    at = -1
    for one in found:
        if isinstance(one, _Found):
            rows.write(one.identity if one.settled else UNKNOWN)
            continue
        assert reuse is not None
        at += 1
        while reuse.entries[at] is not one:
            at += 1
        rows.write(reuse.identities[at * IDENTITY.size : (at + 1) * IDENTITY.size])
    return rows.getvalue()


def _finish(found: list[Entry | _Found]) -> tuple[Entry, ...]:
    """The entries with their content and their hard-link groups, numbered by first appearance. Empties `found`."""
    members: dict[tuple[int, int], int] = {}
    for one in found:
        if isinstance(one, _Found) and one.inode is not None:
            members[one.inode] = members.get(one.inode, 0) + 1
    numbers: dict[tuple[int, int], int] = {}
    firsts: dict[tuple[int, int], Entry] = {}
    entries = []
    found.reverse()
    while found:
        one = found.pop()
        if isinstance(one, Entry):
            entries.append(one)
            continue
        entry = one.entry
        if one.runs is not None:
            entry = msgspec.structs.replace(entry, chunks=bytes(one.runs))
        link = 0
        if one.inode is not None and members[one.inode] > 1:
            link = numbers.setdefault(one.inode, len(numbers) + 1)
            first = firsts.setdefault(one.inode, entry)
            if first is not entry:
                entry = msgspec.structs.replace(first, path=entry.path, link=link)
        if entry.link != link:
            entry = msgspec.structs.replace(entry, link=link)
        entries.append(entry)
    return tuple(entries)


def _entry(path: bytes, kind: Kind, status: os.stat_result, target: bytes, xattrs: Xattrs) -> Entry:
    device = kind in (Kind.CHAR, Kind.BLOCK)
    mode = stat.S_IMODE(status.st_mode)
    return Entry(
        path=path,
        kind=kind,
        mode=_modes.setdefault(mode, mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns if status.st_mtime_ns != ANY_MTIME else 0,
        size=status.st_size if kind is Kind.FILE else 0,
        target=target,
        rdev=(os.major(status.st_rdev), os.minor(status.st_rdev)) if device else (0, 0),
        xattrs=xattrs,
    )


def share_values(entries: Sequence[Entry]) -> None:
    """Let decoded entries have equal values in common, as scanned ones do: 100 bytes less for each."""
    none = (0, 0)
    for entry in entries:
        # Frozen for whoever reads them; an equal value in place of another is nothing a reader can see.
        msgspec.structs.force_setattr(entry, "mode", _modes.setdefault(entry.mode, entry.mode))
        if entry.rdev == none:
            msgspec.structs.force_setattr(entry, "rdev", none)


_modes: dict[int, int] = {}
"""The numbers themselves: a million entries share a few of them."""


def _identity(status: os.stat_result) -> bytes:
    return IDENTITY.pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _vanished(path: bytes) -> SisError:
    return SisError(
        f"{show_path(path)} vanished or changed its type while the tree was read",
        hint="commit a tree nobody is writing to",
    )
