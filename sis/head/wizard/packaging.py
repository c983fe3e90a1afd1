"""The wizard's packages: choose an image spec, make it one's own, find packages, add and remove them, edit the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.build import finding
from sis.errors import SisError, SpecInvalid, UsageFault
from sis.head.answers import status_of
from sis.head.specs import Changed, Source
from sis.head.who import Actor
from sis.head.wizard.frame import SpecName, Wizard
from sis.inventory.admins import may
from sis.spec import package_list
from sis.spec.imagespec import PackageName

FOUND_SHOWN = 60

_NAME = PackageName


@dataclass(frozen=True, slots=True)
class Listed:
    """The packages of a spec: its own, those it inherits, and those it takes away."""

    own: tuple[str, ...]
    inherited: tuple[str, ...]
    away: tuple[str, ...]


def add_routes(app: FastAPI, wizard: Wizard) -> None:
    head, console = wizard.head, wizard.console

    def page(
        spec: str, find: str = "", draft: str | None = None, fault: SisError | None = None, *, fetch: bool = True
    ) -> dict[str, Any]:
        around = wizard.around("packages", spec)
        name = around["spec"]
        source = head.specs.source(name)
        shown = head.specs.draft(name, draft) if draft is not None else source
        found: tuple[finding.Found, ...] = ()
        trouble = ""
        if find and source.spec is not None:
            try:
                found = finding.find(source.spec, head.state, find, fetch=fetch)
            except SisError as error:
                trouble = str(error)
        return {
            **around,
            "command": f"sis image packages {name} {find}" if find else f"sis image build {name}",
            "names": head.specs.names(),
            "source": source,
            "shown": shown,
            "listed": listed(source),
            "find": find,
            "found": found[:FOUND_SHOWN],
            "more": max(0, len(found) - FOUND_SHOWN),
            "trouble": trouble,
            "fault": fault,
            "since_opened": fault.since if isinstance(fault, Changed) else "",
        }

    @app.get("/wizard/packages", include_in_schema=False)
    async def packages(
        request: Request, spec: SpecName = "", find: Annotated[str, Query(max_length=64)] = ""
    ) -> Response:
        def work(actor: Actor) -> dict[str, Any]:
            return page(spec, find.strip(), fetch=may(actor.role, "admin"))

        return await console.show(request, "wizard/packages.html", work)

    @app.post("/wizard/packages/new", include_in_schema=False)
    async def new(request: Request) -> Response:
        actor, form = await console.form(request, "admin", "spec new")
        name, base = form.get("name"), form.get("base")
        try:
            await console.audited(actor, "spec new", f"{name} from {base}", lambda: head.specs.create(name, base))
        except SisError as error:
            kept = error
            return await console.render(
                actor, "wizard/packages.html", lambda: page(base, fault=kept), status=status_of(error)
            )
        return console.go(wizard.where("packages", spec=name))

    @app.post("/wizard/packages", include_in_schema=False)
    async def change(request: Request) -> Response:
        """Add or remove one package, or save the whole text."""
        actor, form = await console.form(request, "admin", "spec edit")
        spec, find = form.get("spec"), form.get("find")
        draft = form.text("text") if "text" in form.fields else None
        added, removed = form.get("add"), form.get("remove")

        def work() -> Source:
            source = head.specs.source(spec)
            text = source.text if draft is None else draft
            if added:
                text = package_list.add(text, checked(added))
            if removed:
                inherited = removed in listed(source).inherited
                text = package_list.remove(text, checked(removed), inherited=inherited)
            return head.specs.save(spec, text, form.get("version"))

        about = f"{spec}: " + (f"+{added}" if added else f"-{removed}" if removed else "text")
        try:
            await console.audited(actor, "spec edit", about, work)
        except SisError as error:
            kept = error
            return await console.render(
                actor, "wizard/packages.html", lambda: page(spec, find, draft, kept), status=status_of(error)
            )
        return console.go(wizard.where("packages", spec=spec, find=find))


def listed(source: Source) -> Listed:
    """A spec's packages by where they come from."""
    try:
        own = package_list.own(source.text)
    except SpecInvalid:
        own = []
    away = tuple(name[1:] for name in own if name.startswith("-"))
    named = tuple(name for name in own if not name.startswith("-"))
    resolved = source.spec.packages if source.spec is not None else ()
    return Listed(named, tuple(name for name in resolved if name not in named), away)


def checked(name: str) -> str:
    """The name of a package. Raises UsageFault."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return str(TypeAdapter(_NAME).validate_python(name))
    except ValidationError as error:
        raise UsageFault(f"'{name[:64]}' is no package", hint="such as bash or bash=5.2.15-2+b8") from error
