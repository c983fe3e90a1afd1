"""What every page has around it: who may see it, its headers, forms with their token, and faults in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs

from anyio import to_thread
from fastapi import Request
from starlette.responses import RedirectResponse, Response

from sis import __version__
from sis.errors import SisError
from sis.head.answers import raw_body, status_of
from sis.head.pages.shown import environment
from sis.head.who import Actor, Rejected, same_token
from sis.inventory.admins import may
from sis.inventory.model import Role

if TYPE_CHECKING:
    from sis.head.app import Head

T = TypeVar("T")

FORM_LIMIT_BYTES = 1 << 20
MOST_FIELDS = 2000

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a posted form."""

    fields: Mapping[str, Sequence[str]]

    def get(self, name: str, default: str = "") -> str:
        """A field's last value, without blanks around it."""
        values = self.fields.get(name)
        return values[-1].strip() if values else default

    def text(self, name: str) -> str:
        """A field's last value as it was typed, lines ended as on this machine."""
        values = self.fields.get(name)
        return values[-1].replace("\r\n", "\n") if values else ""

    def all(self, name: str) -> list[str]:
        return [value.strip() for value in self.fields.get(name, ()) if value.strip()]

    def flat(self) -> dict[str, str]:
        """Every field once, as it was typed."""
        return {name: self.text(name) for name in self.fields}


class Console:
    """Makes pages, for whoever may see them."""

    def __init__(self, head: Head) -> None:
        self._head = head

    def page(self, template: str, actor: Actor | None, *, status: int = 200, **values: Any) -> Response:
        text = environment().get_template(template).render(actor=actor, version=__version__, **values)
        return Response(text, status, media_type="text/html", headers=HEADERS)

    def fault(self, actor: Actor | None, status: int, title: str, reason: str) -> Response:
        return self.page("fault.html", actor, status=status, title=title, reason=reason)

    def go(self, where: str) -> Response:
        """After a form: on to a page."""
        return RedirectResponse(where, 303, headers=HEADERS)

    async def show(
        self, request: Request, template: str, work: Callable[[Actor], dict[str, Any]], *, role: Role = "view"
    ) -> Response:
        """A page of what `work`, run in a thread, finds. Without a session: how to get one."""
        actor = await self._head.gate.actor(request)
        if actor is None:
            return self.page("login.html", None, status=401)
        if not may(actor.role, role):
            return self.fault(actor, 403, "Not for this role", f"It needs the role {role}; yours is {actor.role}.")
        return await self.render(actor, template, lambda: work(actor))

    async def render(
        self, actor: Actor, template: str, work: Callable[[], dict[str, Any]], *, status: int = 200
    ) -> Response:
        """A page of what `work`, run in a thread, finds, for an actor who may see it."""

        def made() -> Response:
            return self.page(template, actor, status=status, **work())

        try:
            return await to_thread.run_sync(made)
        except SisError as error:
            return self.fault(actor, status_of(error), "That cannot be shown", str(error))

    async def form(self, request: Request, role: Role, action: str) -> tuple[Actor, Form]:
        """The session's actor and the form. Raises Rejected: no session, a small role, or another site's form."""
        raw = await raw_body(request, FORM_LIMIT_BYTES)
        actor = await self._head.gate.require(request, role, action=action)
        if actor.via != "session":
            raise Rejected(403, "forms are for sessions; a program uses the API")
        try:
            fields = parse_qs(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
        except ValueError as error:
            raise Rejected(422, f"more than {MOST_FIELDS} fields") from error
        elsewhere = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        if elsewhere or not same_token(fields.pop("csrf", [""])[-1], actor.csrf):
            await self._head.gate.refused(actor, action, "form of another site or session")
            raise Rejected(403, "this form is not of your session; load the page again")
        return actor, Form(fields)

    async def audited(self, actor: Actor, action: str, target: str, work: Callable[[], T]) -> T:
        """What `work`, run in a thread, makes, noted in the audit log. Raises what it raises."""
        return await self._head.gate.audited(actor, f"console {action}", target, work)

    async def done(
        self, actor: Actor, action: str, target: str, work: Callable[[], T], *, title: str = "Nothing was done"
    ) -> T | Response:
        """The same; the page that tells its fault when it fails."""
        try:
            return await self.audited(actor, action, target, work)
        except SisError as error:
            return self.fault(actor, status_of(error), title, str(error))
