"""The wizard's configuration: the image spec as a form made from its JSON Schema, faults shown at the field."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from sis.errors import SisError, SpecInvalid
from sis.head import schema_forms
from sis.head.answers import status_of
from sis.head.schema_forms import Section
from sis.head.specs import Changed, Source
from sis.head.who import Actor
from sis.head.wizard.frame import SpecName, Wizard
from sis.spec import package_list, schema, yamlio

_ELSEWHERE = ("image", "extends", "packages", "files", "sources", "scripts")
"""What has a page of its own, or is better written as text."""


def add_routes(app: FastAPI, wizard: Wizard) -> None:
    head, console = wizard.head, wizard.console

    def page(
        spec: str, typed: Mapping[str, str] | None = None, fault: SisError | None = None, *, saved: bool = False
    ) -> dict[str, Any]:
        around = wizard.around("configure", spec)
        source = head.specs.source(around["spec"])
        faults = [(each.path, each.text) for each in source.faults]
        if isinstance(fault, SpecInvalid):
            faults = [_path_and_text(line) for line in fault.details]
        made, left = schema_forms.filled(
            sections(), own_values(source), inherited=inherited(source), typed=typed, faults=faults
        )
        return {
            **around,
            "command": f"$EDITOR {source.path}",
            "names": head.specs.names(),
            "source": source,
            "sections": made,
            "left": left,
            "fault": fault,
            "since_opened": fault.since if isinstance(fault, Changed) else "",
            "note": "Saved." if saved else "",
        }

    @app.get("/wizard/configure", include_in_schema=False)
    async def configure(request: Request, spec: SpecName = "", saved: bool = False) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return page(spec, saved=saved)

        return await console.show(request, "wizard/configure.html", work)

    @app.post("/wizard/configure", include_in_schema=False)
    async def save(request: Request) -> Response:
        actor, form = await console.form(request, "admin", "spec edit")
        spec, typed = form.get("spec"), form.flat()

        def work() -> Source:
            source = head.specs.source(spec)
            values = schema_forms.values_of(sections(), typed)
            every = {name: values.get(name) for name in _names()}
            return head.specs.save(spec, package_list.set_keys(source.text, every), form.get("version"))

        try:
            await console.audited(actor, "spec edit", f"{spec}: form", work)
        except SisError as error:
            kept = error
            return await console.render(
                actor, "wizard/configure.html", lambda: page(spec, typed, kept), status=status_of(error)
            )
        return console.go(wizard.where("configure", spec=spec, saved="true"))


@lru_cache(maxsize=1)
def sections() -> tuple[Section, ...]:
    return schema_forms.sections(schema.schema("imagespec"), leave_out=_ELSEWHERE)


def _names() -> list[str]:
    """The keys of the top level the form is about."""
    return [field.name for field in sections()[0].fields] + [section.name for section in sections()[1:]]


def own_values(source: Source) -> dict[str, Any]:
    """What the text itself says."""
    try:
        value = yamlio.parse(source.text.encode(), source.name).value
    except SpecInvalid:
        return {}
    return value if isinstance(value, dict) else {}


def inherited(source: Source) -> dict[str, Any]:
    """What holds where the text says nothing."""
    return source.spec.model_dump(mode="json") if source.spec is not None else {}


def _path_and_text(line: str) -> tuple[str, str]:
    """`line 3: kernel.package: must …` → ("kernel.package", "must …")."""
    words = line.split(": ", 2)
    if len(words) == 3 and words[0].startswith("line "):
        return words[1], words[2]
    path, _, text = line.partition(": ")
    return path, text
