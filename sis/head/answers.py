"""How the head reads bodies and answers: JSON, one shape of fault, and which status a fault gets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from sis.errors import Conflict, Locked, NotFound, SisError, SpecInvalid, UsageFault

log = logging.getLogger(__name__)

T = TypeVar("T")

BODY_DEADLINE_S = 30.0
DENIED = "not allowed"


class Denied(Exception):
    """Wrong, old, used and made-up tokens, keys and node names all get this one answer."""


class BadBody(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


async def raw_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises BadBody: too long (413) or too slow (408)."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BadBody(413, f"more than {limit} bytes")
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            async for piece in request.stream():
                raw += piece
                if len(raw) > limit:
                    raise BadBody(413, f"more than {limit} bytes")
    except TimeoutError as error:
        raise BadBody(408, "the body did not arrive in time") from error
    return bytes(raw)


async def read_body(request: Request, kind: Callable[..., T] | type[T], limit: int) -> T:
    """The request's body as a value of `kind`. Raises BadBody: too long (413), too slow (408), or not that (422)."""
    return decoded(await raw_body(request, limit), kind)


def decoded(raw: bytes, kind: Callable[..., T] | type[T]) -> T:
    """JSON as a value of `kind`. Raises BadBody (422)."""
    try:
        value: T = msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadBody(422, str(error)) from error
    return value


def answer_faults(app: FastAPI) -> None:
    @app.exception_handler(Denied)
    async def denied(_: Request, __: Exception) -> Response:
        return fault(403, DENIED)

    @app.exception_handler(BadBody)
    async def bad_body(_: Request, error: Exception) -> Response:
        assert isinstance(error, BadBody)
        return fault(error.status, error.reason)

    @app.exception_handler(RequestValidationError)
    async def bad_value(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = (f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
        return fault(422, "; ".join(faults))

    @app.exception_handler(SisError)
    async def conflict(_: Request, error: Exception) -> Response:
        """A fault of what the admin asked for: told to the node, which shows and reports it."""
        assert isinstance(error, SisError)
        log.warning("%s", error.message)
        return fault(409, str(error))


def status_of(error: SisError) -> int:
    """The status an admin's call gets for a fault: 404, 412 (changed since), 422, 503 (held by another), else 409."""
    if isinstance(error, Conflict):
        return 412
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, UsageFault | SpecInvalid):
        return 422
    return 503 if isinstance(error, Locked) else 409


def fault(status: int, detail: str) -> Response:
    return as_json({"detail": detail}, status)


def as_json(value: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value), status, media_type="application/json", headers={"cache-control": "no-store"}
    )
