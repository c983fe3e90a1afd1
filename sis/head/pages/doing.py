"""What is done to nodes: asked first with their number, then done when the number still holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import UsageFault
from sis.head import acts, installs
from sis.head.pages.frame import Console
from sis.head.who import Actor
from sis.inventory.model import Node
from sis.inventory.names import fold

if TYPE_CHECKING:
    from sis.head.app import Head

ACTIONS = {
    "check": ("Check", "sis sync {nodes} -n"),
    "sync": ("Sync", "sis sync {nodes}"),
    "full": ("Sync, reading every byte", "sis sync {nodes} --full"),
    "deploy": ("Install", "sis deploy {nodes}"),
    "cancel": ("Take arming back", "sis deploy {nodes} --cancel"),
}
"""What may be done to nodes: its name, and the command that does the same."""

NodeSet = Annotated[str, Query(max_length=48_000)]


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    @app.get("/ask", include_in_schema=False)
    async def ask(request: Request, do: Annotated[str, Query(max_length=16)] = "", nodeset: NodeSet = "") -> Response:
        """What an action would do, to how many nodes: asked before it is done."""

        def work(_: Actor) -> dict[str, Any]:
            if do not in ACTIONS:
                raise UsageFault(f"no such action: {do}", hint=f"there is: {', '.join(ACTIONS)}")
            nodes = head.inventory.nodes.select(nodeset)
            folded = fold(node.name for node in nodes)
            planned: Sequence[installs.Install] = ()
            if do == "deploy":
                planned = installs.plan(head.state, head.renders, nodes)
            return {
                "command": ACTIONS[do][1].format(nodes=folded),
                "do": do,
                "title": ACTIONS[do][0],
                "nodes": folded,
                "count": len(nodes),
                "planned": alike(planned),
                "describe": installs.describe_layout,
            }

        return await console.show(request, "ask.html", work, role="operate")

    @app.post("/do", include_in_schema=False)
    async def do(request: Request) -> Response:
        """Do it, when the node set still has as many nodes as were shown."""
        actor, form = await console.form(request, "operate", "do")
        action, nodeset = form.get("do"), form.get("nodeset")
        foreign = form.get("foreign") == "yes"

        def work() -> tuple[Node, ...]:
            if action not in ACTIONS:
                raise UsageFault(f"no such action: {action[:16]}", hint=f"there is: {', '.join(ACTIONS)}")
            nodes = head.inventory.nodes.select(nodeset)
            if form.get("count", str(len(nodes))) != str(len(nodes)):
                raise UsageFault(
                    f"{nodeset} has {len(nodes)} nodes now, not {form.get('count')}",
                    hint="someone changed it; look again",
                )
            perform(head, action, nodeset, foreign=foreign)
            return nodes

        nodes = await console.done(actor, action, nodeset, work)
        if isinstance(nodes, Response):
            return nodes
        where = f"/nodes/{nodes[0].name}" if len(nodes) == 1 else "/events"
        return console.go(f"{where}?{urlencode({'did': action})}")


def perform(head: Head, action: str, nodeset: str, *, foreign: bool) -> None:
    """One of ACTIONS."""
    match action:
        case "deploy":
            acts.deploy(head.state, head.inventory, head.renders, nodeset, allow_foreign_disk=foreign, dry_run=False)
        case "cancel":
            acts.cancel(head.inventory, nodeset)
        case "check":
            acts.order(head.inventory, nodeset, "check", full=False)
        case _:
            acts.order(head.inventory, nodeset, "sync", full=action == "full")


def alike(planned: Sequence[installs.Install]) -> list[tuple[str, installs.Install]]:
    """Installs that are the same, under their node set."""
    found: dict[tuple[str, str, str], list[installs.Install]] = {}
    for each in planned:
        found.setdefault((each.image, each.version, each.layout.name), []).append(each)
    return [(fold(each.node.name for each in same), same[0]) for same in found.values()]
