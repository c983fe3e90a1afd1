"""The stream of what happens, newest first, by kind and by node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.head.pages.doing import ACTIONS
from sis.head.pages.frame import Console
from sis.head.who import Actor
from sis.inventory.stream import KINDS

if TYPE_CHECKING:
    from sis.head.app import Head

EVENTS_SHOWN = 200


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    @app.get("/events", include_in_schema=False)
    async def events(
        request: Request,
        kind: Annotated[str, Query(max_length=16)] = "",
        node: Annotated[str, Query(max_length=63)] = "",
        did: Annotated[str, Query(max_length=16)] = "",
    ) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            kinds = (kind,) if kind in KINDS else ()
            filters = (f" --node {node}" if node else "") + (f" --kind {kind}" if kinds else "")
            if node:
                inventory.nodes.get(node)
            rows = inventory.stream.last(EVENTS_SHOWN, node=node or None, kinds=kinds)
            return {
                "command": f"sis events --follow{filters}",
                "events": rows[::-1],
                "kinds": KINDS,
                "kind": kind if kinds else "",
                "node": node,
                "since": rows[-1].id if rows else inventory.stream.newest(),
                "did": ACTIONS.get(did),
            }

        return await console.show(request, "events.html", work)
