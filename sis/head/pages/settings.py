"""Settings: keys of programs, sessions of people, and what the cluster is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from fastapi import FastAPI, Request
from starlette.responses import Response

from sis.errors import SisError, UsageFault
from sis.head.answers import status_of
from sis.head.pages.frame import Console
from sis.inventory.model import Role

if TYPE_CHECKING:
    from sis.head.app import Head

ROLES: tuple[Role, ...] = get_args(Role)


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    inventory = head.inventory

    def page(fault: SisError | None = None, made: tuple[str, str] | None = None, note: str = "") -> dict[str, Any]:
        return {
            "command": "sis token list",
            "tokens": inventory.admins.tokens(),
            "settings": sorted(inventory.settings.all().items()),
            "networks": inventory.networks.list(),
            "roles": ROLES,
            "fault": fault,
            "made": made,
            "note": note,
        }

    @app.get("/settings", include_in_schema=False)
    async def settings(request: Request) -> Response:
        return await console.show(request, "settings.html", lambda _: page(), role="admin")

    @app.post("/settings/tokens", include_in_schema=False)
    async def tokens(request: Request) -> Response:
        """Make a key, which is shown this once, or take one back."""
        actor, form = await console.form(request, "admin", "token")
        name, revoked = form.get("name"), form.get("revoke")

        def add() -> str:
            role = form.get("role")
            if role not in ROLES:
                raise UsageFault(f"no such role: {role[:16]}", hint=f"there is: {', '.join(ROLES)}")
            return inventory.admins.add_token(name, role)

        try:
            if revoked:
                await console.audited(actor, "token revoke", revoked, lambda: inventory.admins.revoke_token(revoked))
                return console.go("/settings")
            token = await console.audited(actor, "token add", name, add)
        except SisError as error:
            kept = error
            return await console.render(actor, "settings.html", lambda: page(kept), status=status_of(error))
        return await console.render(actor, "settings.html", lambda: page(made=(name, token)))

    @app.post("/settings/logout-everyone", include_in_schema=False)
    async def everyone(request: Request) -> Response:
        """End every session but one's own way back in: `sis web login`."""
        actor, _ = await console.form(request, "admin", "logout everyone")
        done = await console.done(actor, "logout everyone", "", inventory.admins.log_out_everyone)
        return done if isinstance(done, Response) else console.go("/")
