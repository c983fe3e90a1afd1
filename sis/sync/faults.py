"""What the kernel refuses, in words: OSError → the error the user can act on."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from sis.errors import NoSpace, Refused, SisError
from sis.image.names import show_path

_MOVED = (errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.EXDEV)


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn an OSError of the block into a SisError; `doing` such as "placing files" is in its message."""
    try:
        yield
    except OSError as error:
        raise fault_of(error, doing) from error


def fault_of(error: OSError, doing: str) -> SisError:
    where = f"{_name_of(error)}: " if error.filename is not None else ""
    why = error.strerror or str(error)
    message = f"{where}{why} (while {doing})"
    number = error.errno
    if number in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(message, hint="free some space, and run it again; the files that were there are intact")
    if number == errno.EROFS:
        return Refused(
            message, hint="the file system is mounted read-only: 'mount -o remount,rw', or look for disk errors"
        )
    if number == errno.EIO:
        return SisError(message, hint="the disk has errors: see 'dmesg'; the files that were there are intact")
    if number == errno.EPERM:
        return Refused(
            message, hint="an immutable file (chattr -i makes it changeable), or not enough rights: run as root"
        )
    if number == errno.EACCES:
        return Refused(message, hint="run as root")
    if number == errno.EBUSY:
        return Refused(
            message, hint="something is mounted there: unmount it, or set the path to 'ignore' in the policy"
        )
    if number in _MOVED:
        return SisError(message, hint="it was changed by someone else meanwhile: run it again")
    return SisError(message)


def _name_of(error: OSError) -> str:
    name = error.filename
    if isinstance(name, bytes):
        return show_path(name.removeprefix(b"/"))
    return os.fspath(name) if isinstance(name, str) else str(name)
