"""One walk over a tree: lstat of everything, xattrs and link targets of what is not as the last scan found it."""

from __future__ import annotations

import errno
import os
import stat
import time

from sis.errors import SisError
from sis.image.model import KIND_OF_TYPE, Entry, Kind
from sis.image.names import PATH_BYTES_MAX, show_path
from sis.image.tree.found import IDENTITY, TO_READ, Found, ScanCache, entry_of, identity_of, vanished
from sis.system.files import member_path, open_beneath, read_xattrs

_SETTLED_NS = 1_000_000_000
"""An inode that changed less than this before the walk may change again without a trace in its times."""


class Walk:
    """Lists the tree: lstat of everything, xattrs and link targets of what is new."""

    def __init__(self, root: int, reuse: ScanCache | None, one_filesystem: bool) -> None:
        self.found: list[Entry | Found] = []
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
                        raise vanished(where) from error
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
                raise vanished(path) from error
            raise

    def _add(self, path: bytes, status: os.stat_result, directory: int, name: bytes) -> None:
        identity = identity_of(status)
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
                self.found.append(entry if is_done else Found(entry, identity, settled, inode))
                return
        kind = KIND_OF_TYPE.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            self.notices.append(f"{show_path(path)}: a socket: left out")
            return
        target = os.readlink(name, dir_fd=directory) if kind is Kind.SYMLINK else b""
        entry = entry_of(path, kind, status, target, read_xattrs(member_path(directory, name)))
        runs = TO_READ if kind is Kind.FILE and status.st_size else None
        self.found.append(Found(entry, identity, settled, inode, runs))
