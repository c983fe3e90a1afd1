"""A tree becomes a version: scan it, pack what is new, write manifest and table, and last of all the ref."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sis.errors import Corrupt, NotFound, Refused
from sis.image.documents import manifest_out
from sis.image.model import FORMAT, ChunkTable, Manifest, PackRef, Ref, Version
from sis.image.progress import Progress
from sis.image.store import packs, refs
from sis.image.store.index import ChunkIndex
from sis.image.store.local import LocalStore
from sis.image.store.packs import PACK_BYTES_TARGET, PackRow, PackWriter
from sis.image.tree import dictionary
from sis.image.tree.found import IDENTITY, ScanCache
from sis.image.tree.scan import Scan, scan


@dataclass(frozen=True)
class Committed:
    """What a commit made. `unchanged`: the latest generation already is this tree; `version` is that one."""

    version_id: str
    version: Version
    unchanged: bool
    notices: tuple[str, ...]
    bytes_read: int = 0
    bytes_written: int = 0
    """Bytes of new packs."""


def commit(
    store: LocalStore,
    image: str,
    tree: Path,
    *,
    policy: Sequence[tuple[str, str]] = (),
    lock: Mapping[str, str] | None = None,
    os: Mapping[str, str] | None = None,
    spec: str | None = None,
    note: str = "",
    progress: Progress | None = None,
    wait_s: float = 0.0,
) -> Committed:
    """Make the directory `tree` the next generation of `image`.

    All or nothing: killed anywhere, the store is as before, and committing again finishes the work. Raises Locked
    when another commit or prune is at work for longer than `wait_s`.
    """
    refs.check_image_name(image)
    _refuse_own_store(store, tree)
    with store.writing(f"commit of {image}", wait_s=wait_s), _Packer(store) as packer:
        ref = _current(store, image)
        parent_id, parent = _latest(store, ref)
        needed = _packs_of(store, parent)
        packer.use_dictionary_of(needed)
        # Chunks the store has lost are read again, and what is made of them is a version that is whole.
        cache = _read_cache(store, image) if _are_there(store, needed) else None
        found = _scan(tree, cache, packer, progress)
        manifest = Manifest(entries=found.entries)
        named = manifest_out.named(manifest)
        kept_policy = tuple((pattern, verb) for pattern, verb in policy)
        is_same = parent is not None and (parent.manifest, parent.policy) == (named.digest, kept_policy)
        if parent_id and parent and is_same and _are_there(store, needed):
            _write_cache(store, image, named.digest, found)
            return Committed(parent_id, parent, True, found.notices, found.bytes_read, packer.bytes_written)
        store.write_manifest(manifest, named)
        table = packer.table(manifest)
        version = Version(
            image=image,
            generation=parent.generation + 1 if parent else 1,
            parent=parent_id,
            manifest=named.digest,
            table=store.write_table(table),
            created=refs.now_text(),
            entries=len(manifest.entries),
            content_bytes=_content_bytes(manifest),
            stored_bytes=sum(stored for _, _, stored, _ in table.each_row()),
            policy=kept_policy,
            lock=dict(lock or {}),
            os=dict(os or {}),
            spec=spec,
            note=note,
        )
        version_id = store.write_version(version)
        with store.changing_ref(image) as now:
            store.write_ref(refs.with_generation(now, image, version.generation, version_id))
        _write_cache(store, image, named.digest, found)
        return Committed(version_id, version, False, found.notices, found.bytes_read, packer.bytes_written)


def _scan(tree: Path, cache: ScanCache | None, packer: _Packer, progress: Progress | None) -> Scan:
    """Scan with what the last commit knew; without it, if the store has lost chunks that were not read again."""
    found = scan(tree, reuse=cache, sink=packer, progress=progress)
    packer.finish()
    if cache is not None and found.identities != cache.identities and not packer.index().holds(found.entries):
        found = scan(tree, sink=packer, progress=progress)
        packer.finish()
    return found


class _Packer:
    """Writes the chunks the store does not have yet into packs, in the order they come."""

    def __init__(self, store: LocalStore) -> None:
        self.bytes_written = 0
        self._store = store
        self._index: ChunkIndex | None = None
        self._reading = threading.Lock()
        self._writer: PackWriter | None = None
        self._new: dict[bytes, PackRow] = {}
        self._made = 0
        self._dictionary = b""
        self._dictionary_digest = b""

    def __enter__(self) -> _Packer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.abandon()

    def index(self) -> ChunkIndex:
        """The chunks of all packs that have their name; read when first asked for."""
        with self._reading:
            if self._index is None:
                self._index = ChunkIndex.of(self._store)
            return self._index

    def use_dictionary_of(self, before: Sequence[PackRef] | None) -> None:
        """Go on with the dictionary of an earlier version's packs: who has that version has it."""
        used = [pack.dictionary for pack in before or () if pack.dictionary]
        if used:
            with contextlib.suppress(Corrupt):
                self._dictionary, self._dictionary_digest = self._store.dictionary(used[-1]), used[-1]

    def learn(self, small_bytes: int, samples: Callable[[], list[bytes]]) -> None:
        if self._dictionary or small_bytes < dictionary.TREE_BYTES_MIN:
            return
        self._dictionary = dictionary.train(samples())
        if self._dictionary:
            self._dictionary_digest = self._store.write_dictionary(self._dictionary)

    def encode(self, data: memoryview) -> bytes:
        return packs.encode(data, self._dictionary if len(data) <= dictionary.SMALL_BYTES else b"")

    def wants(self, digest: bytes) -> bool:
        index = self._index or self.index()
        return digest not in index and digest not in self._new

    def put(self, digest: bytes, size_bytes: int, stored: bytes) -> None:
        if not self.wants(digest):
            return
        if self._writer is None:
            self._writer = self._store.new_pack(self._made, self._dictionary_digest)
            self._made += 1
        self._new[digest] = self._writer.add(digest, size_bytes, stored)
        if self._writer.size >= PACK_BYTES_TARGET:
            self.finish()

    def table(self, manifest: Manifest) -> ChunkTable:
        """The chunk table of a manifest all of whose chunks are in packs. The index is let go then."""
        table = self.index().table(manifest)
        self._index = None
        return table

    def finish(self) -> None:
        """Close the pack being written, if any."""
        if self._writer is None:
            return
        done = self._store.place_pack(self._writer)
        index = self.index()
        number = index.add_pack(done)
        for row in self._writer.rows:
            index.add(number, row)
        self._new.clear()
        self._writer = None
        self.bytes_written += done.size


class _CacheFile(msgspec.Struct, frozen=True, array_like=True):
    manifest: str
    identities: bytes
    format: int = FORMAT


def _read_cache(store: LocalStore, image: str) -> ScanCache | None:
    """What the last commit of this image saw, if the store still holds that manifest."""
    data = store.cached(f"scan-{image}")
    if data is None:
        return None
    with contextlib.suppress(msgspec.MsgspecError, Corrupt, NotFound):
        kept = msgspec.msgpack.decode(data, type=_CacheFile)
        if kept.format == FORMAT:
            entries = store.manifest(kept.manifest).entries
            if len(kept.identities) == len(entries) * IDENTITY.size:
                return ScanCache(entries, kept.identities)
    return None


def _write_cache(store: LocalStore, image: str, manifest: str, found: Scan) -> None:
    store.cache(f"scan-{image}", msgspec.msgpack.encode(_CacheFile(manifest, found.identities)))


def _current(store: LocalStore, image: str) -> Ref | None:
    with store.changing_ref(image) as ref:
        return ref


def _latest(store: LocalStore, ref: Ref | None) -> tuple[str | None, Version | None]:
    if ref is None or not ref.generations:
        return None, None
    version_id = ref.generations[str(refs.latest(ref))]
    return version_id, store.version(version_id)


def _packs_of(store: LocalStore, version: Version | None) -> tuple[PackRef, ...] | None:
    """What a version needs, none before the first; None where that cannot be read."""
    with contextlib.suppress(Corrupt):
        return () if version is None else store.table(version.table).packs
    return None


def _are_there(store: LocalStore, needed: Sequence[PackRef] | None) -> bool:
    """Whether these packs are there, as long as they should be; what is in them is for `verify` to say."""
    try:
        return needed is not None and all(
            (store.path / f"packs/{pack.digest.hex()}").stat().st_size == pack.size for pack in needed
        )
    except FileNotFoundError:
        return False


def _content_bytes(manifest: Manifest) -> int:
    counted: set[int] = set()
    total = 0
    for entry in manifest.entries:
        if entry.link:
            if entry.link in counted:
                continue
            counted.add(entry.link)
        total += entry.size
    return total


def _refuse_own_store(store: LocalStore, tree: Path) -> None:
    if store.path.resolve().is_relative_to(tree.resolve()):
        raise Refused(
            f"the store {store.path} lies in the tree {tree}", hint="commit a tree that does not hold the store itself"
        )
