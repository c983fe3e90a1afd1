"""The OpenAPI description: the wire structs' own JSON Schemas, and every answer a route can give."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sis import wire

_TEMPLATE = "#/components/schemas/{name}"
_SPOKEN = (wire.Hello, wire.Welcome, wire.Desired, wire.Report, wire.Event, wire.Order)

_FAULT: dict[str, Any] = {
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}
        }
    }
}
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": _BINARY},
    206: {"description": "One range of it.", "content": _BINARY},
    304: {"description": "The caller has it."},
    404: {"description": "No such file.", **_FAULT},
    416: {"description": "The range lies outside the file."},
}
SCRIPT: dict[int | str, dict[str, Any]] = {
    200: {"description": "An iPXE script.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    409: {"description": "Not a MAC address.", **_FAULT},
}
HEALTH: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "It answers.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"status": {"const": "ok"}, "version": {"type": "string"}},
                    "required": ["status", "version"],
                }
            }
        },
    }
}
_DENIED: dict[int | str, Any] = {
    403: {"description": "Wrong, old or used token, secret or node name: always the same.", **_FAULT}
}
_FAULTY_BODY: dict[int | str, Any] = {
    408: {"description": "The body did not arrive in time.", **_FAULT},
    413: {"description": "The body is too long.", **_FAULT},
    422: {"description": "The body is not what it should be.", **_FAULT},
}
_CONFLICT: dict[int | str, Any] = {
    409: {"description": "What the admin asked for this node cannot be done; says why.", **_FAULT}
}
_SECRET: list[dict[str, list[str]]] = [{"secret": []}]


def answer(value: Any, *, empty: bool = False) -> dict[str, Any]:
    """A GET of a node that answers with a value (or, with `empty`, with nothing)."""
    responses: dict[int | str, Any] = {200: _of(value), **_DENIED, **_CONFLICT}
    if empty:
        responses[204] = {"description": "Nothing."}
    return {"responses": responses, "openapi_extra": {"security": _SECRET}}


def taken(value: Any) -> dict[str, Any]:
    """A POST of a node whose body is a value."""
    return {
        "responses": {204: {"description": "Kept."}, **_DENIED, **_FAULTY_BODY},
        "openapi_extra": {"security": _SECRET, "requestBody": {"required": True, "content": _content(value)}},
    }


def exchange(body: Any, value: Any) -> dict[str, Any]:
    """A POST that answers with a value and needs no secret."""
    return {
        "responses": {200: _of(value), **_DENIED, **_FAULTY_BODY},
        "openapi_extra": {"requestBody": {"required": True, "content": _content(body)}},
    }


def describe(app: FastAPI) -> None:
    """Have the application describe itself with the schemas of the wire structs."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, schemas = msgspec.json.schema_components(_SPOKEN, ref_template=_TEMPLATE)
            components = made.setdefault("components", {})
            components.setdefault("schemas", {}).update(schemas)
            components["securitySchemes"] = {"secret": {"type": "http", "scheme": "bearer"}}
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _of(value: Any) -> dict[str, Any]:
    return {"description": value.__name__, "content": _content(value)}


def _content(value: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([value], ref_template=_TEMPLATE)
    return {"application/json": {"schema": schema}}
