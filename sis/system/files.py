"""Files as the rest may use them: writes that are all or nothing, opens that follow no link, xattrs, holes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

Xattrs = tuple[tuple[bytes, bytes], ...]

_KEPT_XATTRS = (b"user.", b"trusted.", b"security.", b"system.posix_acl_access", b"system.posix_acl_default")
_SHADOW_XATTRS = b"trusted.SGI_ACL_"
"""How XFS shows root its POSIX ACLs a second time; removing one removes the ACL."""

_SYS_OPENAT2 = 437
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08


class Run(NamedTuple):
    """A stretch of a file: data, or a hole (which reads as zeros and takes no space)."""

    offset: int
    length: int
    hole: bool


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)


def atomic_write(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o644, durable: bool = True) -> None:
    """Write a file, whole or piece by piece, so that readers, and a power cut, see the old content or the new, never
    half.

    Not `durable`, for what is checked when it is read and can be had again, a power cut may leave neither.
    """
    temporary = temporary_beside(path)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(handle, "wb", buffering=0) as file:
            os.fchmod(handle, mode)
            for piece in (data,) if isinstance(data, bytes) else data:
                _write_all(handle, piece)
            if durable:
                os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        fsync_dir(path.parent)


def read_at_most(path: Path, limit: int) -> bytes | None:
    """A file's content, or None when it is longer than `limit`. Takes the memory of what is there, not of the limit."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1) if size <= limit else None
    return data if data is not None and len(data) <= limit else None


def temporary_beside(path: Path) -> Path:
    """A name for a file that will be renamed to `path`: hidden, unlikely to be taken."""
    return path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")


def is_temporary(name: str) -> bool:
    """Whether `temporary_beside` makes such names (left by a process that was killed)."""
    return name.startswith(".") and name.endswith(".tmp")


def fsync_dir(path: Path) -> None:
    """Make the renames in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_dirs(path: Path, *, mode: int = 0o755) -> None:
    """Make a directory and its missing parents durable, with `mode` whatever the umask."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for step in reversed(missing):
        with contextlib.suppress(FileExistsError):
            step.mkdir()
            step.chmod(mode)
        if not step.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(step))
        fsync_dir(step.parent)


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """Open `path` relative to the directory handle `root`, following no symlink in any of its components.

    Raises OSError: ELOOP for a symlink, EXDEV for a path that leads out of `root`.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS)
    while True:
        handle: int = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(root),
            ctypes.c_char_p(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if handle >= 0:
            return handle
        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            return open_stepwise(root, path, flags)
        if number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number), path)


def open_stepwise(root: int, path: bytes, flags: int) -> int:
    """`open_beneath` for kernels without openat2 (before 5.6): one component at a time."""
    *parents, last = path.split(b"/")
    if path.startswith(b"/") or b".." in (*parents, last):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    here = root
    try:
        for name in parents:
            step = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
            if here != root:
                os.close(here)
            here = step
        return os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    finally:
        if here != root:
            os.close(here)


def member_path(directory: int, name: bytes) -> bytes:
    """A path to `name` in an open directory, for calls that take no directory handle (xattrs)."""
    return b"/proc/self/fd/%d/%b" % (directory, name)


def read_xattrs(path: bytes | int, *, follow: bool = False) -> Xattrs:
    """The extended attributes that belong to content, sorted by name; of a symlink itself unless `follow`.

    Kept are user., trusted., security. (capabilities, SELinux labels) and POSIX ACLs; an empty SELinux label and
    what a file system shows of itself (btrfs., system.nfs4_acl …) are not.
    """
    follow = follow or isinstance(path, int)
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    if not names:
        return ()
    pairs = []
    for text in names:
        name = os.fsencode(text)
        if not name.startswith(_KEPT_XATTRS) or name.startswith(_SHADOW_XATTRS):
            continue
        try:
            value = os.getxattr(path, text, follow_symlinks=follow)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ENOTSUP):
                continue
            raise
        if name == b"security.selinux" and not value.strip(b"\0"):
            continue
        pairs.append((name, value))
    return tuple(sorted(pairs))


def runs_of(handle: int, size_bytes: int) -> Iterator[Run]:
    """The file's data and holes in order; they cover it from 0 to `size_bytes`."""
    at = 0
    while at < size_bytes:
        try:
            data = os.lseek(handle, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = size_bytes
        data = min(data, size_bytes)
        if data > at:
            yield Run(at, data - at, hole=True)
        if data >= size_bytes:
            return
        at = min(os.lseek(handle, data, os.SEEK_HOLE), size_bytes)
        yield Run(data, at - data, hole=False)


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
