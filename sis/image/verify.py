"""Every byte of a store against its digest, and every reference followed: what is damaged, and whom it hits."""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from sis.errors import Corrupt, NotFound, Refused, SisError, TooNew
from sis.image.deltas.delta import NOTHING
from sis.image.deltas.reading import open_delta
from sis.image.documents.tables import Location, chunk_locations
from sis.image.model import Manifest, PackRef, Version
from sis.image.names import show_path
from sis.image.progress import Progress
from sis.image.store.local import LocalStore
from sis.image.store.pack_check import check_pack
from sis.image.store.reader import immutable_name
from sis.image.tree import seen

PATHS_SHOWN = 20

_T = TypeVar("_T")

_PLACE = struct.Struct("<32sQII")
"""Where a chunk lies in its pack: digest, offset, stored bytes, bytes."""


@dataclass(frozen=True)
class Problem:
    """One damaged or missing file of a store. `paths` are at most PATHS_SHOWN of `path_count` files of the versions."""

    file: str
    fault: str
    versions: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    path_count: int = 0


@dataclass(frozen=True)
class Verification:
    problems: tuple[Problem, ...]
    notices: tuple[str, ...]
    """What is not damage: files nothing refers to, and such."""

    versions: int
    packs: int
    chunks: int
    bytes_read: int


@dataclass
class _Generation:
    """What is kept of a version whose manifest is whole; that and its table are read again where they are asked for."""

    id: str
    name: str
    version: Version | None = None
    packs: tuple[PackRef, ...] = ()


def verify(store: LocalStore, image: str | None = None, *, progress: Progress | None = None) -> Verification:
    """Check one image's versions, or the whole store. Reads every byte of every pack concerned and writes nothing.

    Raises NotFound for an unknown image, TooNew for a store that a newer program wrote.
    """
    run = _Run(store, progress)
    images = [image] if image is not None else store.images()
    for name in images:
        run.image(name)
    run.packs(everything=image is None)
    if image is None:
        run.strangers()
    return Verification(
        tuple(run.problems), tuple(run.notices), len(run.generations), run.pack_count, run.chunk_count, run.bytes_read
    )


class _Run:
    def __init__(self, store: LocalStore, progress: Progress | None) -> None:
        self.store = store
        self.problems: list[Problem] = []
        self.notices: list[str] = []
        self.generations: list[_Generation] = []
        self.pack_count = 0
        self.chunk_count = 0
        self.bytes_read = 0
        self._unknown: list[str] = []
        """Versions of which it is not known what they need: while there are any, nothing is said to be of no use."""
        self._progress = progress
        self._reached: set[str] = set()
        self._places: dict[str, bytes] = {}
        """By pack, where the tables say that its chunks lie: each _PLACE once."""
        self._key = store.signer().public if store.key.exists() else None

    def image(self, name: str) -> None:
        """Follow a ref to all its versions, manifests and tables."""
        try:
            opened = self.store.opened(name, key=self._key)
        except (NotFound, TooNew):
            raise
        except (Corrupt, Refused) as error:
            self._found(f"refs/{name}", error.message, name)
            self._unknown.append(name)
            return
        if opened.trust != "pinned":
            self.notices.append(f"refs/{name} is {opened.trust}: there is no key here to check it with")
        for number, version_id in sorted(opened.ref.generations.items(), key=lambda item: int(item[0])):
            generation = _Generation(version_id, f"{name}@{number}")
            self.generations.append(generation)
            self._follow(generation, name, int(number), version_id)

    def _follow(self, generation: _Generation, image: str, number: int, version_id: str) -> None:
        store, name = self.store, generation.name
        version = self._read(f"versions/{version_id}", name, lambda: store.version(version_id))
        if version is None:
            self._unknown.append(name)
            return
        if (version.image, version.generation) != (image, number):
            self._found(f"versions/{version_id}", f"it is {version.image}@{version.generation}", name)
        manifest = self._read(f"manifests/{version.manifest}", name, lambda: store.manifest(version.manifest))
        table = self._read(f"tables/{version.table}", name, lambda: store.table(version.table))
        if table is None:
            self._unknown.append(name)
            return
        generation.packs = table.packs
        for digest in sorted({pack.dictionary for pack in table.packs if pack.dictionary}):
            self._read(f"dictionaries/{digest.hex()}", name, partial(store.dictionary, digest))
        if manifest is not None:
            generation.version = version
            try:
                self._place(table.packs, chunk_locations(manifest, table))
            except Corrupt as error:
                self._found(f"tables/{version.table}", error.message, name)

    def _read(self, file: str, generation: str, read: Callable[[], _T]) -> _T | None:
        """What a generation needs, or nothing where that is damaged."""
        self._reached.add(file)
        try:
            return read()
        except TooNew:
            raise
        except (Corrupt, NotFound) as error:
            self._found(file, error.message, generation)
            return None

    def _found(self, file: str, fault: str, generation: str) -> None:
        """Note a problem; what several generations have in common is one."""
        for at, known in enumerate(self.problems):
            if known.file == file:
                self.problems[at] = replace(known, versions=(*known.versions, generation))
                return
        self.problems.append(Problem(file, fault, (generation,)))

    def _place(self, packs: tuple[PackRef, ...], locations: Mapping[bytes, Location]) -> None:
        """Keep where chunks lie, packed: a store of many versions has most of them in common."""
        found: defaultdict[int, bytearray] = defaultdict(bytearray)
        for digest, location in locations.items():
            found[location.pack] += _PLACE.pack(digest, location.offset, location.stored, location.size)
        for number, rows in found.items():
            name = packs[number].digest.hex()
            known = self._places.get(name, b"")
            self._places[name] = b"".join({*_rows(known), *_rows(rows)}) if known else bytes(rows)

    def packs(self, *, everything: bool) -> None:
        """Read every pack: its name, its footer, its chunks, and that they lie where the tables say."""
        wanted: dict[str, tuple[int, bytes]] = {}
        for generation in self.generations:
            for pack in generation.packs:
                wanted[pack.digest.hex()] = (pack.size, pack.dictionary)
        there = set(self.store.names("packs"))
        self._reached.update(f"packs/{name}" for name in wanted)
        missing = wanted.keys() - there
        names = sorted(there if everything else wanted.keys() & there)
        self.pack_count = len(names)
        damaged: dict[str, tuple[list[str], set[bytes]]] = {}
        total = sum(os.stat(self.store.path / "packs" / name).st_size for name in names)
        with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
            checks = pool.map(lambda name: check_pack(self.store, name, wanted.get(name), self._located(name)), names)
            for name, (faults, lost, chunks, read) in zip(names, checks, strict=True):
                self.chunk_count += chunks
                self.bytes_read += read
                if faults:
                    damaged[name] = (faults, lost)
                if self._progress is not None:
                    self._progress("verifying", self.bytes_read, total)
        for name in missing:
            damaged[name] = (["it is missing from the store"], set(self._located(name)))
        self._tell(damaged)

    def _located(self, name: str) -> dict[bytes, Location]:
        rows = _PLACE.iter_unpack(self._places.get(name, b""))
        return {digest: Location(0, offset, stored, size, digest) for digest, offset, stored, size in rows}

    def _tell(self, damaged: dict[str, tuple[list[str], set[bytes]]]) -> None:
        for name, (faults, lost) in sorted(damaged.items()):
            versions, paths = [], {}
            for generation in self.generations:
                if name not in {pack.digest.hex() for pack in generation.packs}:
                    continue
                versions.append(generation.name)
                if generation.version is None:
                    continue
                for entry in self.store.manifest(generation.version.manifest).entries:
                    if entry.chunks and any(run.digest in lost for run in entry.each_chunk()):
                        paths[show_path(entry.path)] = True
            self.problems.append(
                Problem(f"packs/{name}", "; ".join(faults[:5]), tuple(versions), tuple(paths)[:PATHS_SHOWN], len(paths))
            )

    def strangers(self) -> None:
        """What lies in the store and no version refers to: checked against its name all the same."""
        for folder in ("versions", "manifests", "tables", "dictionaries", "deltas"):
            for name in sorted(self.store.names(folder)):
                file = f"{folder}/{name}"
                if file not in self._reached and not any(problem.file == file for problem in self.problems):
                    self._stranger(folder, name)
        unused = [name for name in self.store.names("packs") if f"packs/{name}" not in self._reached]
        if self._unknown:
            self.notices.append("which files are used by no version cannot be told before that is mended")
        elif unused:
            self.notices.append(f"{len(unused)} packs are used by no version: 'sis image prune' removes them")

    def _delta(self, name: str) -> None:
        """A delta against its own digests; what nodes make with it they prove by the manifest's."""
        before, _, after = name.partition("-")
        names = {generation.id: generation.name for generation in self.generations}
        try:
            opened = open_delta(self.store, before, after)
            assert opened is not None
            opened.prove_items()
            self.bytes_read += opened.header.size
            if {before, after} <= {NOTHING, *names}:
                ends = self._manifest(before), self._manifest(after)
                if ends[0] is not None and ends[1] is not None:
                    opened.bound(ends[0], ends[1])
            elif not self._unknown:
                self.notices.append(f"deltas/{name} leads between versions that are gone: 'sis image prune' removes it")
        except Corrupt as error:
            versions = tuple(names[end] for end in (before, after) if end in names)
            self.problems.append(Problem(f"deltas/{name}", error.message, versions))

    def _manifest(self, version_id: str) -> Manifest | None:
        """What a version is; None if that is damaged, which is told elsewhere."""
        if version_id == NOTHING:
            return Manifest(())
        try:
            return self.store.manifest(self.store.version(version_id).manifest)
        except (Corrupt, NotFound):
            return None

    def _stranger(self, folder: str, name: str) -> None:
        try:
            immutable_name(f"{folder}/{name}")
        except SisError:
            self.problems.append(Problem(f"{folder}/{name}", "not a file of a store"))
            return
        if folder == "deltas":
            self._delta(name)
            return
        try:
            if folder == "versions":
                self._stray_version(self.store.version(name))
            elif folder == "manifests":
                self.store.manifest(name)
            elif folder == "tables":
                self.store.table(name)
            else:
                self.store.dictionary(bytes.fromhex(name))
        except (Corrupt, NotFound) as error:
            self.problems.append(Problem(f"{folder}/{name}", error.message, tuple(self._unknown)))
        else:
            if not self._unknown:
                self.notices.append(f"{folder}/{name} is used by no version: 'sis image prune' removes it")

    def _stray_version(self, version: Version) -> None:
        if seen.lacks_ref(self.store, version):
            name = f"{version.image}@{version.generation}"
            self._found(f"refs/{version.image}", "it is missing from the store", name)
            self._unknown.append(name)


def _rows(places: bytes | bytearray) -> Iterator[bytes]:
    return (bytes(places[at : at + _PLACE.size]) for at in range(0, len(places), _PLACE.size))
