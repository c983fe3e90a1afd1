"""The admin API: read everything, follow the stream, and have a few things done; each call has its least role."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import FastAPI, Query, Request
from starlette.responses import Response, StreamingResponse

from sis.errors import NotFound, SisError
from sis.head import acts, images, inventory_api, openapi, rollouts_act, views
from sis.head.admin_answers import acted, answered
from sis.head.answers import as_json, fault, read_body, status_of
from sis.head.who import Actor
from sis.inventory.drift import fold_changes
from sis.inventory.model import AuditEntry, Role, StoredOrder, StoredReport
from sis.inventory.names import fold
from sis.inventory.stream import KINDS

if TYPE_CHECKING:
    from sis.head.app import Head

BODY_LIMIT_BYTES = 1 << 20
EVENT_STREAM = "text/event-stream"
LARGEST_ID = 2**53

Since = Annotated[int | None, Query(ge=0, le=LARGEST_ID, description="Only rows after this id.")]
Limit = Annotated[int, Query(ge=1, le=5000, description="At most so many.")]
NodeName = Annotated[str | None, Query(max_length=63, description="Only of this node.")]
Before = Annotated[int | None, Query(ge=1, le=LARGEST_ID, description="Only entries with a smaller id.")]


def add_routes(app: FastAPI, head: Head) -> None:
    _reading(app, head)
    _events(app, head)
    _acting(app, head)
    inventory_api.add_routes(app, head)


def _reading(app: FastAPI, head: Head) -> None:
    inventory = head.inventory

    async def answer(request: Request, work: Callable[[], Any], role: Role = "view") -> Response:
        await head.gate.require(request, role)
        return await answered(work)

    @app.get("/api/v1/whoami", tags=["admin"], **openapi.reads(views.WhoAmI))
    async def whoami(request: Request) -> Response:
        """Who the caller is taken for, and their role."""
        actor = await head.gate.require(request, "view")
        return as_json(views.WhoAmI(actor.name, actor.role, actor.via))

    @app.get("/api/v1/nodes", tags=["admin"], **openapi.reads(tuple[views.NodeRow, ...], missing=True))
    async def nodes(
        request: Request,
        nodeset: Annotated[str, Query(max_length=4096, description="Only these, such as n[001-016] or @rack1.")] = "",
        state: Annotated[str, Query(max_length=16, description="Only those in this state.")] = "",
        where: Annotated[tuple[str, ...], Query(description="Selectors, such as image=compute; all must hold.")] = (),
    ) -> Response:
        """Nodes in natural order, with their states."""

        def work() -> list[views.NodeRow]:
            chosen = inventory.nodes.select(nodeset, where) if nodeset or where else inventory.nodes.list()
            return [views.node_row(node) for node in chosen if not state or node.state.state == state]

        return await answer(request, work)

    @app.get("/api/v1/nodes/{name}", tags=["admin"], **openapi.reads(views.NodeDetail, missing=True))
    async def node(request: Request, name: str) -> Response:
        """One node whole."""

        def work() -> views.NodeDetail:
            found = inventory.nodes.get(name)
            return views.node_detail(found, inventory.history.facts(found.id))

        await head.gate.require(request, "view")
        try:
            detail = await to_thread.run_sync(work)
        except SisError as error:
            return fault(status_of(error), str(error))
        made = as_json(detail)
        made.headers["etag"] = f'"{detail.version}"'
        return made

    @app.get("/api/v1/images", tags=["admin"], **openapi.reads(tuple[images.Image, ...]))
    async def every_image(request: Request) -> Response:
        """Every image with its generations and channels."""
        return await answer(request, lambda: images.every_image(head.renders.store))

    @app.get("/api/v1/images/{name}", tags=["admin"], **openapi.reads(images.Image, missing=True))
    async def image(request: Request, name: str) -> Response:
        """One image."""
        return await answer(request, lambda: images.one_image(head.renders.store, name))

    @app.get(
        "/api/v1/images/{name}/diff",
        tags=["admin"],
        **openapi.reads(images.Difference, missing=True),
    )
    async def diff(
        request: Request,
        name: str,
        before: Annotated[str, Query(max_length=64, description="Generation or channel.")],
        after: Annotated[str, Query(max_length=64, description="Generation or channel.")],
        limit: Limit = 1000,
    ) -> Response:
        """Two versions of an image compared, by package and by path."""

        def work() -> images.Difference:
            return images.difference(head.renders.store, f"{name}@{before}", f"{name}@{after}", most_paths=limit)

        return await answer(request, work)

    @app.get("/api/v1/reports", tags=["admin"], **openapi.reads(tuple[StoredReport, ...], missing=True))
    async def reports(request: Request, node: NodeName = None, limit: Limit = 50) -> Response:
        """The last reports of a node, or of all; newest first."""

        def work() -> tuple[StoredReport, ...]:
            if node is not None:
                inventory.nodes.get(node)
            return inventory.history.reports(node, limit)

        return await answer(request, work)

    @app.get("/api/v1/reports/{report}", tags=["admin"], **openapi.reads(StoredReport, missing=True))
    async def report(request: Request, report: str) -> Response:
        """One report with all its changes and its log."""

        def work() -> StoredReport:
            number = _number("report", report)
            found = inventory.history.reports_by_id([number]).get(number)
            if found is None:
                raise NotFound(f"no such report: {number}")
            return found

        return await answer(request, work)

    @app.get("/api/v1/drift", tags=["admin"], **openapi.reads(views.Drift))
    async def drift(request: Request) -> Response:
        """What differs from the image now, by each node's last good report, folded by node set."""

        def work() -> views.Drift:
            changes = inventory.overview.changes_of_drifted()
            return views.Drift(fold(changes) if changes else "", fold_changes(changes))

        return await answer(request, work)

    @app.get("/api/v1/orders/{order}", tags=["admin"], **openapi.reads(StoredOrder, missing=True))
    async def one_order(request: Request, order: str) -> Response:
        """Asked work: taken, done, and the report that answers it."""

        def work() -> StoredOrder:
            number = _number("order", order)
            found = inventory.orders.get([number])
            if not found:
                raise NotFound(f"no such order: {number}")
            return found[0]

        return await answer(request, work)

    @app.get("/api/v1/audit", tags=["admin"], **openapi.reads(tuple[AuditEntry, ...], role="admin"))
    async def audit(request: Request, limit: Limit = 200, before: Before = None) -> Response:
        """Who changed what through the API and the console; newest first."""
        return await answer(request, lambda: inventory.audit.last(limit, before=before), "admin")


def _events(app: FastAPI, head: Head) -> None:
    @app.get("/api/v1/events", tags=["admin"], **openapi.events(views.EventList))
    async def events(
        request: Request,
        since: Since = None,
        limit: Limit = 200,
        node: NodeName = None,
        kind: Annotated[str, Query(max_length=128, description="Only these kinds, with commas between.")] = "",
        latest: Annotated[
            bool, Query(description="In the stream: of rows that come together only the last of a kind and node.")
        ] = False,
    ) -> Response:
        """The stream: JSON, or (Accept: text/event-stream) server-sent events that go on after Last-Event-ID or since.

        JSON without `since` is the last rows, with it the first ones after it.
        """
        await head.gate.require(request, "view")
        kinds = tuple(each for each in kind.split(",") if each)
        if not set(kinds) <= set(KINDS):
            return fault(422, f"kind is one or more of: {', '.join(KINDS)}")
        stream = head.inventory.stream
        if EVENT_STREAM in request.headers.get("accept", ""):
            last = request.headers.get("last-event-id", "")
            if last.isascii() and last.isdecimal() and len(last) <= 15:
                since = int(last)
            if head.live.full:
                busy = fault(503, "too many listeners")
                busy.headers["retry-after"] = "5"
                return busy
            place = since if since is not None else await to_thread.run_sync(stream.newest)
            return StreamingResponse(
                head.live.frames(place, node=node, kinds=kinds, latest=latest),
                media_type=EVENT_STREAM,
                headers={"cache-control": "no-store", "x-accel-buffering": "no"},
            )

        def work() -> views.EventList:
            if since is None:
                rows = stream.last(limit, node=node, kinds=kinds)
            else:
                rows = stream.after(since, limit=limit, node=node, kinds=kinds)
            newest = stream.newest()
            return views.EventList(rows, rows[-1].id if rows else min(since or newest, newest), newest)

        return await answered(work)


def _acting(app: FastAPI, head: Head) -> None:
    async def act(request: Request, role: Role, action: str) -> Actor:
        """The actor; a browser's cookie does not count here, so no other site can make one act."""
        return await head.gate.require(request, role, action=action, sessions=False)

    @app.post("/api/v1/deploy", tags=["admin"], **openapi.acts(views.DeployRequest, views.Deployed))
    async def deploy(request: Request) -> Response:
        """Make a rollout: nodes install at their next network boot, or resync, in waves or all at once."""
        actor = await act(request, "operate", "deploy")
        asked = await read_body(request, views.DeployRequest, BODY_LIMIT_BYTES)

        def work() -> views.Deployed:
            wanted = rollouts_act.wanted(
                asked.method,
                canary=asked.canary,
                then=asked.then,
                max_fail=asked.max_fail,
                image=asked.image,
                reboot=asked.reboot,
                at_boot=asked.at_boot,
                allow_foreign_disk=asked.allow_foreign_disk,
                ignore_windows=asked.ignore_windows,
                timeout_s=asked.timeout_s,
            )
            return acts.roll_out(head.state, head.inventory, head.renders, asked.nodeset, wanted, dry_run=asked.dry_run)

        if asked.dry_run:
            return await answered(work)
        return await acted(head, actor, "deploy", asked.nodeset, work)

    @app.post("/api/v1/deploy/cancel", tags=["admin"], **openapi.acts(views.CancelRequest, views.Disarmed))
    async def cancel(request: Request) -> Response:
        """Take arming back: the next network boot of these nodes starts their disk."""
        actor = await act(request, "operate", "deploy cancel")
        asked = await read_body(request, views.CancelRequest, BODY_LIMIT_BYTES)
        return await acted(
            head, actor, "deploy cancel", asked.nodeset, lambda: acts.cancel(head.inventory, asked.nodeset)
        )

    @app.post("/api/v1/orders", tags=["admin"], **openapi.acts(views.OrderRequest, views.Asked))
    async def orders(request: Request) -> Response:
        """Ask nodes to sync, check or reboot now. Follow them by their ids, or in the stream."""
        actor = await act(request, "operate", "order")
        asked = await read_body(request, views.OrderRequest, BODY_LIMIT_BYTES)
        return await acted(
            head,
            actor,
            asked.kind,
            asked.nodeset,
            lambda: acts.order(head.inventory, asked.nodeset, asked.kind, full=asked.full),
        )

    @app.put(
        "/api/v1/images/{name}/channels/{channel}",
        tags=["admin"],
        **openapi.acts(views.PublishRequest, views.Published, role="admin"),
    )
    async def publish(request: Request, name: str, channel: str) -> Response:
        """Point a channel at a generation, or with null back at what it named before; deltas to it follow."""
        actor = await act(request, "admin", "publish")
        asked = await read_body(request, views.PublishRequest, BODY_LIMIT_BYTES)
        target = f"{name}@{channel} → " + ("before" if asked.generation is None else str(asked.generation))
        return await acted(
            head,
            actor,
            "rollback" if asked.generation is None else "publish",
            target,
            lambda: acts.publish(head.renders.store, name, channel, asked.generation),
        )


def _number(what: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise NotFound(f"no such {what}: {text}", hint=f"a {what} is named by its number")
    return int(text)
