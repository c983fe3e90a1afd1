"""Immutable files over HTTP: whole or one range, streamed, cached for ever; refs are asked for anew each time."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PIECE_BYTES = 1 << 20
SHORT_BYTES = 64 << 10
DISK_THREADS = 16
FOR_EVER = "public, max-age=31536000, immutable"
EACH_TIME = "no-cache"
BINARY = "application/octet-stream"

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_COMPONENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,254}")


@dataclass(frozen=True, slots=True)
class Served:
    """One open file: its handle, size and entity tag; of a short one the content too, read while it was opened."""

    handle: int
    size: int
    etag: str
    content: bytes = b""


class FileResponse(Response):
    """A file below `base`, as the request's method, range and conditions want it; 404 for whatever is no plain file.

    `components` are single names, opened one beneath the other without following links: nothing outside `base` can be
    reached.
    """

    def __init__(self, base: Path, components: tuple[str, ...], *, cache: str = FOR_EVER, kind: str = BINARY) -> None:
        super().__init__()
        self._kind = kind
        self._base = base
        self._components = components
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        served = await to_thread.run_sync(open_beneath, self._base, self._components, limiter=_disk())
        if served is None:
            await Response('{"detail":"no such file"}', 404, media_type="application/json")(scope, receive, send)
            return
        try:
            await self._answer(served, scope, send)
        finally:
            os.close(served.handle)

    async def _answer(self, served: Served, scope: Scope, send: Send) -> None:
        asked = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        headers = {"etag": served.etag, "cache-control": self._cache, "accept-ranges": "bytes"}
        if served.etag in (tag.strip() for tag in asked.get("if-none-match", "").split(",")):
            await _send(send, 304, headers)
            return
        start, end, status = 0, served.size, 200
        wanted = asked.get("range")
        if wanted is not None and asked.get("if-range", served.etag) == served.etag:
            found = parse_range(wanted, served.size)
            if found == "outside":
                await _send(send, 416, {**headers, "content-range": f"bytes */{served.size}", "content-length": "0"})
                return
            if found is not None:
                start, end = found
                status = 206
                headers["content-range"] = f"bytes {start}-{end - 1}/{served.size}"
        headers["content-length"] = str(end - start)
        headers["content-type"] = self._kind
        await _send(send, status, headers, more=scope["method"] != "HEAD")
        if scope["method"] == "HEAD":
            return
        while start < end:
            piece = served.content[start:end]
            if not piece:
                length = min(PIECE_BYTES, end - start)
                piece = await to_thread.run_sync(os.pread, served.handle, length, start, limiter=_disk())
            if not piece:
                raise ConnectionAbortedError("the file became shorter while it was sent")
            start += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": start < end})
        if served.size == 0:
            await send({"type": "http.response.body", "body": b""})


_limiters: RunVar[CapacityLimiter] = RunVar("disk threads")


def _disk() -> CapacityLimiter:
    """Threads of their own for files, so that a slow disk does not hold up the inventory."""
    try:
        return _limiters.get()
    except LookupError:
        limiter = CapacityLimiter(DISK_THREADS)
        _limiters.set(limiter)
        return limiter


def open_beneath(base: Path, components: tuple[str, ...]) -> Served | None:
    """Open a plain file by single names, none a link, hidden, or leaving its folder; None if there is none."""
    if not components or not all(_COMPONENT.fullmatch(name) for name in components):
        return None
    handle = -1
    try:
        handle = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name, flags in _flags(components):
            below = os.open(name, flags, dir_fd=handle)
            os.close(handle)
            handle = below
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode):
            etag = f'"{components[-1][:64]}-{status.st_size:x}-{status.st_mtime_ns:x}"'
            content = os.pread(handle, SHORT_BYTES, 0) if status.st_size <= SHORT_BYTES else b""
            served = Served(handle, status.st_size, etag, content)
            handle = -1
            return served
    except OSError:
        pass
    finally:
        if handle >= 0:
            os.close(handle)
    return None


def parse_range(text: str, size: int) -> tuple[int, int] | Literal["outside"] | None:
    """`bytes=a-b` as (start, end), "outside" when nothing of it is there, None for what is served whole (RFC 9110)."""
    found = _RANGE.fullmatch(text.strip().replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        return (size - length, size) if length else "outside"
    start = int(found[1])
    if found[2] and int(found[2]) < start:
        return None
    if start >= size:
        return "outside"
    return start, min(int(found[2]) + 1, size) if found[2] else size


def _flags(components: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    common = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    for name in components[:-1]:
        yield name, common | os.O_DIRECTORY
    yield components[-1], common


async def _send(send: Send, status: int, headers: dict[str, str], *, more: bool = False) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    if not more:
        await send({"type": "http.response.body", "body": b""})
