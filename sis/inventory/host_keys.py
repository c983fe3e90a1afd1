"""ssh keys: the nodes' host keys, made once and given back at every install, and the head's own login key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from configurator.record import HostKey
from sis.inventory import schema
from sis.inventory.database import Database
from sis.inventory.model import Node
from sis.system.files import atomic_write

TYPES = ("ed25519",)


class HostKeys:
    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, node: Node) -> tuple[HostKey, ...]:
        """The node's keys, made at the first call."""
        return self.of_all([node])[node.id]

    def known(self) -> Mapping[int, tuple[HostKey, ...]]:
        """Every node's keys by its id; none are made."""
        with self._database.read() as connection:
            return known_keys(connection)

    def of_all(self, nodes: Collection[Node]) -> Mapping[int, tuple[HostKey, ...]]:
        """The keys of many nodes by id; those that have none get theirs now, all in one transaction."""
        known = self.known()
        if all(node.id in known for node in nodes):
            return known
        table = schema.host_keys
        with self._database.write() as connection:
            known = known_keys(connection)
            there = set(connection.execute(sa.select(schema.nodes.c.id)).scalars())
            rows = [
                {"node_id": node.id, "type": kind, "private": made.private, "public": made.public}
                for node in nodes
                if node.id not in known and node.id in there
                for kind in TYPES
                for made in (make(f"root@{node.name}"),)
            ]
            if rows:
                connection.execute(sa.insert(table), rows)
            return {**{node.id: () for node in nodes}, **known_keys(connection)}


def known_keys(connection: Connection) -> Mapping[int, tuple[HostKey, ...]]:
    """Every node's keys by its id; nodes without any are not in it."""
    table = schema.host_keys
    known: dict[int, tuple[HostKey, ...]] = {}
    for row in connection.execute(sa.select(table).order_by(table.c.node_id, table.c.type)):
        key = HostKey(type=row.type, private=row.private, public=row.public)
        known[row.node_id] = (*known.get(row.node_id, ()), key)
    return known


def own(path: Path) -> str:
    """The head's login key, at `path` and `path`.pub; made at the first call. Returns the public line."""
    public = path.with_name(path.name + ".pub")
    if not path.exists():
        key = make("root@head")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_write(public, key.public.encode() + b"\n", mode=0o644)
        atomic_write(path, key.private.encode(), mode=0o600)
    return public.read_text().strip()


def make(comment: str) -> HostKey:
    """A fresh Ed25519 pair in OpenSSH's form, without a passphrase as host keys are; 5,000 take a second."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return HostKey(type="ed25519", private=private.decode(), public=f"{public.decode()} {comment}")
