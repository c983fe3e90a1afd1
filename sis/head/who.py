"""Who calls the admin API or the console: by unix socket, token or session; and what they may do."""

from __future__ import annotations

import grp
import hashlib
import hmac
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from anyio import to_thread
from fastapi import Request
from starlette.responses import Response

from sis.errors import SisError
from sis.head.answers import fault
from sis.inventory import acting
from sis.inventory.admins import may
from sis.inventory.db import Inventory
from sis.inventory.model import Role

T = TypeVar("T")

GROUP = "sis"
"""Members of this group may do everything on this machine's socket, as root may."""
COOKIE = "sis_session"
PEER = "peer"
"""Where the request's scope state holds (uid, gid) of a caller on the unix socket."""


@dataclass(frozen=True, slots=True)
class Actor:
    """One who proved who they are. `via`: socket, token or session; `session`: the cookie's value, for CSRF tokens."""

    name: str
    role: Role
    via: str
    session: str = ""

    @property
    def csrf(self) -> str:
        """What a form of this session must bring along: no other site can know it."""
        return hashlib.sha256(f"sis csrf {self.session}".encode()).hexdigest()


class Rejected(Exception):
    """No valid token or session (401), or the role is too small (403)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Gate:
    """Finds the actor of a request, and keeps the audit log of what actors change."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    async def actor(self, request: Request, *, sessions: bool = True) -> Actor | None:
        """Who calls; None when nothing proves it. With `sessions` false the browser's cookie does not count."""
        peer = request.scope.get("state", {}).get(PEER)
        if peer is not None:
            return by_peer(*peer)
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and token.strip():
            known = await to_thread.run_sync(self._inventory.admins.by_token, token.strip())
            return Actor(known.name, known.role, "token") if known else None
        session = request.cookies.get(COOKIE, "")
        if not sessions or not session:
            return None
        known = await to_thread.run_sync(self._inventory.admins.by_session, session)
        return Actor(known.name, known.role, "session", session) if known else None

    async def require(self, request: Request, role: Role, *, action: str = "", sessions: bool = True) -> Actor:
        """The actor, who may do what needs `role`. Raises Rejected; a refused `action` is in the audit log."""
        actor = await self.actor(request, sessions=sessions)
        if actor is None:
            raise Rejected(401, "no valid token or session; make one with: sis token add NAME --role " + role)
        if not may(actor.role, role):
            if action:
                await self.refused(actor, action, request.url.path)
            raise Rejected(403, f"this needs the role {role}; {actor.name} has the role {actor.role}")
        return actor

    async def refused(self, actor: Actor, action: str, target: str) -> None:
        """Note in the audit log what was not let be done."""
        await to_thread.run_sync(lambda: self._begin(actor, action, target, "refused"))

    async def audited(self, actor: Actor, action: str, target: str, work: Callable[[], T]) -> T:
        """Do `work` in a thread, with a row in the audit log before it and its outcome after it."""

        def run() -> T:
            entry = self._begin(actor, action, target, "begun")
            try:
                with acting.as_one(actor.name, actor.via):
                    done = work()
            except BaseException as error:
                self._inventory.audit.end(entry, "failed", str(error) if isinstance(error, SisError) else repr(error))
                raise
            self._inventory.audit.end(entry, "ok")
            return done

        return await to_thread.run_sync(run)

    def _begin(self, actor: Actor, action: str, target: str, outcome: str) -> int:
        return self._inventory.audit.begin(actor.name, actor.role, actor.via, action, target, outcome=outcome)


def by_peer(uid: int, gid: int) -> Actor | None:
    """The actor behind a unix socket: root and members of the group `sis` may do everything, others nothing."""
    try:
        user = pwd.getpwuid(uid)
        name, groups = user.pw_name, set(os.getgrouplist(user.pw_name, gid))
    except KeyError:
        name, groups = f"uid {uid}", {gid}
    try:
        trusted = grp.getgrnam(GROUP).gr_gid in groups
    except KeyError:
        trusted = False
    return Actor(name, "admin", "socket") if uid == 0 or trusted else None


def same_token(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def rejection(error: Rejected) -> Response:
    answer = fault(error.status, error.detail)
    if error.status == 401:
        answer.headers["www-authenticate"] = 'Bearer realm="sis"'
    return answer
