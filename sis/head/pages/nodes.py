"""The pages of one node: what it is to be and is, what it told, each of its own files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import SisError
from sis.head import timeline, views, worlds
from sis.head.node_files import FileView, of_path
from sis.head.pages.doing import ACTIONS
from sis.head.pages.frame import Console
from sis.head.who import Actor
from sis.inventory.blame import blame
from sis.inventory.drift import fold_changes
from sis.inventory.model import Node
from sis.inventory.sides import sides

if TYPE_CHECKING:
    from sis.head.app import Head

CHANGES_SHOWN = 500
EVENTS_SHOWN = 200


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    @app.get("/nodes/{name}", include_in_schema=False)
    async def node(request: Request, name: str, did: Annotated[str, Query(max_length=16)] = "") -> Response:
        def work(_: Actor) -> dict[str, Any]:
            since = inventory.stream.newest()
            found = inventory.nodes.get(name)
            drift = inventory.overview.changes_of_drifted().get(name, ()) if found.state.drift else ()
            facts = inventory.history.facts(found.id)
            return {
                "command": f"sis node show {name}",
                "node": found,
                "row": views.node_row(found),
                "sides": sides(found, facts, means=_means(head, found)),
                "facts": facts or {},
                "stages": timeline.stages(inventory.history.events(name, limit=EVENTS_SHOWN)),
                "reports": inventory.history.reports(name, 10),
                "drift": fold_changes({name: drift[:CHANGES_SHOWN]}) if drift else (),
                "diffs": inventory.overview.diffs([name]).get(name, ()) if drift else (),
                "layer": layer_of(head, found),
                "origins": _origins(head, found),
                "changes": inventory.changes.last(20, node=name),
                "since": since,
                "did": ACTIONS.get(did),
            }

        return await console.show(request, "node.html", work)

    @app.get("/nodes/{name}/file", include_in_schema=False)
    async def file(request: Request, name: str, path: Annotated[str, Query(max_length=4096)]) -> Response:
        """One path as the node is to have it: where it comes from, and how it differs from the image's."""

        def work(_: Actor) -> dict[str, Any]:
            found = inventory.nodes.get(name)
            view: FileView = of_path(head.renders, found, path)
            drift = inventory.overview.changes_of_drifted().get(name, ()) if found.state.drift else ()
            return {
                "command": f"sis node explain {name}:{path}" if view.own else f"sis node render {name}",
                "node": found,
                "view": view,
                "drift": [each for each in drift if each["path"] == path],
                "diffs": [each for each in inventory.overview.diffs([name]).get(name, ()) if each.path == path],
            }

        return await console.show(request, "node_file.html", work)


def layer_of(head: Head, node: Node) -> dict[str, Any]:
    """The node's own files, where each comes from; or why they cannot be told."""
    try:
        image = head.renders.image(node)
        layout = head.renders.layout(node, image.version)
        return {"files": head.renders.layer(node, image.version, image.version_id, layout), "fault": ""}
    except SisError as fault:
        return {"files": (), "fault": fault.message}


def _means(head: Head, node: Node) -> str | None:
    try:
        resolved = head.renders.image(node)
    except SisError:
        return None
    return f"{resolved.image}@{resolved.generation}"


def _origins(head: Head, node: Node) -> tuple[Any, ...]:
    try:
        spec = worlds.applied_spec(head.renders)
        own = next((each for each in spec.expand() if each.name == node.name), None) if spec is not None else None
        return blame(head.inventory, node, own)
    except SisError:
        return ()
