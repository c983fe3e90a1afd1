"""Who may ask for what: arming, one-shot install tokens (hashes of them), and the public halves of nodes' own keys."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.errors import Refused
from sis.inventory import schema
from sis.inventory.clock import now, seconds_since
from sis.inventory.database import Database
from sis.inventory.facts import put_facts
from sis.inventory.names import fold
from sis.inventory.node_states import apply_happening
from sis.inventory.node_write import delete_of
from sis.inventory.standing import quarantined_among
from sis.inventory.state import Happening
from sis.inventory.stream import append, row
from sis.wire import State

TOKEN_BYTES = 32
TOKEN_LIFE_S = 3600
"""How long after its boot answer a token opens the door; a power-cut install gets a fresh one with its next boot."""

SILENT_BOOTS = 10
"""Install boots without any report after which a node is quarantined; power cuts may well take a few."""

_NO_HASH = "0" * 64
_NO_KEY = "ab" * 32

Proves = Callable[[str], bool]
"""Whether the request was signed with the key that has this public half."""


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
        """Have nodes installed at their next network boot, until one install goes well. Arming anew starts over.

        Raises Refused for quarantined nodes.
        """
        with self._database.write() as connection:
            arm(connection, node_ids, allow_foreign_disk=allow_foreign_disk)

    def disarm(self, node_ids: Collection[int]) -> None:
        """Take arming back: tokens given out are void, the next network boot starts the disk."""
        with self._database.write() as connection:
            disarm(connection, node_ids)

    def issue_token(self, node_id: int) -> str | None:
        """A fresh token for an armed node's boot answer; older ones are void. None when the node is not armed.

        A node that asks again and again without ever reporting is quarantined: it is looked at, not looped.
        """
        token = secrets.token_urlsafe(TOKEN_BYTES)
        table = schema.armings
        moment = now()
        with self._database.write() as connection:
            changed = connection.execute(
                sa.update(table)
                .where(table.c.node_id == node_id)
                .values(token_hash=digest(token), token_issued=moment, boots=table.c.boots + 1)
            ).rowcount
            if not changed:
                return None
            if connection.execute(
                sa.delete(table).where(table.c.node_id == node_id, table.c.boots > SILENT_BOOTS)
            ).rowcount:
                reason = f"booted its installer {SILENT_BOOTS} times and never said how it ended"
                apply_happening(connection, [node_id], Happening("quarantined", reason), moment)
                return None
            apply_happening(connection, [node_id], Happening("netbooted"), moment)
        return token

    def redeem_token(
        self, node: str, token: str, macs: Sequence[str], facts: Mapping[str, Any], key: str, proves: Proves
    ) -> bool:
        """Take `key` (its public half) for the node's own, for a valid token.

        The node must be armed and named, the token its newest and not too old, one of `macs` the node's, and the
        request signed with the key. A token is spent when the key is first used: until then a node that lost the
        answer may ask again, with another key.
        """
        if not proves(key):
            return False
        with self._database.write() as connection:
            armed = connection.execute(
                sa.select(schema.nodes.c.id, schema.armings.c.token_hash, schema.armings.c.token_issued)
                .join_from(schema.nodes, schema.armings)
                .where(schema.nodes.c.name == node)
            ).first()
            expected = armed.token_hash if armed is not None and armed.token_hash else _NO_HASH
            matches = hmac.compare_digest(expected, digest(token))
            if armed is None or not matches or seconds_since(armed.token_issued) > TOKEN_LIFE_S:
                return False
            if not _owns(connection, armed.id, macs):
                return False
            _put_key(connection, armed.id, key)
            put_facts(connection, armed.id, facts)
            return True

    def verify(self, node: str, proves: Proves) -> Caller | None:
        """The node, if its own key signed the request. The first use spends the token the key came with."""
        nodes, held = schema.nodes, schema.node_keys
        with self._database.read() as connection:
            known = connection.execute(
                sa.select(nodes.c.id, held.c.public_key, held.c.used, schema.states.c.state)
                .join_from(nodes, held)
                .outerjoin(schema.states, schema.states.c.node_id == nodes.c.id)
                .where(nodes.c.name == node)
            ).first()
        proved = proves(known.public_key if known is not None else _NO_KEY)
        if known is None or not proved:
            return None
        if not known.used:
            with self._database.write() as connection:
                connection.execute(
                    sa.update(held)
                    .where(held.c.node_id == known.id, held.c.public_key == known.public_key)
                    .values(used=True)
                )
                connection.execute(
                    sa.update(schema.armings).where(schema.armings.c.node_id == known.id).values(token_hash=None)
                )
        return Caller(known.id, node, known.state or "defined")

    def greet(self, node: str, facts: Mapping[str, Any], proves: Proves) -> bool:
        """Hello of an installed node: its facts are kept. False when it is not who it says."""
        caller = self.verify(node, proves)
        if caller is None:
            return False
        with self._database.write() as connection:
            put_facts(connection, caller.node_id, facts)
        return True

    def revoke(self, node_ids: Collection[int]) -> None:
        """Make nodes' keys void at once."""
        with self._database.write() as connection:
            delete_of(connection, schema.node_keys, node_ids)


def arm(connection: Connection, node_ids: Collection[int], *, allow_foreign_disk: bool = False) -> None:
    """`Access.arm` within the caller's transaction."""
    moment = now()
    refuse_quarantined(connection, node_ids)
    delete_of(connection, schema.armings, node_ids)
    rows = [
        {"node_id": node_id, "armed": moment, "allow_foreign_disk": allow_foreign_disk, "failures": 0, "boots": 0}
        for node_id in node_ids
    ]
    if rows:
        connection.execute(sa.insert(schema.armings), rows)
    text = "disks may be wiped whatever they hold" if allow_foreign_disk else ""
    append(connection, [row("arming", each, what="armed", text=text, time=moment) for each in node_ids])
    apply_happening(connection, node_ids, Happening("armed"), moment)


def refuse_quarantined(connection: Connection, node_ids: Collection[int]) -> None:
    """Raises Refused when one of the nodes is quarantined."""
    refused = quarantined_among(connection, node_ids)
    if refused:
        names = fold(refused)
        raise Refused(
            f"quarantined after failed installs: {names}",
            hint=f"see why: sis node log {refused[0]}; then: sis node release {names}",
        )


def disarm(connection: Connection, node_ids: Collection[int]) -> None:
    """`Access.disarm` within the caller's transaction."""
    delete_of(connection, schema.armings, node_ids)
    moment = now()
    append(connection, [row("arming", each, what="disarmed", time=moment) for each in node_ids])
    apply_happening(connection, node_ids, Happening("disarmed"), moment)


def digest(value: str) -> str:
    """The form in which tokens are kept: random 256-bit values need no slow hash."""
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


def _put_key(connection: Connection, node_id: int, key: str) -> None:
    table = schema.node_keys
    values = {"public_key": key, "issued": now(), "used": False}
    if not connection.execute(sa.update(table).where(table.c.node_id == node_id).values(**values)).rowcount:
        connection.execute(sa.insert(table).values(node_id=node_id, **values))
