"""Items of deltas that are there already: what was found for the same content once is not sought again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from blake3 import blake3

from sis.errors import Corrupt, NotFound
from sis.image.deltas import delta
from sis.image.deltas.delta import NOTHING, Placed, Stretch
from sis.image.deltas.encoding import Encoded
from sis.image.deltas.plan import Work
from sis.image.deltas.reading import Delta, open_delta
from sis.image.deltas.side import Side
from sis.image.documents.rows import Rows, novel_rows
from sis.image.documents.tables import Novel
from sis.image.store.local import LocalStore

_DELTAS_MAX = 6
"""How many are looked into, the newest first."""


class _Known(NamedTuple):
    delta: Delta
    placed: Placed


class Reuse:
    """Items that make some chunks in a row, by those chunks, from the deltas of a store that lead from or to a version.

    An item serves here if what it is made from is among the files of `before`, wherever they lie there.
    """

    def __init__(self, before: Side, after: Side) -> None:
        self._sides = (before, after)
        self._known: dict[bytes, _Known] = {}
        for name in _akin(*self._sides):
            self._learn(after.store, *name)
        bases = (entry for known in self._known.values() for entry in known.delta.entries.values())
        self._files = _files_of(before.rows, frozenset(entry.chunks for entry in bases))

    def find(self, work: Work) -> Encoded | None:
        """The item for a piece of work, if one is known and undamaged."""
        known = self._known.get(_key(work.chunks))
        if known is None:
            return None
        base = []
        for stretch in known.placed.item.base:
            number = self._files.get(known.delta.entries[stretch.entry].chunks)
            if number is None:
                return None
            base.append(Stretch(number, stretch.offset, stretch.length))
        try:
            payload = b"".join(known.delta.read(known.placed.offset, known.placed.item.stored))
            delta.check_payload(known.placed, payload)
        except Corrupt:
            return None
        return Encoded(known.placed.item.method, payload, tuple(base))

    def _learn(self, store: LocalStore, before: str, after: str) -> None:
        try:
            opened = open_delta(store, before, after)
            if opened is None:
                return
            old = self._rows(store, before)
            bound = opened.placed(old, novel_rows(old, self._rows(store, after)))
        except (Corrupt, NotFound):
            return
        for placed in bound.items:
            self._known.setdefault(_key(placed.chunks), _Known(bound, placed))

    def _rows(self, store: LocalStore, version_id: str) -> Rows:
        for side in self._sides:
            if side.id == version_id:
                return side.rows
        return Rows(store.manifest_bytes(store.version(version_id).manifest))


def _files_of(rows: Rows, contents: Collection[bytes]) -> dict[bytes, int]:
    """By content, the number of the first entry that has it."""
    files: dict[bytes, int] = {}
    for number in range(len(rows)) if contents else ():
        chunks = rows[number].chunks
        if chunks in contents:
            files.setdefault(chunks, number)
    return files


def _akin(before: Side, after: Side) -> list[tuple[str, str]]:
    """The deltas worth a look: from or to one of the two. A delta from nothing is made of one piece: none serves."""
    store = after.store
    aged = []
    for name in store.names("deltas") if before.version else ():
        old, _, new = name.partition("-")
        if old != NOTHING and (old == before.id or new == after.id):
            aged.append(((store.path / "deltas" / name).stat().st_mtime_ns, old, new))
    return [(old, new) for _, old, new in sorted(aged, reverse=True)[:_DELTAS_MAX]]


def _key(chunks: Iterable[Novel]) -> bytes:
    return blake3(b"".join(chunk.digest for chunk in chunks)).digest()
