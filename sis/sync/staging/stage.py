"""Files made ready beside the tree, in `.sis-stage` of their own file system, verified before a name appears.

A staged file's name is made from its path and content, so an interrupted run's work is found again and what of it
verifies is kept. Where content comes from (this node, the layer, the store) is told by the plan; `hands` write it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sis.image.model import ANY_MTIME, HOLE, TYPE_OF_KIND, Entry, Kind
from sis.sync.planning.planned import NewFile, Part
from sis.sync.planning.trees import NewTree, parent_of
from sis.sync.rules import STAGE
from sis.sync.staging import hands
from sis.sync.staging.flush import Flusher
from sis.sync.staging.hands import Done, Hands
from sis.sync.staging.making import Making, Makings, name_in, name_of, staged_name, tree_name
from sis.sync.walk.listing import Row, row_of
from sis.sync.walk.look import is_zero, run_matches
from sis.sync.walk.observe import Area, Observed
from sis.system.beneath import Beneath


@dataclass
class Counts:
    """Bytes of content so far."""

    resumed: int = 0
    local: int = 0
    written: int = 0


@dataclass
class Stage:
    """The staging directories of a tree, and the files in them. Use within `with`; leaves no handle open."""

    tree: Beneath
    observed: Observed
    progress: Callable[[int], None] = lambda _: None
    counts: Counts = field(default_factory=Counts)
    makings: Makings = field(default_factory=Makings)

    def __post_init__(self) -> None:
        self._directories: dict[bytes, Beneath] = {}
        self._left_over: set[bytes] = set()
        self._to_make: dict[bytes, tuple[Entry, NewTree]] = {}
        self._made: dict[bytes, Row] = {}
        self._fresh: set[bytes] = set()
        self._plain = hands.plain()
        self.flusher = Flusher(self.tree, self.observed.areas)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.flusher.end()
        for directory in self._directories.values():
            directory.close()
        self._directories.clear()

    # The directories.

    def keep_only(self, files: Iterable[NewFile], trees: Iterable[NewTree]) -> None:
        """Remove what earlier runs left and this one has no use for."""
        for area in self.observed.areas:
            path = area.path(STAGE)
            try:
                names = self.tree.names_in(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                self.tree.unlink(path)
                continue
            self._keep_of(path, names, files, trees)

    def _keep_of(self, path: bytes, names: list[bytes], files: Iterable[NewFile], trees: Iterable[NewTree]) -> None:
        wanted = {name_of(file) for file in files}
        directories = {tree_name(tree.entry.path) for tree in trees}
        directories.update(name_in(tree.entry.path, each.path) for tree in trees for each in tree.directories)
        while names:
            name = names.pop()
            if name in wanted:
                self._left_over.add(name)
            elif name in directories and stat.S_ISDIR(self.tree.lstat(path + b"/" + name).st_mode):
                names += (name + b"/" + inner for inner in self.tree.names_in(path + b"/" + name))
            else:
                self.tree.remove_tree(path + b"/" + name)

    def discard(self) -> None:
        """Remove the staging directories with all that is in them."""
        self.__exit__()
        for area in self.observed.areas:
            self.tree.remove_tree(area.path(STAGE))

    def present_bytes(self, area: Area) -> int:
        """Bytes of disk the files of an interrupted run already take on a file system."""
        pending = [area.path(STAGE)]
        taken = 0
        while pending:
            path = pending.pop()
            try:
                names = self.tree.names_in(path)
            except FileNotFoundError:
                continue
            for name in names:
                status = self.tree.lstat(path + b"/" + name)
                taken += status.st_blocks * 512
                if stat.S_ISDIR(status.st_mode):
                    pending.append(path + b"/" + name)
        return taken

    def path_for(self, entry: Entry) -> bytes:
        """Where what is to be `entry.path` is made ready, as a path of the tree. Makes the staging directory."""
        area = self.observed.area_of(entry.path)
        self._directory(area)
        return area.path(STAGE) + b"/" + staged_name(entry)

    def path_of_tree(self, entry: Entry) -> bytes:
        """Where a new directory is made ready, as a path of the tree."""
        return self.observed.area_of(entry.path).path(STAGE) + b"/" + tree_name(entry.path)

    def take_made(self) -> dict[bytes, Row]:
        """What is in new trees, with its lstat once it was ready. Told once: it is the caller's."""
        made, self._made = self._made, {}
        return made

    def _directory(self, area: Area) -> Beneath:
        opened = self._directories.get(area.mount)
        if opened is None:
            path = area.path(STAGE)
            if not self.tree.exists(path):
                self.tree.mkdir(path)
                self.tree.set_metadata(path, uid=0, gid=0, mode=0o700, xattrs=(), mtime_ns=None)
            _must_be_ours(self.tree.lstat(path), path)
            opened = self._directories[area.mount] = self.tree.directory(path)
        return opened

    # The files.

    def open_areas(self, areas: Iterable[Area]) -> None:
        """Make the staging directories of file systems."""
        for area in areas:
            self._directory(area)

    def begin(self, files: Iterable[NewFile], blobs: Mapping[bytes, bytes]) -> None:
        """Note what every file lacks. What an earlier run left is looked through; no content is written yet."""
        makings, left_over, in_trees = self.makings, self._left_over, self._to_make
        areas = self.observed.areas
        for file in files:
            path = file.entry.path
            area = areas[0] if len(areas) == 1 else self.observed.area_of(path)
            if in_trees and file.tree and (parent := parent_of(path)) in in_trees:
                self._make_directory_ready(parent)
            making = makings.add(file, area.mount)
            parts = self._rest_of(making, file, self._directory(area)) if making.name in left_over else None
            if parts is None:
                makings.require(making, file, blobs)
            else:
                makings.require_parts(making, parts, blobs)

    def hands(self, blobs: Mapping[bytes, bytes]) -> Hands:
        """New ones, with handles of their own on the staging directories."""
        stages = {mount: Beneath(os.dup(opened.root)) for mount, opened in self._directories.items()}
        return Hands(self.tree, stages, self.makings, blobs, self._plain)

    def take(self, done: Done, pieces: Iterable[Making], finishing: Hands) -> None:
        """Note what hands have done; `pieces` names a file once for each piece that is no longer lacking.

        What several hands have written is finished here.
        """
        self.counts.local += done.local
        self.counts.written += done.written
        for lacking in done.lacking:
            self.makings.wait_again(lacking.number, lacking.digest, lacking.offset)
        for number, row in done.rows:
            self._is_ready(self.makings.every[number], row)
        for making in pieces:
            making.lacks -= 1
            if not making.lacks and not making.is_ready:
                self._is_ready(making, finishing.finish(making))
        self.flusher.written(done.written)
        self.progress(done.written)

    def _is_ready(self, making: Making, row: Row) -> None:
        making.is_ready = True
        del self.makings.every[making.number]
        if making.is_in_tree:
            self._made[making.entry.path] = row

    def _rest_of(self, making: Making, file: NewFile, directory: Beneath) -> list[Part] | None:
        """The runs an earlier run's file lacks; None if it is of no use (and is removed)."""
        try:
            handle = directory.open(making.name, os.O_RDWR)
        except OSError:
            directory.remove_tree(making.name)
            return None
        try:
            if not _is_usable(handle, file):
                directory.remove_tree(making.name)
                return None
            making.is_resumed = True
            lacking = []
            for part in file.parts():
                digest, size = part.chunk
                if digest == HOLE:
                    continue
                if run_matches(handle, part.offset, size, digest):
                    self.counts.resumed += size
                    self.progress(size)
                else:
                    lacking.append(part)
            return lacking
        finally:
            os.close(handle)

    # New directories.

    def prepare_trees(self, trees: Iterable[NewTree]) -> None:
        """Note the directories that files are to be made in; each is made with the first file in it."""
        for tree in trees:
            self._to_make.update((entry.path, (entry, tree)) for entry in (tree.entry, *tree.directories))

    def make_directories(self) -> None:
        """Make those that no file has been made in."""
        while self._to_make:
            self._make_directory_ready(next(iter(self._to_make)))

    def _make_directory_ready(self, path: bytes) -> None:
        """Make a directory of a new tree, and those above it."""
        entry, tree = self._to_make[path]
        root = tree.entry.path
        if path != root and (parent := parent_of(path)) in self._to_make:
            self._make_directory_ready(parent)
        del self._to_make[path]
        is_plain = entry.mode in self._plain.modes and entry.mode & 0o700 == 0o700
        with contextlib.suppress(FileExistsError):
            stage = self._directory(self.observed.area_of(root))
            stage.mkdir(name_in(root, path), entry.mode if is_plain else 0o700)
            if is_plain and self._needs_only_a_time(entry):
                self._fresh.add(path)

    def make_specials(self, trees: Iterable[NewTree]) -> None:
        """Make what has no content in the new directories."""
        for tree in trees:
            root = tree.entry.path
            stage = self._directory(self.observed.area_of(root))
            for entry in tree.specials:
                self._make_special(stage, name_in(root, entry.path), entry)

    def complete_trees(self, trees: Iterable[NewTree]) -> None:
        """All is in them: make the links, and give directories their metadata, the innermost first."""
        ready = {each.path: tree for tree in trees for each in (tree.entry, *tree.directories)}

        def staged(path: bytes) -> bytes:
            tree = ready[path.rpartition(b"/")[0]].entry
            return self.path_of_tree(tree) + path[len(tree.path) :]

        for tree in trees:
            root = tree.entry.path
            stage = self._directory(self.observed.area_of(root))
            for entry, leader in tree.links:
                self.tree.link(staged(leader), staged(entry.path))
            for entry in (*tree.specials, *(entry for entry, _ in tree.links)):
                self._made[entry.path] = row_of(stage.lstat(name_in(root, entry.path)))
            for entry in reversed((tree.entry, *tree.directories)):
                name = name_in(root, entry.path)
                if entry.path not in self._fresh:
                    _dress(stage, name, entry)
                elif entry.mtime_ns != ANY_MTIME:
                    stage.set_mtime(name, entry.mtime_ns)
                self._made[entry.path] = row_of(stage.lstat(name))

    # What has no content.

    def make_directory(self, entry: Entry) -> bytes:
        path = self._cleared(entry)
        self.tree.mkdir(path)
        _dress(self.tree, path, entry)
        return path

    def make_special(self, entry: Entry) -> bytes:
        """A symlink, device or FIFO."""
        path = self.path_for(entry)
        self._make_special(self.tree, path, entry)
        return path

    def make_link(self, leader: bytes, entry: Entry) -> bytes:
        """A further name for what is at `leader`."""
        path = self._cleared(entry)
        self.tree.link(leader, path)
        return path

    def _cleared(self, entry: Entry) -> bytes:
        path = self.path_for(entry)
        self.tree.remove_tree(path)
        return path

    def _make_special(self, where: Beneath, path: bytes, entry: Entry) -> None:
        try:
            _make(where, path, entry)
        except FileExistsError:
            where.remove_tree(path)
            _make(where, path, entry)
        if entry.kind is not Kind.SYMLINK or not self._needs_only_a_time(entry):
            _dress(where, path, entry)
        elif entry.mtime_ns != ANY_MTIME:
            where.set_mtime(path, entry.mtime_ns)

    def _needs_only_a_time(self, entry: Entry) -> bool:
        """Whether owner and xattrs are right when we have made it."""
        return (entry.uid, entry.gid) == self._plain.owner and not entry.xattrs


def _make(where: Beneath, path: bytes, entry: Entry) -> None:
    if entry.kind is Kind.SYMLINK:
        where.symlink(entry.target, path)
    else:
        where.mknod(path, TYPE_OF_KIND[entry.kind], entry.rdev)


def _dress(where: Beneath, path: bytes, entry: Entry) -> None:
    mtime_ns = None if entry.mtime_ns == ANY_MTIME else entry.mtime_ns
    where.set_metadata(path, uid=entry.uid, gid=entry.gid, mode=entry.mode, xattrs=entry.xattrs, mtime_ns=mtime_ns)


def _is_usable(handle: int, file: NewFile) -> bool:
    """Whether a file can be gone on with: as long as it is to be, without another name, its holes empty."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size != file.entry.size:
        return False
    holes = (part for part in file.parts() if part.chunk.digest == HOLE)
    return all(is_zero(handle, part.offset, part.chunk.size_bytes) for part in holes)


def _must_be_ours(status: os.stat_result, path: bytes) -> None:
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise OSError(errno.EEXIST, "is there, and is not a directory of ours", path)
