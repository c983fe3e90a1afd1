"""Items of deltas that are there already: what was found for the same content once is not sought again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from blake3 import blake3

from sis.errors import Corrupt, NotFound
from sis.image import delta
from sis.image.delta import NOTHING, Placed, Stretch
from sis.image.delta_encode import Encoded
from sis.image.delta_plan import Work
from sis.image.delta_read import Delta, open_delta
from sis.image.documents.tables import Novel
from sis.image.model import Entry
from sis.image.store import LocalStore

_DELTAS_MAX = 6
"""How many are looked into, the newest first."""


class _Known(NamedTuple):
    delta: Delta
    placed: Placed


class Reuse:
    """Items that make some chunks in a row, by those chunks, from the deltas of `store` that lead from or to a version.

    An item serves here if what it is made from is among the files of `before`, wherever they lie there.
    """

    def __init__(self, store: LocalStore, before: str, after: str, entries: Sequence[Entry]) -> None:
        self._known: dict[bytes, _Known] = {}
        self._files: dict[bytes, int] = {}
        for number, entry in enumerate(entries):
            if entry.chunks:
                self._files.setdefault(entry.chunks, number)
        for name in _akin(store, before, after):
            self._learn(store, *name)

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
            manifests = (store.manifest(store.version(end).manifest) for end in (before, after))
            bound = opened.bound(*manifests)
        except (Corrupt, NotFound):
            return
        for placed in bound.items:
            self._known.setdefault(_key(placed.chunks), _Known(bound, placed))


def _akin(store: LocalStore, before: str, after: str) -> list[tuple[str, str]]:
    """The deltas worth a look: from or to one of the two."""
    aged = []
    for name in store.names("deltas"):
        old, _, new = name.partition("-")
        if old != NOTHING and (old == before or new == after):
            aged.append(((store.path / "deltas" / name).stat().st_mtime_ns, old, new))
    return [(old, new) for _, old, new in sorted(aged, reverse=True)[:_DELTAS_MAX]]


def _key(chunks: Iterable[Novel]) -> bytes:
    return blake3(b"".join(chunk.digest for chunk in chunks)).digest()
