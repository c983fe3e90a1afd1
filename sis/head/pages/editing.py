"""Settings of many nodes changed at once: by a form made from the JSON Schema of the cluster file, or by words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import SisError, UsageFault
from sis.head import inventory_acts, schema_forms
from sis.head.answers import status_of
from sis.head.inventory_acts import SetNodes
from sis.head.pages.frame import Console
from sis.head.schema_forms import Section
from sis.head.specs import version_of
from sis.inventory.model import Node
from sis.inventory.names import fold
from sis.spec import schema

if TYPE_CHECKING:
    from sis.head.app import Head

NodeSet = Annotated[str, Query(max_length=48_000)]

_WORDS = {
    "image": "image", "disk": "layout", "timezone": "timezone", "locale": "locale", "resync": "resync",
    "kernel_cmdline": "kernel_cmdline", "serial_console": "serial_console", "domain": "domain",
    "nameservers": "nameservers", "search": "search", "time_servers": "time_servers", "blacklist": "blacklist",
    "boot.kernel": "boot_kernel", "boot.timeout_s": "boot_timeout_s",
}  # fmt: skip
"""Fields of the cluster file's settings that the form has, and how `sis node set` calls them."""

DIFFERS = "differs among them"


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    def page(
        nodeset: str,
        typed: Mapping[str, str] | None = None,
        fault: SisError | None = None,
        preview: inventory_acts.Changed | None = None,
    ) -> dict[str, Any]:
        nodes = inventory.nodes.select(nodeset)
        folded = fold(node.name for node in nodes)
        known = dict(typed or {})
        words = known.get("words", "")
        said = shlex.join((*words_of(known), *_lines(words)))
        now = shared(nodes)
        made = tuple(
            replace(
                section,
                fields=tuple(
                    replace(each, value=known.get(each.name, ""), placeholder=now[each.name] or each.placeholder)
                    for each in section.fields
                ),
            )
            for section in sections()
        )
        return {
            "command": f"sis node set {folded} {said or 'NAME=VALUE…'}",
            "sections": made,
            "nodes": nodes,
            "folded": folded,
            "count": len(nodes),
            "held": held(nodes),
            "newest": max(node.version for node in nodes),
            "words": words,
            "fault": fault,
            "preview": preview,
        }

    @app.get("/edit", include_in_schema=False)
    async def edit(request: Request, nodeset: NodeSet = "") -> Response:
        return await console.show(request, "edit.html", lambda _: page(nodeset), role="admin")

    @app.post("/edit", include_in_schema=False)
    async def change(request: Request) -> Response:
        """Look at what a change comes to, or make it: when no one else changed these nodes since."""
        actor, form = await console.form(request, "admin", "node set")
        nodeset, typed = form.get("nodeset"), form.flat()
        settings = (*words_of(typed), *_lines(form.text("words")))

        def work(*, dry_run: bool) -> inventory_acts.Changed:
            if not settings:
                raise UsageFault("what is to be changed?", hint="fill in a field, or write NAME=VALUE, one a line")
            nodes = inventory.nodes.select(nodeset)
            expected = {node.name: node.version for node in nodes}
            if not dry_run and form.get("version") != held(nodes):
                newest = int(form.get("newest")) if form.get("newest").isdecimal() else 0
                expected = {node.name: newest for node in nodes if node.version > newest}
                if not expected:
                    raise UsageFault(f"{nodeset} names other nodes now", hint="look again")
            return inventory_acts.change(
                head.state, inventory, SetNodes(settings=settings, nodeset=nodeset, dry_run=dry_run), expected
            )

        def look() -> dict[str, Any]:
            try:
                return page(nodeset, typed, preview=work(dry_run=True))
            except SisError as fault:
                return page(nodeset, typed, fault)

        if form.get("do") != "change":
            return await console.render(actor, "edit.html", look)
        try:
            await console.audited(actor, "node set", f"{nodeset} {' '.join(settings)}", lambda: work(dry_run=False))
        except SisError as error:
            kept = error
            return await console.render(actor, "edit.html", lambda: page(nodeset, typed, kept), status=status_of(error))
        names = [node.name for node in inventory.nodes.select(nodeset)]
        return console.go(f"/nodes/{names[0]}" if len(names) == 1 else "/")


@lru_cache(maxsize=1)
def sections() -> tuple[Section, ...]:
    """The simple settings of a node, out of the cluster file's schema."""
    whole = schema.schema("cluster")
    made = schema_forms.sections({**whole["$defs"]["Settings"], "$defs": whole["$defs"]})
    kept = (replace(each, fields=tuple(field for field in each.fields if field.name in _WORDS)) for each in made)
    return tuple(each for each in kept if each.fields)


def words_of(typed: Mapping[str, str]) -> tuple[str, ...]:
    """What was typed into the form's fields as words of `sis node set`; lines become lists."""
    return tuple(
        f"{_WORDS[field.name]}={','.join(filter(None, map(str.strip, typed[field.name].splitlines())))}"
        for section in sections()
        for field in section.fields
        if typed.get(field.name, "").strip()
    )


def shared(nodes: Sequence[Node]) -> dict[str, str]:
    """By field what all the nodes have now, or that they differ."""
    found: dict[str, str] = {}
    for name, word in _WORDS.items():
        values = {_now(node, word) for node in nodes}
        found[name] = next(iter(values)) if len(values) == 1 else DIFFERS
    return found


def _now(node: Node, word: str) -> str:
    if word == "image":
        return node.assignment.reference if node.assignment else ""
    if word == "layout":
        return (node.assignment.layout if node.assignment else None) or ""
    value = node.profile.get(word)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")


def held(nodes: tuple[Node, ...]) -> str:
    """Differs whenever one of the nodes was changed, or they are others."""
    return version_of("\n".join(f"{node.name} {node.version}" for node in nodes))


def _lines(words: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in words.splitlines() if line.strip())
