"""Calls of nodes: fresh by the head's era, proved by the node's own key, answered signed and sealed."""

from __future__ import annotations

import functools
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from starlette.responses import Response

from sis import sealed
from sis.head.answers import Denied, decoded, fault, raw_body
from sis.image.store.sign import Signer
from sis.inventory.access import Access, Caller, Proves
from sis.sealed import ERA_HEADER, PROOF_HEADER, SEALED, Asked, Proof

T = TypeVar("T")

ERA_LIFE_S = 240.0
THREADS = 2
"""One writes and one reads; more only hand the interpreter to each other."""


class Stale(Exception):
    """The request bears no proof, or one of an era gone by, or one that came before: it is to be asked anew."""


class Eras:
    """Random words, each in force for some minutes and accepted for as long again; a proof counts once.

    Neither clocks nor files are needed: what was said to a head that has ended is of no era of the next one. Safe in
    threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._began = 0.0
        self._words = ("", "")
        self._spent: tuple[set[bytes], set[bytes]] = (set(), set())

    def current(self) -> str:
        with self._guard:
            return self._now()[0]

    def knows(self, proof: Proof) -> bool:
        """Whether the proof is of the era in force or the one before."""
        with self._guard:
            return bool(proof.era) and proof.era in self._now()

    def spend(self, proof: Proof) -> bool:
        """False when this proof came before, or its era is over. To be called for proofs that hold only."""
        with self._guard:
            words = self._now()
            if not proof.era or proof.era not in words:
                return False
            spent, mark = self._spent[words.index(proof.era)], bytes.fromhex(proof.signature)[:16]
            if mark in spent:
                return False
            spent.add(mark)
            return True

    def _now(self) -> tuple[str, str]:
        """The word in force and the one before ("": none)."""
        age_s = self._clock() - self._began
        if not self._words[0] or age_s >= ERA_LIFE_S:
            lapsed = age_s >= 2 * ERA_LIFE_S
            self._words = (secrets.token_hex(16), "" if lapsed else self._words[0])
            self._spent = (set(), set() if lapsed else self._spent[0])
            self._began = self._clock()
        return self._words


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose node proved itself."""

    caller: Caller
    asked: Asked


class Calls:
    """The door nodes come in by. Its methods belong to the head's event loop."""

    def __init__(self, access: Access, signer: Callable[[], Signer]) -> None:
        self._access = access
        self._signer = functools.cache(signer)
        self.eras = Eras()
        self.letterbox = sealed.Letterbox()
        self.room = CapacityLimiter(THREADS)
        """Of the inventory, for what nodes say: a storm of them leaves the others' threads alone."""

    async def opened(self, request: Request, node: str) -> Call:
        """The call of a node that may touch only what is its own. Raises Denied, or Stale: to be asked anew."""
        proof = self.proof(request)
        asked = proof.asked(node, request.method, _target(request))
        proves = functools.partial(sealed.proves, asked=asked, proof=proof)
        caller = await to_thread.run_sync(self._access.verify, node, lambda key: proves(key), limiter=self.room)
        if caller is None:
            raise Denied
        self.spend(proof)
        return Call(caller, asked)

    def proof(self, request: Request) -> Proof:
        """The proof a request bears, of an era in force; still to be checked. Raises Stale."""
        proof = sealed.read_proof(request.headers.get("authorization", ""))
        if proof is None or not self.eras.knows(proof):
            raise Stale
        return proof

    def spend(self, proof: Proof) -> None:
        """Count a proof that holds. Raises Stale when it came before."""
        if not self.eras.spend(proof):
            raise Stale

    def claims(self, request: Request, proof: Proof, node: str, raw: bytes) -> tuple[Asked, Proves]:
        """What a request says whose node is known only by its body `raw`, and how to check that. Raises Denied."""
        if sealed.digest_of(raw) != proof.body:
            raise Denied
        asked = proof.asked(node, request.method, _target(request))
        return asked, lambda key: sealed.proves(key, asked, proof)

    async def body(self, call: Call, request: Request, kind: Callable[..., T] | type[T], limit: int) -> T:
        """The request's body as a value of `kind`. Raises BadBody, Denied when it is not what was signed."""
        raw = await raw_body(request, limit)
        if sealed.digest_of(raw) != call.asked.body:
            raise Denied
        return decoded(raw, kind)

    def answer(self, asked: Asked, content: bytes = b"") -> Response:
        """200 with the content sealed, or 204 without; signed either way. To be called in a thread: it computes."""
        status = 200 if content else 204
        made = sealed.answered(self._signer(), asked, status, content)
        headers = {PROOF_HEADER: made.proof, ERA_HEADER: self.eras.current(), "cache-control": "no-store"}
        return Response(made.body or None, status, headers, SEALED if content else None)

    def answer_stale(self, app: FastAPI) -> None:
        @app.exception_handler(Stale)
        async def answer(_: Request, __: Exception) -> Response:
            return stale(self.eras)


def stale(eras: Eras) -> Response:
    """401 with the era in force: the node signs its request for it and asks again."""
    answer = fault(401, "ask again, signed for this era")
    answer.headers["www-authenticate"] = f'{sealed.SCHEME} realm="sis"'
    answer.headers[ERA_HEADER] = eras.current()
    return answer


def _target(request: Request) -> str:
    """Path and query as they were sent."""
    path = request.scope.get("raw_path") or request.url.path.encode()
    query = request.scope.get("query_string", b"")
    return (path + (b"?" + query if query else b"")).decode("latin-1")
