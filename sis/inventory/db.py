"""The door to the inventory: `db.open(path or URL)`."""

from __future__ import annotations

from pathlib import Path

from sis.inventory.access import Access
from sis.inventory.admins import Admins
from sis.inventory.audit import Audit
from sis.inventory.changes import Changes
from sis.inventory.database import connect
from sis.inventory.discoveries import Discoveries
from sis.inventory.history import History
from sis.inventory.host_keys import HostKeys
from sis.inventory.networks import Networks
from sis.inventory.nodes import Nodes
from sis.inventory.orders import Orders
from sis.inventory.overview import Overview
from sis.inventory.pruning import Past
from sis.inventory.rollouts import Rollouts
from sis.inventory.settings import Settings
from sis.inventory.standing import Standing
from sis.inventory.stream import Stream
from sis.inventory.trends import Trends


class Inventory:
    """What is wanted of the cluster, and what is known of it. Every method is one transaction; safe in threads."""

    def __init__(self, where: str | Path) -> None:
        self.database = connect(where)
        self.settings = Settings(self.database)
        self.networks = Networks(self.database)
        self.nodes = Nodes(self.database)
        self.access = Access(self.database)
        self.host_keys = HostKeys(self.database)
        self.history = History(self.database)
        self.orders = Orders(self.database)
        self.discoveries = Discoveries(self.database)
        self.stream = Stream(self.database)
        self.overview = Overview(self.database)
        self.trends = Trends(self.database)
        self.rollouts = Rollouts(self.database)
        self.standing = Standing(self.database)
        self.admins = Admins(self.database)
        self.audit = Audit(self.database)
        self.changes = Changes(self.database)
        self.past = Past(self.database)

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Inventory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open(where: str | Path) -> Inventory:  # noqa: A001
    """Open, or make, the inventory at a path (SQLite) or SQLAlchemy URL; an older one is brought up to date."""
    return Inventory(where)
