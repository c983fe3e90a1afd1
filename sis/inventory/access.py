"""Who may ask for what: arming, one-shot install tokens, and nodes' secrets. Only hashes of either are kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.inventory import schema
from sis.inventory.clock import now, seconds_since
from sis.inventory.database import Database
from sis.inventory.history import apply_happening, put_facts
from sis.inventory.nodes import delete_of
from sis.inventory.state import Happening
from sis.inventory.stream import append, row
from sis.wire import State

TOKEN_BYTES = 32
TOKEN_LIFE_S = 3600
"""How long after its boot answer a token opens the door; a power-cut install gets a fresh one with its next boot."""

_NO_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class Caller:
    """A node that proved who it is."""

    node_id: int
    name: str
    state: State


class Access:
    def __init__(self, database: Database) -> None:
        self._database = database

    def arm(self, node_ids: Collection[int], *, allow_foreign_disk: bool = False) -> None:
        """Have nodes installed at their next network boot, until one install goes well. Arming anew starts over."""
        table = schema.armings
        moment = now()
        rows = [
            {"node_id": node_id, "armed": moment, "allow_foreign_disk": allow_foreign_disk, "failures": 0}
            for node_id in node_ids
        ]
        with self._database.write() as connection:
            delete_of(connection, table, node_ids)
            if rows:
                connection.execute(sa.insert(table), rows)
            text = "disks may be wiped whatever they hold" if allow_foreign_disk else ""
            append(connection, [row("arming", each, what="armed", text=text, time=moment) for each in node_ids])
            apply_happening(connection, node_ids, Happening("armed"), moment)

    def disarm(self, node_ids: Collection[int]) -> None:
        """Take arming back: tokens given out are void, the next network boot starts the disk."""
        with self._database.write() as connection:
            delete_of(connection, schema.armings, node_ids)
            moment = now()
            append(connection, [row("arming", each, what="disarmed", time=moment) for each in node_ids])
            apply_happening(connection, node_ids, Happening("disarmed"), moment)

    def issue_token(self, node_id: int) -> str | None:
        """A fresh token for an armed node's boot answer; older ones are void. None when the node is not armed."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        table = schema.armings
        moment = now()
        with self._database.write() as connection:
            changed = connection.execute(
                sa.update(table).where(table.c.node_id == node_id).values(token_hash=digest(token), token_issued=moment)
            ).rowcount
            if not changed:
                return None
            apply_happening(connection, [node_id], Happening("netbooted"), moment)
        return token

    def redeem_token(self, node: str, token: str, macs: Sequence[str], facts: Mapping[str, Any]) -> str | None:
        """A secret for a valid token, or None.

        The node must be armed and named, the token its newest and not too old, and one of `macs` the node's. A token is
        spent when the secret it gave is first used: until then a node that lost the answer may ask again.
        """
        with self._database.write() as connection:
            armed = connection.execute(
                sa.select(schema.nodes.c.id, schema.armings.c.token_hash, schema.armings.c.token_issued)
                .join_from(schema.nodes, schema.armings)
                .where(schema.nodes.c.name == node)
            ).first()
            expected = armed.token_hash if armed is not None and armed.token_hash else _NO_HASH
            matches = hmac.compare_digest(expected, digest(token))
            if armed is None or not matches or seconds_since(armed.token_issued) > TOKEN_LIFE_S:
                return None
            if not _owns(connection, armed.id, macs):
                return None
            secret = _new_secret(connection, armed.id)
            put_facts(connection, armed.id, facts)
            return secret

    def verify(self, node: str, secret: str) -> Caller | None:
        """The node whose secret this is, or None. The first use spends the token the secret came from."""
        nodes, held = schema.nodes, schema.secrets
        with self._database.read() as connection:
            known = connection.execute(
                sa.select(nodes.c.id, held.c.secret_hash, held.c.used, schema.states.c.state)
                .join_from(nodes, held)
                .outerjoin(schema.states, schema.states.c.node_id == nodes.c.id)
                .where(nodes.c.name == node)
            ).first()
        matches = hmac.compare_digest(known.secret_hash if known is not None else _NO_HASH, digest(secret))
        if known is None or not matches:
            return None
        if not known.used:
            with self._database.write() as connection:
                connection.execute(
                    sa.update(held)
                    .where(held.c.node_id == known.id, held.c.secret_hash == known.secret_hash)
                    .values(used=True)
                )
                connection.execute(
                    sa.update(schema.armings).where(schema.armings.c.node_id == known.id).values(token_hash=None)
                )
        return Caller(known.id, node, known.state or "defined")

    def greet(self, node: str, secret: str, facts: Mapping[str, Any]) -> str | None:
        """Hello of an installed node: its facts are kept and it goes on with the same secret. None when it is wrong."""
        caller = self.verify(node, secret)
        if caller is None:
            return None
        with self._database.write() as connection:
            put_facts(connection, caller.node_id, facts)
        return secret

    def revoke(self, node_ids: Collection[int]) -> None:
        """Make nodes' secrets void at once."""
        with self._database.write() as connection:
            delete_of(connection, schema.secrets, node_ids)


def digest(value: str) -> str:
    """The form in which tokens and secrets are kept: random 256-bit values need no slow hash."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def _owns(connection: Connection, node_id: int, macs: Sequence[str]) -> bool:
    known = set(
        connection.execute(
            sa.select(schema.interfaces.c.mac).where(
                schema.interfaces.c.node_id == node_id, schema.interfaces.c.mac.is_not(None)
            )
        ).scalars()
    )
    return not known.isdisjoint(mac.lower() for mac in macs)


def _new_secret(connection: Connection, node_id: int) -> str:
    secret = secrets.token_urlsafe(TOKEN_BYTES)
    table = schema.secrets
    values = {"secret_hash": digest(secret), "issued": now(), "used": False}
    if not connection.execute(sa.update(table).where(table.c.node_id == node_id).values(**values)).rowcount:
        connection.execute(sa.insert(table).values(node_id=node_id, **values))
    return secret
