"""The tables of the inventory: no SQLite-only SQL; times are UTC RFC 3339 text, which sorts as it reads."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _of_node() -> Column[int]:
    return Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE"), nullable=False)


def _one_per_node() -> Column[int]:
    return Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)


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
    _of_node(),
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
    _one_per_node(),
    Column("image", String(128), nullable=False),
    Column("selector", String(128), nullable=False),
    Column("layout", String(128)),
    Index(None, "image"),
)

states = Table(
    "states",
    metadata,
    _one_per_node(),
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
    _one_per_node(),
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
    _one_per_node(),
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
    _one_per_node(),
    Column("received", String(32), nullable=False),
    Column("data", JSON, nullable=False),
)

facts_changes = Table(
    "facts_changes",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_node(),
    Column("received", String(32), nullable=False),
    Column("lines", JSON, nullable=False),
    Index(None, "node_id", "id"),
    sqlite_autoincrement=True,
)
"""What became different of a node's hardware, and when: a line for each fact that changed."""

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_node(),
    Column("received", String(32), nullable=False),
    Column("time", String(40), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("outcome", String(8), nullable=False),
    Column("message", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("log", Text, nullable=False),
    Index(None, "node_id", "id"),
    sqlite_autoincrement=True,
)

reports = Table(
    "reports",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_node(),
    Column("received", String(32), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("outcome", String(8), nullable=False),
    Column("in_sync", Boolean, nullable=False),
    Column("image", String(128), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("started", String(40), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("totals", JSON, nullable=False),
    Column("changes", JSON, nullable=False),
    Column("changes_left_out", Integer, nullable=False),
    Column("reboot_needed", Boolean, nullable=False),
    Column("error", Text, nullable=False),
    Column("log", Text, nullable=False),
    Column("order_id", Integer),
    Column("health", JSON, nullable=False, server_default="[]"),
    Column("boot_id", String(36), nullable=False, server_default=""),
    Column("reboot_why", JSON, nullable=False, server_default="[]"),
    UniqueConstraint("node_id", "kind", "started"),
    Index(None, "node_id", "id"),
    sqlite_autoincrement=True,
)

drift_diffs = Table(
    "drift_diffs",
    metadata,
    _one_per_node(),
    Column("received", String(32), nullable=False),
    Column("data", JSON, nullable=False),
)
"""What drifted files hold on a node, as its last check told it; gone with its next sync."""

orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_node(),
    Column("kind", String(8), nullable=False),
    Column("full", Boolean, nullable=False),
    Column("created", String(32), nullable=False),
    Column("taken", String(32)),
    Column("attempts", Integer, nullable=False),
    Column("done", String(32)),
    Column("report_id", ForeignKey("reports.id", ondelete="SET NULL")),
    Column("failure", Text, nullable=False),
    Index(None, "node_id", "done"),
    Index(None, "done", "taken"),
    sqlite_autoincrement=True,
)

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

stream = Table(
    "stream",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE")),
    Column("subject", String(160), nullable=False),
    Column("what", String(32), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("ref", Integer),
    Column("bytes", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Index(None, "node_id", "id"),
    Index(None, "kind", "id"),
    sqlite_autoincrement=True,
)
"""Whatever happened, of every kind, in one order: what `sis events`, the API and the console follow."""

counters = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Sums that only grow, also when the rows they were counted from are gone."""

tokens = Table(
    "tokens",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("created", String(32), nullable=False),
    Column("used", String(32)),
)

logins = Table(
    "logins",
    metadata,
    Column("code_hash", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created", String(32), nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_hash", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created", String(32), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", String(32), nullable=False),
    Column("who", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("via", String(16), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    sqlite_autoincrement=True,
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("created", String(32), nullable=False),
    Column("who", String(64), nullable=False),
    Column("nodeset", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("wave", Integer, nullable=False),
    Column("started", String(32)),
    Column("ended", String(32)),
    Column("plan", JSON, nullable=False),
    Index(None, "state"),
    sqlite_autoincrement=True,
)
"""Waves of nodes brought to a version; `plan` is `sis.inventory.rollout.Plan`, `wave` counts from 0."""

rollout_nodes = Table(
    "rollout_nodes",
    metadata,
    Column("rollout_id", ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("since", String(32), nullable=False),
    Column("begun", String(32)),
    Column("ended", String(32)),
    Column("reason", Text, nullable=False),
    Column("target", String(200), nullable=False),
    Column("target_version", String(64), nullable=False),
    Column("before", String(200), nullable=False),
    Column("before_version", String(64), nullable=False),
    Column("order_id", Integer),
    Column("report_id", Integer),
    Column("boot_id", String(36), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Index(None, "node_id"),
)
"""A node of a rollout; `target` and `before` are generations such as "compute@12", "" for none."""

holds = Table(
    "holds",
    metadata,
    _one_per_node(),
    Column("image", String(128), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("since", String(32), nullable=False),
    Column("rollout_id", ForeignKey("rollouts.id", ondelete="CASCADE"), nullable=False),
    Index(None, "rollout_id"),
)
"""A version a node is held to by a rollout, whatever its assignment says."""

last_good = Table(
    "last_good",
    metadata,
    _one_per_node(),
    Column("image", String(128), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("since", String(32), nullable=False),
)
"""The version a node last reported in-sync and healthy: what a failed rollout goes back to."""
