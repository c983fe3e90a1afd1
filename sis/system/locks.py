"""Locks between processes: the kernel's own, free at once when their owner dies, with the owner's name in them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sis.errors import Locked

_POLL_S = 0.05
_ENDING_S = 10.0
"""How long processes that worked for an owner that was killed may take to end: the kernel ends them with it."""


@contextlib.contextmanager
def hold(path: Path, purpose: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` for the length of the block; `purpose` ("commit of compute") is shown to others.

    Waits at most `wait_s` for another owner, then raises Locked naming who holds it, for what and since when. A
    process that was killed holds nothing: the kernel lets go of its lock once those it has forked have ended with it,
    which is waited for, and its name in the file is overwritten.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(handle, path, wait_s)
        _sign(handle, purpose)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock file at this moment."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return True
    else:
        return False
    finally:
        os.close(handle)


def _acquire(handle: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return
        if time.monotonic() >= deadline + (_ENDING_S if _is_owner_gone(handle) else 0.0):
            raise Locked(
                f"{path} is held by {_told(_owner(handle))}", hint="wait for it to end, or end it, and try again"
            )
        time.sleep(_POLL_S)


class _Owner(msgspec.Struct):
    """`since` in seconds since the epoch."""

    pid: int
    host: str
    purpose: str
    since: float


_owner_decoder = msgspec.json.Decoder(_Owner)


def _sign(handle: int, purpose: str) -> None:
    mine = _Owner(pid=os.getpid(), host=os.uname().nodename, purpose=purpose, since=time.time())
    os.ftruncate(handle, 0)
    os.pwrite(handle, msgspec.json.encode(mine), 0)


def _owner(handle: int) -> _Owner | None:
    """Who says in the file that it holds the lock."""
    try:
        return _owner_decoder.decode(os.pread(handle, 4096, 0))
    except msgspec.MsgspecError:
        return None


def _is_owner_gone(handle: int) -> bool:
    """Whether the lock is still held although the process that took it, on this host, has ended."""
    owner = _owner(handle)
    if owner is None or owner.host != os.uname().nodename:
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except (OverflowError, OSError):
        return False
    return False


def _told(owner: _Owner | None) -> str:
    if owner is None:
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(owner.since))
    return f"process {owner.pid} on {owner.host} ({owner.purpose}) since {since}"
