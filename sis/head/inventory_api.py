"""The admin API of the inventory: discovered machines named and accepted, nodes defined, changed and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.head import inventory_acts as acts
from sis.head import openapi
from sis.head.admin_answers import acted, answered
from sis.head.answers import read_body
from sis.inventory.model import Discovery, StoredChange

if TYPE_CHECKING:
    from sis.head.app import Head

BODY_LIMIT_BYTES = 4 << 20


def add_routes(app: FastAPI, head: Head) -> None:
    _discovery(app, head)
    _nodes(app, head)


def _discovery(app: FastAPI, head: Head) -> None:
    @app.get("/api/v1/discoveries", tags=["admin"], **openapi.reads(tuple[Discovery, ...]))
    async def discoveries(
        request: Request,
        rejected: Annotated[bool, Query(description="Those turned away instead.")] = False,
    ) -> Response:
        """Machines that asked for a boot answer and are no one's."""
        await head.gate.require(request, "view")
        return await answered(lambda: head.inventory.discoveries.list(rejected=rejected))

    @app.post("/api/v1/discoveries/propose", tags=["admin"], **openapi.acts(acts.Naming, acts.Proposed, role="view"))
    async def propose(request: Request) -> Response:
        """The name each discovered machine would get; changes nothing."""
        await head.gate.require(request, "view", sessions=False)
        asked = await read_body(request, acts.Naming, BODY_LIMIT_BYTES)
        return await answered(lambda: acts.propose(head.inventory, asked))

    @app.post("/api/v1/discoveries/accept", tags=["admin"], **openapi.acts(acts.Accept, acts.Changed, role="admin"))
    async def accept(request: Request) -> Response:
        """Make nodes of discovered machines: define them, or give their MAC to nodes that lack it. Installs nothing."""
        actor = await head.gate.require(request, "admin", action="discover accept", sessions=False)
        asked = await read_body(request, acts.Accept, BODY_LIMIT_BYTES)
        work = lambda: acts.accept(head.state, head.inventory, asked)  # noqa: E731
        if asked.dry_run:
            return await answered(work)
        return await acted(head, actor, "discover accept", acts.target_of(asked), work)

    @app.post("/api/v1/discoveries/reject", tags=["admin"], **openapi.acts(acts.Reject, acts.Rejected, role="admin"))
    async def reject(request: Request) -> Response:
        """Turn machines away, or (`again`) take them back into consideration."""
        actor = await head.gate.require(request, "admin", action="discover reject", sessions=False)
        asked = await read_body(request, acts.Reject, BODY_LIMIT_BYTES)
        return await acted(
            head, actor, "discover reject", ",".join(asked.macs), lambda: acts.reject(head.inventory, asked)
        )


def _nodes(app: FastAPI, head: Head) -> None:
    @app.post("/api/v1/nodes", tags=["admin"], **openapi.acts(acts.AddNodes, acts.Changed, role="admin"))
    async def add(request: Request) -> Response:
        """Define nodes, all or none."""
        actor = await head.gate.require(request, "admin", action="node add", sessions=False)
        asked = await read_body(request, acts.AddNodes, BODY_LIMIT_BYTES)
        work = lambda: acts.add(head.state, head.inventory, asked)  # noqa: E731
        return await answered(work) if asked.dry_run else await acted(head, actor, "node add", asked.nodeset, work)

    @app.patch("/api/v1/nodes", tags=["admin"], **openapi.edits(acts.SetNodes, acts.Changed))
    async def change(request: Request) -> Response:
        """Change nodes, all or none; 412 when one is not of the version the caller looked at."""
        actor = await head.gate.require(request, "admin", action="node set", sessions=False)
        asked = await read_body(request, acts.SetNodes, BODY_LIMIT_BYTES)
        if_match = request.headers.get("if-match", "")
        target = f"{asked.nodeset} {' '.join(asked.settings)}"
        work = lambda: acts.change(head.state, head.inventory, asked, acts.expected_of(if_match, asked))  # noqa: E731
        return await answered(work) if asked.dry_run else await acted(head, actor, "node set", target, work)

    @app.delete("/api/v1/nodes", tags=["admin"], **openapi.acts(acts.DeleteNodes, acts.Deleted, role="admin"))
    async def delete(request: Request) -> Response:
        """Remove nodes with every trace of them."""
        actor = await head.gate.require(request, "admin", action="node delete", sessions=False)
        asked = await read_body(request, acts.DeleteNodes, BODY_LIMIT_BYTES)
        return await acted(
            head, actor, "node delete", asked.nodeset, lambda: acts.delete(head.state, head.inventory, asked)
        )

    @app.get("/api/v1/changes", tags=["admin"], **openapi.reads(tuple[StoredChange, ...], role="admin"))
    async def changes(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 50,
        node: Annotated[str | None, Query(max_length=63, description="Only of this node.")] = None,
    ) -> Response:
        """Who changed what of the intent; newest first."""
        await head.gate.require(request, "admin")
        return await answered(lambda: head.inventory.changes.last(limit, node=node))
