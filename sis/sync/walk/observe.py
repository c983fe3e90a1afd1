"""Look at a tree: one lstat walk against the index, and a closer look where it is not as remembered."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sis.image.model import Entry
from sis.sync.rules import STAGE
from sis.sync.walk.listing import INODE_BYTES, Listing, Row, fields_of, place_of, row_of, unpacked
from sis.sync.walk.look import GONE, Found, Suspect, look_closer
from sis.system.beneath import Beneath


@dataclass(frozen=True)
class Area:
    """A file system of the tree that is held: where it is mounted (b"." for the root's), its device and block size."""

    mount: bytes
    device: int
    block_bytes: int

    def path(self, name: bytes) -> bytes:
        """The path of `name` at the top of this file system."""
        return name if self.mount == b"." else self.mount + b"/" + name


def area_at(tree: Beneath, mount: bytes) -> Area:
    """The file system mounted at `mount`."""
    found = os.fstat(tree.root) if mount == b"." else tree.lstat(mount)
    return Area(mount, found.st_dev, found.st_blksize)


@dataclass(frozen=True)
class Observed:
    """A tree as it is.

    found      by path, every path looked at, in no order
    shared     by inode (device, number), the paths of everything but directories with more than one name
    passed     paths that were left alone with all below them: ignored, or our own; whether they are directories
    uncrossed  mount points of file systems that are not held; whether they are directories
    areas      the held file systems, the root's first
    started_ns the clock before the first lstat
    looked_at  how many paths were not as remembered, so that they were looked at closely
    """

    found: Mapping[bytes, Found]
    shared: Mapping[tuple[int, int], tuple[bytes, ...]]
    passed: Mapping[bytes, bool]
    uncrossed: Mapping[bytes, bool]
    areas: tuple[Area, ...]
    started_ns: int
    looked_at: int = 0

    def area_of(self, path: bytes) -> Area:
        for area in self.areas[1:]:
            if path == area.mount or path.startswith(area.mount + b"/"):
                return area
        return self.areas[0]

    def is_unreachable(self, path: bytes) -> bool:
        """Whether `path` is on a file system that is not held."""
        return any(path == mount or path.startswith(mount + b"/") for mount in self.uncrossed)


def observe(
    tree: Beneath,
    *,
    candidates: tuple[Mapping[bytes, Entry], ...],
    applied: Mapping[bytes, Entry],
    listings: Mapping[bytes, Listing],
    calm: frozenset[bytes] = frozenset(),
    passes: Callable[[bytes], bool],
    mounts: frozenset[bytes] = frozenset(),
    mounted: frozenset[bytes] = frozenset(),
) -> Observed:
    """Walk `tree`; `listings` are trusted to say that a path equals its entry in `applied`.

    candidates  trees whose entries a path's content is compared with where it is not trusted, the likeliest first
    calm        directories whose listing was compared just now: what is in them is as it says
    passes      whether a path (and all below) is not to be looked at
    mounts      mount points below the root that are held; the walk stays out of the others
    mounted     mount points that are there (`mounts.mount_points_below`); those of another device are seen anyway
    """
    started_ns = time.time_ns()
    walk = _Walk(tree, candidates[0], mounts, mounted, passes, {path: listings[path] for path in calm})
    found: dict[bytes, Found] = {}
    suspects: list[Suspect] = []
    names: dict[bytes, list[bytes]] = {}
    listing_of: bytes | None = None
    trusted: Mapping[bytes, Row] = {}
    for path, row, status in walk.entries():
        if status is None:
            if (entry := applied.get(path)) is not None:
                found[entry.path] = Found(entry, row)
            else:
                suspects.append((path, tree.lstat(path)))
            continue
        directory, name = place_of(path)
        if directory != listing_of:
            listing_of, trusted = directory, dict(unpacked(listings.get(directory, b"")))
        if trusted and trusted.get(name) == row and (entry := applied.get(path)) is not None:
            found[entry.path] = Found(entry, row)
        else:
            suspects.append((path, status))
    found.update(look_closer(tree, suspects, candidates))
    first: dict[bytes, bytes] = {}
    for path, here in found.items():
        inode = here.row[:INODE_BYTES]
        if first.setdefault(inode, path) is not path and not stat.S_ISDIR(fields_of(here.row).mode):
            names.setdefault(inode, [first[inode]]).append(path)
    return Observed(
        found=found,
        shared={found[paths[0]].inode: tuple(sorted(paths)) for paths in names.values()},
        passed=walk.passed,
        uncrossed=walk.uncrossed,
        areas=tuple(sorted(walk.areas, key=lambda area: (area.mount != b".", -len(area.mount)))),
        started_ns=started_ns,
        looked_at=len(suspects),
    )


class _Walk:
    """One pass over the tree, a directory at a time; what it stayed out of is in its attributes after."""

    def __init__(
        self,
        tree: Beneath,
        wanted: Mapping[bytes, Entry],
        mounts: frozenset[bytes],
        mounted: frozenset[bytes],
        passes: Callable[[bytes], bool],
        calm: Mapping[bytes, Listing],
    ) -> None:
        self.passed: dict[bytes, bool] = {}
        self.uncrossed: dict[bytes, bool] = {}
        self.areas: list[Area] = []
        self._tree = tree
        self._wanted = wanted
        self._mounts = mounts
        self._mounted = mounted
        self._passes = passes
        self._calm = calm

    def entries(self) -> Iterator[tuple[bytes, Row, os.stat_result | None]]:
        """Path and row of everything, and its lstat where that was taken anew."""
        root = os.fstat(self._tree.root)
        self.areas.append(Area(b".", root.st_dev, root.st_blksize))
        yield b".", row_of(root), root
        pending = [(b"", root.st_dev, True)]
        passes, mounted = self._passes, self._mounted
        while pending:
            prefix, device, is_top = pending.pop()
            calm = self._calm.get(prefix[:-1] or b".")
            if calm is not None:
                for name, row in unpacked(calm):
                    path = prefix + name
                    yield path, row, None
                    fields = fields_of(row)
                    if stat.S_ISDIR(fields.mode):
                        pending.append(self._within(path, device, fields.device))
                continue
            try:
                handle = self._tree.open_directory(prefix[:-1] or b".")
            except OSError as error:
                if error.errno in GONE:
                    continue
                raise
            try:
                with os.scandir(handle) as members:
                    for member in members:
                        path = prefix + os.fsencode(member.name)
                        if is_top and self._is_of_the_file_system(path, path[len(prefix) :]):
                            self.passed[path] = member.is_dir(follow_symlinks=False)
                            continue
                        try:
                            status = member.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        is_mount = status.st_dev != device or path in mounted
                        if is_mount and path not in self._mounts:
                            self.uncrossed[path] = stat.S_ISDIR(status.st_mode)
                            continue
                        if passes(path):
                            self.passed[path] = stat.S_ISDIR(status.st_mode)
                            continue
                        yield path, row_of(status), status
                        if stat.S_ISDIR(status.st_mode):
                            pending.append(self._within(path, device, status.st_dev))
            finally:
                os.close(handle)

    def _within(self, path: bytes, outer: int, device: int) -> tuple[bytes, int, bool]:
        """A directory to be walked; it may be where a held file system is mounted."""
        is_mount = device != outer or path in self._mounted
        if is_mount:
            self.areas.append(Area(path, device, self._tree.lstat(path).st_blksize))
        return path + b"/", device, is_mount

    def _is_of_the_file_system(self, path: bytes, name: bytes) -> bool:
        return name == STAGE or (name == b"lost+found" and path not in self._wanted)
