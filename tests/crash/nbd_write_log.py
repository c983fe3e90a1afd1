"""A disk in memory for nbdkit's Python plugin: serves `img`, appends every write and flush to `log`.

    nbdkit -f -U SOCKET python nbd_write_log.py img=FILE log=FILE

FILE stays as it is. Each record: kind ("W" or "F"), offset, length, data. Requests are served one at a time, so their
order in the log is the order the disk saw; a write that must be durable comes as a write and a flush.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import nbdkit  # type: ignore[import-not-found]  # only inside nbdkit

API_VERSION = 2
RECORD = struct.Struct("<cQI")

_given: dict[str, str] = {}
_disk = bytearray()
_log: Any = None


def thread_model() -> Any:
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def config(key: str, value: str) -> None:
    _given[key] = value


def get_ready() -> None:
    global _log
    with io.open(_given["img"], "rb") as file:  # noqa: UP020  # `open` is a callback here
        _disk[:] = file.read()
    _log = io.open(_given["log"], "wb", buffering=1 << 20)  # noqa: SIM115, UP020


def open(readonly: bool) -> int:  # noqa: A001  # nbdkit's name for it
    return 1


def get_size(handle: int) -> int:
    return len(_disk)


def can_write(handle: int) -> bool:
    return True


def can_flush(handle: int) -> bool:
    return True


def can_multi_conn(handle: int) -> bool:
    return True


def pread(handle: int, buf: bytearray, offset: int, flags: int) -> None:
    buf[:] = _disk[offset : offset + len(buf)]


def pwrite(handle: int, buf: bytearray, offset: int, flags: int) -> None:
    _disk[offset : offset + len(buf)] = buf
    _log.write(RECORD.pack(b"W", offset, len(buf)) + bytes(buf))


def flush(handle: int, flags: int) -> None:
    _log.write(RECORD.pack(b"F", 0, 0))
    _log.flush()
