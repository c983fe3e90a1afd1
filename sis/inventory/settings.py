"""Values of the whole cluster, and the revision that grows with every change of intent."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.inventory import schema
from sis.inventory.database import Database

_REVISION = "revision"
_IDENTITY = "identity"
_OWN = (_REVISION, _IDENTITY, "channels", "cluster_file", "pruned")


class Settings:
    """Names in use: cluster, url (of the head), authorized_keys (of root on every node)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str, default: Any = None) -> Any:
        with self._database.read() as connection:
            return get(connection, name, default)

    def all(self) -> dict[str, Any]:
        """Every setting but the inventory's own book-keeping."""
        with self._database.read() as connection:
            return everything(connection)

    def set(self, **values: Any) -> None:
        with self._database.write() as connection:
            for name, value in values.items():
                put(connection, name, value)
            touch(connection)

    def revision(self) -> int:
        """Differs whenever networks, nodes, groups, assignments or settings differ."""
        return int(self.get(_REVISION, 0))


def get(connection: Connection, name: str, default: Any = None) -> Any:
    found = connection.execute(sa.select(schema.settings.c.value).where(schema.settings.c.name == name)).first()
    return default if found is None else found.value


def everything(connection: Connection) -> dict[str, Any]:
    """Every setting but the inventory's own book-keeping."""
    rows = connection.execute(sa.select(schema.settings)).all()
    return {row.name: row.value for row in rows if row.name not in _OWN}


def put(connection: Connection, name: str, value: Any) -> None:
    table = schema.settings
    if not connection.execute(sa.update(table).where(table.c.name == name).values(value=value)).rowcount:
        connection.execute(sa.insert(table).values(name=name, value=value))


def touch(connection: Connection) -> None:
    """Count one more change of intent."""
    put(connection, _REVISION, int(get(connection, _REVISION, 0)) + 1)


def identity(connection: Connection) -> str:
    """The cluster's own random id, made once: what machine ids are derived from."""
    found = get(connection, _IDENTITY)
    if found is None:
        found = secrets.token_hex(16)
        put(connection, _IDENTITY, found)
    return str(found)
