"""Jobs the console started: what ran, its log live, cancelled on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import FastAPI, Query, Request
from starlette.responses import Response, StreamingResponse

from sis.head.admin import LARGEST_ID
from sis.head.answers import fault
from sis.head.pages.frame import Console
from sis.head.who import Actor

if TYPE_CHECKING:
    from sis.head.app import Head

MOST_LISTENERS = 64


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    jobs = head.jobs

    @app.get("/jobs", include_in_schema=False)
    async def every(request: Request) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return {"command": "sis image list", "jobs": jobs.all(), "since": head.inventory.stream.newest()}

        return await console.show(request, "jobs_list.html", work)

    @app.get("/jobs/{number}", include_in_schema=False)
    async def one(request: Request, number: int) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            job = jobs.get(number)
            log, place = jobs.tail(number)
            return {
                "command": job.command,
                "job": job,
                "steps": jobs.steps(job),
                "log": log,
                "place": place,
                "since": head.inventory.stream.newest(),
            }

        return await console.show(request, "job.html", work)

    @app.get("/jobs/{number}/log", include_in_schema=False)
    async def log(request: Request, number: int, since: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0) -> Response:
        """The log as server-sent events after byte `since`, or Last-Event-ID."""
        await head.gate.require(request, "view")
        last = request.headers.get("last-event-id", "")
        place = int(last) if last.isascii() and last.isdecimal() and len(last) <= 15 else since
        if jobs.listeners >= MOST_LISTENERS:
            busy = fault(503, "too many listeners")
            busy.headers["retry-after"] = "5"
            return busy
        await to_thread.run_sync(jobs.get, number)
        return StreamingResponse(
            jobs.frames(number, place),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    @app.post("/jobs/{number}/cancel", include_in_schema=False)
    async def cancel(request: Request, number: int) -> Response:
        actor, form = await console.form(request, "admin", "job cancel")
        done = await console.done(actor, "job cancel", str(number), lambda: jobs.cancel(number))
        if isinstance(done, Response):
            return done
        back = form.get("back")
        return console.go(back if back.startswith("/") and not back.startswith("//") else f"/jobs/{number}")
