"""How many machines fetch at once: the others are told when to come back. What is small and quick is never refused.

A node that proved itself has a ticket from its signed answer and counts by its name, however many share its address
(behind a NAT, a cache); whoever bears none counts by address.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import random
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from anyio import to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sis.errors import SisError
from sis.head.answers import fault
from sis.image.store.connections import TICKET_HEADER

TRANSFERS = 64
"""At once, unless the setting `transfers` says otherwise."""
BULK = frozenset(("packs", "deltas"))
LINGER_S = 3.0
"""A machine keeps its place so long after its last request: it fetches range after range."""
FORGET_REFUSED_S = 60.0
SHORTEST_WAIT_S = 2.0
LONGEST_WAIT_S = 30.0
LOOK_EVERY_S = 5.0
_MARK_CHARS = 32
_TICKET = TICKET_HEADER.lower().encode()


@dataclass
class _Place:
    requests: int = 0
    left: float = 0.0


class Tickets:
    """Names nodes to the store. A ticket is the same for a node as long as the head runs, so it buys one place."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def of(self, node: str) -> str:
        mark = hmac.new(self._secret, node.encode("utf-8", "surrogateescape"), hashlib.sha256)
        return f"{mark.hexdigest()[:_MARK_CHARS]}{node}"

    def node(self, ticket: str) -> str | None:
        """Whose ticket it is; None for one that is made up, or of a head that has ended."""
        name = ticket[_MARK_CHARS:]
        return name if name and hmac.compare_digest(self.of(name).encode(), ticket.encode()) else None


class Admission:
    """Who fetches now: a machine that has a place keeps it for all its requests, until it is quiet."""

    def __init__(self, setting: Callable[[], object], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._setting = setting
        self._clock = clock
        self._places: dict[str, _Place] = {}
        self._waiting: dict[str, float] = {}
        self.tickets = Tickets()
        self.limit = TRANSFERS
        self.refused = 0

    async def follow(self) -> None:
        """Keep the limit as the setting has it, for as long as the head runs."""
        while True:
            with contextlib.suppress(SisError):
                found = await to_thread.run_sync(self._setting)
                self.limit = found if isinstance(found, int) and found > 0 else TRANSFERS
            await asyncio.sleep(LOOK_EVERY_S)

    @property
    def active(self) -> int:
        """Machines that have a place now."""
        self._tidy()
        return len(self._places)

    def admit(self, who: str) -> float | None:
        """None when this machine may fetch now, else after about how many seconds it should ask again."""
        self._tidy()
        if who in self._places or len(self._places) < self.limit:
            self._waiting.pop(who, None)
            return None
        self._waiting[who] = self._clock()
        self.refused += 1
        # The more wait, the later each comes back, so that asking costs the head the same however many they are.
        crowd_s = SHORTEST_WAIT_S * (1 + len(self._waiting) / self.limit)
        return min(crowd_s * random.uniform(1.0, 2.0), LONGEST_WAIT_S)

    @contextlib.contextmanager
    def fetching(self, who: str) -> Iterator[None]:
        """One request of a machine that was admitted."""
        place = self._places.setdefault(who, _Place())
        place.requests += 1
        try:
            yield
        finally:
            place.requests -= 1
            place.left = self._clock()

    def _tidy(self) -> None:
        moment = self._clock()
        for who in [a for a, p in self._places.items() if not p.requests and moment - p.left > LINGER_S]:
            del self._places[who]
        for who in [a for a, asked in self._waiting.items() if moment - asked > FORGET_REFUSED_S]:
            del self._waiting[who]


class Admitted(Response):
    """A transfer that takes a place while it lasts; 503 with Retry-After when there is none."""

    def __init__(self, transfer: Response, admission: Admission) -> None:
        super().__init__()
        self._transfer = transfer
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = self._who(scope)
        wait_s = self._admission.admit(who)
        if wait_s is None:
            with self._admission.fetching(who):
                await self._transfer(scope, receive, send)
            return
        busy = fault(503, f"{self._admission.limit} machines fetch already; come back in {wait_s:.0f} s")
        busy.headers["retry-after"] = str(round(wait_s))
        await busy(scope, receive, send)

    def _who(self, scope: Scope) -> str:
        """The node whose ticket came with the request, else the address it came from."""
        for name, value in scope["headers"]:
            if name == _TICKET:
                node = self._admission.tickets.node(value.decode("latin-1"))
                if node is not None:
                    return f"node {node}"
        client = scope.get("client")
        return str(client[0]) if client else "local"
