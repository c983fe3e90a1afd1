"""ssh keys: the nodes' host keys, made once and given back at every install, and the head's own login key."""

from __future__ import annotations

import tempfile
from pathlib import Path

import sqlalchemy as sa

from configurator.record import HostKey
from sis.inventory import schema
from sis.inventory.database import Database
from sis.inventory.model import Node
from sis.system import process
from sis.system.files import atomic_write

TYPES = ("ed25519",)


class HostKeys:
    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, node: Node) -> tuple[HostKey, ...]:
        """The node's keys, made at the first call. Raises ProgramFailed or SisError when ssh-keygen does not work."""
        table = schema.host_keys
        known = self._known(node.id)
        missing = [kind for kind in TYPES if kind not in {key.type for key in known}]
        if not missing:
            return known
        made = [make(kind, f"root@{node.name}") for kind in missing]
        with self._database.write() as connection:
            there = set(connection.execute(sa.select(table.c.type).where(table.c.node_id == node.id)).scalars())
            for key in made:
                if key.type not in there:
                    connection.execute(
                        sa.insert(table).values(node_id=node.id, type=key.type, private=key.private, public=key.public)
                    )
        return self._known(node.id)

    def _known(self, node_id: int) -> tuple[HostKey, ...]:
        table = schema.host_keys
        with self._database.read() as connection:
            rows = connection.execute(sa.select(table).where(table.c.node_id == node_id).order_by(table.c.type)).all()
        return tuple(HostKey(type=row.type, private=row.private, public=row.public) for row in rows)


def own(path: Path) -> str:
    """The head's login key, at `path` and `path`.pub; made at the first call. Returns the public line."""
    public = path.with_name(path.name + ".pub")
    if not path.exists():
        key = make("ed25519", "root@head")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_write(public, key.public.encode() + b"\n", mode=0o644)
        atomic_write(path, key.private.encode(), mode=0o600)
    return public.read_text().strip()


def make(kind: str, comment: str) -> HostKey:
    """A fresh key pair by ssh-keygen, without a passphrase as host keys are."""
    with tempfile.TemporaryDirectory(prefix="sis-host-key-") as folder:
        path = Path(folder) / "key"
        process.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", path], timeout_s=60)
        private, public = path.read_text(), path.with_suffix(".pub").read_text().strip()
    assert kind == "ed25519"
    return HostKey(type="ed25519", private=private, public=public)
