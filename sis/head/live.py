"""Following the stream over HTTP: one small query now and then serves every listener, each at its own place in it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial
from itertools import takewhile

import msgspec
from anyio import to_thread

from sis.errors import SisError
from sis.inventory.db import Inventory
from sis.inventory.model import Occurrence

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
HEARTBEAT_S = 15.0
PAGE_ROWS = 500
BACKLOG_ROWS = 10_000
"""How far back a listener is served; one that was away for longer is told that it missed something."""
MOST_LISTENERS = 256
LISTEN_S = 900.0
"""After so long a listener is let go: it comes back at its place, and proves anew who it is."""
TRIM_EVERY_S = 3600.0
CHANNELS_EVERY_S = 1.0


class Live:
    """Rows of the last while are kept once, as bytes; a listener is a place in them, so a slow one costs nothing."""

    def __init__(self, inventory: Inventory, channels: Callable[[], dict[str, int] | None]) -> None:
        self._inventory = inventory
        self._channels = channels
        self._kept: deque[tuple[Occurrence, bytes]] = deque(maxlen=BACKLOG_ROWS)
        self._newest = 0
        self._grown = asyncio.Event()
        self._stopping = False
        self.listeners = 0

    @property
    def full(self) -> bool:
        return self.listeners >= MOST_LISTENERS

    def stop(self) -> None:
        """Let every listener go: it asks again when the head is back, and goes on where it was."""
        self._stopping = True
        self._grown.set()

    async def follow(self) -> None:
        """Look for new rows while someone listens, and keep the stream's own house, for as long as the head runs."""
        loop = asyncio.get_running_loop()
        trimmed = channels_seen = -TRIM_EVERY_S
        while not self._stopping:
            try:
                if loop.time() - channels_seen >= CHANNELS_EVERY_S:
                    channels_seen = loop.time()
                    await to_thread.run_sync(self._note_channels)
                if loop.time() - trimmed >= TRIM_EVERY_S:
                    trimmed = loop.time()
                    await to_thread.run_sync(self._inventory.stream.trim)
                if self.listeners:
                    await self._look()
                else:
                    self._kept.clear()
                    self._newest = 0
            except SisError as fault:
                log.warning("%s", fault.message)
            await asyncio.sleep(LOOK_EVERY_S)

    async def frames(
        self, since: int, *, node: str | None = None, kinds: Collection[str] = (), latest: bool = False
    ) -> AsyncIterator[bytes]:
        """Server-sent events after row `since`; a heartbeat that carries the place reached when all is quiet.

        With `latest`, of rows that came together only the last of each kind and node. A listener too far behind gets
        one `skipped` with the rows left out, then the backlog.
        """
        self.listeners += 1
        try:
            place = since
            newest = await to_thread.run_sync(self._inventory.stream.newest)
            if place > newest:
                place = newest
            if newest - place > BACKLOG_ROWS:
                left_out = {"after": place, "until": newest - BACKLOG_ROWS}
                place = newest - BACKLOG_ROWS
                yield b"event: skipped\nid: %d\ndata: %s\n\n" % (place, msgspec.json.encode(left_out))
            yield b": sis\nid: %d\nretry: 2000\n\n" % place
            until = asyncio.get_running_loop().time() + LISTEN_S
            while not self._stopping and asyncio.get_running_loop().time() < until:
                rows = await self._after(place)
                if rows:
                    place = rows[-1][0].id
                    chosen = [each for each in rows if _wanted(each[0], node, kinds)]
                    wanted = b"".join(frame for _, frame in (_latest(chosen) if latest else chosen))
                    if wanted:
                        yield wanted
                elif not await self._growth(place):
                    yield b": alive\nid: %d\n\n" % place
        finally:
            self.listeners -= 1

    async def _after(self, place: int) -> list[tuple[Occurrence, bytes]]:
        """The next rows after a place: of those kept, or, for who is further behind, from the inventory."""
        if self._kept and place >= self._kept[0][0].id - 1:
            newer = list(takewhile(lambda each: each[0].id > place, reversed(self._kept)))
            return newer[::-1][:PAGE_ROWS]
        rows = await to_thread.run_sync(lambda: self._inventory.stream.after(place, limit=PAGE_ROWS))
        return [(row, _frame(row)) for row in rows]

    async def _growth(self, place: int) -> bool:
        """Whether rows after `place` came before it was time for a heartbeat."""
        if self._newest > place:
            return True
        grown = self._grown
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await grown.wait()
        except TimeoutError:
            return False
        return True

    async def _look(self) -> None:
        if not self._newest:
            self._newest = await to_thread.run_sync(self._inventory.stream.newest)
            self._wake()  # a listener's place may be older: rows came between its question and this one
        while True:
            rows = await to_thread.run_sync(partial(self._inventory.stream.after, self._newest, limit=PAGE_ROWS))
            if not rows:
                return
            self._kept.extend((row, _frame(row)) for row in rows)
            self._newest = rows[-1].id
            self._wake()

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _note_channels(self) -> None:
        found = self._channels()
        if found is not None:
            self._inventory.stream.note_channels(found)


def _wanted(row: Occurrence, node: str | None, kinds: Collection[str]) -> bool:
    return (node is None or row.node == node) and (not kinds or row.kind in kinds)


def _latest(rows: Sequence[tuple[Occurrence, bytes]]) -> list[tuple[Occurrence, bytes]]:
    """Of rows of one kind and node the last, in the order of the rows."""
    newest = {(row.kind, row.node, row.subject if row.node is None else ""): at for at, (row, _) in enumerate(rows)}
    return [rows[at] for at in sorted(newest.values())]


def _frame(row: Occurrence) -> bytes:
    return b"event: %s\nid: %d\ndata: %s\n\n" % (row.kind.encode(), row.id, msgspec.json.encode(row))
