"""Where a value of a text was written, and the faults found there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sis.errors import SpecInvalid

Path = tuple[str | int, ...]
"""The way from the top of a document to a value: mapping keys and list indexes."""


@dataclass(frozen=True, order=True)
class Place:
    """A position in a file; `line` and `column` count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, order=True)
class Fault:
    """One thing wrong with a text: where, at which path (empty for the whole document), and what."""

    place: Place
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.path}: {self.text}" if self.path else f"{self.place}: {self.text}"


def dotted(path: Path) -> str:
    """`("disks", 0, "size")` as `disks[0].size`; keys that hold more than a plain word are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "").replace("-", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def refuse(what: str, faults: Iterable[Fault]) -> SpecInvalid:
    """The error that tells every fault of `what` (the name of a file) at once, in the order of the lines."""
    lines = list(dict.fromkeys(str(fault) for fault in sorted(faults)))
    number = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    return SpecInvalid(f"{what}: {number}", details=lines)
