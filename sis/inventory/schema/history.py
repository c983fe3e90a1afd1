"""What was asked of nodes and what happened: orders, events, reports, drift, and the stream of all of it."""

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
    String,
    Table,
    Text,
    UniqueConstraint,
)

from sis.inventory.schema.base import metadata, of_node, one_per_node

orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    of_node(),
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

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    of_node(),
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
    of_node(),
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
    one_per_node(),
    Column("received", String(32), nullable=False),
    Column("data", JSON, nullable=False),
)
"""What drifted files hold on a node, as its last check told it; gone with its next sync."""

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
