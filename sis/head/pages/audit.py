"""Who changed what through the API and the console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.head.admin import LARGEST_ID
from sis.head.pages.frame import Console
from sis.head.who import Actor

if TYPE_CHECKING:
    from sis.head.app import Head

ENTRIES_SHOWN = 200

Id = Annotated[int | None, Query(ge=1, le=LARGEST_ID)]


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    @app.get("/audit", include_in_schema=False)
    async def audit(request: Request, before: Id = None) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            entries = head.inventory.audit.last(ENTRIES_SHOWN, before=before)
            older = entries[-1].id if len(entries) == ENTRIES_SHOWN else None
            return {"command": "sis audit", "entries": entries, "older": older}

        return await console.show(request, "audit.html", work, role="admin")
