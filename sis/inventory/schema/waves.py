"""Waves of nodes brought to a version, what holds them there, and what they go back to."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from sis.inventory.schema.base import metadata, one_per_node

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
    one_per_node(),
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
    one_per_node(),
    Column("image", String(128), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("since", String(32), nullable=False),
)
"""The version a node last reported in-sync and healthy: what a failed rollout goes back to."""
