"""The page of one node: what it is to be, what it is, what it told, its own files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import SisError
from sis.head import views
from sis.head.pages.doing import ACTIONS
from sis.head.pages.frame import Console
from sis.head.who import Actor
from sis.inventory.drift import fold_changes
from sis.inventory.model import Node

if TYPE_CHECKING:
    from sis.head.app import Head

CHANGES_SHOWN = 500


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    @app.get("/nodes/{name}", include_in_schema=False)
    async def node(request: Request, name: str, did: Annotated[str, Query(max_length=16)] = "") -> Response:
        def work(_: Actor) -> dict[str, Any]:
            since = inventory.stream.newest()
            found = inventory.nodes.get(name)
            reports = inventory.history.reports(name, 10)
            drift = inventory.overview.changes_of_drifted().get(name, ()) if found.state.drift else ()
            return {
                "command": f"sis node show {name}",
                "node": found,
                "row": views.node_row(found),
                "facts": inventory.history.facts(found.id) or {},
                "events": inventory.history.events(name, limit=100)[::-1],
                "reports": reports,
                "drift": fold_changes({name: drift[:CHANGES_SHOWN]}) if drift else (),
                "layer": layer_of(head, found),
                "since": since,
                "did": ACTIONS.get(did),
            }

        return await console.show(request, "node.html", work)


def layer_of(head: Head, node: Node) -> dict[str, Any]:
    """The node's own files, where each comes from; or why they cannot be told. Contents are for the command line."""
    try:
        image = head.renders.image(node)
        layout = head.renders.layout(node, image.version)
        return {"files": head.renders.layer(node, image.version, image.version_id, layout), "fault": ""}
    except SisError as fault:
        return {"files": (), "fault": fault.message}
