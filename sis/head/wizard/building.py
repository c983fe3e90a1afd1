"""The wizard's build: a spec built by a job of the head with its log live, then published to a channel."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from sis.errors import SisError, UsageFault
from sis.head import acts
from sis.head.answers import status_of
from sis.head.specs import check_name
from sis.head.who import Actor
from sis.head.wizard.frame import SpecName, Wizard
from sis.head.wizard.survey import boot_files


def add_routes(app: FastAPI, wizard: Wizard) -> None:
    head, console = wizard.head, wizard.console

    def page(spec: str, fault: SisError | None = None) -> dict[str, Any]:
        around = wizard.around("build", spec)
        name = around["spec"]
        source = head.specs.source(name)
        mine = [job for job in head.jobs.all() if job.title == f"build {name}"]
        running = head.jobs.running()
        job = running if running in mine else (mine[0] if mine else None)
        image = around["survey"].image
        newest = image.generations[0] if image and image.generations else None
        log, place = head.jobs.tail(job.id, 64 << 10) if job is not None else ("", 0)
        return {
            **around,
            "command": f"sis image build {name}",
            "source": source,
            "missing": [each for each in around["survey"].findings if each.verdict == "missing"],
            "job": job,
            "steps": head.jobs.steps(job) if job is not None else [],
            "log": log,
            "place": place,
            "running": running,
            "image": image,
            "newest": newest,
            "unbootable": boot_files(head, newest.id) if newest is not None else "",
            "fault": fault,
        }

    @app.get("/wizard/build", include_in_schema=False)
    async def build(request: Request, spec: SpecName = "") -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return page(spec)

        return await console.show(request, "wizard/build.html", work)

    @app.post("/wizard/build", include_in_schema=False)
    async def start(request: Request) -> Response:
        """Start a build."""
        actor, form = await console.form(request, "admin", "build")
        spec, note = check_name(form.get("spec")), form.get("note")[:200]

        def work() -> None:
            if head.specs.source(spec).spec is None:
                raise UsageFault(f"the spec {spec} has faults", hint="mend it first, on the page of packages")
            words = ["image", "build", spec, *(["--note", note] if note else [])]
            head.jobs.start(f"build {spec}", words, by=actor.name)

        return await then_look(actor, "build", spec, work)

    @app.post("/wizard/publish", include_in_schema=False)
    async def publish(request: Request) -> Response:
        """Point a channel at a generation."""
        actor, form = await console.form(request, "admin", "publish")
        spec, generation, channel = check_name(form.get("spec")), form.get("generation"), form.get("channel")

        def work() -> None:
            if not (generation.isascii() and generation.isdecimal()):
                raise UsageFault(f"not a generation: {generation[:16]}")
            acts.publish(head.renders.store, spec, channel, int(generation))

        return await then_look(actor, "publish", spec, work)

    async def then_look(actor: Actor, action: str, spec: str, work: Any) -> Response:
        try:
            await console.audited(actor, action, spec, work)
        except SisError as error:
            kept = error
            return await console.render(actor, "wizard/build.html", lambda: page(spec, kept), status=status_of(error))
        return console.go(wizard.where("build", spec=spec))
