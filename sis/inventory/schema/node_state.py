"""What is known of each node: how it stands, its keys, its hardware; and machines that are no nodes yet."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from sis.inventory.schema.base import metadata, of_node, one_per_node

states = Table(
    "states",
    metadata,
    one_per_node(),
    Column("state", String(16), nullable=False),
    Column("since", String(32), nullable=False),
    Column("step", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("event_id", Integer),
    Column("progress", Text, nullable=False),
    Column("seen", String(32)),
    Column("image", String(128), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("drift", Integer, nullable=False),
    Column("reboot_needed", Boolean, nullable=False),
    Column("story_started", String(40), nullable=False),
    Column("story_ended", String(40), nullable=False),
    Column("reboot_why", Text, nullable=False, server_default=""),
    Index(None, "state"),
)

armings = Table(
    "armings",
    metadata,
    one_per_node(),
    Column("armed", String(32), nullable=False),
    Column("allow_foreign_disk", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("token_hash", String(64)),
    Column("token_issued", String(32)),
    Column("boots", Integer, nullable=False, server_default="0"),
)

node_keys = Table(
    "node_keys",
    metadata,
    one_per_node(),
    Column("public_key", String(64), nullable=False),
    Column("issued", String(32), nullable=False),
    Column("used", Boolean, nullable=False),
)
"""The public half, in hex, of the key each node signs its requests with."""

host_keys = Table(
    "host_keys",
    metadata,
    Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Column("type", String(16), primary_key=True),
    Column("private", Text, nullable=False),
    Column("public", Text, nullable=False),
)

facts = Table(
    "facts",
    metadata,
    one_per_node(),
    Column("received", String(32), nullable=False),
    Column("data", JSON, nullable=False),
)

facts_changes = Table(
    "facts_changes",
    metadata,
    Column("id", Integer, primary_key=True),
    of_node(),
    Column("received", String(32), nullable=False),
    Column("lines", JSON, nullable=False),
    Index(None, "node_id", "id"),
    sqlite_autoincrement=True,
)
"""What became different of a node's hardware, and when: a line for each fact that changed."""

discoveries = Table(
    "discoveries",
    metadata,
    Column("mac", String(17), primary_key=True),
    Column("first_seen", String(32), nullable=False),
    Column("last_seen", String(32), nullable=False),
    Column("boots", Integer, nullable=False),
    Column("data", JSON, nullable=False),
    Column("rejected", String(32)),
)
