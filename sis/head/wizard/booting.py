"""The wizard's network boot: machines that ask for a boot answer appear, and their MACs go to nodes that lack one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import SisError, UsageFault
from sis.head import inventory_acts
from sis.head.answers import status_of
from sis.head.inventory_acts import Accept, Naming, Reject
from sis.head.who import Actor
from sis.head.wizard.frame import SpecName, Wizard, selected
from sis.head.wizard.survey import serving
from sis.inventory.names import check_mac, fold

CHOICES_SHOWN = 512


def add_routes(app: FastAPI, wizard: Wizard) -> None:
    head, console = wizard.head, wizard.console
    inventory = head.inventory

    def page(spec: str, fault: SisError | None = None, note: str = "", listed: Naming | None = None) -> dict[str, Any]:
        around = wizard.around("boot", spec)
        nodes = around["survey"].nodes
        lacking = [node.name for node in nodes if not node.macs]
        in_order = Naming(by="order", nodeset=fold(lacking) if lacking else "")
        up, told = serving(head)
        try:
            machines = inventory_acts.propose(inventory, listed or in_order).machines
        except SisError as error:
            fault, machines = error, inventory_acts.propose(inventory, in_order).machines
        return {
            **around,
            "command": f"sis node discover accept --nodes {fold(lacking)}" if lacking else "sis node discover watch",
            "note": note,
            "fault": fault,
            "machines": machines,
            "listed": listed,
            "lacking": lacking[:CHOICES_SHOWN],
            "lacking_folded": fold(lacking) if lacking else "",
            "lacking_count": len(lacking),
            "nodes": nodes,
            "rejected": inventory.discoveries.list(rejected=True),
            "up": up,
            "told": told,
        }

    @app.get("/wizard/boot", include_in_schema=False)
    async def boot(
        request: Request, spec: SpecName = "", done: Annotated[str, Query(max_length=4096)] = ""
    ) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return page(spec, note=f"Accepted: {done}" if done else "")

        return await console.show(request, "wizard/boot.html", work)

    @app.post("/wizard/boot/names", include_in_schema=False)
    async def names(request: Request) -> Response:
        """Propose names out of a list; nothing is changed by it."""
        actor, form = await console.form(request, "admin", "discover propose")
        spec, by, lines = form.get("spec"), form.get("by"), form.text("listed")
        if by not in ("list", "serial", "switch"):
            by = "list"
        listed = Naming(by=by, listed=lines)  # type: ignore[arg-type]  # one of its words, as just made sure
        return await console.render(actor, "wizard/boot.html", lambda: page(spec, listed=listed))

    @app.post("/wizard/boot", include_in_schema=False)
    async def accept(request: Request) -> Response:
        """Give one MAC to the node chosen, or each shown one to the node proposed, or turn one away."""
        actor, form = await console.form(request, "admin", "discover")
        spec = form.get("spec")
        one, away, again = form.get("assign"), form.get("reject"), form.get("again")

        def work() -> str:
            if not (one or away or again or form.get("all")):
                return ""
            if away or again:
                inventory_acts.reject(inventory, Reject(macs=(away or again,), again=bool(again)))
                return ""
            macs = [one] if one else form.all("mac")
            chosen = {check_mac(mac): form.get(f"node-{mac}") for mac in macs}
            if one and not chosen[check_mac(one)]:
                raise UsageFault("which node is it?", hint="choose one beside the MAC")
            named = {mac: name for mac, name in chosen.items() if name}
            survey = wizard.surveyor.look(spec)
            image = selected(survey) or None
            known = set(inventory.nodes.names())
            new = any(name not in known for name in named.values())
            inventory_acts.accept(head.state, inventory, Accept(machines=named, image=image if new else None))
            return fold(named.values())

        try:
            target = one or away or again or "all shown"
            done = await console.audited(actor, "discover reject" if away else "discover accept", target, work)
        except SisError as error:
            kept = error
            return await console.render(actor, "wizard/boot.html", lambda: page(spec, kept), status=status_of(error))
        return console.go(wizard.where("boot", spec=spec, done=done))
