"""The wizard's last pages: nodes installed, live, with bytes and time left; then tested, and told in node sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import SisError, UsageFault
from sis.head import acts, installs, progress
from sis.head.answers import status_of
from sis.head.pages.doing import alike
from sis.head.who import Actor
from sis.head.wizard.frame import SpecName, Wizard
from sis.head.wizard.survey import boot_files, serving
from sis.inventory.model import Node
from sis.inventory.names import fold

NodeSet = Annotated[str, Query(max_length=48_000)]

PLANNED_UNASKED = 64
"""More nodes that wait are planned when it is asked for: each one's files are rendered for it."""
PARTS_ONLY = "x-sis-parts"
"""The header of a page fetched for its live parts only."""


def add_routes(app: FastAPI, wizard: Wizard) -> None:
    _deploy(app, wizard)
    _test(app, wizard)


def _deploy(app: FastAPI, wizard: Wizard) -> None:
    head, console = wizard.head, wizard.console
    inventory = head.inventory

    def page(spec: str, nodeset: str = "", fault: SisError | None = None, *, parts: bool = False) -> dict[str, Any]:
        around = wizard.around("deploy", spec)
        nodes: Sequence[Node] = around["survey"].nodes
        waiting = [
            node.name
            for node in nodes
            if not node.state.version and node.arming is None and node.macs and node.assignment is not None
        ]
        wanted = nodeset or (fold(waiting) if waiting else "")
        planned: Sequence[installs.Install] = ()
        if wanted and fault is None and not parts and (nodeset or len(waiting) <= PLANNED_UNASKED):
            try:
                planned = installs.plan(head.state, head.renders, inventory.nodes.select(wanted))
            except SisError as error:
                fault = error
        up, told = serving(head)
        image = around["survey"].image
        image_to_boot = next((each for each in image.generations if each.channels), None) if image else None
        return {
            **around,
            "command": f"sis deploy {wanted or 'NODESET'}",
            "fault": fault,
            "nodes": nodes,
            "wanted": wanted,
            "planned": alike(planned),
            "count": len(planned),
            "waiting": len(waiting),
            "describe": installs.describe_layout,
            "up": up,
            "told": told,
            "lacking": [node.name for node in nodes if not node.macs],
            "without": [node.name for node in nodes if node.assignment is None],
            "fold": fold,
            "unbootable": boot_files(head, image_to_boot.id) if image_to_boot else "no image is published",
            "rows": progress.of_nodes(nodes, inventory.history.last_events()),
            "summary": progress.summary(nodes),
        }

    @app.get("/wizard/deploy", include_in_schema=False)
    async def deploy(request: Request, spec: SpecName = "", nodeset: NodeSet = "") -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return page(spec, nodeset, parts=PARTS_ONLY in request.headers)

        return await console.show(request, "wizard/deploy.html", work)

    @app.post("/wizard/deploy", include_in_schema=False)
    async def arm(request: Request) -> Response:
        """Arm nodes, when they are as many as were shown and, for many, their number was typed."""
        actor, form = await console.form(request, "operate", "deploy")
        spec, nodeset, count = form.get("spec"), form.get("nodeset"), form.get("count")

        def work() -> None:
            number = len(inventory.nodes.select(nodeset))
            if count != str(number):
                raise UsageFault(
                    f"{nodeset} has {number} nodes now, not {count}", hint="someone changed it; look again"
                )
            if number > 1 and form.get("typed") != str(number):
                raise UsageFault(f"type {number} to install {number} nodes", hint="nothing was armed")
            acts.deploy(
                head.state,
                inventory,
                head.renders,
                nodeset,
                allow_foreign_disk=form.get("foreign") == "yes",
                dry_run=False,
            )

        try:
            await console.audited(actor, "deploy", nodeset, work)
        except SisError as error:
            kept = error
            return await console.render(
                actor, "wizard/deploy.html", lambda: page(spec, nodeset, kept), status=status_of(error)
            )
        return console.go(wizard.where("deploy", spec=spec))


def _test(app: FastAPI, wizard: Wizard) -> None:
    head, console = wizard.head, wizard.console
    inventory = head.inventory

    @app.get("/wizard/test", include_in_schema=False)
    async def test(request: Request, spec: SpecName = "", asked: Annotated[int, Query(ge=0, le=10**6)] = 0) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            around = wizard.around("test", spec)
            nodes: Sequence[Node] = around["survey"].nodes
            held = [node for node in nodes if node.state.version]
            return {
                **around,
                "command": "sis sync @* -n",
                "note": f"Asked {asked} node{'' if asked == 1 else 's'} to check." if asked else "",
                "nodes": nodes,
                "held": held,
                "by_state": progress.by_state(nodes),
                "by_image": progress.by_image(nodes),
                "by_fault": progress.by_fault(nodes),
                "reboot": [node.name for node in nodes if node.state.reboot_needed],
                "fold": fold,
            }

        return await console.show(request, "wizard/test.html", work)

    @app.post("/wizard/test", include_in_schema=False)
    async def check(request: Request) -> Response:
        """Ask every installed node to compare itself with its image now."""
        actor, form = await console.form(request, "operate", "check")
        spec = form.get("spec")

        def work() -> int:
            held = [node.name for node in inventory.nodes.list() if node.state.version]
            if not held:
                raise UsageFault("no node is installed yet", hint="deploy some first")
            acts.order(inventory, fold(held), "check", full=form.get("full") == "yes")
            return len(held)

        done = await console.done(actor, "check", "all installed nodes", work)
        return done if isinstance(done, Response) else console.go(wizard.where("test", spec=spec, asked=str(done)))
