"""The cluster file the inventory follows: changed under a lock, never written over what someone else wrote."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import Connection

from sis.errors import Conflict, NotFound, SisError
from sis.inventory import settings
from sis.inventory.database import Database
from sis.system import files, locks

_SETTING = "cluster_file"
_LOCK_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Followed:
    """`digest` is of the text the inventory was last made from."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Read:
    """The file's text as it was read, under the lock."""

    path: Path
    raw: bytes

    def write(self, raw: bytes) -> None:
        """Put `raw` in its place at once, mode kept. Raises Conflict when someone wrote it since it was read."""
        if read(self.path) != self.raw:
            raise Conflict(
                f"{self.path} was changed by someone else just now; nothing was changed", hint=_again(self.path)
            )
        real = self.path.resolve()
        files.atomic_write(real, raw, mode=real.stat().st_mode & 0o7777)

    def difference(self, raw: bytes) -> str:
        """What would become of it, as a unified diff."""
        before, after = self.raw.decode(errors="replace"), raw.decode(errors="replace")
        lines = difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), str(self.path), str(self.path)
        )
        return "".join(lines)


def followed(connection: Connection) -> Followed | None:
    """The cluster file commands edit, or None: then the inventory alone holds what is wanted."""
    said = settings.get(connection, _SETTING)
    return Followed(Path(said["path"]), said["digest"]) if said else None


def remember(connection: Connection, path: Path | None, raw: bytes) -> None:
    """Remember, in the caller's transaction, that the inventory says what this text of the file says."""
    said = {"path": str(path.absolute()), "digest": digest(raw)} if path is not None else None
    settings.put(connection, _SETTING, said)


def follow(database: Database, path: Path | None, raw: bytes = b"") -> None:
    """Follow a file whose text was brought in, or (None) none any more."""
    with database.write() as connection:
        remember(connection, path, raw)


def of(database: Database) -> Followed | None:
    with database.read() as connection:
        return followed(connection)


@contextlib.contextmanager
def opened(database: Database) -> Iterator[Read | None]:
    """The followed file, read and locked for the length of the block; None when none is followed.

    Raises Conflict when it was edited since the inventory was made from it, Locked while another command edits it.
    """
    known = of(database)
    if known is None:
        yield None
        return
    with locked(known.path):
        current = of(database)
        raw = read(known.path)
        if current is None or current.path != known.path or digest(raw) != current.digest:
            raise Conflict(
                f"{known.path} was edited since the inventory was made from it; nothing was changed",
                hint=_again(known.path),
            )
        yield Read(known.path, raw)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other commands from editing the file."""
    with locks.hold(path.with_name(f".{path.name}.lock"), f"edit of {path.name}", wait_s=_LOCK_WAIT_S):
        yield


def read(path: Path) -> bytes:
    """The file's text. Raises NotFound, SisError."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"no such file: {path}", hint="if commands are to edit the inventory alone: sis cluster forget"
        ) from error
    except OSError as error:
        raise SisError(f"{path} cannot be read: {error.strerror}") from error


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _again(path: Path) -> str:
    return f"look at it, bring it in (sis cluster apply {path}), and say once more what you want"
