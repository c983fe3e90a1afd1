"""What every command is told: where the state lives and how to print."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

DEFAULT_STATE = Path("/var/lib/sis")
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
    def database(self) -> Path:
        return self.state / "state.db"


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
