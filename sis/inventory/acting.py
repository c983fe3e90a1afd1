"""Who changes things now: set at the doors (a command, the API, the console), read where a change is written down."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Acting:
    """`via` is command, socket, token or session."""

    who: str
    via: str


_acting: ContextVar[Acting | None] = ContextVar("sis_acting", default=None)


@contextlib.contextmanager
def as_one(who: str, via: str) -> Iterator[None]:
    """Have what is changed within the block told as done by `who`, also in threads started with a copied context."""
    token = _acting.set(Acting(who[:64], via[:16]))
    try:
        yield
    finally:
        _acting.reset(token)


def current() -> Acting:
    """Who acts; outside every `as_one` the user of this process."""
    return _acting.get() or Acting(user(), "command")


def user() -> str:
    """The name of whoever runs this process; behind sudo, that of who called it."""
    behind = os.environ.get("SUDO_USER", "")
    if behind and os.geteuid() == 0:
        return behind[:64]
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name[:64]
    except KeyError:
        return f"uid {os.geteuid()}"
