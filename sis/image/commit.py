"""A tree becomes a version: scan it, pack what is new, write manifest and table, and last of all the ref."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sis.errors import Corrupt, Refused
from sis.image.documents import manifest_out
from sis.image.model import ChunkTable, Manifest, Version
from sis.image.names import digest_of
from sis.image.progress import Progress
from sis.image.store import packs, refs
from sis.image.store.index import ChunkIndex
from sis.image.store.latest import Latest, latest
from sis.image.store.local import LocalStore
from sis.image.store.packs import PACK_BYTES_TARGET, PackRow, PackWriter
from sis.image.tree import dictionary, seen
from sis.image.tree.scan import Scan, scan
from sis.image.tree.seen import Seen


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

    All or nothing: killed anywhere, the store is as before, and committing again finishes the work. What the store has
    lost of the newest generation is made anew where the tree still gives it; else the next generation is whole. Raises
    Locked when another commit or prune is at work for longer than `wait_s`.
    """
    refs.check_image_name(image)
    _refuse_own_store(store, tree)
    with store.writing(f"commit of {image}", wait_s=wait_s), _Packer(store) as packer:
        last = _latest(store, image)
        packer.go_on_from(last)
        # Of what the store has lost all is read again, and what is made of it is a version that is whole.
        before = None if last.lost else seen.read(store, image)
        found = _scan(tree, before, last.version, packer, progress)
        manifest = Manifest(entries=found.entries)
        named = manifest_out.named(manifest)
        kept_policy = tuple((pattern, verb) for pattern, verb in policy)
        same = last.version
        if same is not None and (same.manifest, same.policy) != (named.digest, kept_policy):
            same = None
        lost = (*last.lost, *_lost_manifest(store, last.version, before))
        if last.id and same and not lost:
            seen.write(store, same, found.identities)
            return Committed(last.id, same, True, found.notices, found.bytes_read, packer.bytes_written)
        store.write_manifest(manifest, named)
        table = packer.table(manifest)
        table_digest = store.write_table(table)
        still_lost = _still_lost(store, image) if lost else ()
        made_anew = (f"{file} was missing or damaged, and is made anew" for file in lost if file not in still_lost)
        notices = (*found.notices, *made_anew)
        if last.id and same and not still_lost:
            seen.write(store, same, found.identities)
            return Committed(last.id, same, True, notices, found.bytes_read, packer.bytes_written)
        version = Version(
            image=image,
            generation=last.number + 1,
            parent=last.id,
            manifest=named.digest,
            table=table_digest,
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
        seen.write(store, version, found.identities)
        if still_lost:
            notices += (_about_damaged(last.number, version, still_lost),)
        return Committed(version_id, version, False, notices, found.bytes_read, packer.bytes_written)


def _latest(store: LocalStore, image: str) -> Latest:
    with store.changing_ref(image) as ref:
        return latest(store, ref, lambda: seen.record_of(store, image))


def _scan(tree: Path, before: Seen | None, version: Version | None, packer: _Packer, progress: Progress | None) -> Scan:
    """Scan with what the last commit saw; without it, if the store has lost chunks that were not read again.

    `version` is one whose packs are there.
    """
    found = scan(tree, reuse=before.cache if before else None, sink=packer, progress=progress)
    packer.finish()
    if before is None:
        return found
    if version is not None and (version.manifest, found.identities) == (before.manifest, before.cache.identities):
        return found
    if not packer.index().holds(found.entries):
        found = scan(tree, sink=packer, progress=progress)
        packer.finish()
    return found


def _lost_manifest(store: LocalStore, version: Version | None, before: Seen | None) -> tuple[str, ...]:
    """The manifest of a version, if it is missing or damaged. What was read before is not read again."""
    if version is None or (before is not None and before.manifest == version.manifest):
        return ()
    file = f"manifests/{version.manifest}"
    return () if store.is_whole(file) else (file,)


def _still_lost(store: LocalStore, image: str) -> tuple[str, ...]:
    now = _latest(store, image)
    return (*now.lost, *_lost_manifest(store, now.version, None))


def _about_damaged(number: int, after: Version, lost: Sequence[str]) -> str:
    """What a person should know of a generation that is damaged, and now has a whole one after it."""
    damaged = f"{after.image}@{number}"
    return (
        f"{damaged} is damaged ({', '.join(lost)}), {after.image}@{after.generation} is whole:"
        f" publish it to the channels of the other, and 'sis image prune {damaged}' removes that"
    )


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
        self._lost: tuple[str, ...] = ()

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

    def go_on_from(self, last: Latest) -> None:
        """Go on with the dictionary of an earlier version's packs: who has that version has it."""
        self._lost = last.lost
        used = [pack.dictionary for pack in last.packs if pack.dictionary]
        if used:
            with contextlib.suppress(Corrupt):
                self._dictionary, self._dictionary_digest = self._store.dictionary(used[-1]), used[-1]

    def learn(self, small_bytes: int, samples: Callable[[], list[bytes]]) -> None:
        if self._dictionary or small_bytes < dictionary.TREE_BYTES_MIN:
            return
        self._dictionary = dictionary.train(samples())
        if self._dictionary:
            name = digest_of(self._dictionary)
            self._dictionary_digest = bytes.fromhex(name)
            if f"dictionaries/{name}" in self._lost:
                self._store.write_dictionary(self._dictionary)

    def encode(self, data: memoryview) -> bytes:
        return packs.encode(data, self._dictionary if len(data) <= dictionary.SMALL_BYTES else b"")

    def wants(self, digest: bytes) -> bool:
        index = self._index or self.index()
        return digest not in index and digest not in self._new

    def put(self, digest: bytes, size_bytes: int, stored: bytes) -> None:
        if not self.wants(digest):
            return
        if self._writer is None:
            if self._dictionary:
                self._store.write_dictionary(self._dictionary)
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
