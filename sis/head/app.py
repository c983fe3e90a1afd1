"""The head's HTTP service: boot answers, the store as files, and what node and head say to each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from anyio import to_thread
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response

from sis import __version__, wire
from sis.errors import NotFound
from sis.head import admin, boot, metrics, openapi, pages
from sis.head.answers import Denied, answer_faults, as_json, fault, read_body
from sis.head.files import EACH_TIME, FOR_EVER, FileResponse
from sis.head.images import Channels
from sis.head.live import Live
from sis.head.renders import Renders
from sis.head.waiting import Seen, Waiters
from sis.head.who import Gate
from sis.image.store import FOLDERS
from sis.inventory.access import Caller
from sis.inventory.db import Inventory
from sis.inventory.state import Happening
from sis.netboot import ipxe, tftp

HELLO_LIMIT_BYTES = 1 << 20
EVENTS_LIMIT_BYTES = 4 << 20
REPORT_LIMIT_BYTES = 8 << 20
LONGEST_WAIT_S = 60
INVENTORY_THREADS = 6
"""More threads than this only wait for the interpreter and for the one writer."""

_BOOT_FILES = ("vmlinuz", "initrd", "root.squashfs", "boot.json")


class Head:
    """What the service works with: a state directory, its inventory, who waits. `url` None: as the caller has it."""

    def __init__(self, state: Path, inventory: Inventory, *, url: str | None = None) -> None:
        self.state = state
        self.inventory = inventory
        self.url = url.rstrip("/") if url else None
        self.renders = Renders(state, inventory)
        self.waiters = Waiters(inventory)
        self.seen = Seen(inventory.history)
        self.live = Live(inventory, Channels(self.renders.store).moved)
        self.gate = Gate(inventory)

    def stop(self) -> None:
        """Let whoever waits or listens go: they ask again when the head is back."""
        self.waiters.stop()
        self.live.stop()

    def url_for(self, request: Request) -> str:
        """The head's URL on the network the request came by: the address it was received on, never a header."""
        if self.url is not None:
            return self.url
        return f"http://{_bracketed(self.address_for(request))}:{(request.scope.get('server') or ('', 8700))[1]}"

    def address_for(self, request: Request) -> str:
        server = request.scope.get("server")
        return str(server[0]) if server else "127.0.0.1"

    async def caller(self, request: Request, node: str) -> Caller:
        """The node whose secret the request bears; it may touch only what is its own. Raises Denied."""
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret:
            raise Denied
        found = await to_thread.run_sync(self.inventory.access.verify, node, secret.strip())
        if found is None:
            raise Denied
        return found


def create(state: Path, inventory: Inventory, *, url: str | None = None) -> FastAPI:
    """The ASGI application. `app.state.head` holds its Head."""
    head = Head(state, inventory, url=url)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = INVENTORY_THREADS
        work = (head.waiters.watch(), head.seen.keep_writing(), head.live.follow())
        tasks = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            head.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await head.seen.write()

    app = FastAPI(
        title="sis head",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.head = head
    answer_faults(app)
    _boot_routes(app, head)
    _store_routes(app, head)
    _node_routes(app, head)
    admin.add_routes(app, head)
    metrics.add_routes(app, head)
    pages.add_routes(app, head)
    openapi.describe(app)
    return app


def _boot_routes(app: FastAPI, head: Head) -> None:
    @app.get("/boot/ipxe", tags=["boot"], response_class=PlainTextResponse, responses=openapi.SCRIPT)
    async def boot_answer(request: Request, mac: str, uuid: str = "", platform: str = "") -> Response:
        """The iPXE script for the machine with this MAC."""
        about = {"uuid": uuid[:64], "platform": platform[:16], "address": request.client.host if request.client else ""}
        url = head.url_for(request)

        def answer() -> str:
            return boot.script(head.inventory, head.renders, head.state, mac[:64], url, about)

        text = await to_thread.run_sync(answer)
        return PlainTextResponse(text, headers={"cache-control": "no-store"})

    @app.head("/boot/files/{version}/{name}", include_in_schema=False)
    @app.get("/boot/files/{version}/{name}", tags=["boot"], responses=openapi.FILE)
    async def boot_file(version: str, name: str) -> Response:
        """A kernel, first stage or installer root of an image version."""
        if name not in _BOOT_FILES:
            return fault(404, "no such file")
        return FileResponse(head.state / "boot", (version, name))

    @app.head("/boot/loader/{name}", include_in_schema=False)
    @app.get("/boot/loader/{name}", tags=["boot"], responses=openapi.FILE)
    async def boot_loader(name: str) -> Response:
        """A network boot loader, for firmware that boots by HTTP."""
        try:
            path = await to_thread.run_sync(tftp.loader, head.state, name)
        except NotFound:
            return fault(404, "no such file")
        return FileResponse(path.parent, (path.name,), cache=EACH_TIME)

    @app.get("/boot/" + ipxe.ENTRY_NAME, tags=["boot"], response_class=PlainTextResponse, responses=openapi.SCRIPT)
    async def boot_entry(request: Request) -> Response:
        """The first script of every iPXE: it asks /boot/ipxe who it is."""
        return PlainTextResponse(ipxe.entry(head.url_for(request)), headers={"cache-control": "no-store"})


def _store_routes(app: FastAPI, head: Head) -> None:
    @app.head("/store/{folder}/{name}", include_in_schema=False)
    @app.get("/store/{folder}/{name}", tags=["store"], responses=openapi.FILE)
    async def store_file(folder: str, name: str) -> Response:
        """A file of the store: immutable by its name, but for refs."""
        if folder not in FOLDERS:
            return fault(404, "no such file")
        cache = EACH_TIME if folder == "refs" else FOR_EVER
        return FileResponse(head.state / "store", (folder, name), cache=cache)


def _node_routes(app: FastAPI, head: Head) -> None:
    @app.get("/api/v1/health", tags=["head"], responses=openapi.HEALTH)
    async def health() -> Response:
        """Whether the head answers, and which version it is."""
        return as_json({"status": "ok", "version": __version__})

    @app.post("/api/v1/hello", tags=["node"], **openapi.exchange(wire.Hello, wire.Welcome))
    async def hello(request: Request) -> Response:
        """A node introduces itself: with the token of its boot answer, or with the secret it has."""
        said = await read_body(request, wire.Hello, HELLO_LIMIT_BYTES)
        _, _, bearer = request.headers.get("authorization", "").partition(" ")

        def greet() -> str | None:
            access = head.inventory.access
            if said.token is not None:
                return access.redeem_token(said.node, said.token, said.macs, said.facts)
            return access.greet(said.node, bearer.strip(), said.facts)

        secret = await to_thread.run_sync(greet)
        if secret is None:
            raise Denied
        return as_json(wire.Welcome(node=said.node, secret=secret))

    @app.get("/api/v1/nodes/{node}/desired", tags=["node"], **openapi.answer(wire.Desired))
    async def desired(request: Request, node: str) -> Response:
        """What the node is held to now."""
        caller = await head.caller(request, node)
        address = head.address_for(request)

        def compose() -> bytes:
            return msgspec.json.encode(
                head.renders.desired(head.inventory.nodes.get(caller.name), head_address=address)
            )

        return Response(await to_thread.run_sync(compose), media_type="application/json")

    @app.post("/api/v1/nodes/{node}/events", status_code=204, tags=["node"], **openapi.taken(tuple[wire.Event, ...]))
    async def events(request: Request, node: str) -> Response:
        """Stages of the node's story, in order."""
        caller = await head.caller(request, node)
        told = await read_body(request, tuple[wire.Event, ...], EVENTS_LIMIT_BYTES)
        await to_thread.run_sync(head.inventory.history.record_events, caller.node_id, told)
        return Response(status_code=204)

    @app.post("/api/v1/nodes/{node}/report", status_code=204, tags=["node"], **openapi.taken(wire.Report))
    async def report(request: Request, node: str) -> Response:
        """The end of an install, a resync or a check. The same report sent twice counts once."""
        caller = await head.caller(request, node)
        told = await read_body(request, wire.Report, REPORT_LIMIT_BYTES)
        await to_thread.run_sync(head.inventory.history.record_report, caller.node_id, told)
        return Response(status_code=204)

    @app.get("/api/v1/nodes/{node}/orders", tags=["node"], **openapi.answer(wire.Order, empty=True))
    async def orders(request: Request, node: str, wait: int = 25) -> Response:
        """The node's next order; 204 when none came within `wait` seconds (at most 60)."""
        caller = await head.caller(request, node)
        if caller.state == "rebooting":
            await to_thread.run_sync(head.inventory.history.happened, [caller.node_id], Happening("seen"))
        head.seen.note(caller.node_id)
        order = await _next_order(head, request, caller.node_id, min(max(wait, 0), LONGEST_WAIT_S))
        return Response(status_code=204) if order is None else as_json(order)


async def _next_order(head: Head, request: Request, node_id: int, wait_s: float) -> wire.Order | None:
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        if await request.is_disconnected():
            return None
        order = await to_thread.run_sync(head.inventory.orders.take, node_id)
        left_s = deadline - asyncio.get_running_loop().time()
        if order is not None or left_s <= 0 or not await head.waiters.wait(node_id, left_s):
            return order


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
