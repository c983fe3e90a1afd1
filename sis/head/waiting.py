"""Open requests of agents that wait for an order: one small query now and then serves them all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict

from anyio import to_thread

from sis.errors import SisError
from sis.inventory.clock import now
from sis.inventory.db import Inventory
from sis.inventory.history import History

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.4
FLUSH_EVERY_S = 5.0


class Waiters:
    """Wakes whoever waits for a node's orders; commands write them from other processes, so the inventory is asked."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._waiting: dict[int, set[asyncio.Event]] = defaultdict(set)
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let every waiting request end now."""
        self._stopping.set()
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def wait(self, node_id: int, timeout_s: float) -> bool:
        """Whether an order for the node may be there, within the time."""
        if self.stopping:
            return False
        woken = asyncio.Event()
        self._waiting[node_id].add(woken)
        try:
            async with asyncio.timeout(timeout_s):
                await woken.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting[node_id].discard(woken)
            if not self._waiting[node_id]:
                del self._waiting[node_id]
        return not self.stopping

    async def watch(self) -> None:
        """Look for orders for as long as the head runs, asking nothing while no one waits."""
        while not self.stopping:
            if self._waiting:
                try:
                    ready = await to_thread.run_sync(self._inventory.orders.waiting_nodes)
                except SisError as fault:
                    log.warning("%s", fault.message)
                    ready = frozenset()
                for node_id in ready & self._waiting.keys():
                    for event in self._waiting[node_id]:
                        event.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._stopping.wait()


class Seen:
    """Signs of life, written in one go every few seconds: thousands of agents cost one transaction."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._times: dict[int, str] = {}

    def note(self, node_id: int) -> None:
        self._times[node_id] = now()

    async def write(self) -> None:
        """Write what has come since the last time."""
        times, self._times = self._times, {}
        try:
            await to_thread.run_sync(self._history.seen, times)
        except SisError as fault:
            log.warning("%s", fault.message)

    async def keep_writing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.write()
