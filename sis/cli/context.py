"""What every command is told: where the state lives and how to print."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sis.errors import NotFound, SisError

if TYPE_CHECKING:
    from sis.inventory.db import Inventory
    from sis.inventory.intent import Intent

DEFAULT_STATE = Path("/var/lib/sis")
DATABASE_URL = "database.url"
"""Of the state directory: where the inventory is when it is not in the state directory itself. Holds a password."""
OUTPUTS = ("table", "json", "yaml", "name")


@dataclass(frozen=True)
class Context:
    """`output` is one of OUTPUTS; `color` is auto, always or never."""

    state: Path
    output: str = "table"
    color: str = "auto"
    verbose: bool = False

    @property
    def store(self) -> Path:
        """The image store below the state directory."""
        return self.state / "store"

    @property
    def database(self) -> str | Path:
        """The inventory: the URL in SIS_DATABASE or STATE/database.url when there is one, else STATE/state.db."""
        told = os.environ.get("SIS_DATABASE", "")
        if not told:
            with contextlib.suppress(FileNotFoundError):
                told = (self.state / DATABASE_URL).read_text(encoding="utf-8").strip()
        return told or self.state / "state.db"

    def keep_database(self, url: str) -> None:
        """Have every command of this state directory use the database at this URL. Raises what opening it raises."""
        from sis.inventory import db
        from sis.system.files import atomic_write

        db.open(url).close()
        self.state.mkdir(parents=True, exist_ok=True)
        atomic_write(self.state / DATABASE_URL, f"{url}\n".encode(), mode=0o600)

    def open_inventory(self, *, create: bool = False) -> Inventory:
        """The inventory. Without `create` a missing one is a fault: a mistyped --state makes no new cluster."""
        from sis.inventory import db

        where = self.database
        if isinstance(where, Path) and not create and not where.exists():
            raise NotFound(
                f"there is no inventory in {self.state}",
                hint="make it with 'sis head init', or name the right directory with --state or SIS_STATE",
            )
        try:
            return db.open(where)
        except PermissionError as error:
            raise SisError(f"cannot write {where}: {error.strerror}", hint="run as root, or give --state") from error

    def intent(self, inventory: Inventory) -> Intent:
        """Changes of what is wanted; a cluster file changed by them is remembered as the one applied last."""
        from sis.inventory.intent import Intent

        return Intent(inventory, self._keep)

    def _keep(self, path: Path, raw: bytes) -> None:
        from sis.head import applied

        applied.keep_cluster(self.state, path, raw)


def fancy(stream: TextIO, color: str = "auto") -> bool:
    """Whether `stream` gets colours and boxes: a terminal does, if --color, NO_COLOR, FORCE_COLOR, TERM agree."""
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def start_logging() -> None:
    """Send what `sis` logs (programs run, their times) to stderr."""
    import logging

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("sis").setLevel(logging.DEBUG)
