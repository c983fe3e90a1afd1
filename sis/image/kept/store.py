"""A store around a store that keeps what a node needs again: ref, version, manifest, table. Newer ones come as deltas.

An unchanged night then is one conditional GET of the ref. What is kept is checked like what is fetched, at every use.
How new the refs were is kept too: an older one, though signed, is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sis.errors import Corrupt, NotFound
from sis.image.documents import codec
from sis.image.documents.stored import DOCUMENT_BYTES_MAX, compress, document_of
from sis.image.kept.shelf import Shelf
from sis.image.kept.ways import Ways
from sis.image.model import ChunkTable, Manifest, Version
from sis.image.names import IMAGE_NAME
from sis.image.store.reader import VERSION_BYTES_MAX, Beginning, DocumentStore
from sis.image.store.sign import Opened

if TYPE_CHECKING:
    from sis.image.deltas.reading import Delta
    from sis.image.kept.parts import Parts
    from sis.image.kept.step import Step

_WHOLE_FOLDERS = ("versions", "dictionaries")
"""Those whose files are kept as they come; manifests and tables are kept once they are found to be well-formed."""

_TAG = ".tag"
_TAG_BYTES_MAX = 256
_SEEN = "seen"
_SEEN_BYTES_MAX = 128
_FAST_LEVEL = 1

_PUT_OFF_BYTES_MAX = 16 << 20
"""A longer document is kept at once, not held in memory until there is time for it."""

_Document = TypeVar("_Document", Manifest, ChunkTable)


class KeptStore(DocumentStore):
    """Reads `store`, and keeps documents in the directory `folder`; without one, in memory until `settle`.

    The folder also says which version the tree was last made equal to, so that the delta from it is asked for first.
    `notices` has a sentence for each delta that could not be used.
    """

    def __init__(self, store: DocumentStore, folder: Path | None = None) -> None:
        self._inner = store
        self._shelf = Shelf(folder)
        self._ways = Ways(store, self._shelf)
        self._manifests: dict[str, Manifest] = {}
        self._tables: dict[str, ChunkTable] = {}
        self._unkept: dict[str, bytes] = {}

    @property
    def notices(self) -> Sequence[str]:
        return self._ways.notices

    @cached_property
    def _parts(self) -> Parts:
        from sis.image.kept.parts import Parts

        return Parts(self._shelf, self._ways)

    # Reading.

    def whole(self, name: str, limit: int) -> bytes | None:
        folder = name.partition("/")[0]
        if folder == "refs":
            return self._ref(name, limit)
        if folder not in _WHOLE_FOLDERS:
            return self._inner.whole(name, limit)
        kept = self._shelf.get(name, limit)
        if kept is not None:
            return kept
        data = self._inner.whole(name, limit)
        if data is not None:
            self._shelf.put(name, data)
        return data

    def begin(self, name: str, limit: int) -> Beginning | None:
        return self._inner.begin(name, limit)

    def read(self, name: str, offset: int, length: int) -> Iterator[bytes]:
        return self._inner.read(name, offset, length)

    def close(self) -> None:
        self._inner.close()

    def opened(self, image: str, *, key: str | None = None, seen_sequence: int = 0) -> Opened:
        """An image's ref; with a pinned key, never one older than was seen here before."""
        seen = 0 if key is None else self._seen(image, key)
        opened = super().opened(image, key=key, seen_sequence=max(seen_sequence, seen))
        if key is not None and opened.ref.sequence > seen:
            self._shelf.put(f"{_SEEN}/{image}", f"{opened.ref.sequence} {key}\n".encode())
        return opened

    def _seen(self, image: str, key: str) -> int:
        """The highest sequence number of an image's ref that this key signed and that was read here."""
        kept = self._shelf.get(f"{_SEEN}/{image}", _SEEN_BYTES_MAX) if IMAGE_NAME.fullmatch(image) else None
        number, _, signed_by = (kept or b"").decode("latin-1").strip().partition(" ")
        return int(number) if signed_by == key and number.isascii() and number.isdigit() else 0

    def version(self, version_id: str) -> Version:
        self._learn(version_id)
        try:
            version = super().version(version_id)
        except Corrupt:
            if not self._shelf.forget(f"versions/{version_id}"):
                raise
            version = super().version(version_id)
        self._ways.learn(version_id, version)
        return version

    def dictionary(self, digest: bytes) -> bytes:
        try:
            return super().dictionary(digest)
        except Corrupt:
            if not self._shelf.forget(f"dictionaries/{digest.hex()}"):
                raise
            return super().dictionary(digest)

    def manifest(self, digest: str) -> Manifest:
        """Decoded once: the same value is given again."""
        if digest not in self._manifests:
            self._manifests[digest] = self._decoded("manifests", digest, codec.decode_manifest, self._manifest_by_delta)
        return self._manifests[digest]

    def table(self, digest: str) -> ChunkTable:
        if digest not in self._tables:
            self._tables[digest] = self._decoded("tables", digest, codec.decode_table, self._table_of_parts)
        return self._tables[digest]

    def _decoded(
        self,
        folder: str,
        digest: str,
        decode: Callable[..., _Document],
        made: Callable[[str], tuple[_Document, bytes] | None],
    ) -> _Document:
        """Kept, or `made` of what is kept and the delta, or fetched.

        What is kept has been checked, and is proved to be the same bytes still.
        """
        name = f"{folder}/{digest}"
        kept = self._kept_document(name, digest)
        if kept is not None:
            with contextlib.suppress(Corrupt):
                return decode(kept, checked=True)
            self._shelf.drop(name)
        here = made(digest)
        if here is not None:
            self._unkept[name] = here[1]
            if len(here[1]) > _PUT_OFF_BYTES_MAX:
                self._keep_what_is_not()
            return here[0]
        stored, data = self._document(name, digest)
        document = decode(data)
        self._shelf.put(name, stored)
        return document

    def _table_of_parts(self, digest: str) -> tuple[ChunkTable, bytes] | None:
        return self._parts.table(digest, self)

    def _kept_document(self, name: str, digest: str) -> bytes | None:
        kept = self._shelf.get(name, DOCUMENT_BYTES_MAX)
        if kept is not None:
            with contextlib.suppress(Corrupt):
                return document_of(kept, name, digest)
            self._shelf.drop(name)
        return None

    def _no_image(self, image: str) -> NotFound:
        return self._inner._no_image(image)

    def _ref(self, name: str, limit: int) -> bytes | None:
        kept = self._shelf.get(name, limit)
        tag = self._shelf.get(name + _TAG, _TAG_BYTES_MAX) if kept is not None else None
        found = self._inner.whole_unless(name, limit, tag.decode("latin-1") if tag else None)
        if found is None or found.data is None:
            return None if found is None else kept
        self._shelf.drop(name + _TAG)
        self._shelf.put(name, found.data)
        if found.tag is not None:
            self._shelf.put(name + _TAG, found.tag.encode("latin-1"))
        return found.data

    # Deltas.

    @property
    def applied(self) -> str | None:
        """The id of the version the tree was last made equal to."""
        return self._ways.applied

    def delta(self, version_id: str) -> Delta | None:
        """The delta from the version applied (from nothing) to another, if the store has one that is sound."""
        opened = self._ways.to(version_id)
        if opened is None:
            return None
        before = self.applied
        try:
            digest = "" if before is None else self.version(before).manifest
            old = self.manifest(digest) if digest else Manifest(())
            delta = opened.bound(old, self.manifest(self.version(version_id).manifest))
        except (Corrupt, NotFound) as error:
            self._ways.refuse(version_id, error)
            return None
        self._manifests.pop(digest, None)
        return delta

    def step(self, version_id: str) -> Step | None:
        """The way to a version by what differs from the one applied; None where there is more to look at."""
        opened, before = self._ways.to(version_id), self.applied
        if opened is None or before is None:
            return None
        from sis.image.kept.step import is_small, step_between

        try:
            old, new = self.version(before).manifest, self.version(version_id).manifest
            old_data = self._kept_document(f"manifests/{old}", old) if is_small(opened) else None
            data = None if old_data is None else self._patched_manifest(new, old_data)
            if old_data is None or data is None:
                return None
            step = step_between(opened, old, old_data, data)
        except (Corrupt, NotFound):
            return None
        if step is not None:
            self._unkept[f"manifests/{new}"] = data
        return step

    def keep_documents(self, version_id: str) -> None:
        """Keep of a version what is still to be kept: something to do while a run has to wait."""
        self._keep_what_is_not()
        digest = self.version(version_id).table
        if digest not in self._tables and self._parts.keep(digest, self) is None:
            self.table(digest)

    def _keep_what_is_not(self) -> None:
        while self._unkept:
            name, data = self._unkept.popitem()
            self._shelf.put(name, compress(data, _FAST_LEVEL))

    def _learn(self, version_id: str) -> None:
        """Make a version's record from the delta that leads to it, where it is not kept and that works."""
        if self._shelf.has(f"versions/{version_id}") or (opened := self._ways.to(version_id)) is None:
            return
        from sis.image.deltas.reading import must_be

        try:
            before = self.applied
            old = b"" if before is None else self.whole(f"versions/{before}", VERSION_BYTES_MAX)
            record = opened.version_bytes(old) if old is not None else None
            if record is not None:
                self._shelf.put(f"versions/{version_id}", must_be(record, version_id, "the version"))
        except (Corrupt, NotFound) as error:
            self._ways.refuse(version_id, error)

    def _manifest_by_delta(self, digest: str) -> tuple[Manifest, bytes] | None:
        data = self._patched_manifest(digest)
        try:
            return None if data is None else (codec.decode_manifest(data), data)
        except Corrupt as error:
            self._ways.refuse_document(digest, error)
            return None

    def _patched_manifest(self, digest: str, old: bytes | None = None) -> bytes | None:
        """A manifest's bytes, of those of the one applied and the delta that leads from it, if that works.

        `old` are the bytes of the one applied, where these are at hand.
        """
        opened = self._ways.to_document(digest)
        if opened is None:
            return None
        from sis.image.deltas.reading import must_be

        try:
            if old is None:
                old = self._applied_manifest()
            data = opened.manifest_bytes(old)
            return None if data is None else must_be(data, digest, "the manifest")
        except (Corrupt, NotFound) as error:
            self._ways.refuse_document(digest, error)
            return None

    def _applied_manifest(self) -> bytes:
        """The bytes of the manifest applied, which is decoded as well: what a delta makes of old files is next."""
        before = self.applied
        if before is None:
            return b""
        digest = self.version(before).manifest
        kept = self._kept_document(f"manifests/{digest}", digest)
        if kept is None:
            return codec.encode_manifest(self.manifest(digest), checked=True)
        if digest not in self._manifests:
            self._manifests[digest] = codec.decode_manifest(kept, checked=True)
        return kept

    # Keeping.

    def settle(self, version_id: str, folder: Path | None = None) -> None:
        """The tree is equal to a version now: keep its documents (in `folder`, from here on), and no other's."""
        if folder is not None and folder != self._shelf.folder:
            self._shelf.move_to(folder)
        self.keep_documents(version_id)
        version = self.version(version_id)
        wanted = {f"versions/{version_id}", f"manifests/{version.manifest}"}
        names = self._parts.keep(version.table, self) if version.table not in self._tables else None
        if names is None:
            table = self.table(version.table)
            wanted.add(f"tables/{version.table}")
            wanted.update(f"dictionaries/{pack.dictionary.hex()}" for pack in table.packs)
        else:
            wanted.update(names)
            wanted.update(name for name in self._shelf.names() if name.startswith("dictionaries/"))
        self._manifests.clear()
        self._tables.clear()
        self._ways.apply(version_id)
        for name in self._shelf.names():
            if name not in wanted:
                self._shelf.drop(name)
