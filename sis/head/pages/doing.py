"""What is done to nodes: asked first with their number, then done when the number still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import UsageFault
from sis.head import acts, aside, installs, inventory_acts
from sis.head.inventory_acts import DeleteNodes
from sis.head.pages.frame import Console
from sis.head.who import Actor
from sis.inventory.model import Node, Role
from sis.inventory.names import fold

if TYPE_CHECKING:
    from sis.head.app import Head


@dataclass(frozen=True, slots=True)
class Action:
    """What may be done to nodes. `command` does the same; a destructive one of many has their number typed."""

    title: str
    command: str
    role: Role = "operate"
    destructive: bool = False
    needs_reason: bool = False


ACTIONS = {
    "check": Action("Check", "sis sync {nodes} -n"),
    "sync": Action("Sync", "sis sync {nodes}"),
    "full": Action("Sync, reading every byte", "sis sync {nodes} --full"),
    "reboot": Action("Reboot", "sis node reboot {nodes}", destructive=True),
    "deploy": Action("Install", "sis deploy {nodes}", destructive=True),
    "cancel": Action("Take arming back", "sis deploy {nodes} --cancel"),
    "maintenance": Action("Set aside for maintenance", "sis node maintenance on {nodes} --why …", needs_reason=True),
    "resume": Action("Take back from maintenance", "sis node maintenance off {nodes}"),
    "release": Action("Release from quarantine and holds", "sis node release {nodes}"),
    "delete": Action("Delete", "sis node delete {nodes}", role="admin", destructive=True),
}

NodeSet = Annotated[str, Query(max_length=48_000)]


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    @app.get("/ask", include_in_schema=False)
    async def ask(request: Request, do: Annotated[str, Query(max_length=16)] = "", nodeset: NodeSet = "") -> Response:
        """What an action would do, to how many nodes: asked before it is done."""

        def work(_: Actor) -> dict[str, Any]:
            action = action_of(do)
            nodes = head.inventory.nodes.select(nodeset)
            folded = fold(node.name for node in nodes)
            planned: Sequence[installs.Install] = ()
            if do == "deploy":
                planned = installs.plan(head.state, head.renders, nodes)
            return {
                "command": action.command.format(nodes=folded),
                "do": do,
                "action": action,
                "title": action.title,
                "nodes": folded,
                "count": len(nodes),
                "planned": alike(planned),
                "describe": installs.describe_layout,
            }

        return await console.show(request, "ask.html", work, role=ACTIONS[do].role if do in ACTIONS else "operate")

    @app.post("/do", include_in_schema=False)
    async def do(request: Request) -> Response:
        """Do it, when the node set still has as many nodes as were shown."""
        actor, form = await console.form(request, "operate", "do")
        name, nodeset = form.get("do"), form.get("nodeset")
        if name in ACTIONS:
            await head.gate.require(request, ACTIONS[name].role, action=f"console {name}")

        def work() -> tuple[Node, ...]:
            action = action_of(name)
            nodes = head.inventory.nodes.select(nodeset)
            number = str(len(nodes))
            if form.get("count", number) != number:
                raise UsageFault(
                    f"{nodeset} has {number} nodes now, not {form.get('count')}", hint="someone changed it; look again"
                )
            if action.destructive and len(nodes) > 1 and form.get("typed") != number:
                raise UsageFault(f"type {number} to confirm: {action.title.lower()} {number} nodes")
            perform(head, name, nodeset, foreign=form.get("foreign") == "yes", why=form.get("why"))
            return nodes

        nodes = await console.done(actor, name, nodeset, work)
        if isinstance(nodes, Response):
            return nodes
        where = f"/nodes/{nodes[0].name}" if len(nodes) == 1 and name != "delete" else "/events"
        return console.go(f"{where}?{urlencode({'did': name})}")


def action_of(name: str) -> Action:
    """Raises UsageFault."""
    if name not in ACTIONS:
        raise UsageFault(f"no such action: {name[:16]}", hint=f"there is: {', '.join(ACTIONS)}")
    return ACTIONS[name]


def perform(head: Head, name: str, nodeset: str, *, foreign: bool, why: str) -> None:
    """One of ACTIONS."""
    inventory = head.inventory
    match name:
        case "deploy":
            acts.deploy(head.state, inventory, head.renders, nodeset, allow_foreign_disk=foreign, dry_run=False)
        case "cancel":
            acts.cancel(inventory, nodeset)
        case "maintenance" | "resume":
            aside.maintenance(inventory, nodeset, on=name == "maintenance", why=why)
        case "release":
            aside.release(inventory, nodeset)
        case "delete":
            inventory_acts.delete(head.state, inventory, DeleteNodes(nodeset=nodeset))
        case "check" | "reboot":
            acts.order(inventory, nodeset, "check" if name == "check" else "reboot", full=False)
        case _:
            acts.order(inventory, nodeset, "sync", full=name == "full")


def alike(planned: Sequence[installs.Install]) -> list[tuple[str, installs.Install]]:
    """Installs that are the same, under their node set."""
    found: dict[tuple[str, str, str], list[installs.Install]] = {}
    for each in planned:
        found.setdefault((each.image, each.version, each.layout.name), []).append(each)
    return [(fold(each.node.name for each in same), same[0]) for same in found.values()]
