"""Locks between processes: the kernel's own, free at once when their owner dies, with the owner's name in them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

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
            raise Locked(f"{path} is held by {_owner(handle)}", hint="wait for it to end, or end it, and try again")
        time.sleep(_POLL_S)


def _sign(handle: int, purpose: str) -> None:
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "since": time.time()}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(mine).encode(), 0)


def _is_owner_gone(handle: int) -> bool:
    """Whether the lock is still held although the process that took it, on this host, has ended."""
    try:
        told = json.loads(os.pread(handle, 4096, 0))
        if told["host"] == socket.gethostname():
            os.kill(told["pid"], 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    return False


def _owner(handle: int) -> str:
    try:
        told = json.loads(os.pread(handle, 4096, 0))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(told["since"]))
        return f"process {told['pid']} on {told['host']} ({told['purpose']}) since {since}"
    except (ValueError, KeyError, TypeError):
        return "another process"
