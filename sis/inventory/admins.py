"""Who may use the admin API and the console: named tokens, one-time logins, sessions. Only hashes are kept."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any, get_args

import sqlalchemy as sa

from sis.errors import NotFound, UsageFault
from sis.inventory import schema
from sis.inventory.access import TOKEN_BYTES, digest
from sis.inventory.clock import now, seconds_since
from sis.inventory.database import Database
from sis.inventory.model import Role, StoredToken

ROLES: tuple[Role, ...] = get_args(Role)
"""From the least to the most: each may what the ones before it may."""
LOGIN_LIFE_S = 600
SESSION_LIFE_S = 12 * 3600
_USED_AGAIN_S = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Known:
    """Who a token or session belongs to, and what they may do."""

    name: str
    role: Role


class Admins:
    """Tokens and sessions are random 256-bit values, looked up by their hash: timing tells nothing of the value."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_token(self, name: str, role: Role) -> str:
        """A new token, shown this once. Raises UsageFault when the name is taken or malformed."""
        _check(name)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        table = schema.tokens
        with self._database.write() as connection:
            if connection.execute(sa.select(table.c.name).where(table.c.name == name)).first():
                raise UsageFault(f"there is a token {name} already", hint=f"sis token revoke {name}, or another name")
            connection.execute(
                sa.insert(table).values(name=name, role=role, token_hash=digest(token), created=now(), used=None)
            )
        return token

    def tokens(self) -> tuple[StoredToken, ...]:
        with self._database.read() as connection:
            rows = connection.execute(sa.select(schema.tokens).order_by(schema.tokens.c.name))
            return tuple(StoredToken(row.name, row.role, row.created, row.used) for row in rows)

    def revoke_token(self, name: str) -> None:
        """Raises NotFound with near names."""
        table = schema.tokens
        with self._database.write() as connection:
            if not connection.execute(sa.delete(table).where(table.c.name == name)).rowcount:
                raise NotFound.of("token", name, connection.execute(sa.select(table.c.name)).scalars())

    def by_token(self, token: str) -> Known | None:
        """Whose token this is, or None."""
        table = schema.tokens
        with self._database.read() as connection:
            row = connection.execute(sa.select(table).where(table.c.token_hash == digest(token))).first()
        if row is None:
            return None
        if row.used is None or seconds_since(row.used) > _USED_AGAIN_S:
            with self._database.write() as connection:
                connection.execute(sa.update(table).where(table.c.name == row.name).values(used=now()))
        return Known(row.name, row.role)

    def new_login(self, name: str, role: Role) -> str:
        """A code for a one-time URL, good once within LOGIN_LIFE_S."""
        _check(name)
        code = secrets.token_urlsafe(TOKEN_BYTES)
        with self._database.write() as connection:
            _forget_old(connection, schema.logins, LOGIN_LIFE_S)
            connection.execute(
                sa.insert(schema.logins).values(code_hash=digest(code), name=name, role=role, created=now())
            )
        return code

    def log_in(self, code: str) -> str | None:
        """A session for a login code, which is spent by it. None for a made-up, used or old one."""
        logins = schema.logins
        with self._database.write() as connection:
            row = connection.execute(sa.select(logins).where(logins.c.code_hash == digest(code))).first()
            if row is None:
                return None
            connection.execute(sa.delete(logins).where(logins.c.code_hash == row.code_hash))
            if seconds_since(row.created) > LOGIN_LIFE_S:
                return None
            _forget_old(connection, schema.sessions, SESSION_LIFE_S)
            session = secrets.token_urlsafe(TOKEN_BYTES)
            connection.execute(
                sa.insert(schema.sessions).values(
                    session_hash=digest(session), name=row.name, role=row.role, created=now()
                )
            )
            return session

    def by_session(self, session: str) -> Known | None:
        """Whose session this is, or None when it is made up, ended, or older than SESSION_LIFE_S."""
        table = schema.sessions
        with self._database.read() as connection:
            row = connection.execute(sa.select(table).where(table.c.session_hash == digest(session))).first()
        if row is None or seconds_since(row.created) > SESSION_LIFE_S:
            return None
        return Known(row.name, row.role)

    def log_out(self, session: str) -> None:
        with self._database.write() as connection:
            connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.session_hash == digest(session)))

    def log_out_everyone(self) -> int:
        """End every session and void every login code. Returns how many sessions ended."""
        with self._database.write() as connection:
            connection.execute(sa.delete(schema.logins))
            return connection.execute(sa.delete(schema.sessions)).rowcount


def may(role: Role, needed: Role) -> bool:
    """Whether one who has `role` may do what needs `needed`."""
    return ROLES.index(role) >= ROLES.index(needed)


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageFault(f"{name!r} cannot be a name here", hint="use letters, digits, '.', '_', '-', '@'; at most 64")


def _forget_old(connection: sa.Connection, table: sa.Table, life_s: float) -> None:
    key: Any = next(iter(table.primary_key.columns))
    old = [row[0] for row in connection.execute(sa.select(key, table.c.created)) if seconds_since(row[1]) > life_s]
    for value in old:
        connection.execute(sa.delete(table).where(key == value))
