"""A store by what an admin calls it: a URL or a directory."""

from __future__ import annotations

from pathlib import Path

from sis.errors import NotFound
from sis.image.store.reader import DocumentStore


def open_store(where: str, *, attempts: int | None = None, ticket: str = "") -> DocumentStore:
    """A store to read: a head's URL, the URL of a plain copy of a store, or a directory (a store or a state).

    `attempts` is how often in a row a server may fail to answer before it is given up; the waits between grow to 10 s.
    `ticket` says to a head who asks.
    """
    if where.startswith(("http://", "https://")):
        from sis.image.store.patience import Limits
        from sis.image.store.remote import HttpStore

        return HttpStore(where, limits=Limits(attempts=attempts) if attempts is not None else None, ticket=ticket)
    from sis.image.store.local import LocalStore

    path = Path(where)
    for candidate in (path, path / "store"):
        if (candidate / "refs").is_dir():
            return LocalStore(candidate)
    raise NotFound(f"no store at {where}", hint="a directory with refs/, versions/ and packs/ in it, or a URL")
