"""Images: generations as history, what differs between any two, channels moved and moved back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.errors import UsageFault
from sis.head import acts, images, views
from sis.head.pages.frame import Console
from sis.head.who import Actor

if TYPE_CHECKING:
    from sis.head.app import Head

PATHS_SHOWN = 500


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    @app.get("/images", include_in_schema=False)
    async def all_images(request: Request) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            return {
                "command": "sis image list",
                "images": images.every_image(head.renders.store),
                "since": inventory.stream.newest(),
            }

        return await console.show(request, "images.html", work)

    @app.get("/images/{name}", include_in_schema=False)
    async def image(
        request: Request,
        name: str,
        before: Annotated[str, Query(max_length=64)] = "",
        after: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        def work(_: Actor) -> dict[str, Any]:
            found = images.one_image(head.renders.store, name)
            command, difference = f"sis image list {name}", None
            if before and after:
                old, new = f"{name}@{before}", f"{name}@{after}"
                command = f"sis image diff {old} {new}"
                difference = images.difference(head.renders.store, old, new, most_paths=PATHS_SHOWN)
            return {
                "command": command,
                "image": found,
                "difference": difference,
                "before": before,
                "after": after,
                "since": inventory.stream.newest(),
            }

        return await console.show(request, "image.html", work)

    @app.post("/images/{name}/channels", include_in_schema=False)
    async def channels(request: Request, name: str) -> Response:
        """Point a channel at a generation, or back at what it named before."""
        actor, form = await console.form(request, "admin", "publish")
        channel, number = form.get("channel"), form.get("generation")
        target = f"{name}@{channel} → " + (number or "before")

        def work() -> views.Published:
            if number and not (number.isascii() and number.isdecimal()):
                raise UsageFault(f"not a generation: {number[:16]}")
            return acts.publish(head.renders.store, name, channel, int(number) if number else None)

        title = "The channel was not moved"
        made = await console.done(actor, "publish" if number else "rollback", target, work, title=title)
        return made if isinstance(made, Response) else console.go(f"/images/{name}")
