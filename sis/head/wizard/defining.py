"""The wizard's nodes: a range with a preview, or lines of CSV, each fault told with its line; all or none."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import SisError, UsageFault
from sis.head import images, inventory_acts
from sis.head.answers import status_of
from sis.head.inventory_acts import AddNodes
from sis.head.pages.frame import Form
from sis.head.who import Actor
from sis.head.wizard.frame import SpecName, Wizard, selected
from sis.inventory.exchange import forms, rows
from sis.inventory.exchange.bring import bring
from sis.inventory.model import Node
from sis.inventory.names import expand, fold
from sis.spec import search

if TYPE_CHECKING:
    from sis.head.app import Head

PREVIEW_SHOWN = 200
MOST_AT_ONCE = 10_000
TABLE = "table.csv"
"""What faults call the pasted text."""


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
            "by_table": values.get("way") == "table",
            "columns": rows.COLUMNS,
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

        def made(*, dry_run: bool) -> tuple[Node, ...]:
            if form.get("way") == "table":
                return from_table(head, form.text("table"), form.get("image"), dry_run=dry_run)
            new = inventory_acts.new_nodes(head.state, inventory, asked(form, inventory.nodes.groups()))
            return inventory_acts.intent(head.state, inventory).add(new, dry_run=dry_run).nodes

        def work() -> str:
            number = len(made(dry_run=True))
            if count != str(number):
                raise UsageFault(f"these are {number} nodes now, not {count}", hint="look at the preview again")
            return fold(node.name for node in made(dry_run=False))

        def look() -> dict[str, Any]:
            try:
                return page(spec, typed, preview=made(dry_run=True))
            except SisError as error:
                return page(spec, typed, error)

        if not for_real:
            return await console.render(actor, "wizard/nodes.html", look)
        try:
            folded = await console.audited(actor, "node add", form.get("nodeset") or "a table", work)
        except SisError as error:
            kept = error
            return await console.render(
                actor, "wizard/nodes.html", lambda: page(spec, typed, kept), status=status_of(error)
            )
        return console.go(wizard.where("nodes", spec=spec, defined=folded))


def from_table(head: Head, text: str, image: str, *, dry_run: bool) -> tuple[Node, ...]:
    """The nodes a pasted table tells of, `image` given to those it says none of. Raises SpecInvalid with each line."""
    inventory = head.inventory
    told, reading = forms.read(text, None, TABLE, frozenset(inventory.nodes.names()))
    with_image = [each if each.image or not image else replace(each, image=image) for each in told]
    intent, checks = inventory_acts.intent(head.state, inventory), inventory_acts.checks(head.state)
    return bring(inventory, intent, with_image, reading, checks, dry_run=dry_run).done.nodes


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
    if typed.get("way") == "table":
        return f"sis inventory import {TABLE}"
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
