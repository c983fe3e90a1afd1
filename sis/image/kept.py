"""A store around a store that keeps what a node needs again: ref, version, manifest, table. Newer ones come as deltas.

An unchanged night then is one conditional GET of the ref. What is kept is checked like what is fetched, at every use.
How new the refs were is kept too: an older one, though signed, is refused.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sis.errors import Corrupt, NotFound, SisError, Unreachable
from sis.image.documents import codec
from sis.image.documents.stored import DOCUMENT_BYTES_MAX, compress, document_of
from sis.image.model import ChunkTable, Manifest, Version
from sis.image.names import HEX_DIGEST, IMAGE_NAME
from sis.image.sign import Opened
from sis.image.store import VERSION_BYTES_MAX, Beginning, DocumentStore
from sis.system.files import atomic_write, make_dirs, read_at_most

if TYPE_CHECKING:
    from sis.image.delta_read import Delta, OpenDelta
    from sis.image.step import Part, Step

_FOLDERS = ("versions", "manifests", "tables", "parts", "dictionaries")
_WHOLE_FOLDERS = ("versions", "dictionaries")
"""Those whose files are kept as they come; manifests and tables are kept once they are found to be well-formed."""

_APPLIED = "applied"
_TAG = ".tag"
_TAG_BYTES_MAX = 256
_SEEN = "seen"
_SEEN_BYTES_MAX = 128
_FILES_MAX = 12
"""Kept files a folder; when there are more, as after checks against many versions, the oldest go."""

_FAST_LEVEL = 1

_PUT_OFF_BYTES_MAX = 16 << 20
"""A longer document is kept at once, not held in memory until there is time for it."""

PARTS_MAX = 8
"""Chunk tables in a row that are kept as what the next has more; each keeps an older manifest."""

log = logging.getLogger(__name__)

_Document = TypeVar("_Document", Manifest, ChunkTable)


class KeptStore(DocumentStore):
    """Reads `store`, and keeps documents in the directory `folder`; without one, in memory until `settle`.

    The folder also says which version the tree was last made equal to, so that the delta from it is asked for first.
    `notices` has a sentence for each delta that could not be used.
    """

    def __init__(self, store: DocumentStore, folder: Path | None = None) -> None:
        self.inner = store
        self.folder = folder
        self.notices: list[str] = []
        self._memory: dict[str, bytes] = {}
        self._opened: dict[str, OpenDelta | None] = {}
        self._manifests: dict[str, Manifest] = {}
        self._tables: dict[str, ChunkTable] = {}
        self._parts: dict[str, Part] = {}
        self._led_to: dict[str, str] = {}
        self._unkept: dict[str, bytes] = {}

    # Reading.

    def whole(self, name: str, limit: int) -> bytes | None:
        folder = name.partition("/")[0]
        if folder == "refs":
            return self._ref(name, limit)
        if folder not in _WHOLE_FOLDERS:
            return self.inner.whole(name, limit)
        kept = self._kept(name, limit)
        if kept is not None:
            return kept
        data = self.inner.whole(name, limit)
        if data is not None:
            self._keep(name, data)
        return data

    def begin(self, name: str, limit: int) -> Beginning | None:
        return self.inner.begin(name, limit)

    def read(self, name: str, offset: int, length: int) -> Iterator[bytes]:
        return self.inner.read(name, offset, length)

    def close(self) -> None:
        self.inner.close()

    def opened(self, image: str, *, key: str | None = None, seen_sequence: int = 0) -> Opened:
        """An image's ref; with a pinned key, never one older than was seen here before."""
        seen = 0 if key is None else self._seen(image, key)
        opened = super().opened(image, key=key, seen_sequence=max(seen_sequence, seen))
        if key is not None and opened.ref.sequence > seen:
            self._keep(f"{_SEEN}/{image}", f"{opened.ref.sequence} {key}\n".encode())
        return opened

    def _seen(self, image: str, key: str) -> int:
        """The highest sequence number of an image's ref that this key signed and that was read here."""
        kept = self._kept(f"{_SEEN}/{image}", _SEEN_BYTES_MAX) if IMAGE_NAME.fullmatch(image) else None
        number, _, signed_by = (kept or b"").decode("latin-1").strip().partition(" ")
        return int(number) if signed_by == key and number.isascii() and number.isdigit() else 0

    def version(self, version_id: str) -> Version:
        self._learn(version_id)
        try:
            version = super().version(version_id)
        except Corrupt:
            if not self._forget(f"versions/{version_id}"):
                raise
            version = super().version(version_id)
        self._led_to.update({version.manifest: version_id, version.table: version_id})
        return version

    def dictionary(self, digest: bytes) -> bytes:
        try:
            return super().dictionary(digest)
        except Corrupt:
            if not self._forget(f"dictionaries/{digest.hex()}"):
                raise
            return super().dictionary(digest)

    def manifest(self, digest: str) -> Manifest:
        """Decoded once: the same value is given again."""
        if digest not in self._manifests:
            self._manifests[digest] = self._decoded("manifests", digest, codec.decode_manifest, self._manifest_by_delta)
        return self._manifests[digest]

    def table(self, digest: str) -> ChunkTable:
        if digest not in self._tables:
            self._tables[digest] = self._decoded("tables", digest, codec.decode_table, self._table_of_part)
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
            self._drop(name)
        here = made(digest)
        if here is not None:
            self._unkept[name] = here[1]
            if len(here[1]) > _PUT_OFF_BYTES_MAX:
                self._keep_what_is_not()
            return here[0]
        stored, data = self._document(name, digest)
        document = decode(data)
        self._keep(name, stored)
        return document

    def _kept_document(self, name: str, digest: str) -> bytes | None:
        kept = self._kept(name, DOCUMENT_BYTES_MAX)
        if kept is not None:
            with contextlib.suppress(Corrupt):
                return document_of(kept, name, digest)
            self._drop(name)
        return None

    def _no_image(self, image: str) -> NotFound:
        return self.inner._no_image(image)

    def _ref(self, name: str, limit: int) -> bytes | None:
        kept = self._kept(name, limit)
        tag = self._kept(name + _TAG, _TAG_BYTES_MAX) if kept is not None else None
        found = self.inner.whole_unless(name, limit, tag.decode("latin-1") if tag else None)
        if found is None or found.data is None:
            return None if found is None else kept
        self._drop(name + _TAG)
        self._keep(name, found.data)
        if found.tag is not None:
            self._keep(name + _TAG, found.tag.encode("latin-1"))
        return found.data

    # Deltas.

    @property
    def applied(self) -> str | None:
        """The id of the version the tree was last made equal to."""
        data = self._kept(_APPLIED, 64)
        text = data.decode("latin-1") if data else ""
        return text if HEX_DIGEST.fullmatch(text) else None

    def delta(self, version_id: str) -> Delta | None:
        """The delta from the version applied (from nothing) to another, if the store has one that is sound."""
        opened = self._open(version_id)
        if opened is None:
            return None
        before = self.applied
        try:
            digest = "" if before is None else self.version(before).manifest
            old = self.manifest(digest) if digest else Manifest(())
            delta = opened.bound(old, self.manifest(self.version(version_id).manifest))
        except (Corrupt, NotFound) as error:
            self._refuse(version_id, error)
            return None
        self._manifests.pop(digest, None)
        return delta

    def step(self, version_id: str) -> Step | None:
        """The way to a version by what differs from the one applied; None where there is more to look at."""
        opened, before = self._open(version_id), self.applied
        if opened is None or before is None:
            return None
        from sis.image.step import is_small, step_between

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
        if digest not in self._tables and self._kept_parts(digest) is None:
            self.table(digest)

    def _keep_what_is_not(self) -> None:
        while self._unkept:
            name, data = self._unkept.popitem()
            self._keep(name, compress(data, _FAST_LEVEL))

    def _learn(self, version_id: str) -> None:
        """Make a version's record from the delta that leads to it, where it is not kept and that works."""
        if self._has(f"versions/{version_id}") or (opened := self._open(version_id)) is None:
            return
        from sis.image.delta_read import must_be

        try:
            before = self.applied
            old = b"" if before is None else self.whole(f"versions/{before}", VERSION_BYTES_MAX)
            record = opened.version_bytes(old) if old is not None else None
            if record is not None:
                self._keep(f"versions/{version_id}", must_be(record, version_id, "the version"))
        except (Corrupt, NotFound) as error:
            self._refuse(version_id, error)

    def _manifest_by_delta(self, digest: str) -> tuple[Manifest, bytes] | None:
        data = self._patched_manifest(digest)
        try:
            return None if data is None else (codec.decode_manifest(data), data)
        except Corrupt as error:
            self._refuse(self._led_to[digest], error)
            return None

    def _patched_manifest(self, digest: str, old: bytes | None = None) -> bytes | None:
        """A manifest's bytes, of those of the one applied and the delta that leads from it, if that works.

        `old` are the bytes of the one applied, where these are at hand.
        """
        version_id = self._led_to.get(digest)
        opened = self._open(version_id) if version_id is not None else None
        if version_id is None or opened is None:
            return None
        from sis.image.delta_read import must_be

        try:
            if old is None:
                old = self._applied_manifest()
            data = opened.manifest_bytes(old)
            return None if data is None else must_be(data, digest, "the manifest")
        except (Corrupt, NotFound) as error:
            self._refuse(version_id, error)
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

    # Chunk tables that are made only when they are needed.

    def _table_of_part(self, digest: str) -> tuple[ChunkTable, bytes] | None:
        """A chunk table made of an older one and what it has more."""
        part = self._part(digest)
        if part is None:
            return None
        from sis.image.step import table_of

        try:
            before = self.table(part.table) if part.table else ChunkTable((), b"")
            older = self.manifest(part.manifest) if part.manifest else Manifest(())
            table = table_of(part, before, (older, self.manifest(part.newer_manifest)), digest)
            return table, codec.encode_table(table, checked=True)
        except (Corrupt, NotFound) as error:
            self._parts.pop(digest, None)
            self._drop(f"parts/{digest}")
            if digest in self._led_to:
                self._refuse(self._led_to[digest], error)
            return None

    def _part(self, digest: str) -> Part | None:
        """What a table can be made of: as it was kept, or as the delta that leads to it says."""
        if digest not in self._parts:
            from sis.image.step import decode_part

            kept = self._kept(f"parts/{digest}", DOCUMENT_BYTES_MAX)
            with contextlib.suppress(Corrupt, NotFound):
                part = self._part_by_delta(digest) if kept is None else decode_part(kept)
                if part is not None:
                    self._parts[digest] = part
        return self._parts.get(digest)

    def _part_by_delta(self, digest: str) -> Part | None:
        version_id = self._led_to.get(digest)
        opened = self._open(version_id) if version_id is not None else None
        if version_id is None or opened is None or not opened.has_table:
            return None
        from sis.image.step import Part

        newer, before = self.version(version_id), self.applied
        older = self.version(before) if before is not None else None
        tables = (older.table, older.manifest) if older is not None else ("", "")
        return Part(*tables, newer.manifest, opened.head.table)

    def _kept_parts(self, digest: str) -> list[str] | None:
        """The names of all a table can be made of later; None if it is to be made now."""
        from sis.image.step import encode_part

        names: list[str] = []
        while digest and not self._has(f"tables/{digest}"):
            part = self._part(digest)
            older = [f"manifests/{part.manifest}"] if part is not None and part.manifest else []
            if part is None or len(names) >= 2 * PARTS_MAX or not all(map(self._has, older)):
                return None
            self._keep(f"parts/{digest}", encode_part(part))
            names += [f"parts/{digest}", *older]
            digest = part.table
        return [*names, f"tables/{digest}"] if digest else names

    def _open(self, version_id: str) -> OpenDelta | None:
        applied = self.applied
        if applied == version_id:
            return None
        if version_id not in self._opened:
            from sis.image.delta import NOTHING
            from sis.image.delta_read import open_delta

            self._opened[version_id] = None
            try:
                self._opened[version_id] = open_delta(self.inner, applied or NOTHING, version_id)
            except (Corrupt, Unreachable) as error:
                self._refuse(version_id, error)
            else:
                if self._opened[version_id] is None and applied is not None:
                    self.notices.append(f"the store has no delta from {applied[:12]} to {version_id[:12]}")
        return self._opened[version_id]

    def _refuse(self, version_id: str, error: SisError) -> None:
        self._opened[version_id] = None
        self.notices.append(f"the delta to {version_id[:12]} is not used: {error.message}")

    # Keeping.

    def settle(self, version_id: str, folder: Path | None = None) -> None:
        """The tree is equal to a version now: keep its documents (in `folder`, from here on), and no other's."""
        if folder is not None and folder != self.folder:
            self.folder = folder
            memory, self._memory = self._memory, {}
            for name, data in memory.items():
                self._keep(name, data)
        self.keep_documents(version_id)
        version = self.version(version_id)
        wanted = {f"versions/{version_id}", f"manifests/{version.manifest}"}
        names = self._kept_parts(version.table) if version.table not in self._tables else None
        if names is None:
            table = self.table(version.table)
            wanted.add(f"tables/{version.table}")
            wanted.update(f"dictionaries/{pack.dictionary.hex()}" for pack in table.packs)
        else:
            wanted.update(names)
            wanted.update(name for name in self._names() if name.startswith("dictionaries/"))
        self._manifests.clear()
        self._tables.clear()
        self._keep(_APPLIED, version_id.encode())
        for name in self._names():
            if name not in wanted:
                self._drop(name)

    def _names(self) -> list[str]:
        if self.folder is None:
            return [name for name in self._memory if name.partition("/")[0] in _FOLDERS]
        return [f"{folder}/{path.name}" for folder in _FOLDERS for path in (self.folder / folder).glob("*")]

    def _kept(self, name: str, limit: int) -> bytes | None:
        if self.folder is None:
            return self._memory.get(name)
        try:
            return read_at_most(self.folder / name, limit)
        except OSError:
            return None

    def _keep(self, name: str, data: bytes) -> None:
        if self.folder is None:
            self._memory[name] = data
            return
        path = self.folder / name
        try:
            make_dirs(path.parent, mode=0o700)
            self._make_room(path.parent)
            atomic_write(path, data, mode=0o600, durable=name.partition("/")[0] not in _FOLDERS)
        except OSError as error:
            log.warning("%s cannot be kept (%s): it is fetched again next time", path, error.strerror)

    def _make_room(self, folder: Path) -> None:
        if folder == self.folder:
            return
        by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in by_age[: max(0, len(by_age) - _FILES_MAX + 1)]:
            path.unlink(missing_ok=True)

    def _has(self, name: str) -> bool:
        return name in self._memory if self.folder is None else (self.folder / name).is_file()

    def _forget(self, name: str) -> bool:
        """Drop a kept file that turned out to be damaged. False if there was none."""
        was_kept = self._kept(name, 1 << 30) is not None
        self._drop(name)
        return was_kept

    def _drop(self, name: str) -> None:
        self._memory.pop(name, None)
        if self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
