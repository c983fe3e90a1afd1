"""What drifted text files hold on this node, as diffs from what they are to hold; never of what others may not read."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from sis.errors import SisError
from sis.image.model import Entry, Kind
from sis.image.store.content import Contents
from sis.node.held import Held
from sis.sync.model import Change, Outcome
from sis.system.beneath import Beneath
from sis.wire import FileDiff

FILE_BYTES_MAX = 64 << 10
LINES_MAX = 4000
"""Of a file: what is compared line by line takes long on longer ones."""
TEXT_CHARS_MAX = 64 << 10
"""Of all diffs of a report together."""
FILES_MAX = 200
_CONTENT = frozenset(("content", "size"))
_CONFIG = "/etc/"
_OTHERS_READ, _OTHERS_ENTER = 0o004, 0o001
NOT_TOLD = "others may not read it: its content is not shown"


def diffs(root: Path, held: Held, outcome: Outcome) -> tuple[FileDiff, ...]:
    """A diff of each file of the node's layer and of /etc whose content differs, as far as that may be told.

    A file is secret unless others may read it and all directories above it, on the node and as it is to be.
    """
    found: list[FileDiff] = []
    left = TEXT_CHARS_MAX
    with Beneath(root) as tree:
        wanted = _Wanted(held)
        for change, path, entry in _candidates(held, outcome):
            diff = _diff(tree, wanted, change, path, entry)
            if diff is None:
                continue
            if len(diff.text) > left:
                diff = FileDiff(path=diff.path, text=_cut(diff.text, left), why="the rest is left out: too long")
            left -= len(diff.text)
            found.append(diff)
            if len(found) == FILES_MAX or left <= 0:
                break
    return tuple(found)


class _Wanted:
    """The bytes files are to hold: of the layer as they are at hand, of the image out of its store."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def read(self, entry: Entry) -> bytes | None:
        """None for a longer file than is compared. Raises SisError, OSError when the store cannot be read."""
        if entry.path in self._held.want.origins:
            return b"".join(self._held.want.blobs[chunk.digest] for chunk in entry.each_chunk())
        return self._contents.read(entry, FILE_BYTES_MAX)

    @cached_property
    def _contents(self) -> Contents:
        source = self._held.source
        return Contents(source.store, self._held.version, source.content.manifest)


def _candidates(held: Held, outcome: Outcome) -> Iterator[tuple[Change, bytes, Entry]]:
    for change in outcome.changes:
        # A backslash is an escaped byte: such names are no configuration.
        if not _CONTENT.intersection(change.what) or "\\" in change.path:
            continue
        path = os.fsencode(change.path.strip("/"))
        entry = held.want.entries.get(path)
        if entry is None or entry.kind is not Kind.FILE:
            continue
        if path in held.want.origins or change.path.startswith(_CONFIG):
            yield change, path, entry


def _diff(tree: Beneath, wanted: _Wanted, change: Change, path: bytes, entry: Entry) -> FileDiff | None:
    """None when the file is not there (any more), or is no file."""
    try:
        if not entry.mode & _OTHERS_READ or not _is_open(tree, path):
            return FileDiff(path=change.path, why=NOT_TOLD)
        there = _read(tree, path)
    except OSError:
        return None
    if isinstance(there, str):
        return FileDiff(path=change.path, why=there)
    try:
        is_to_be = wanted.read(entry)
    except (SisError, OSError) as error:
        return FileDiff(path=change.path, why=f"what it is to hold cannot be read: {error}"[:300])
    before, after = _lines(is_to_be), _lines(there)
    if before is None or after is None:
        return FileDiff(path=change.path, why="it is no text, or too long")
    names = (change.path, f"{change.path} (on the node)")
    lines = list(difflib.unified_diff(before, after, *names, n=2, lineterm=""))
    return FileDiff(
        path=change.path, text="\n".join(lines), why="" if lines else "only the end of the last line differs"
    )


def _is_open(tree: Beneath, path: bytes) -> bool:
    """Whether others may enter every directory above `path`."""
    parts = path.split(b"/")
    above = (b"/".join(parts[:depth]) for depth in range(1, len(parts)))
    return all(tree.lstat(each).st_mode & _OTHERS_ENTER for each in above)


def _read(tree: Beneath, path: bytes) -> bytes | str:
    """The file's bytes, or why they are not told."""
    handle = tree.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return "it is no file on the node"
        if not status.st_mode & _OTHERS_READ:
            return NOT_TOLD
        return file.read(FILE_BYTES_MAX + 1)


def _lines(content: bytes | None) -> list[str] | None:
    """None for what is no text, or longer than is compared."""
    if content is None or len(content) > FILE_BYTES_MAX or b"\0" in content:
        return None
    try:
        lines = content.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        return None
    return lines if len(lines) <= LINES_MAX else None


def _cut(text: str, limit: int) -> str:
    return text[: max(0, text.rfind("\n", 0, limit))]
