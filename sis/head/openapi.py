"""The OpenAPI description: the wire structs' own JSON Schemas, and every answer a route can give."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sis import wire
from sis.sealed import SEALED

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
    503: {"description": "As many fetch as may; come back after Retry-After.", **_FAULT},
}
SCRIPT: dict[int | str, dict[str, Any]] = {
    200: {"description": "An iPXE script.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    409: {"description": "Not a MAC address.", **_FAULT},
    422: {"description": "No MAC is given.", **_FAULT},
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
    401: {"description": "To be asked anew, signed for the era in the header `Sis-Era`.", **_FAULT},
    403: {"description": "Wrong, old or used token, wrong key or node name: always the same.", **_FAULT},
}
_FAULTY_BODY: dict[int | str, Any] = {
    408: {"description": "The body did not arrive in time.", **_FAULT},
    413: {"description": "The body is too long.", **_FAULT},
    422: {"description": "The body is not what it should be.", **_FAULT},
}
_CONFLICT: dict[int | str, Any] = {
    409: {"description": "What the admin asked for this node cannot be done; says why.", **_FAULT}
}
_UNFIT: dict[int | str, Any] = {422: {"description": "A value is not what it should be.", **_FAULT}}
_NODE: list[dict[str, list[str]]] = [{"node": []}]


def answer(value: Any, *, empty: bool = False) -> dict[str, Any]:
    """A GET of a node that answers with a value (or, with `empty`, with nothing)."""
    responses: dict[int | str, Any] = {200: _sealed(value), **_DENIED, **_CONFLICT, **_UNFIT}
    if empty:
        responses[204] = {"description": "Nothing."}
    return {"responses": responses, "openapi_extra": {"security": _NODE}}


def taken(value: Any) -> dict[str, Any]:
    """A POST of a node whose body is a value."""
    return {
        "responses": {204: {"description": "Kept."}, **_DENIED, **_FAULTY_BODY},
        "openapi_extra": {"security": _NODE, "requestBody": {"required": True, "content": _content(value)}},
    }


def exchange(body: Any, value: Any) -> dict[str, Any]:
    """A POST that answers with a value; its body holds what opens the door."""
    return {
        "responses": {200: _sealed(value), **_DENIED, **_FAULTY_BODY},
        "openapi_extra": {"requestBody": {"required": True, "content": _content(body)}},
    }


_NO_KEY: dict[int | str, Any] = {
    401: {"description": "No valid token or session.", **_FAULT},
    403: {"description": "The caller's role is too small.", **_FAULT},
}
_ABSENT: dict[int | str, Any] = {404: {"description": "No such thing; near names are offered.", **_FAULT}}
_HINDERED: dict[int | str, Any] = {
    409: {"description": "It cannot be done now; says why.", **_FAULT},
    503: {"description": "Another process holds what is needed; try again.", **_FAULT},
}
_TOKEN: list[dict[str, list[str]]] = [{"token": []}, {"session": []}]


def reads(value: Any, *, role: str = "view", missing: bool = False) -> dict[str, Any]:
    """A GET of the admin API that answers with a value."""
    responses: dict[int | str, Any] = {200: _of(value), **_NO_KEY, **_HINDERED, **_UNFIT}
    if missing:
        responses.update(_ABSENT)
    return {"responses": responses, "openapi_extra": {"security": _TOKEN, "x-sis-role": role}}


def acts(body: Any, value: Any, *, role: str = "operate") -> dict[str, Any]:
    """A call of the admin API that changes something; it is in the audit log. A session alone does not open it."""
    return {
        "responses": {200: _of(value), **_NO_KEY, **_ABSENT, **_HINDERED, **_FAULTY_BODY},
        "openapi_extra": {
            "security": [{"token": []}],
            "x-sis-role": role,
            "requestBody": {"required": True, "content": _content(body)},
        },
    }


def edits(body: Any, value: Any) -> dict[str, Any]:
    """An admin's change of something others may be changing too: 412 when it is not what the caller looked at."""
    made = acts(body, value, role="admin")
    made["responses"][412] = {"description": "It changed since the caller looked; says who did what.", **_FAULT}
    return made


def events(value: Any) -> dict[str, Any]:
    """The stream: JSON, or server-sent events whose data is one row each."""
    made = reads(value)
    made["responses"][200]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return made


def metrics() -> dict[str, Any]:
    made: dict[int | str, Any] = {
        200: {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    }
    return {
        "responses": {**made, **_NO_KEY, **_HINDERED},
        "openapi_extra": {"security": _TOKEN, "x-sis-role": "view"},
    }


def describe(app: FastAPI) -> None:
    """Have the application describe itself with the schemas of the wire structs."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, schemas = msgspec.json.schema_components([*_SPOKEN, *_described], ref_template=_TEMPLATE)
            components = made.setdefault("components", {})
            components.setdefault("schemas", {}).update(schemas)
            components["securitySchemes"] = {
                "node": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "Signed by the node's own key; see docs/node-api.md.",
                },
                "token": {"type": "http", "scheme": "bearer", "description": "An admin's token, of a role."},
                "session": {"type": "apiKey", "in": "cookie", "name": "sis_session"},
            }
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _of(value: Any) -> dict[str, Any]:
    return {"description": getattr(value, "__name__", "Values."), "content": _content(value)}


def _sealed(value: Any) -> dict[str, Any]:
    """A value only the asking node can open."""
    (inner,) = _content(value).values()
    sealed = {"type": "string", "contentMediaType": "application/json", "contentSchema": inner["schema"]}
    return {"description": f"{value.__name__}, signed and sealed.", "content": {SEALED: {"schema": sealed}}}


_described: list[Any] = []
"""Every value a route takes or gives, so that its schema is among the components."""


def _content(value: Any) -> dict[str, Any]:
    if value not in _described:
        _described.append(value)
    (schema,), _ = msgspec.json.schema_components([value], ref_template=_TEMPLATE)
    return {"application/json": {"schema": schema}}
