"""What other programs made on the head, kept from run to run: it does not depend on our code, and is most of a run."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
from blake3 import blake3

from sis.system.files import atomic_write

Basis = Mapping[str, str]
"""What it was made from, and on: kept while all of this is the same."""


def place(folder: Path, family: str, basis: Basis) -> Path:
    """The kept folder of a family below `folder`; empty when there is none, or one of another basis."""
    kept, noted = folder / family, folder / f"{family}.json"
    if _read(noted) != basis:
        noted.unlink(missing_ok=True)
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        atomic_write(noted, msgspec.json.format(msgspec.json.encode(basis), indent=1) + b"\n")
    kept.mkdir(exist_ok=True)
    return kept


def code(path: Path) -> str:
    """The digest of a method's module: what it asks of its program."""
    return blake3(path.read_bytes()).hexdigest()


def _read(path: Path) -> dict[str, str] | None:
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    return None
