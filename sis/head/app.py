"""The head's HTTP service: boot answers, the store as files, and what node and head say to each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response

from sis import __version__
from sis.errors import NotFound
from sis.head import admin, boot, metrics, node_calls, openapi, pages, rollouts_api, tls
from sis.head.admission import BULK, Admission, Admitted
from sis.head.ahead import AskedAnew
from sis.head.answers import answer_faults, fault
from sis.head.calls import Calls
from sis.head.deltas import DeltaMaker
from sis.head.files import EACH_TIME, FOR_EVER, FileResponse
from sis.head.images import Channels
from sis.head.jobs import Jobs
from sis.head.live import Live
from sis.head.netboot import Netboot
from sis.head.nightly import Nightly
from sis.head.renders import Renders
from sis.head.rollouts_drive import Driver
from sis.head.specs import Specs
from sis.head.waiting import Seen, Waiters
from sis.head.who import Gate
from sis.image.store.reader import FOLDERS
from sis.inventory.db import Inventory
from sis.netboot import ipxe, tftp

INVENTORY_THREADS = 6
"""More threads than this only wait for the interpreter and for the one writer."""

_BOOT_FILES = ("vmlinuz", "initrd", "root.squashfs", "boot.json")


class Head:
    """What the service works with: a state directory, its inventory, who waits. `url` None: as the caller has it.

    `netboot` is None where the head is served by something other than `sis head run`.
    """

    def __init__(
        self,
        state: Path,
        inventory: Inventory,
        *,
        url: str | None = None,
        netboot: Netboot | None = None,
        port: int = 8700,
    ) -> None:
        self.state = state
        self.inventory = inventory
        self.url = url.rstrip("/") if url else None
        self.renders = Renders(state, inventory)
        self.waiters = Waiters(inventory)
        self.seen = Seen(inventory.history)
        self.rollouts = Driver(inventory, self.renders)
        self.live = Live(inventory, Channels(self.renders.store).moved)
        self.gate = Gate(inventory)
        self.admission = Admission(lambda: inventory.settings.get("transfers"))
        self.jobs = Jobs(state, inventory)
        self.nightly = Nightly(inventory.past)
        self.deltas = DeltaMaker(state, self.renders.store, inventory.stream)
        self.specs = Specs(state)
        self.port = port
        self.netboot = netboot
        self.calls = Calls(inventory.access, self.renders.store.signer)

    def stop(self) -> None:
        """Let whoever waits or listens go: they ask again when the head is back."""
        self.waiters.stop()
        self.live.stop()
        self.rollouts.stop()
        self.jobs.end_soon()
        self.deltas.stop()

    def url_for(self, request: Request) -> str:
        """The head's URL on the network the request came by: the address it was received on, never a header."""
        if self.url is not None:
            return self.url
        server = request.scope.get("server")
        port = server[1] if server and request.url.scheme == "http" else self.port
        return f"http://{_bracketed(self.address_for(request))}:{port}"

    def address_for(self, request: Request) -> str:
        server = request.scope.get("server")
        return str(server[0]) if server else "127.0.0.1"


def create(
    state: Path,
    inventory: Inventory,
    *,
    url: str | None = None,
    netboot: Netboot | None = None,
    port: int = 8700,
    tls_port: int | None = None,
) -> FastAPI:
    """The ASGI application. `app.state.head` holds its Head; `netboot` is what the service keeps running beside it.

    With a `tls_port`, where the same is served by TLS, a line in clear serves booting machines and nodes only.
    """
    head = Head(state, inventory, url=url, netboot=netboot, port=port)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = INVENTORY_THREADS
        work = (
            head.waiters.watch(),
            head.seen.keep_writing(),
            head.live.follow(),
            head.jobs.follow(),
            head.nightly.follow(),
            head.deltas.follow(),
            head.rollouts.follow(),
            head.admission.follow(),
        )
        tasks = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            head.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await to_thread.run_sync(head.jobs.stop)
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
    app.add_middleware(AskedAnew, eras=head.calls.eras)
    if tls_port is not None:
        app.add_middleware(tls.ForNodesOnly, port=tls_port)
    answer_faults(app)
    _boot_routes(app, head)
    _store_routes(app, head)
    node_calls.add_routes(app, head)
    admin.add_routes(app, head)
    rollouts_api.add_routes(app, head)
    metrics.add_routes(app, head)
    pages.add_routes(app, head)
    openapi.describe(app)
    return app


def _boot_routes(app: FastAPI, head: Head) -> None:
    @app.get("/boot/ipxe", tags=["boot"], response_class=PlainTextResponse, responses=openapi.SCRIPT)
    async def boot_answer(
        request: Request,
        mac: str,
        uuid: str = "",
        platform: str = "",
        serial: str = "",
        manufacturer: str = "",
        product: str = "",
    ) -> Response:
        """The iPXE script for the machine with this MAC; what it says of itself helps to name it, no more."""
        said = {"uuid": uuid, "platform": platform, "serial": serial, "manufacturer": manufacturer, "product": product}
        about = {name: "".join(filter(str.isprintable, value)).strip()[:64] for name, value in said.items()}
        about["address"] = request.client.host if request.client else ""
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
        file = FileResponse(head.state / "boot", (version, name))
        return Admitted(file, head.admission) if name == "root.squashfs" else file

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
        file = FileResponse(head.state / "store", (folder, name), cache=cache)
        return Admitted(file, head.admission) if folder in BULK else file


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
