"""Make the delta from one version of a store to another, on all cores."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from sis.errors import Corrupt, NotFound, UsageFault
from sis.image.deltas import delta, document_patch, patches
from sis.image.deltas.delta import CHECK_BYTES, PATCHED_BYTES_MAX, Head, Item, TablePart, name_of
from sis.image.deltas.encoding import Encoded, Encoders, Run, Task
from sis.image.deltas.plan import Work, plan_items, plan_whole
from sis.image.deltas.reading import open_delta
from sis.image.deltas.reuse import Reuse
from sis.image.deltas.side import Side
from sis.image.model import Ref, Version
from sis.image.policy import Policy
from sis.image.progress import Progress
from sis.image.store.local import LocalStore
from sis.image.store.reader import immutable_name
from sis.system.files import fsync_dir

KEPT_BACK = 3
"""Deltas are made from this many generations a channel pointed to before."""

WHOLE_BYTES_MIN = 16 << 20
"""A version with less content needs no delta from nothing: its packs are read in one go anyway."""

_IN_PROCESS_BYTES = 2 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """A delta that is in the store. `replaces_bytes`: what its chunks take in packs; seconds of wall time."""

    before: str
    """The generation it leads from, as people name it: compute@11; "nothing"."""
    size_bytes: int
    replaces_bytes: int
    items: int
    output_bytes: int
    by_method: dict[str, tuple[int, int, int]]
    """method → items, payload bytes, bytes that come out"""
    reused: int
    """Items taken from deltas that were there."""
    seconds: float


def earlier(ref: Ref, channel: str, version_id: str, count: int = KEPT_BACK) -> tuple[str, ...]:
    """The versions a channel pointed to before, newest first, that nodes are likely to be at."""
    known = set(ref.generations.values())
    now = ref.channels.get(channel)
    named = (*((now,) if now else ()), *ref.history.get(channel, ()))
    distinct = dict.fromkeys(found for found in named if found in known and found != version_id)
    return tuple(distinct)[:count]


def make(
    store: LocalStore,
    before: str,
    after: str,
    *,
    progress: Progress | None = None,
    processes: int | None = None,
    wait_s: float = 600.0,
) -> Made | None:
    """Write `deltas/<before>-<after>`, ids of versions of `store` (`before` may be `NOTHING`). None if it is there.

    Items that a delta of the same versions has already are copied from there. From nothing it takes half a second of a
    core for each megabyte. Raises UsageFault for a delta to itself, NotFound for an unknown version, Locked when others
    make deltas for longer than `wait_s`.
    """
    if before == after:
        raise UsageFault("a delta needs two versions", hint="for example compute@1 compute@2")
    path = store.path / immutable_name(name_of(before, after))
    with store.making_deltas(wait_s=wait_s) as folder:
        if is_there(store, before, after):
            return None
        old = Side(store, before)
        return _Making(old, Side(store, after, old), folder, path).run(progress, processes)


def make_for_channel(
    store: LocalStore,
    image: str,
    channel: str,
    version_id: str,
    *,
    left: str = "",
    progress: Progress | None = None,
) -> Iterator[Made]:
    """Make the deltas to a version that lack: from what `channel` points and pointed to, unless that is damaged.

    `left` is the version it pointed to last, if that is not in its history: after a rollback.
    """
    ref = store.ref(image)
    known = [left] if left != version_id and left in ref.generations.values() else []
    sources = dict.fromkeys((*known, *earlier(ref, channel, version_id)))
    for before in tuple(sources)[:KEPT_BACK]:
        try:
            made = make(store, before, version_id, progress=progress)
        except (Corrupt, NotFound) as error:
            if not _can_be_read(store, version_id):
                raise
            log.warning("no delta from %s, nodes there fetch chunks: %s", before[:12], error.message)
            continue
        if made is not None:
            yield made


def _can_be_read(store: LocalStore, version_id: str) -> bool:
    try:
        version = store.version(version_id)
    except (Corrupt, NotFound):
        return False
    return store.is_whole(f"manifests/{version.manifest}") and store.is_whole(f"tables/{version.table}")


def is_there(store: LocalStore, before: str, after: str) -> bool:
    """Whether a delta is in the store, and whole. Reads all of it."""
    try:
        opened = open_delta(store, before, after)
        if opened is not None:
            opened.prove_items()
    except Corrupt as error:
        log.warning("%s is damaged, and is made anew: %s", name_of(before, after), error.message)
        return False
    return opened is not None


def is_worth_whole(store: LocalStore, version_id: str) -> bool:
    """Whether a version has so much content that a delta from nothing is worth its while."""
    return store.version(version_id).content_bytes >= WHOLE_BYTES_MIN


class _Making:
    """One delta on its way: its payloads in one file of `folder`, all of it in another, which then goes to `path`."""

    def __init__(self, old: Side, new: Side, folder: Path, path: Path) -> None:
        self._old, self._new = old, new
        self._payloads, self._finished, self._path = folder / "payloads", folder / "delta", path
        self._items: list[Item] = []
        self._counts: dict[str, tuple[int, int, int]] = {}
        self._reuse = Reuse(old, new)
        self._reused = 0

    def run(self, progress: Progress | None, processes: int | None) -> Made:
        started = time.monotonic()
        old, new = self._old, self._new
        runs = tuple(plan_whole(tuple(new.novel()))) if old.version is None else ()
        works = tuple(self._works()) if old.version else tuple(work for run in runs for work in run)
        total = sum(work.output_bytes for work in works)
        is_little = total <= _IN_PROCESS_BYTES or len(runs or works) < 2
        hasher = blake3()
        items_bytes = done = 0
        with (
            Encoders(1 if is_little else processes or os.cpu_count() or 1) as encoders,
            self._payloads.open("xb") as file,
        ):
            made = encoders.encoded(map(self._task, works)) if old.version else encoders.solid(map(self._run, runs))
            for work, encoded in zip(works, made, strict=True):
                self._add(work, encoded)
                file.write(encoded.payload)
                hasher.update(encoded.payload)
                items_bytes += len(encoded.payload)
                done += work.output_bytes
                if progress is not None:
                    progress("delta", done, total)
        head = delta.encode_head(Head(*self._documents(), tuple(self._items)))
        header = delta.encode_header(self._old.id, self._new.id, head, items_bytes, hasher.digest())
        _join(self._finished, header + head, self._payloads)
        self._finished.rename(self._path)
        fsync_dir(self._path.parent)
        self._payloads.unlink()
        return Made(
            before=self._old.name,
            size_bytes=len(header) + len(head) + items_bytes,
            replaces_bytes=sum(map(self._new.stored, self._new.numbers)),
            items=len(self._items),
            output_bytes=total,
            by_method=self._counts,
            reused=self._reused,
            seconds=round(time.monotonic() - started, 3),
        )

    def _works(self) -> Iterator[Work]:
        old, new = self._old, self._new
        assert new.version is not None
        return plan_items(old.rows, new.rows, new.numbers, new.bringing, _shared_by(new.version))

    def _task(self, work: Work) -> Task | Encoded:
        known = self._reuse.find(work)
        if known is not None:
            self._reused += 1
            return known
        base = tuple(piece for stretch in work.base for piece in self._old.stretch(stretch))
        output = tuple(self._new.piece(chunk.digest, 0, chunk.size) for chunk in work.chunks)
        return Task(str(self._old.store.path), tuple(work.base), base, output)

    def _run(self, works: tuple[Work, ...]) -> Run:
        pieces = (tuple(self._new.piece(chunk.digest, 0, chunk.size) for chunk in work.chunks) for work in works)
        return Run(str(self._new.store.path), tuple(pieces))

    def _add(self, work: Work, encoded: Encoded) -> None:
        method, payload, base = encoded
        self._items.append(Item(len(work.chunks), method, len(payload), blake3(payload).digest(CHECK_BYTES), base))
        items, stored, made = self._counts.get(_METHOD_NAMES[method], (0, 0, 0))
        self._counts[_METHOD_NAMES[method]] = (items + 1, stored + len(payload), made + work.output_bytes)

    def _documents(self) -> tuple[bytes, bytes, TablePart]:
        """Version and manifest as patches, and the rows of the table."""
        old, new = self._old, self._new
        manifest = _patch(old.manifest_bytes(), new.manifest_bytes())
        return _patch(old.record(), new.record()), manifest, new.table_part() or TablePart((), b"")


def _shared_by(version: Version) -> Callable[[bytes], bool]:
    """Paths that nodes keep as their own are likely to differ there: each has an item to itself."""
    policy = Policy(version.policy)
    return lambda path: policy.verb(path) == "enforce"


def _patch(before: bytes, after: bytes) -> bytes:
    if max(len(before), len(after)) > PATCHED_BYTES_MAX:
        return b""
    return document_patch.make(before, after)


_METHOD_NAMES = {
    patches.PLAIN: "plain",
    patches.PREFIX: "zstd prefix",
    patches.BSDIFF: "bsdiff",
    patches.SOLID: "solid",
    patches.CONTINUED: "solid",
}


def _join(path: Path, beginning: bytes, rest: Path) -> None:
    """A durable file of `beginning` and the content of `rest`."""
    with path.open("xb") as file, rest.open("rb") as source:
        file.write(beginning)
        while piece := source.read(1 << 20):
            file.write(piece)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
