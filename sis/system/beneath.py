"""The one place that writes into trees: everything beneath an open root, following no symlink, never crossing out.

Paths are raw bytes relative to the root ("/"-separated, b"." for the root itself). Every parent is reached from the
root's handle with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS), or a component at a time on old kernels; what is
done there is done to one name in an open directory. A symlink planted on the way is an error, never a way out.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from types import TracebackType

from sis.system.files import Xattrs, member_path, open_beneath, read_xattrs

_CACHED_PARENTS = 256
_NO_PARENT = b"/", -1
_NO_NAMES = (b"", b".", b"..")
_ONE_OPEN_BYTES = 4000
_RENAME_EXCHANGE = 2
_CANNOT_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.EPERM)

_libc = ctypes.CDLL(None, use_errno=True)


class Beneath:
    """A tree held by its root's handle. Methods raise OSError with the path they were given.

    The first group of reading methods may be called from several threads at once, the others from one at a time.
    """

    def __init__(self, root: str | bytes | os.PathLike[str] | int) -> None:
        """`root` is a path, or a handle on a directory that is now ours."""
        self.root = root if isinstance(root, int) else os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._parents: OrderedDict[bytes, int] = OrderedDict()
        self._last: tuple[bytes, int] = _NO_PARENT

    def __enter__(self) -> Beneath:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.forget_parents()
        os.close(self.root)

    def forget_parents(self) -> None:
        """Close the handles of parents kept open; needed after a directory has moved or is gone."""
        self._last = _NO_PARENT
        while self._parents:
            os.close(self._parents.popitem()[1])

    def directory(self, path: bytes) -> Beneath:
        """The tree below a directory, as one of its own."""
        return Beneath(self.open_directory(path))

    # Reading, from any thread: each call opens its path anew.

    def open(self, path: bytes, flags: int = os.O_RDONLY) -> int:
        """A handle on `path`, which must not be a symlink. Never blocks on a FIFO and takes no terminal."""
        _must_be_inside(path)
        return self._open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)

    def open_directory(self, path: bytes) -> int:
        """A handle on a directory, for listing it."""
        return self.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def readlink(self, path: bytes) -> bytes:
        with self._parent_of(path) as (parent, name):
            return os.readlink(name, dir_fd=parent)

    def names_in(self, path: bytes) -> list[bytes]:
        """The names in a directory, without "." and ".."."""
        handle = self.open_directory(path)
        try:
            return [os.fsencode(name) for name in os.listdir(handle)]
        finally:
            os.close(handle)

    def xattrs(self, path: bytes) -> Xattrs:
        """The extended attributes of whatever is at `path`, a symlink's own included."""
        with self._parent_of(path) as (parent, name):
            return read_xattrs(member_path(parent, name))

    # Reading and writing, from one thread.

    def lstat(self, path: bytes) -> os.stat_result:
        parent, name = self._parent(path)
        return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def exists(self, path: bytes) -> bool:
        try:
            self.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def create(self, path: bytes, mode: int = 0o600, *, exclusively: bool = True) -> int:
        """A new, empty file, open for reading and writing. The umask counts.

        What is there already is an error, or, not `exclusively`, is opened as it is unless it is a symlink.
        """
        parent, name = self._parent(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_EXCL if exclusively else 0)
        return os.open(name, flags, mode, dir_fd=parent)

    def mkdir(self, path: bytes, mode: int = 0o700) -> None:
        parent, name = self._parent(path)
        os.mkdir(name, mode, dir_fd=parent)

    def symlink(self, target: bytes, path: bytes) -> None:
        parent, name = self._parent(path)
        os.symlink(target, name, dir_fd=parent)

    def mknod(self, path: bytes, kind: int, rdev: tuple[int, int] = (0, 0)) -> None:
        """A device, FIFO (`kind`: S_IFCHR, S_IFBLK, S_IFIFO), mode 0600; `rdev` is (major, minor)."""
        parent, name = self._parent(path)
        os.mknod(name, kind | 0o600, os.makedev(*rdev), dir_fd=parent)

    def link(self, path: bytes, new: bytes) -> None:
        """Give what is at `path` the further name `new`; a symlink is linked itself."""
        parent, name = self._parent(path)
        new_parent, new_name = self._parent(new)
        os.link(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent, follow_symlinks=False)

    def rename(self, path: bytes, new: bytes) -> None:
        """Move `path` to `new` in one step, in the place of what is there (a directory only if empty)."""
        parent, name = self._parent(path)
        new_parent, new_name = self._parent(new)
        os.rename(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent)

    def exchange(self, path: bytes, other: bytes) -> bool:
        """Swap two names in one step, whatever their kinds. False if this file system cannot."""
        parent, name = self._parent(path)
        other_parent, other_name = self._parent(other)
        if _libc.renameat2(parent, name, other_parent, other_name, _RENAME_EXCHANGE) != 0:
            number = ctypes.get_errno()
            if number in _CANNOT_EXCHANGE:
                return False
            raise OSError(number, os.strerror(number), path)
        self.forget_parents()
        return True

    def unlink(self, path: bytes) -> None:
        parent, name = self._parent(path)
        os.unlink(name, dir_fd=parent)

    def rmdir(self, path: bytes) -> None:
        """Remove an empty directory."""
        parent, name = self._parent(path)
        os.rmdir(name, dir_fd=parent)
        handle = self._parents.pop(path, None)
        if handle is not None:
            self._last = _NO_PARENT
            os.close(handle)

    def remove_tree(self, path: bytes) -> None:
        """Remove `path` and all below it, without entering another file system. Nothing there is no error."""
        try:
            parent, name = self._parent(path)
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        try:
            _remove(parent, name, found)
        finally:
            self.forget_parents()

    def set_metadata(self, path: bytes, *, uid: int, gid: int, mode: int, xattrs: Xattrs, mtime_ns: int | None) -> None:
        """Give `path` this owner, mode, xattrs (exactly these) and, unless None, modification time.

        In the order in which the kernel does not undo the earlier by the later: owner, mode, xattrs (file
        capabilities are lost by a change of owner), time.
        """
        parent, name = self._parent(path)
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if stat.S_ISLNK(os.fstat(handle).st_mode):
                _set_symlink_metadata(parent, name, uid, gid, xattrs, mtime_ns)
            else:
                set_metadata_of(b"/proc/self/fd/%d" % handle, uid, gid, mode, xattrs, mtime_ns)
        finally:
            os.close(handle)

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        parent, name = self._parent(path)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)

    def sync_filesystem(self, path: bytes) -> None:
        """Make everything written to the file system that `path` (a directory) is on durable."""
        handle = self.open_directory(path)
        try:
            if _libc.syncfs(handle) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), path)
        finally:
            os.close(handle)

    # Reaching a name.

    def _open(self, path: bytes, flags: int) -> int:
        if len(path) <= _ONE_OPEN_BYTES:
            return open_beneath(self.root, path, flags)
        here = self.root
        try:
            while len(path) > _ONE_OPEN_BYTES:
                cut = path.rindex(b"/", 0, _ONE_OPEN_BYTES)
                step = open_beneath(here, path[:cut], os.O_PATH | os.O_DIRECTORY)
                if here != self.root:
                    os.close(here)
                here, path = step, path[cut + 1 :]
            return open_beneath(here, path, flags)
        finally:
            if here != self.root:
                os.close(here)

    @contextlib.contextmanager
    def _parent_of(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        _must_be_inside(path)
        parent, _, name = path.rpartition(b"/")
        handle = self._open(parent or b".", os.O_PATH | os.O_DIRECTORY)
        try:
            yield handle, name
        finally:
            os.close(handle)

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        """The (handle, name) of a path; the handle is kept open until many others were asked for."""
        parent, _, name = path.rpartition(b"/")
        if parent == self._last[0] and name not in _NO_NAMES and b"\0" not in name:
            return self._last[1], name
        _must_be_inside(path)
        if not parent:
            return self.root, name
        handle = self._parents.get(parent)
        if handle is None:
            handle = self._parents[parent] = self._open(parent, os.O_PATH | os.O_DIRECTORY)
            if len(self._parents) > _CACHED_PARENTS:
                os.close(self._parents.popitem(last=False)[1])
        else:
            self._parents.move_to_end(parent)
        self._last = parent, handle
        return handle, name


def set_metadata_of(
    target: int | bytes, uid: int, gid: int, mode: int, xattrs: Xattrs, mtime_ns: int | None, *, fresh: bool = False
) -> None:
    """`Beneath.set_metadata` for an open handle (or the /proc path of one). `fresh`: we made it just now.

    What is right already is not set again: even a change of owner to the same would drop file capabilities.
    """
    now = os.stat(target)
    if (now.st_uid, now.st_gid) != (uid, gid):
        os.chown(target, uid, gid)
        now = os.stat(target)
    wanted = dict(xattrs)
    if not fresh or wanted:
        for name, _ in read_xattrs(target, follow=True):
            if name not in wanted:
                os.removexattr(target, name)
    if stat.S_IMODE(now.st_mode) != mode:
        os.chmod(target, mode)
    if wanted:
        present = dict(read_xattrs(target, follow=True))
        for name, value in xattrs:
            if present.get(name) != value:
                os.setxattr(target, name, value)
    if mtime_ns is not None:
        os.utime(target, ns=(mtime_ns, mtime_ns))


def _set_symlink_metadata(parent: int, name: bytes, uid: int, gid: int, xattrs: Xattrs, mtime_ns: int | None) -> None:
    os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
    path = member_path(parent, name)
    present, wanted = dict(read_xattrs(path)), dict(xattrs)
    for attribute in present:
        if attribute not in wanted:
            os.removexattr(path, attribute, follow_symlinks=False)
    for attribute, value in xattrs:
        if present.get(attribute) != value:
            os.setxattr(path, attribute, value, follow_symlinks=False)
    if mtime_ns is not None:
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)


def _remove(parent: int, name: bytes, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    pending = [(parent, name, False)]
    opened: list[int] = []
    try:
        while pending:
            above, name, emptied = pending.pop()
            if emptied:
                os.close(opened.pop())
                os.rmdir(name, dir_fd=above)
                continue
            handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            opened.append(handle)
            if os.fstat(handle).st_dev != found.st_dev:
                raise OSError(errno.EBUSY, "another file system is mounted here", name)
            pending.append((above, name, True))
            with os.scandir(handle) as members:
                for member in members:
                    inner = os.fsencode(member.name)
                    if member.is_dir(follow_symlinks=False):
                        pending.append((handle, inner, False))
                    else:
                        os.unlink(inner, dir_fd=handle)
    finally:
        for handle in opened:
            os.close(handle)


def _must_be_inside(path: bytes) -> None:
    if path == b".":
        return
    within = b"/%b/" % path
    if b"\0" in path or b"//" in within or b"/./" in within or b"/../" in within:
        raise OSError(errno.EXDEV, "not a path beneath the root", path)
