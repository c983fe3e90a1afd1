"""A tree on disk → the entries of its manifest, the content of its files cut into chunks on the way."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from sis.errors import NotFound, SisError
from sis.image import chunk
from sis.image.codec import PATH_BYTES_MAX, show_path
from sis.image.model import ANY_MTIME, HOLE, Entry, Kind
from sis.image.packs import encode
from sis.system.files import Xattrs, member_path, open_beneath, read_xattrs, runs_of

IDENTITY = struct.Struct("<QQQqq")
"""What tells that an inode is unchanged: device, inode, size, mtime_ns, ctime_ns."""

UNKNOWN = bytes(IDENTITY.size)

_SETTLED_NS = 1_000_000_000
_WHOLE_BYTES = 1 << 20
_BATCH_BYTES = 1 << 20
_BATCHES_AHEAD = 6
_ATTEMPTS = 3

Progress = Callable[[str, int, int], None]
"""Told (step, bytes done, bytes in all) as work goes on."""


class ChunkSink(Protocol):
    """Where the content goes. `wants` is asked in any thread; `put` is called in path order in one thread."""

    def wants(self, digest: bytes) -> bool: ...
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
        content.read(walk.found)
        return Scan(
            entries=_finish(walk.found),
            identities=b"".join(found.identity if found.settled else UNKNOWN for found in walk.found),
            notices=tuple(walk.notices),
            bytes_read=content.bytes_done,
        )
    finally:
        os.close(handle)


@dataclass(slots=True)
class _Found:
    """One path on the way to its entry. `runs` collects the content of a file that has to be read."""

    entry: Entry
    identity: bytes
    settled: bool
    inode: tuple[int, int] | None
    runs: bytearray | None = None


def _path_of(found: _Found) -> bytes:
    return found.entry.path


class _Walk:
    """Lists the tree: lstat of everything, xattrs and link targets of what is new."""

    def __init__(self, root: int, reuse: ScanCache | None, one_filesystem: bool) -> None:
        self.found: list[_Found] = []
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
                self.found.append(_Found(self._reuse.entries[position], identity, settled, inode))
                return
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            self.notices.append(f"{show_path(path)}: a socket: left out")
            return
        target = os.readlink(name, dir_fd=directory) if kind is Kind.SYMLINK else b""
        entry = _entry(path, kind, status, target, read_xattrs(member_path(directory, name)))
        runs = bytearray() if kind is Kind.FILE and status.st_size else None
        self.found.append(_Found(entry, identity, settled, inode, runs))


class _Item(NamedTuple):
    """A run of a file on its way through the workers: data, or None for a hole."""

    runs: bytearray
    data: memoryview | None
    size: int


class _Content:
    """Reads files in path order; hashes and compresses their chunks in threads, delivers them in order."""

    def __init__(self, root: int, sink: ChunkSink | None, threads: int, progress: Progress | None) -> None:
        self.bytes_done = 0
        self._root = root
        self._sink = sink
        self._threads = threads
        self._progress = progress
        self._total = 0
        self._batch: list[_Item] = []
        self._batch_bytes = 0
        self._under_way: deque[tuple[list[_Item], Future[list[tuple[bytes, bytes | None]]]]] = deque()

    def read(self, found: list[_Found]) -> None:
        first_of: dict[tuple[int, int], _Found] = {}
        waiting = []
        for one in found:
            if one.runs is None:
                continue
            if one.inode is not None:
                first = first_of.setdefault(one.inode, one)
                if first is not one:
                    one.runs = first.runs
                    continue
            waiting.append(one)
            self._total += one.entry.size
        if not waiting:
            return
        with ThreadPoolExecutor(self._threads, thread_name_prefix="chunks") as pool:
            try:
                for one in waiting:
                    self._file(one, pool)
                self._send(pool)
                while self._under_way:
                    self._deliver()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for one in found:
            if one.inode is not None and one.runs is not None:
                first = first_of[one.inode]
                one.runs = first.runs
                one.identity = first.identity

    def _file(self, found: _Found, pool: ThreadPoolExecutor) -> None:
        path = found.entry.path
        try:
            handle = open_beneath(self._root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOATIME)
        except OSError as error:
            if error.errno == errno.EPERM:
                handle = open_beneath(self._root, path, os.O_RDONLY | os.O_NONBLOCK)
            else:
                raise _vanished(path) from error
        try:
            for attempt in range(_ATTEMPTS):
                if attempt:
                    time.sleep(0.05 * attempt)
                before = os.fstat(handle)
                if not stat.S_ISREG(before.st_mode):
                    raise _vanished(path)
                runs = bytearray()
                complete = self._content(handle, before, runs, pool)
                after = os.fstat(handle)
                if complete and _identity(before) == _identity(after):
                    self._take(found, runs, after, handle)
                    return
            raise SisError(
                f"{show_path(path)} changed while it was read, {_ATTEMPTS} times",
                hint="commit a tree nobody is writing to",
            )
        finally:
            os.close(handle)

    def _take(self, found: _Found, runs: bytearray, status: os.stat_result, handle: int) -> None:
        found.runs = runs
        identity = _identity(status)
        if identity != found.identity:
            found.entry = _entry(found.entry.path, Kind.FILE, status, b"", read_xattrs(handle))
            found.identity = identity
            found.settled = False

    def _content(self, handle: int, status: os.stat_result, runs: bytearray, pool: ThreadPoolExecutor) -> bool:
        """Send a file's content on its way. False if it ended before its size."""
        size = status.st_size
        if status.st_blocks * 512 >= size:
            return self._data(handle, 0, size, runs, pool)
        for run in runs_of(handle, size):
            if run.hole:
                self._batch.append(_Item(runs, None, run.length))
            elif not self._data(handle, run.offset, run.length, runs, pool):
                return False
        return True

    def _data(self, handle: int, offset: int, length: int, runs: bytearray, pool: ThreadPoolExecutor) -> bool:
        if length <= _WHOLE_BYTES:
            data = os.pread(handle, length, offset)
            if len(data) != length:
                return False
            for piece in chunk.cut(data):
                self._add(_Item(runs, piece, len(piece)), pool)
            return True
        reader = _Reader(handle, offset, length)
        for piece in chunk.cut_stream(reader.read):
            self._add(_Item(runs, piece, len(piece)), pool)
        return reader.rest == 0

    def _add(self, item: _Item, pool: ThreadPoolExecutor) -> None:
        self._batch.append(item)
        self._batch_bytes += item.size
        if self._batch_bytes >= _BATCH_BYTES:
            self._send(pool)

    def _send(self, pool: ThreadPoolExecutor) -> None:
        while len(self._under_way) >= _BATCHES_AHEAD:
            self._deliver()
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._under_way.append((batch, pool.submit(_chunks, batch, self._sink)))

    def _deliver(self) -> None:
        batch, future = self._under_way.popleft()
        for item, (digest, stored) in zip(batch, future.result(), strict=True):
            item.runs.extend(digest + item.size.to_bytes(8, "little"))
            if stored is not None:
                assert self._sink is not None
                self._sink.put(digest, item.size, stored)
            if item.data is not None:
                self.bytes_done += item.size
        if self._progress is not None:
            self._progress("reading", self.bytes_done, self._total)


def _chunks(batch: list[_Item], sink: ChunkSink | None) -> list[tuple[bytes, bytes | None]]:
    done: list[tuple[bytes, bytes | None]] = []
    for item in batch:
        if item.data is None:
            done.append((HOLE, None))
            continue
        digest = chunk.digest(item.data)
        done.append((digest, encode(item.data) if sink is not None and sink.wants(digest) else None))
    return done


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


def _finish(found: list[_Found]) -> tuple[Entry, ...]:
    """The entries with their content and their hard-link groups, numbered by first appearance."""
    members: dict[tuple[int, int], int] = {}
    for one in found:
        if one.inode is not None:
            members[one.inode] = members.get(one.inode, 0) + 1
    numbers: dict[tuple[int, int], int] = {}
    firsts: dict[tuple[int, int], Entry] = {}
    entries = []
    for one in found:
        entry = one.entry
        if one.runs is not None:
            entry = msgspec.structs.replace(entry, chunks=bytes(one.runs))
            one.runs = None
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


_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}


def _entry(path: bytes, kind: Kind, status: os.stat_result, target: bytes, xattrs: Xattrs) -> Entry:
    device = kind in (Kind.CHAR, Kind.BLOCK)
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns if status.st_mtime_ns != ANY_MTIME else 0,
        size=status.st_size if kind is Kind.FILE else 0,
        target=target,
        rdev=(os.major(status.st_rdev), os.minor(status.st_rdev)) if device else (0, 0),
        xattrs=xattrs,
    )


def _identity(status: os.stat_result) -> bytes:
    return IDENTITY.pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _vanished(path: bytes) -> SisError:
    return SisError(
        f"{show_path(path)} vanished or changed its type while the tree was read",
        hint="commit a tree nobody is writing to",
    )
