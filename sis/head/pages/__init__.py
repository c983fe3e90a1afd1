"""The web console: pages made on the head from the same values the API gives; each shows the command that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from starlette.responses import Response

from sis.head import wizard
from sis.head.pages import (
    audit,
    cluster,
    doing,
    doors,
    drift,
    editing,
    events,
    figures,
    images,
    jobs,
    nodes,
    rollouts,
    settings,
)
from sis.head.pages.frame import Console
from sis.head.who import Rejected, rejection

if TYPE_CHECKING:
    from sis.head.app import Head

PAGES = (doors, cluster, nodes, editing, images, rollouts, drift, figures, events, audit, settings, jobs, doing, wizard)


def add_routes(app: FastAPI, head: Head) -> None:
    console = Console(head)

    @app.exception_handler(Rejected)
    async def rejected(request: Request, error: Exception) -> Response:
        assert isinstance(error, Rejected)
        if request.url.path.startswith(("/api/", "/metrics")):
            return rejection(error)
        if error.status == 401:
            return console.page("login.html", None, status=401)
        return console.fault(None, error.status, "Not allowed", error.detail)

    for each in PAGES:
        each.add_routes(app, head, console)
