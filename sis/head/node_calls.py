"""What nodes say to the head: hello, desired, events, report, orders. Every answer is signed, what it holds sealed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from anyio import to_thread
from fastapi import FastAPI, Request
from starlette.responses import Response

from sis import __version__, wire
from sis.head import openapi
from sis.head.answers import Denied, as_json, decoded, raw_body
from sis.inventory.state import Happening

if TYPE_CHECKING:
    from sis.head.app import Head

HELLO_LIMIT_BYTES = 1 << 20
EVENTS_LIMIT_BYTES = 4 << 20
REPORT_LIMIT_BYTES = 8 << 20
DIFFS_LIMIT_BYTES = 512 << 10
LONGEST_WAIT_S = 60


def add_routes(app: FastAPI, head: Head) -> None:
    head.calls.answer_stale(app)
    _beginning(app, head)
    _telling(app, head)

    @app.get("/api/v1/nodes/{node}/orders", tags=["node"], **openapi.answer(wire.Order, empty=True))
    async def orders(request: Request, node: str, wait: int = 25) -> Response:
        """The node's next order; 204 when none came within `wait` seconds (at most 60)."""
        call = await head.calls.opened(request, node)
        if call.caller.state == "rebooting":
            await to_thread.run_sync(head.inventory.history.happened, [call.caller.node_id], Happening("seen"))
        head.seen.note(call.caller.node_id)
        order = await _next_order(head, request, call.caller.node_id, min(max(wait, 0), LONGEST_WAIT_S))
        return head.calls.answer(call.asked, b"" if order is None else msgspec.json.encode(order))


def _beginning(app: FastAPI, head: Head) -> None:
    @app.get("/api/v1/health", tags=["head"], responses=openapi.HEALTH)
    async def health() -> Response:
        """Whether the head answers, and which version it is."""
        return as_json({"status": "ok", "version": __version__})

    @app.post("/api/v1/hello", tags=["node"], **openapi.exchange(wire.Hello, wire.Welcome))
    async def hello(request: Request) -> Response:
        """A node introduces itself: by the token of its boot answer, with a new key; or by the key it has."""
        raw = await raw_body(request, HELLO_LIMIT_BYTES)
        said = decoded(raw, wire.Hello)
        proof = head.calls.proof(request)
        asked, proves = head.calls.claims(request, proof, said.node, raw)

        def greet() -> bool:
            access = head.inventory.access
            if said.token is None:
                return access.greet(said.node, said.facts, proves)
            return access.redeem_token(said.node, said.token, said.macs, said.facts, said.key, proves)

        if not await to_thread.run_sync(greet, limiter=head.calls.room):
            raise Denied
        head.calls.spend(proof)
        return head.calls.answer(asked, msgspec.json.encode(wire.Welcome(node=said.node)))

    @app.get("/api/v1/nodes/{node}/desired", tags=["node"], **openapi.answer(wire.Desired))
    async def desired(request: Request, node: str) -> Response:
        """What the node is held to now."""
        call = await head.calls.opened(request, node)
        address = head.address_for(request)

        def compose() -> Response:
            held = head.renders.desired(head.inventory.nodes.get(call.caller.name), head_address=address)
            ticket = head.admission.tickets.of(call.caller.name)
            addressed = msgspec.structs.replace(held, ticket=ticket, letterbox=head.calls.letterbox.share)
            return head.calls.answer(call.asked, msgspec.json.encode(addressed))

        return await to_thread.run_sync(compose)


def _telling(app: FastAPI, head: Head) -> None:
    @app.post("/api/v1/nodes/{node}/events", status_code=204, tags=["node"], **openapi.taken(tuple[wire.Event, ...]))
    async def events(request: Request, node: str) -> Response:
        """Stages of the node's story, in order."""
        call = await head.calls.opened(request, node)
        told = await head.calls.body(call, request, tuple[wire.Event, ...], EVENTS_LIMIT_BYTES)
        history = head.inventory.history
        await to_thread.run_sync(history.record_events, call.caller.node_id, told, limiter=head.calls.room)
        return head.calls.answer(call.asked)

    @app.post("/api/v1/nodes/{node}/report", status_code=204, tags=["node"], **openapi.taken(wire.Report))
    async def report(request: Request, node: str) -> Response:
        """The end of an install, a resync or a check. The same report sent twice counts once."""
        call = await head.calls.opened(request, node)
        told = await head.calls.body(call, request, wire.Report, REPORT_LIMIT_BYTES)

        def keep() -> None:
            diffs = _diffs_in(head.calls.letterbox.open(call.asked.node, told.diffs) if told.diffs else None)
            head.inventory.history.record_report(call.caller.node_id, told, diffs)

        await to_thread.run_sync(keep, limiter=head.calls.room)
        return head.calls.answer(call.asked)


def _diffs_in(content: bytes | None) -> tuple[wire.FileDiff, ...]:
    """The diffs of a letter; none of one that cannot be opened or read, or says too much: the report counts without."""
    if content is None or len(content) > DIFFS_LIMIT_BYTES:
        return ()
    try:
        return msgspec.json.decode(content, type=tuple[wire.FileDiff, ...])
    except msgspec.MsgspecError:
        return ()


async def _next_order(head: Head, request: Request, node_id: int, wait_s: float) -> wire.Order | None:
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        if await request.is_disconnected():
            return None
        order = await to_thread.run_sync(head.inventory.orders.take, node_id)
        left_s = deadline - asyncio.get_running_loop().time()
        if order is not None or left_s <= 0 or not await head.waiters.wait(node_id, left_s):
            return order
