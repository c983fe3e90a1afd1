"""The tables of the inventory: no SQLite-only SQL; times are UTC RFC 3339 text, which sorts as it reads."""

from sis.inventory.schema.access import audit, logins, sessions, tokens
from sis.inventory.schema.base import metadata
from sis.inventory.schema.history import counters, drift_diffs, events, orders, reports, stream
from sis.inventory.schema.intent import assignments, changes, groups, interfaces, memberships, networks, nodes, settings
from sis.inventory.schema.node_state import armings, discoveries, facts, facts_changes, host_keys, node_keys, states
from sis.inventory.schema.waves import holds, last_good, rollout_nodes, rollouts

__all__ = [
    "armings",
    "assignments",
    "audit",
    "changes",
    "counters",
    "discoveries",
    "drift_diffs",
    "events",
    "facts",
    "facts_changes",
    "groups",
    "holds",
    "host_keys",
    "interfaces",
    "last_good",
    "logins",
    "memberships",
    "metadata",
    "networks",
    "node_keys",
    "nodes",
    "orders",
    "reports",
    "rollout_nodes",
    "rollouts",
    "sessions",
    "settings",
    "states",
    "stream",
    "tokens",
]
