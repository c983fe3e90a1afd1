"""A closer look at single paths: content read and compared run by run, everything else as the kernel tells it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

import msgspec
from blake3 import blake3

from sis.image.model import ANY_MTIME, HOLE, KIND_OF_TYPE, RUN, RUN_BYTES, TYPE_OF_KIND, Entry, Kind
from sis.sync.forked import Forked, is_worth_it
from sis.sync.walk.ahead import OPEN, Ahead
from sis.sync.walk.listing import Row, fields_of, place_of, row_of
from sis.system.beneath import Beneath
from sis.system.files import Xattrs, member_path, read_xattrs

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What a path says that was replaced while it was looked at."""

Suspect = tuple[bytes, os.stat_result]
"""A path and its lstat."""

_EFFORT_BYTES = 128 << 10
"""What opening a file takes, in bytes that could be read meanwhile."""

READ_BYTES = 1 << 20
"""What is read at once."""

_ZEROS = bytes(1 << 16)


class Found(NamedTuple):
    """What is at a path.

    entry  as it is there; None for a socket. Chunks are b"" where the content is neither the desired nor the applied
    row    its lstat, taken before its content was read
    """

    entry: Entry | None
    row: Row

    @property
    def inode(self) -> tuple[int, int]:
        """Device and number."""
        fields = fields_of(self.row)
        return fields.device, fields.inode

    @property
    def content_known(self) -> bool:
        return self.entry is not None and (self.entry.size == 0 or bool(self.entry.chunks))


def look_closer(
    tree: Beneath, suspects: list[Suspect], candidates: tuple[Mapping[bytes, Entry], ...]
) -> Iterator[tuple[bytes, Found]]:
    """Look at each, in two processes where there is much to read.

    `candidates` are trees whose entries a path's content is compared with, the likeliest first.
    """
    if not is_worth_it(len(suspects)):
        yield from _look(tree, suspects, candidates)
        return
    half, left = 0, sum(map(_effort, suspects)) // 2
    while left > 0:
        left -= _effort(suspects[half])
        half += 1
    mine, others = suspects[:half], suspects[half:]
    helper = Forked(lambda: _sent(_look(tree, others, candidates), candidates[0]))
    try:
        yield from _look(tree, mine, candidates)
    finally:
        told = helper.result()
    yield from _look(tree, others, candidates) if told is None else _received(told, candidates[0])


def _effort(suspect: Suspect) -> int:
    return _EFFORT_BYTES + suspect[1].st_size


_Sent = list[tuple[bytes, bytes, Entry | None, bool]]
"""Path, row, entry, and whether the entry is the desired one (and is not sent)."""

_sent_decoder = msgspec.msgpack.Decoder(_Sent)


def _sent(looked: Iterable[tuple[bytes, Found]], wanted: Mapping[bytes, Entry]) -> bytes:
    sent: _Sent = []
    for path, found in looked:
        is_as_wanted = found.entry is not None and found.entry is wanted.get(path)
        sent.append((path, found.row, None if is_as_wanted else found.entry, is_as_wanted))
    return msgspec.msgpack.encode(sent)


def _received(told: bytes, wanted: Mapping[bytes, Entry]) -> Iterator[tuple[bytes, Found]]:
    for path, row, entry, is_as_wanted in _sent_decoder.decode(told):
        yield path, Found(wanted[path] if is_as_wanted else entry, row)


def _look(
    tree: Beneath, suspects: Iterable[Suspect], candidates: tuple[Mapping[bytes, Entry], ...]
) -> Iterator[tuple[bytes, Found]]:
    """One after another; a directory is opened once for all in it that come in a row."""
    buffer = memoryview(bytearray(READ_BYTES))
    wanted, *others = candidates
    others = [entries for entries in others if entries and entries is not wanted]
    ahead = Ahead()
    for directory, members in groupby(suspects, _directory_of):
        try:
            handle = tree.open_directory(directory or b".")
        except OSError as error:
            if error.errno not in GONE:
                raise
            continue
        try:
            for path, status in ahead.of(handle, members, _file_of):
                member = Member(handle, place_of(path)[1], path, status, buffer)
                want = wanted.get(path)
                try:
                    if want is not None and member.is_equal(want):
                        yield path, Found(want, row_of(member.status))
                        continue
                    known = [entry for entries in others if (entry := entries.get(path)) is not None]
                    yield path, member.found([want, *known] if want is not None else known)
                except OSError as error:
                    if error.errno not in GONE:
                        raise
        finally:
            os.close(handle)


def _directory_of(suspect: Suspect) -> bytes:
    return place_of(suspect[0])[0]


def _file_of(suspect: Suspect) -> tuple[int, bytes] | None:
    path, status = suspect
    return (status.st_ino, place_of(path)[1]) if stat.S_ISREG(status.st_mode) and status.st_size else None


class Member:
    """What is at a name in an open directory. `status` is its lstat, and what its handle says once it is open."""

    def __init__(self, directory: int, name: bytes, path: bytes, status: os.stat_result, buffer: memoryview) -> None:
        self.status = status
        self._directory = directory
        self._name = name
        self._path = path
        self._buffer = buffer

    def is_equal(self, want: Entry, *, mtime: bool = True) -> bool:
        """Whether all of it is as an entry says, but for hard links; and for its time without `mtime`."""
        status = self.status
        if want.kind is Kind.FILE:
            if not stat.S_ISREG(status.st_mode) or status.st_size != want.size:
                return False
            opened = equal_file(self._directory, self._name, want, self._buffer)
            self.status = opened or status
            return opened is not None
        return (
            status.st_mode == TYPE_OF_KIND[want.kind] | want.mode
            and (not mtime or want.mtime_ns in (status.st_mtime_ns, ANY_MTIME))
            and status.st_uid == want.uid
            and status.st_gid == want.gid
            and self._xattrs() == want.xattrs
            and (self._target(want.kind), self._rdev(want.kind)) == (want.target, want.rdev)
        )

    def found(self, known: list[Entry]) -> Found:
        """What it is; its content only as far as it is that of a `known` entry."""
        kind = KIND_OF_TYPE.get(stat.S_IFMT(self.status.st_mode))
        if kind is None:
            return Found(None, row_of(self.status))
        chunks = b""
        xattrs: Xattrs = ()
        if kind is Kind.FILE:
            known = [entry for entry in known if entry.kind is Kind.FILE]
            if known:
                handle = self._open()
                try:
                    self.status = os.fstat(handle)
                    if not stat.S_ISREG(self.status.st_mode):
                        raise OSError(errno.ENOENT, "replaced while it was looked at", self._path)
                    xattrs = read_xattrs(handle)
                    chunks = self._chunks_among(handle, known)
                finally:
                    os.close(handle)
        elif known:
            xattrs = self._xattrs()
        status = self.status
        entry = Entry(
            path=self._path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            size=status.st_size if kind is Kind.FILE else 0,
            chunks=chunks,
            target=self._target(kind),
            rdev=self._rdev(kind),
            xattrs=xattrs,
        )
        return Found(next((each for each in known if each == entry), entry), row_of(status))

    def _open(self) -> int:
        return os.open(self._name, OPEN, dir_fd=self._directory)

    def _xattrs(self) -> Xattrs:
        return read_xattrs(self._directory if self._name == b"." else member_path(self._directory, self._name))

    def _target(self, kind: Kind) -> bytes:
        return os.readlink(self._name, dir_fd=self._directory) if kind is Kind.SYMLINK else b""

    def _rdev(self, kind: Kind) -> tuple[int, int]:
        rdev = self.status.st_rdev
        return (os.major(rdev), os.minor(rdev)) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0)

    def _chunks_among(self, handle: int, known: Iterable[Entry]) -> bytes:
        tried: list[bytes] = []
        for entry in known:
            if entry.size == self.status.st_size and entry.chunks not in tried:
                if content_matches(handle, entry, self._buffer):
                    return entry.chunks
                tried.append(entry.chunks)
        return b""


def equal_file(directory: int, name: bytes, want: Entry, buffer: memoryview) -> os.stat_result | None:
    """What fstat tells of the file of this name in an open directory, if all of it is as `want` says, links aside."""
    handle = os.open(name, OPEN, dir_fd=directory)
    try:
        status = os.fstat(handle)
        is_equal = (
            status.st_size == want.size
            and status.st_mode == stat.S_IFREG | want.mode
            and want.mtime_ns in (status.st_mtime_ns, ANY_MTIME)
            and status.st_uid == want.uid
            and status.st_gid == want.gid
            and read_xattrs(handle) == want.xattrs
            and content_matches(handle, want, buffer)
        )
        return status if is_equal else None
    finally:
        os.close(handle)


def content_matches(handle: int, entry: Entry, buffer: memoryview) -> bool:
    """Whether the open file's bytes are those of `entry`, by the digest of each run. The size must be right already.

    As many runs as fit are read into `buffer` at once.
    """
    runs = entry.chunks
    if len(runs) == RUN_BYTES and entry.size <= len(buffer) and not runs.startswith(HOLE):
        got = os.preadv(handle, [buffer], 0)
        if got == entry.size:
            return runs.startswith(blake3(buffer[:got]).digest())
    at = start = filled = 0
    """Of the file: where the next run is, and what of it is in the buffer."""
    for digest, size in RUN.iter_unpack(runs):
        if digest == HOLE:
            if not is_zero(handle, at, size):
                return False
        elif size > len(buffer):
            if not run_matches(handle, at, size, digest):
                return False
        else:
            if at + size > start + filled:
                start, filled = at, _read(handle, at, buffer[: min(len(buffer), entry.size - at)])
            if filled < at - start + size or blake3(buffer[at - start : at - start + size]).digest() != digest:
                return False
        at += size
    return True


def _read(handle: int, at: int, buffer: memoryview) -> int:
    filled = 0
    while filled < len(buffer) and (got := os.preadv(handle, [buffer[filled:]], at + filled)):
        filled += got
    return filled


def run_matches(handle: int, at: int, size: int, digest: bytes) -> bool:
    data = os.pread(handle, size, at)
    return len(data) == size and blake3(data).digest() == digest


def is_zero(handle: int, at: int, size: int) -> bool:
    """Whether a run reads as zeros; holes are not read."""
    end = at + size
    while at < end:
        try:
            at = os.lseek(handle, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return True
        if at >= end:
            return True
        data = os.pread(handle, min(len(_ZEROS), end - at), at)
        if not data or data != _ZEROS[: len(data)]:
            return False
        at += len(data)
    return True
