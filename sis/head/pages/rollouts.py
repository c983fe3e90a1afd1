"""Rollouts: planned and looked at, begun, followed live, paused, resumed and aborted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from sis.errors import SisError, UsageFault
from sis.head import images, installs, rollouts, rollouts_act
from sis.head.answers import status_of
from sis.head.pages.doing import alike
from sis.head.pages.frame import Console, Form
from sis.head.who import Actor
from sis.inventory.rollout import Plan, Rollout

if TYPE_CHECKING:
    from sis.head.app import Head

SHOWN = 50
_REBOOTS = ("when-needed", "never", "now")


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    _reading(app, head, console)
    _acting(app, head, console)


def _reading(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    @app.get("/rollouts", include_in_schema=False)
    async def every(request: Request) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return _list_page(head)

        return await console.show(request, "rollouts.html", work)

    @app.get("/rollouts/{number}", include_in_schema=False)
    async def one(request: Request, number: str) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            since = inventory.stream.newest()
            detail = rollouts.detail(inventory, rollouts_act.number(number))
            return {"command": f"sis rollout status {detail.rollout.id} --watch", "detail": detail, "since": since}

        return await console.show(request, "rollout.html", work)


def _acting(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    @app.post("/rollouts", include_in_schema=False)
    async def begin(request: Request) -> Response:
        """Show what a rollout would be; begin it when it was looked at and its number of nodes still holds."""
        actor, form = await console.form(request, "operate", "rollout")
        nodeset, typed = form.get("nodeset"), form.flat()

        def planned() -> rollouts_act.Planned:
            if not nodeset:
                raise UsageFault("which nodes?", hint="write a node set such as @rack1 or n[001-032]")
            return rollouts_act.plan(head.state, inventory, head.renders, nodeset, plan_of(form))

        def look() -> dict[str, Any]:
            try:
                found = planned()
            except SisError as fault:
                return _list_page(head, typed, fault)
            return {**_list_page(head, typed), **_looked_at(found, nodeset)}

        def work() -> Rollout:
            found = planned()
            number = len(found.nodes)
            if form.get("count") != str(number):
                raise UsageFault(f"{nodeset} has {number} nodes now, not {form.get('count')}", hint="look again")
            if number > 1 and found.plan.method == "install" and form.get("typed") != str(number):
                raise UsageFault(f"type {number} to install {number} nodes", hint="nothing was begun")
            return rollouts_act.make(inventory, found)

        if form.get("do") != "begin":
            return await console.render(actor, "rollouts.html", look)
        try:
            made = await console.audited(actor, "rollout", nodeset, work)
        except SisError as error:
            kept = error
            return await console.render(
                actor, "rollouts.html", lambda: _list_page(head, typed, kept), status=status_of(error)
            )
        return console.go(f"/rollouts/{made.id}")

    @app.post("/rollouts/{number}", include_in_schema=False)
    async def change(request: Request, number: str) -> Response:
        """Pause, resume or abort."""
        actor, form = await console.form(request, "operate", "rollout")
        verb = form.get("do")

        def work() -> Rollout:
            which = rollouts_act.number(number)
            if verb == "pause":
                return rollouts_act.pause(inventory, which)
            if verb == "resume":
                return rollouts_act.resume(inventory, which, max_fail=form.get("max_fail") or None)
            if verb == "abort":
                return rollouts_act.abort(inventory, which, back=form.get("back") == "yes")
            raise UsageFault(f"no such action: {verb[:16]}", hint="pause, resume or abort")

        done = await console.done(actor, f"rollout {verb[:16]}", number[:16], work)
        return done if isinstance(done, Response) else console.go(f"/rollouts/{done.id}")


def plan_of(form: Form) -> Plan:
    """The plan a form asks for. Raises UsageFault."""
    method, reboot = form.get("method"), form.get("reboot") or "when-needed"
    if method not in ("", "sync", "install") or reboot not in _REBOOTS:
        raise UsageFault("a rollout resyncs or installs; it reboots when-needed, never or now")
    return rollouts_act.wanted(
        "install" if method == "install" else "sync",
        canary=form.get("canary"),
        then=tuple(form.get("then").replace(",", " ").split()),
        max_fail=form.get("max_fail") or None,
        image=form.get("image"),
        reboot=reboot,  # type: ignore[arg-type]  # as just checked
        at_boot=form.get("at_boot") == "yes",
        allow_foreign_disk=form.get("foreign") == "yes",
        ignore_windows=form.get("ignore_windows") == "yes",
    )


def _list_page(head: Head, typed: dict[str, str] | None = None, fault: SisError | None = None) -> dict[str, Any]:
    known = images.every_image(head.renders.store)
    return {
        "command": "sis rollout list",
        "rollouts": rollouts.recent(head.inventory, SHOWN),
        "references": [f"{image.name}@{channel}" for image in known for channel in image.channels],
        "since": head.inventory.stream.newest(),
        "typed": typed or {},
        "fault": fault,
        "planned": None,
    }


def _looked_at(planned: rollouts_act.Planned, nodeset: str) -> dict[str, Any]:
    return {
        "planned": planned,
        "command": rollouts.command_of(nodeset, planned.plan),
        "count": len(planned.nodes),
        "words": rollouts.in_words(planned.plan),
        "waves": rollouts.waves_planned(planned.members, planned.plan),
        "installs": alike(planned.installs),
        "describe": installs.describe_layout,
    }
