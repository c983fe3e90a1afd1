"""The admin API of rollouts, and of nodes set aside: maintenance, and release from quarantine and holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from sis.head import aside, openapi, rollouts, rollouts_act
from sis.head.admin_answers import acted, answered
from sis.head.answers import read_body
from sis.head.aside import SetAside
from sis.head.rollouts import RolloutDetail, RolloutRow
from sis.head.who import Actor

if TYPE_CHECKING:
    from collections.abc import Callable

    from sis.head.app import Head
    from sis.inventory.rollout import Rollout

BODY_LIMIT_BYTES = 1 << 16

Asked = TypeVar("Asked")


class PauseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing needs to be said."""


class ResumeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`max_fail` is how many may fail from now on ("5%", "3"); None: as before."""

    max_fail: str | None = None


class AbortRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With `back` nodes that are good at the target go back too."""

    back: bool = False


class MaintenanceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Set nodes aside (`on`), or take them back."""

    nodeset: str
    on: bool
    why: Annotated[str, msgspec.Meta(max_length=500)] = ""


class ReleaseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    nodeset: str


def add_routes(app: FastAPI, head: Head) -> None:
    _reading(app, head)
    _acting(app, head)
    _standing(app, head)


def _reading(app: FastAPI, head: Head) -> None:
    @app.get("/api/v1/rollouts", tags=["rollouts"], **openapi.reads(tuple[RolloutRow, ...]))
    async def every_rollout(
        request: Request, limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 50
    ) -> Response:
        """The last rollouts, newest first."""
        await head.gate.require(request, "view")
        return await answered(lambda: rollouts.recent(head.inventory, limit))

    @app.get("/api/v1/rollouts/{rollout}", tags=["rollouts"], **openapi.reads(RolloutDetail, missing=True))
    async def one_rollout(request: Request, rollout: str) -> Response:
        """One rollout whole: its waves, its nodes folded and one by one, what was told of it."""
        await head.gate.require(request, "view")
        return await answered(lambda: rollouts.detail(head.inventory, rollouts_act.number(rollout)))


def _acting(app: FastAPI, head: Head) -> None:
    async def act(
        request: Request, verb: str, rollout: str, kind: type[Asked], work: Callable[[int, Asked], Rollout]
    ) -> Response:
        actor = await _actor(head, request, f"rollout {verb}")
        asked = await read_body(request, kind, BODY_LIMIT_BYTES)

        def done() -> RolloutRow:
            found = work(rollouts_act.number(rollout), asked)
            return rollouts.row_of(found, head.inventory.rollouts.nodes(found.id))

        return await acted(head, actor, f"rollout {verb}", rollout[:64], done)

    @app.post("/api/v1/rollouts/{rollout}/pause", tags=["rollouts"], **openapi.acts(PauseRequest, RolloutRow))
    async def pause(request: Request, rollout: str) -> Response:
        """Begin no more nodes; those at work come to their end."""
        return await act(
            request, "pause", rollout, PauseRequest, lambda number, _: rollouts_act.pause(head.inventory, number)
        )

    @app.post("/api/v1/rollouts/{rollout}/resume", tags=["rollouts"], **openapi.acts(ResumeRequest, RolloutRow))
    async def resume(request: Request, rollout: str) -> Response:
        """Go on; after a stop the nodes that failed are tried again."""
        return await act(
            request,
            "resume",
            rollout,
            ResumeRequest,
            lambda number, asked: rollouts_act.resume(head.inventory, number, max_fail=asked.max_fail),
        )

    @app.post("/api/v1/rollouts/{rollout}/abort", tags=["rollouts"], **openapi.acts(AbortRequest, RolloutRow))
    async def abort(request: Request, rollout: str) -> Response:
        """End it: what has not begun stays as it is, what failed goes back."""
        return await act(
            request,
            "abort",
            rollout,
            AbortRequest,
            lambda number, asked: rollouts_act.abort(head.inventory, number, back=asked.back),
        )


def _standing(app: FastAPI, head: Head) -> None:
    @app.post("/api/v1/maintenance", tags=["rollouts"], **openapi.acts(MaintenanceRequest, SetAside))
    async def set_aside(request: Request) -> Response:
        """Set nodes aside: rollouts leave them alone, their state stays whatever they report; or take them back."""
        actor = await _actor(head, request, "maintenance")
        asked = await read_body(request, MaintenanceRequest, BODY_LIMIT_BYTES)
        verb = "maintenance on" if asked.on else "maintenance off"

        def work() -> SetAside:
            return aside.maintenance(head.inventory, asked.nodeset, on=asked.on, why=asked.why)

        return await acted(head, actor, verb, asked.nodeset, work)

    @app.post("/api/v1/release", tags=["rollouts"], **openapi.acts(ReleaseRequest, SetAside))
    async def free(request: Request) -> Response:
        """Free nodes from quarantine, and from the version a rollout holds them to."""
        actor = await _actor(head, request, "release")
        asked = await read_body(request, ReleaseRequest, BODY_LIMIT_BYTES)
        return await acted(head, actor, "release", asked.nodeset, lambda: aside.release(head.inventory, asked.nodeset))


async def _actor(head: Head, request: Request, action: str) -> Actor:
    """The actor; a browser's cookie does not count here, so no other site can make one act."""
    return await head.gate.require(request, "operate", action=action, sessions=False)
