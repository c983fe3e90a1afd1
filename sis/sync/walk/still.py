"""Whether a tree still is what the last run left: one walk against the index, without the desired tree at hand.

A directory whose listing is byte for byte as remembered needs no further look. In another one only what the policy
leaves to the node, and the times of directories that are not held, may have moved; anything else is for the long way
round (`mend`), which finds out what it is. So this answers "yes" or "I do not know", never "no".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sis.sync.forked import Shared, is_worth_it
from sis.sync.rules import STAGE, parents_of
from sis.sync.walk.index import Index
from sis.sync.walk.listing import (
    ROOT_PARENT,
    Listing,
    Row,
    differs_in_time_only,
    fields_of,
    listing_of,
    path_of,
    place_of,
    row_of,
    unpacked,
)
from sis.sync.walk.remembered import Still
from sis.system.beneath import Beneath
from sis.system.files import Xattrs

_UNLISTED = b"?"


@dataclass(frozen=True)
class Known:
    """What a walk is compared with: see `Index` and `Still`."""

    listings: Mapping[bytes, Listing]
    still: Still
    passes: Callable[[bytes], bool]
    """Whether the policy leaves a path that is not in the desired tree alone."""


@dataclass(frozen=True)
class Walked:
    """What is remembered of a tree, and what a walk finds by it.

    known  what the walk is compared with; None if there is none
    find   comes to the end of the walk; None if it tells nothing
    """

    remembered: Index | None
    known: Known | None = None
    find: Callable[[], list[bytes] | None] = field(default=lambda: None, repr=False)

    @cached_property
    def changed(self) -> list[bytes] | None:
        """The directories whose listing is not as remembered; None if that is not known. Waits for the walk's end."""
        return self.find()

    @property
    def calm(self) -> frozenset[bytes]:
        """Directories in which all is as it was, and nothing was left aside: their listings say what is in them."""
        if self.known is None or self.changed is None:
            return frozenset()
        known = self.known
        return frozenset(known.listings.keys() - known.still.aside.keys() - {*self.changed, ROOT_PARENT})


class Walk:
    """One walk against the listings of an index: begun at once by a second process where there is much to walk."""

    def __init__(self, tree: Beneath, remembered: Index, still: Still) -> None:
        directories = list(remembered.listings)
        aside = still.aside

        def walk(numbers: Iterator[int]) -> bytes:
            changed = _changed(tree, remembered.listings, aside, directories, numbers)
            return b" ".join(b"%d" % number for number in changed)

        self._directories = directories
        self._walk = walk
        self._begun = Shared(len(directories), walk) if is_worth_it(still.entries) else None

    def changed(self) -> list[bytes] | None:
        """The directories whose listing is not as remembered, after the end of the walk. None if that is not known."""
        told: Sequence[bytes] | None
        if self._begun is None:
            told = [self._walk(iter(range(len(self._directories))))]
        else:
            begun, self._begun = self._begun, None
            told = begun.joined()
        return None if told is None else [self._directories[int(number)] for each in told for number in each.split()]

    def drop(self) -> None:
        """Walk no further."""
        if self._begun is not None:
            self._begun.drop()
            self._begun = None


def changed_directories(tree: Beneath, known: Known, mounted: frozenset[bytes], walk: Walk) -> list[bytes] | None:
    """The directories that `walk` finds changed. None if that cannot be told.

    `mounted` are the mount points below the tree now.
    """
    try:
        return walk.changed() if surroundings_are_known(tree, known, mounted) else None
    except OSError:
        return None


def surroundings_are_known(tree: Beneath, known: Known, mounted: frozenset[bytes]) -> bool:
    """Whether what is mounted now is what was. Raises OSError."""
    still = known.still
    if known_mounts(mounted, still.aside, known.listings) != frozenset(still.mounts):
        return False
    return _are_apart(tree, still.uncrossed, mounted)


def is_harmless(tree: Beneath, known: Known, changed: Iterable[bytes]) -> bool:
    """Whether all that differs in these directories is the node's own business."""
    try:
        return all(_is_harmless(tree, known, directory) for directory in changed)
    except OSError:
        return False


def known_mounts(
    mounted: frozenset[bytes], aside: Mapping[bytes, Mapping[bytes, bool]], walked: Container[bytes]
) -> frozenset[bytes]:
    """The mount points among `mounted` that a walk meets: not those below what it leaves alone."""

    def is_passed(path: bytes) -> bool:
        directory, name = place_of(path)
        return name in aside.get(directory, ()) and path not in walked

    return frozenset(point for point in mounted if not any(map(is_passed, parents_of(point)[:-1])))


def _are_apart(tree: Beneath, uncrossed: Sequence[bytes], mounted: frozenset[bytes]) -> bool:
    """Whether these still are mount points."""
    for path in uncrossed:
        above = os.fstat(tree.root) if b"/" not in path else tree.lstat(path.rpartition(b"/")[0])
        if path not in mounted and tree.lstat(path).st_dev == above.st_dev:
            return False
    return True


def _changed(
    tree: Beneath,
    listings: Mapping[bytes, Listing],
    aside: Mapping[bytes, Mapping[bytes, bool]],
    directories: Sequence[bytes],
    numbers: Iterable[int],
) -> Iterator[int]:
    """Which of these directories do not have a listing as remembered; also those that cannot be listed."""
    for number in numbers:
        directory = directories[number]
        if directory == ROOT_PARENT:
            found = listing_of([(b".", os.fstat(tree.root))])
        else:
            try:
                handle = tree.open_directory(directory)
            except OSError:
                yield number
                continue
            try:
                found = listing_of(members_of(handle, aside.get(directory)))
            except OSError:
                found = _UNLISTED
            finally:
                os.close(handle)
        if found != listings[directory]:
            yield number


def members_of(handle: int, aside: Mapping[bytes, bool] | None) -> list[tuple[bytes, os.stat_result]]:
    """What is in an open directory, less what is left aside. One of these that is of another kind now is put in."""
    with os.scandir(handle) as members:
        if not aside:
            return [
                (member.name.encode("utf-8", "surrogateescape"), member.stat(follow_symlinks=False))
                for member in members
            ]
        found = []
        for member in members:
            name = member.name.encode("utf-8", "surrogateescape")
            if aside.get(name) is not member.is_dir(follow_symlinks=False):
                found.append((name, member.stat(follow_symlinks=False)))
        return found


def _is_harmless(tree: Beneath, known: Known, directory: bytes) -> bool:
    """Whether all that differs in a directory is the node's own business."""
    remembered = dict(unpacked(known.listings.get(directory, b"")))
    if directory == ROOT_PARENT:
        return _is_restless(tree, known, b".", remembered.get(b"."), row_of(os.fstat(tree.root)))
    aside = known.still.aside.get(directory, {})
    handle = tree.open_directory(directory)
    try:
        found = dict(unpacked(listing_of(members_of(handle, aside))))
    finally:
        os.close(handle)
    if not remembered.keys() <= found.keys():
        return False
    for name, row in found.items():
        before = remembered.get(name)
        if row == before:
            continue
        path = path_of(directory, name)
        if before is None:
            if name in aside or name == STAGE or path in known.still.absent or not known.passes(path):
                return False
        elif not _is_restless(tree, known, path, before, row):
            return False
    return True


def _is_restless(tree: Beneath, known: Known, path: bytes, before: Row | None, now: Row) -> bool:
    """Whether `path` is a directory whose time is not held, and nothing but its time and size has changed."""
    xattrs = known.still.restless.get(path)
    if before is None or xattrs is None or not stat.S_ISDIR(fields_of(now).mode):
        return False
    return differs_in_time_only(before, now) and _xattrs_of(tree, path) == xattrs


def _xattrs_of(tree: Beneath, path: bytes) -> Xattrs | None:
    try:
        return tree.xattrs(path)
    except OSError:
        return None
