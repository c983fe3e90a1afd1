"""What differs from the images now, folded by node set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from sis.head.pages.frame import Console
from sis.head.who import Actor
from sis.inventory.drift import fold_changes
from sis.inventory.names import expand, fold

if TYPE_CHECKING:
    from sis.head.app import Head

CHANGES_SHOWN = 500


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    @app.get("/drift", include_in_schema=False)
    async def drift(request: Request) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            since = inventory.stream.newest()
            changes = inventory.overview.changes_of_drifted()
            folded = fold_changes(changes)
            return {
                "command": "sis drift",
                "nodes": fold(changes) if changes else "",
                "count": len(changes),
                "changes": [(each, expand(each.nodes, {})[0]) for each in folded[:CHANGES_SHOWN]],
                "left_out": max(0, len(folded) - CHANGES_SHOWN),
                "since": since,
            }

        return await console.show(request, "drift.html", work)
