"""The images of the store as values the API and the console show: generations, channels, and what differs."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass

from sis.errors import NotFound, SisError
from sis.image.documents import diff as differ
from sis.image.store import reference, refs
from sis.image.store.local import LocalStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Generation:
    """One committed version of an image. `content_bytes` of its files, `stored_bytes` it added to the store."""

    name: str
    generation: int
    id: str
    channels: tuple[str, ...]
    created: str
    parent: str | None
    entries: int
    content_bytes: int
    stored_bytes: int
    packages: int
    note: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image: its generations, newest first, and its channels. `fault`: why its ref cannot be read, or ""."""

    name: str
    channels: dict[str, int]
    generations: tuple[Generation, ...]
    updated: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class PackageChange:
    """`before`, `after`: the package's version, None where it is not."""

    package: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class PathChange:
    """As in `sis.image.documents.diff.ManifestChange`."""

    action: str
    path: str
    what: tuple[str, ...]
    size_before: int
    size_after: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Two versions compared. `paths` holds the first of them, `paths_left_out` says how many more there are."""

    before: str
    after: str
    packages: tuple[PackageChange, ...]
    paths: tuple[PathChange, ...]
    paths_left_out: int
    bytes_more: int
    bytes_less: int


class Channels:
    """Where every channel points, read again only when a ref was written."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._stamps: dict[str, tuple[int, int]] | None = None

    def moved(self) -> dict[str, int] | None:
        """Channel ("compute@stable") → generation, or None when no ref was written since the last call."""
        stamps = {name: (status.st_mtime_ns, status.st_ino) for name, status in _refs(self._store).items()}
        if stamps == self._stamps:
            return None
        found: dict[str, int] = {}
        for name in stamps:
            try:
                ref = self._store.ref(name)
            except SisError as fault:
                log.warning("%s", fault.message)
                continue
            for channel, version_id in ref.channels.items():
                generation = refs.generation_of(ref, version_id)
                if generation is not None:
                    found[f"{name}@{channel}"] = generation
        self._stamps = stamps
        return found


def every_image(store: LocalStore) -> tuple[Image, ...]:
    """All images by name; one that cannot be read is there with its fault."""
    found = []
    for name in _refs(store):
        try:
            found.append(one_image(store, name))
        except SisError as fault:
            found.append(Image(name, {}, (), "", fault.message))
    return tuple(found)


def one_image(store: LocalStore, name: str) -> Image:
    """An image by name. Raises NotFound with near names."""
    refs.check_image_name(name)
    known = _refs(store)
    if name not in known:
        raise NotFound.of("image", name, known)
    ref = store.ref(name)
    channels = {}
    for channel, version_id in sorted(ref.channels.items()):
        generation = refs.generation_of(ref, version_id)
        if generation is not None:
            channels[channel] = generation
    generations = []
    for number in sorted(map(int, ref.generations), reverse=True):
        version_id = ref.generations[str(number)]
        version = store.version(version_id)
        generations.append(
            Generation(
                name=f"{name}@{number}",
                generation=number,
                id=version_id,
                channels=tuple(channel for channel, at in channels.items() if at == number),
                created=version.created,
                parent=version.parent,
                entries=version.entries,
                content_bytes=version.content_bytes,
                stored_bytes=version.stored_bytes,
                packages=len(version.lock),
                note=version.note,
            )
        )
    return Image(name, channels, tuple(generations), ref.updated)


def difference(store: LocalStore, before: str, after: str, *, most_paths: int) -> Difference:
    """Two versions ("compute@1", "compute@stable") by package and by path. Raises NotFound, UsageFault."""
    old = reference.resolve(store, reference.parse(before))
    new = reference.resolve(store, reference.parse(after))
    changes = differ.compare(store.manifest(old.version.manifest), store.manifest(new.version.manifest))
    packages = differ.compare_locks(old.version.lock, new.version.lock)
    return Difference(
        before=f"{old.image}@{old.generation}",
        after=f"{new.image}@{new.generation}",
        packages=tuple(PackageChange(name, had or None, has or None) for name, had, has in packages),
        paths=tuple(
            PathChange(each.action, each.path, each.what, each.size_before, each.size_after)
            for each in changes[:most_paths]
        ),
        paths_left_out=max(0, len(changes) - most_paths),
        bytes_more=sum(max(0, each.size_after - each.size_before) for each in changes),
        bytes_less=sum(max(0, each.size_before - each.size_after) for each in changes),
    )


def _refs(store: LocalStore) -> dict[str, os.stat_result]:
    """The refs that are plain files, by image: a pipe or a link laid there holds no one up."""
    found = {}
    for name in store.images():
        try:
            status = (store.path / "refs" / name).lstat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            found[name] = status
    return found
