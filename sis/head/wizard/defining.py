"""The wizard's nodes: a range with a preview, or lines of CSV, each fault told with its line; defined all or none."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import SisError, UsageFault
from sis.head import images, inventory_acts
from sis.head.answers import status_of
from sis.head.inventory_acts import AddNodes
from sis.head.pages.frame import Form
from sis.head.who import Actor
from sis.head.wizard.frame import SpecName, Wizard, selected
from sis.inventory.model import NewNode, Node
from sis.inventory.names import expand, fold
from sis.spec import search

PREVIEW_SHOWN = 200
MOST_AT_ONCE = 10_000


def add_routes(app: FastAPI, wizard: Wizard) -> None:
    head, console = wizard.head, wizard.console
    inventory = head.inventory

    def page(
        spec: str,
        typed: Mapping[str, str] | None = None,
        fault: SisError | None = None,
        preview: tuple[Node, ...] = (),
        defined: str = "",
    ) -> dict[str, Any]:
        around = wizard.around("nodes", spec)
        networks = inventory.networks.list()
        known = images.every_image(head.renders.store)
        values = dict(typed or {})
        values.setdefault("image", selected(around["survey"]))
        return {
            **around,
            "command": command_of(values),
            "note": f"{len(expand(defined, {}))} nodes defined: {defined}" if defined else "",
            "networks": networks,
            "references": [f"{image.name}@{channel}" for image in known for channel in image.channels],
            "layouts": search.names([folder / "disks" for folder in head.specs.folders]),
            "typed": values,
            "fault": fault,
            "preview": preview[:PREVIEW_SHOWN],
            "count": len(preview),
            "folded": fold(node.name for node in preview) if preview else "",
            "nodes": around["survey"].nodes,
        }

    @app.get("/wizard/nodes", include_in_schema=False)
    async def nodes(
        request: Request, spec: SpecName = "", defined: Annotated[str, Query(max_length=4096)] = ""
    ) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return page(spec, defined=defined)

        return await console.show(request, "wizard/nodes.html", work)

    @app.post("/wizard/nodes", include_in_schema=False)
    async def define(request: Request) -> Response:
        """Preview the nodes of a range, or define them."""
        actor, form = await console.form(request, "admin", "node add")
        spec, typed, count = form.get("spec"), form.flat(), form.get("count")
        for_real = form.get("do") == "define"

        def wanted() -> list[NewNode]:
            return inventory_acts.new_nodes(head.state, inventory, asked(form, inventory.nodes.groups()))

        def work() -> str:
            new = wanted()
            if count != str(len(new)):
                raise UsageFault(f"these are {len(new)} nodes now, not {count}", hint="look at the preview again")
            return fold(node.name for node in inventory_acts.intent(head.state, inventory).add(new).nodes)

        def look() -> dict[str, Any]:
            try:
                return page(
                    spec, typed, preview=inventory_acts.intent(head.state, inventory).add(wanted(), dry_run=True).nodes
                )
            except SisError as error:
                return page(spec, typed, error)

        if not for_real:
            return await console.render(actor, "wizard/nodes.html", look)
        try:
            folded = await console.audited(actor, "node add", form.get("nodeset"), work)
        except SisError as error:
            kept = error
            return await console.render(
                actor, "wizard/nodes.html", lambda: page(spec, typed, kept), status=status_of(error)
            )
        return console.go(wizard.where("nodes", spec=spec, defined=folded))


def asked(form: Form, groups: Mapping[str, Any]) -> AddNodes:
    """What the form asks for. Raises UsageFault."""
    nodeset = form.get("nodeset")
    if not nodeset:
        raise UsageFault("which nodes?", hint="write a range such as n[001-032]")
    names = expand(nodeset, groups)
    if len(names) > MOST_AT_ONCE:
        raise UsageFault(f"{len(names)} nodes at once are too many", hint=f"at most {MOST_AT_ONCE}")
    return AddNodes(
        nodeset=nodeset,
        macs=tuple(form.text("macs").replace(",", " ").split()),
        addresses=addresses_from(form.get("first_ip"), len(names)),
        image=form.get("image") or None,
        layout=form.get("layout") or None,
        groups=tuple(form.get("groups").replace(",", " ").split()),
        network=form.get("network") or None,
        interface=form.get("interface") or "eth0",
    )


def addresses_from(first: str, count: int) -> tuple[str, ...]:
    """`count` addresses in a row; none when there is no first one. Raises UsageFault."""
    if not first:
        return ()
    try:
        start = ipaddress.ip_address(first)
        return tuple(str(start + at) for at in range(count))
    except ValueError as error:
        raise UsageFault(f"not an address to begin with: {first[:64]}", hint="it looks like 10.77.0.11") from error


def command_of(typed: Mapping[str, str]) -> str:
    """The command that does the same."""
    words = ["sis node add", typed.get("nodeset", "").strip() or "NODESET"]
    if macs := typed.get("macs", "").replace(",", " ").split():
        words.append("--mac " + ",".join(macs[:3]) + (",…" if len(macs) > 3 else ""))
    if first := typed.get("first_ip", "").strip():
        words.append(f"--ip {first},…")
    for option, name in (("--image", "image"), ("--layout", "layout"), ("--network", "network")):
        if typed.get(name, "").strip():
            words.append(f"{option} {typed[name].strip()}")
    words += [f"--group {group}" for group in typed.get("groups", "").replace(",", " ").split()]
    return " ".join(words)
