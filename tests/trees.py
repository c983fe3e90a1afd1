"""Trees as JSON listings: path → "dir", "-> target", or the text of a file (one byte a character)."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable
from pathlib import Path

from configurator.tree import Found

FIXTURES = Path(__file__).parent.parent / "fixtures"


def read_listing(file: Path) -> dict[str, str]:
    """The listing with the directories its paths imply."""
    listing: dict[str, str] = json.loads(file.read_text())
    for path in list(listing):
        above = posixpath.dirname(path)
        while above not in ("", "/"):
            listing.setdefault(above, "dir")
            above = posixpath.dirname(above)
    return dict(sorted(listing.items()))


def found(listing: dict[str, str]) -> dict[str, Found]:
    """The listing as footprints want it."""
    kinds: dict[str, Found] = {}
    for path, what in listing.items():
        if what.startswith("-> "):
            kinds[path] = Found("symlink", what[3:])
        else:
            kinds[path] = Found("dir" if what == "dir" else "file")
    return kinds


def reader(listing: dict[str, str]) -> Callable[[str], bytes | None]:
    """The texts of the listing's files, as footprints want them."""

    def read(path: str) -> bytes | None:
        text = listing.get(path, "dir")
        return None if text == "dir" or text.startswith("-> ") else text.encode("latin-1")

    return read


def make_tree(listing: dict[str, str], root: Path) -> Path:
    """The listing as a real tree below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    for path, what in listing.items():
        here = root / path.lstrip("/")
        if what == "dir":
            here.mkdir(parents=True, exist_ok=True)
        elif what.startswith("-> "):
            here.symlink_to(what[3:])
        else:
            here.write_bytes(what.encode("latin-1"))
    return root
