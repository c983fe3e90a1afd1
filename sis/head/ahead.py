"""What is answered ahead of the application: calls of nodes that do not know the era in force, thousands at a time."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from sis.head.calls import Eras, stale
from sis.sealed import read_proof


class AskedAnew:
    """Middleware: whoever has a proof of an era gone by hears so at once, at no cost but this.

    After a restart of the head, and at their first call, that is every node. What bears no node's proof goes on.
    """

    def __init__(self, app: ASGIApp, eras: Eras) -> None:
        self._app = app
        self._eras = eras

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            proof = read_proof(_authorization(scope))
            if proof is not None and not self._eras.knows(proof):
                await stale(self._eras)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _authorization(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return bytes(value).decode("latin-1")
    return ""
