"""How a call of the admin API is answered: the value, or the fault with its status; what changes things is audited."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from starlette.responses import Response

from sis.errors import SisError
from sis.head.answers import as_json, fault, status_of
from sis.head.who import Actor

if TYPE_CHECKING:
    from sis.head.app import Head


async def answered(work: Callable[[], Any]) -> Response:
    """What `work` gives, done in a thread."""
    try:
        return as_json(await to_thread.run_sync(work))
    except SisError as error:
        return fault(status_of(error), str(error))


async def acted(head: Head, actor: Actor, action: str, target: str, work: Callable[[], Any]) -> Response:
    """What `work` gives, done in a thread between two entries of the audit log."""
    try:
        return as_json(await head.gate.audited(actor, action, target, work))
    except SisError as error:
        return fault(status_of(error), str(error))
