"""Which deltas lead on from the version applied: each is opened once, and left alone once it did not work."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sis.errors import Corrupt, SisError, Unreachable
from sis.image.documents.codec import decode_version
from sis.image.kept.shelf import Shelf
from sis.image.model import Version
from sis.image.names import HEX_DIGEST
from sis.image.store.reader import VERSION_BYTES_MAX, DocumentStore

if TYPE_CHECKING:
    from sis.image.deltas.reading import OpenDelta

_APPLIED = "applied"


class Ways:
    """The deltas of `store` from what `shelf` says was applied. `notices` has a sentence for each that is not used."""

    def __init__(self, store: DocumentStore, shelf: Shelf) -> None:
        self._store = store
        self._shelf = shelf
        self._opened: dict[str, OpenDelta | None] = {}
        self._led_to: dict[str, str] = {}
        self._unused: list[tuple[str | None, str, str]] = []

    @property
    def notices(self) -> tuple[str, ...]:
        """Told late: which versions they are about may be known only after another way to them was taken."""
        told = []
        for before, after, why in self._unused:
            way = f"from {self._name(before)} to {self._name(after)}"
            told.append(
                f"the delta {way} is not used, chunks are fetched instead: {why}"
                if why
                else f"the store has no delta {way}: chunks are fetched instead"
            )
        return tuple(told)

    @property
    def applied(self) -> str | None:
        """The id of the version the tree was last made equal to."""
        data = self._shelf.get(_APPLIED, 64)
        text = data.decode("latin-1") if data else ""
        return text if HEX_DIGEST.fullmatch(text) else None

    def apply(self, version_id: str) -> None:
        """Remember that the tree was made equal to a version."""
        self._shelf.put(_APPLIED, version_id.encode())

    def learn(self, version_id: str, version: Version) -> None:
        """Tell which version it is that has these documents."""
        self._led_to.update({version.manifest: version_id, version.table: version_id})

    def to(self, version_id: str) -> OpenDelta | None:
        """The delta to a version, if the store has one and it did not fail before."""
        applied = self.applied
        if applied == version_id:
            return None
        if version_id not in self._opened:
            from sis.image.deltas.delta import NOTHING
            from sis.image.deltas.reading import open_delta

            self._opened[version_id] = None
            try:
                self._opened[version_id] = open_delta(self._store, applied or NOTHING, version_id)
            except (Corrupt, Unreachable) as error:
                self.refuse(version_id, error)
            else:
                if self._opened[version_id] is None and applied is not None:
                    self._unused.append((applied, version_id, ""))
        return self._opened[version_id]

    def to_document(self, digest: str) -> OpenDelta | None:
        """The delta to the version that has this manifest or chunk table."""
        version_id = self._led_to.get(digest)
        return None if version_id is None else self.to(version_id)

    def refuse(self, version_id: str, error: SisError) -> None:
        """Do without the delta to a version."""
        self._opened[version_id] = None
        self._unused.append((self.applied, version_id, error.message))

    def _name(self, version_id: str | None) -> str:
        """A version as an admin knows it, as far as its record is at hand."""
        if version_id is None:
            return "nothing"
        kept = self._shelf.get(f"versions/{version_id}", VERSION_BYTES_MAX)
        with contextlib.suppress(Corrupt):
            if kept is not None:
                version = decode_version(kept)
                return f"{version.image}@{version.generation}"
        return version_id[:12]

    def refuse_document(self, digest: str, error: SisError) -> None:
        """Do without the delta to the version that has this manifest or chunk table, if there is one."""
        if digest in self._led_to:
            self.refuse(self._led_to[digest], error)
