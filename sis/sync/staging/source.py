"""Where content comes from: a version in a store. Its manifest, chunk table and delta are read when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sis.image.kept.store import KeptStore
from sis.image.model import ChunkTable, Manifest, Version
from sis.image.store.reader import Store

if TYPE_CHECKING:
    from sis.image.deltas.reading import Delta
    from sis.image.documents.tables import Location
    from sis.image.kept.step import Step


class Content(NamedTuple):
    """What a version's chunks are, and where they lie, which is read when something has to come out of packs.

    `delta` leads to it from what the tree was last made equal to.
    """

    manifest: Manifest
    read_table: Callable[[], ChunkTable]
    delta: Delta | None = None


@dataclass
class ChunkSource:
    """A version of a store.

    version_id  is given where the store keeps its documents
    wanted      digests of the chunks that may be asked for, by themselves; None: of all
    """

    store: Store
    open: Callable[[], Content] = field(repr=False)
    version_id: str | None = None
    wanted: Mapping[bytes, bytes] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, store: Store, manifest: Manifest, table: ChunkTable) -> ChunkSource:
        """A version whose documents are at hand."""
        return cls(store, lambda: Content(manifest, lambda: table))

    @cached_property
    def content(self) -> Content:
        """Raises what reading a manifest does."""
        return self.open()

    @cached_property
    def table(self) -> ChunkTable:
        """Raises what reading a table does."""
        return self.content.read_table()

    @property
    def delta(self) -> Delta | None:
        return self.content.delta

    def step(self) -> Step | None:
        """The way here from what the tree was last made equal to, by what differs alone; None if there is none."""
        if not isinstance(self.store, KeptStore) or self.version_id is None:
            return None
        return self.store.step(self.version_id)

    @property
    def notices(self) -> tuple[str, ...]:
        """What there is to tell about how this source was opened, a sentence each."""
        return tuple(self.store.notices) if isinstance(self.store, KeptStore) else ()

    def is_settled(self) -> bool:
        """Whether the store already knows that the tree was made equal to this version."""
        return not isinstance(self.store, KeptStore) or self.version_id in (None, self.store.applied)

    def keep_documents(self) -> None:
        """Keep what was learnt of this version, so that another run can do without the store."""
        if isinstance(self.store, KeptStore) and self.version_id is not None:
            self.store.keep_documents(self.version_id)

    def settle(self, state: Path) -> None:
        """The tree that remembers in `state` is equal to this version now: the next delta leads from it."""
        if isinstance(self.store, KeptStore) and self.version_id is not None:
            self.store.settle(self.version_id, documents_of(state))

    @cached_property
    def locations(self) -> Mapping[bytes, Location]:
        """By chunk digest, where it lies in the packs; of those that are wanted."""
        from sis.image.documents.tables import chunk_locations

        return chunk_locations(self.content.manifest, self.table, self.wanted)

    def stored_bytes(self, digest: bytes) -> int:
        """What fetching a chunk costs; 0 for one that is in no pack (fetching it says so)."""
        told = self.delta.stored.get(digest) if self.delta is not None else None
        if told is not None:
            return told
        location = self.locations.get(digest)
        return location.stored if location else 0

    def forget_chunks(self) -> None:
        """Give back the memory of where chunks lie, until that is asked for again."""
        self.__dict__.pop("locations", None)
        self.wanted = None

    def pack_name(self, number: int) -> str:
        return f"packs/{self.table.packs[number].digest.hex()}"

    def dictionary(self, number: int) -> bytes:
        """The content of the zstd dictionary that a pack's frames need, b"" for none."""
        digest = self.table.packs[number].dictionary
        return self.store.dictionary(digest) if digest else b""


def documents_of(state: Path) -> Path:
    """Where versions, manifests and tables are kept for the tree that remembers in `state`."""
    return state / "documents"


def open_source(store: Store, version_id: str, version: Version) -> ChunkSource:
    """The content of a version, and the delta that leads to it if there is one."""

    def content() -> Content:
        manifest = store.manifest(version.manifest)
        delta = store.delta(version_id) if isinstance(store, KeptStore) else None
        return Content(manifest, lambda: store.table(version.table), delta)

    return ChunkSource(store, content, version_id)
