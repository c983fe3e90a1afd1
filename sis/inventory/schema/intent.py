"""What admins want: the cluster's settings and networks, its nodes, their groups and images; and who changed it."""

from __future__ import annotations

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from sis.inventory.schema.base import metadata, of_node, one_per_node

settings = Table(
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", JSON, nullable=False),
)
"""Values of the whole cluster (its name, the head's URL, …), and the revision: one more with every change of intent."""

networks = Table(
    "networks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("cidr", String(64), nullable=False),
    Column("gateway", String(64)),
    Column("domain", String(255), nullable=False, default=""),
    Column("data", JSON, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("number", Integer),
    Column("machine_id", String(32), nullable=False),
    Column("created", String(32), nullable=False),
    Column("data", JSON, nullable=False),
    Column("version", Integer, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)
"""`version` is the id of the row of `changes` that made the node what it is."""

interfaces = Table(
    "interfaces",
    metadata,
    Column("id", Integer, primary_key=True),
    of_node(),
    Column("position", Integer, nullable=False),
    Column("name", String(15), nullable=False),
    Column("mac", String(17), unique=True),
    Column("address", String(45), unique=True),
    Column("network_id", ForeignKey("networks.id", ondelete="RESTRICT")),
    Column("data", JSON, nullable=False),
    UniqueConstraint("node_id", "name"),
)

groups = Table(
    "groups",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
)

memberships = Table(
    "memberships",
    metadata,
    Column("group_id", ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Index(None, "node_id"),
)

assignments = Table(
    "assignments",
    metadata,
    one_per_node(),
    Column("image", String(128), nullable=False),
    Column("selector", String(128), nullable=False),
    Column("layout", String(128)),
    Index(None, "image"),
)

changes = Table(
    "changes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", String(32), nullable=False),
    Column("who", String(64), nullable=False),
    Column("via", String(16), nullable=False),
    Column("action", String(16), nullable=False),
    Column("nodes", Text, nullable=False),
    Column("lines", JSON, nullable=False),
    sqlite_autoincrement=True,
)
"""Who changed what of the intent: one row a command; `nodes` is a node set, `lines` say what, folded."""
