"""Into the console and out of it, and the few files its pages are made with."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from anyio import to_thread
from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.head.files import EACH_TIME, FileResponse
from sis.head.pages.frame import Console
from sis.head.who import COOKIE
from sis.inventory.admins import SESSION_LIFE_S

if TYPE_CHECKING:
    from sis.head.app import Head

_STATIC = ("sis.css", "sis.js", "icon.svg")
_STATIC_FOLDER = Path(str(files("sis.head"))) / "static"
_KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        """Style, script and icon of the console, out of the package."""
        if name not in _STATIC:
            return Response(status_code=404)
        return FileResponse(_STATIC_FOLDER, (name,), cache=EACH_TIME, kind=_KINDS[name.rpartition(".")[2]])

    @app.get("/login", include_in_schema=False)
    async def login(request: Request, code: Annotated[str, Query(max_length=128)] = "") -> Response:
        """Open a session with a code of `sis web login`, which is spent by it."""
        session = await to_thread.run_sync(head.inventory.admins.log_in, code) if code else None
        if session is None:
            return console.page("login.html", None, status=401, spent=bool(code))
        answer = console.page("welcome.html", None)
        answer.set_cookie(
            COOKIE,
            session,
            max_age=SESSION_LIFE_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @app.post("/logout", include_in_schema=False)
    async def logout(request: Request) -> Response:
        actor, _ = await console.form(request, "view", "logout")
        await to_thread.run_sync(head.inventory.admins.log_out, actor.session)
        answer = console.page("login.html", None)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer
