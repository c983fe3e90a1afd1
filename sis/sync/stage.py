"""Files made ready beside the tree, in `.sis-stage` of their own file system, verified before a name appears.

A staged file's name is made from its path and content, so an interrupted run's work is found again and what of it
verifies is kept. Where content comes from (this node, the layer, the store) is told by the plan. Files of one chunk
are written by whichever thread has it, the others by one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from blake3 import blake3

from sis.image.codec import RUN_BYTES
from sis.image.model import ANY_MTIME, HOLE, Entry, Kind
from sis.sync.flush import Flusher
from sis.sync.listing import Row, row_of
from sis.sync.observe import Area, Observed, is_zero, run_matches
from sis.sync.plan import NewFile, Part
from sis.sync.rules import STAGE
from sis.sync.trees import NewTree
from sis.system.beneath import Beneath, set_metadata_of

COPIED_BY_KERNEL_BYTES_MIN = 1 << 20
"""A run of chunks that lie together in an old file is copied (or shared) by the kernel from this length."""

_OPEN_FILES_MAX = 128
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.ETXTBSY)
_SOURCE_LOST = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.ENXIO)


@dataclass
class Counts:
    """Bytes of content so far."""

    resumed: int = 0
    local: int = 0
    written: int = 0


@dataclass(slots=True)
class _Making:
    """One file on the way; done when nothing is missing."""

    entry: Entry
    area: Area
    name: bytes
    is_in_tree: bool
    is_created: bool = False
    is_resumed: bool = False
    missing: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether one chunk is all of it, and nothing of it is there yet."""
        return len(self.entry.chunks) == RUN_BYTES and not self.is_created


@dataclass
class Stage:
    """The staging directories of a tree, and the files in them. Use within `with`; leaves no handle open."""

    tree: Beneath
    observed: Observed
    progress: Callable[[int], None] = lambda _: None
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._directories: dict[bytes, Beneath] = {}
        self._handles: OrderedDict[bytes, tuple[int, Area]] = OrderedDict()
        self._left_over: set[bytes] = set()
        self._made: dict[bytes, Row] = {}
        self._guard = threading.Lock()
        self._thread = threading.local()
        self._of_threads: list[Beneath] = []
        self._flusher = Flusher(self.tree, self.observed.areas)
        self._owner = (os.geteuid(), os.getegid())
        self._plain_modes = frozenset(mode for mode in range(0o1000) if not mode & _umask())
        self._waiting: dict[bytes, tuple[_Making, int] | list[tuple[_Making, int]]] = {}
        self._source: tuple[bytes, int] | None = None

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._flusher.end()
        for directory in self._of_threads:
            directory.close()
        self._of_threads.clear()
        for handle, _area in self._handles.values():
            os.close(handle)
        self._handles.clear()
        self._close_source()
        for directory in self._directories.values():
            directory.close()
        self._directories.clear()

    # The directories.

    def keep_only(self, files: Iterable[NewFile], trees: Iterable[NewTree]) -> None:
        """Remove what earlier runs left and this one has no use for."""
        wanted = {_name_of(file) for file in files}
        directories = {_tree_name(tree.entry.path) for tree in trees}
        directories.update(_name_in(tree.entry.path, each.path) for tree in trees for each in tree.directories)
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
        return self.observed.area_of(entry.path).path(STAGE) + b"/" + _tree_name(entry.path)

    @property
    def made(self) -> Mapping[bytes, Row]:
        """What is in new trees: its lstat once it was ready."""
        return self._made

    def open_directories(self, files: Iterable[NewFile]) -> None:
        """Have the staging directory of each of these."""
        for area in {self.observed.area_of(file.entry.path) for file in files}:
            self._directory(area)

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

    def make(self, files: Iterable[NewFile], blobs: Mapping[bytes, bytes]) -> None:
        """Make ready all that needs no fetching; `missing` then says what does."""
        for file in files:
            making = _Making(file.entry, self.observed.area_of(file.entry.path), _name_of(file), bool(file.tree))
            lacking = self._begin(making, file.parts)
            lacking = self._copy_local(making, lacking)
            for part in lacking:
                digest = part.chunk.digest
                if digest in blobs:
                    self._write(making, part.offset, blobs[digest])
                else:
                    making.missing += 1
                    self._wait(digest, making, part.offset)
            if not making.missing:
                self._finish(making)

    @property
    def missing(self) -> frozenset[bytes]:
        """Digests of the chunks that files wait for."""
        return frozenset(self._waiting)

    def put_whole(self, digest: bytes, data: bytes) -> bool:
        """`put` for a chunk that is all of one file, from any thread; False if it is not, and nothing was done.

        The staging directories of the files are there before: see `open_directories`.
        """
        waiting = self._waiting.get(digest)
        if not isinstance(waiting, tuple) or not waiting[0].is_whole:
            return False
        making, entry = waiting[0], waiting[0].entry
        directory = self._of_thread(making.area)
        handle = directory.create(making.name, entry.mode)
        try:
            _write_all(handle, data, 0)
            self._dress(handle, entry, fresh=True)
            if making.is_in_tree:
                self._made[entry.path] = row_of(os.fstat(handle))
        finally:
            os.close(handle)
        del self._waiting[digest]
        with self._guard:
            self._count(len(data))
        return True

    def _of_thread(self, area: Area) -> Beneath:
        """The staging directory, with handles on parents that are this thread's own."""
        mine: dict[bytes, Beneath] = self._thread.__dict__.setdefault("directories", {})
        directory = mine.get(area.mount)
        if directory is None:
            directory = mine[area.mount] = Beneath(os.dup(self._directories[area.mount].root))
            with self._guard:
                self._of_threads.append(directory)
        return directory

    def put(self, digest: bytes, data: bytes) -> None:
        """Write a chunk (verified by whoever brings it) everywhere it belongs."""
        waiting = self._waiting.pop(digest)
        for making, offset in waiting if isinstance(waiting, list) else (waiting,):
            self._write(making, offset, data)
            making.missing -= 1
            if not making.missing:
                self._finish(making)

    def _wait(self, digest: bytes, making: _Making, offset: int) -> None:
        """Most chunks are waited for once: these take no list."""
        known = self._waiting.get(digest)
        if known is None:
            self._waiting[digest] = (making, offset)
        elif isinstance(known, list):
            known.append((making, offset))
        else:
            self._waiting[digest] = [known, (making, offset)]

    def _begin(self, making: _Making, parts: tuple[Part, ...]) -> list[Part]:
        """The runs that are not in the staged file yet. A file no earlier run left is created at its first byte."""
        if making.name in self._left_over:
            kept = self._resume(making, self._directory(making.area), parts)
            if kept is not None:
                return kept
        return [part for part in parts if part.chunk.digest != HOLE]

    def _resume(self, making: _Making, directory: Beneath, parts: tuple[Part, ...]) -> list[Part] | None:
        """The runs an earlier run's file lacks; None if it is of no use (and is removed)."""
        try:
            handle = directory.open(making.name, os.O_RDWR)
        except OSError:
            directory.remove_tree(making.name)
            return None
        status = os.fstat(handle)
        holes = (part for part in parts if part.chunk.digest == HOLE)
        is_usable = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size == making.entry.size
        if not is_usable or not all(is_zero(handle, part.offset, part.chunk.size_bytes) for part in holes):
            os.close(handle)
            directory.remove_tree(making.name)
            return None
        making.is_created = making.is_resumed = True
        self._hold(making, handle)
        lacking = []
        for part in parts:
            digest, size = part.chunk
            if digest == HOLE:
                continue
            if run_matches(handle, part.offset, size, digest):
                self.counts.resumed += size
                self.progress(size)
            else:
                lacking.append(part)
        return lacking

    def _copy_local(self, making: _Making, parts: list[Part]) -> list[Part]:
        """Copy what is on this node. Returns the runs still lacking: not on it, or changed since it was looked at."""
        lacking = []
        for run in _runs(parts):
            if run[0].source is None:
                lacking += run
            elif _length(run) >= COPIED_BY_KERNEL_BYTES_MIN:
                lacking += self._copy_by_kernel(making, run)
            else:
                lacking += self._copy_by_reading(making, run)
        return lacking

    def _copy_by_kernel(self, making: _Making, run: list[Part]) -> list[Part]:
        source = run[0].source
        assert source is not None
        origin = self._open_source(source.path)
        if origin is None:
            return run
        handle = self._handle(making)
        done, length = 0, _length(run)
        try:
            while done < length:
                copied = os.copy_file_range(origin, handle, length - done, source.offset + done, run[0].offset + done)
                if not copied:
                    break
                done += copied
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            return self._copy_by_reading(making, run)
        lacking = []
        for part in run:
            digest, size = part.chunk
            if run_matches(handle, part.offset, size, digest):
                with self._guard:
                    self._count(size, is_local=True)
            else:
                lacking.append(part)
        return lacking

    def _copy_by_reading(self, making: _Making, run: list[Part]) -> list[Part]:
        lacking = []
        for part in run:
            assert part.source is not None
            digest, size = part.chunk
            origin = self._open_source(part.source.path)
            data = b"" if origin is None else _read(origin, size, part.source.offset)
            if len(data) != size or blake3(data).digest() != digest:
                lacking.append(part)
                continue
            self._write(making, part.offset, data, is_local=True)
        return lacking

    def _open_source(self, path: bytes) -> int | None:
        if self._source is not None and self._source[0] == path:
            return self._source[1]
        self._close_source()
        try:
            handle = self.tree.open(path)
        except OSError as error:
            if error.errno in _SOURCE_LOST:
                return None
            raise
        self._source = (path, handle)
        return handle

    def _close_source(self) -> None:
        if self._source is not None:
            os.close(self._source[1])
            self._source = None

    def _write(self, making: _Making, offset: int, data: bytes, *, is_local: bool = False) -> None:
        _write_all(self._handle(making), data, offset)
        with self._guard:
            self._count(len(data), is_local=is_local)

    def _count(self, size: int, *, is_local: bool = False) -> None:
        if is_local:
            self.counts.local += size
        self.counts.written += size
        self._flusher.written(size)
        self.progress(size)

    def _finish(self, making: _Making) -> None:
        """Everything is in it: give it its metadata and close it."""
        entry = making.entry
        handle = self._handle(making)
        self._dress(handle, entry, fresh=not making.is_resumed)
        if making.is_in_tree:
            self._made[entry.path] = row_of(os.fstat(handle))
        del self._handles[making.name]
        os.close(handle)

    def _dress(self, handle: int, entry: Entry, *, fresh: bool) -> None:
        mtime_ns = None if entry.mtime_ns == ANY_MTIME else entry.mtime_ns
        is_dressed = (entry.uid, entry.gid) == self._owner and entry.mode in self._plain_modes and not entry.xattrs
        if not (fresh and is_dressed):
            set_metadata_of(handle, entry.uid, entry.gid, entry.mode, entry.xattrs, mtime_ns, fresh=fresh)
        elif mtime_ns is not None:
            os.utime(handle, ns=(mtime_ns, mtime_ns))

    def _hold(self, making: _Making, handle: int) -> None:
        self._handles[making.name] = (handle, making.area)
        if len(self._handles) > _OPEN_FILES_MAX:
            oldest, _ = self._handles.popitem(last=False)[1]
            os.close(oldest)

    def _handle(self, making: _Making) -> int:
        known = self._handles.get(making.name)
        if known is not None:
            self._handles.move_to_end(making.name)
            return known[0]
        directory = self._directory(making.area)
        if making.is_created:
            handle = directory.open(making.name, os.O_RDWR)
        else:
            handle = directory.create(making.name, making.entry.mode)
            if len(making.entry.chunks) > RUN_BYTES or making.entry.chunks.startswith(HOLE):
                os.ftruncate(handle, making.entry.size)
            making.is_created = True
        self._hold(making, handle)
        return handle

    # New directories.

    def prepare_trees(self, trees: Iterable[NewTree]) -> None:
        """Make the directories and what has no content in them."""
        for tree in trees:
            root = tree.entry.path
            stage = self._directory(self.observed.area_of(root))
            for entry in (tree.entry, *tree.directories):
                with contextlib.suppress(FileExistsError):
                    stage.mkdir(_name_in(root, entry.path))
            for entry in tree.specials:
                _make_special(stage, _name_in(root, entry.path), entry)

    def complete_trees(self, trees: Iterable[NewTree]) -> None:
        """All files are in them: make the links, and give directories their metadata, the innermost first."""
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
                self._made[entry.path] = row_of(stage.lstat(_name_in(root, entry.path)))
            for entry in reversed((tree.entry, *tree.directories)):
                name = _name_in(root, entry.path)
                _dress(stage, name, entry)
                self._made[entry.path] = row_of(stage.lstat(name))

    # What has no content.

    def make_directory(self, entry: Entry) -> bytes:
        path = self._cleared(entry)
        self.tree.mkdir(path)
        _dress(self.tree, path, entry)
        return path

    def make_special(self, entry: Entry) -> bytes:
        """A symlink, device or FIFO."""
        path = self._cleared(entry)
        _make_special(self.tree, path, entry)
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


def _write_all(handle: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(handle, rest, offset)
        offset += written
        rest = rest[written:]


def _make_special(where: Beneath, path: bytes, entry: Entry) -> None:
    where.remove_tree(path)
    if entry.kind is Kind.SYMLINK:
        where.symlink(entry.target, path)
    else:
        where.mknod(path, _DEVICE_KINDS[entry.kind], entry.rdev)
    _dress(where, path, entry)


def _dress(where: Beneath, path: bytes, entry: Entry) -> None:
    mtime_ns = None if entry.mtime_ns == ANY_MTIME else entry.mtime_ns
    where.set_metadata(path, uid=entry.uid, gid=entry.gid, mode=entry.mode, xattrs=entry.xattrs, mtime_ns=mtime_ns)


_DEVICE_KINDS = {Kind.CHAR: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}


def staged_name(entry: Entry) -> bytes:
    """The name an entry has while it is made ready: the same for the same path and content."""
    told = blake3(entry.path)
    told.update(b"\0")
    told.update(entry.chunks)
    return told.hexdigest()[:32].encode()


def _umask() -> int:
    """What this process keeps from the modes of new files; everything where that cannot be read."""
    with contextlib.suppress(OSError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777


def _name_of(file: NewFile) -> bytes:
    return _name_in(file.tree, file.entry.path) if file.tree else staged_name(file.entry)


def _name_in(tree: bytes, path: bytes) -> bytes:
    """Where what is to be `path` is made ready with the new directory `tree` (itself perhaps)."""
    return _tree_name(tree) + path[len(tree) :]


@functools.lru_cache(maxsize=4096)
def _tree_name(path: bytes) -> bytes:
    return blake3(b"tree\0" + path).hexdigest()[:32].encode()


def _runs(parts: list[Part]) -> Iterator[list[Part]]:
    """Parts whose sources follow one another in one file as they do in the new one, together."""
    run: list[Part] = []
    for part in parts:
        if run and not _follows(run[-1], part):
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def _follows(before: Part, after: Part) -> bool:
    if before.source is None or after.source is None:
        return before.source is after.source
    size = before.chunk.size_bytes
    return (
        before.source.path == after.source.path
        and before.source.offset + size == after.source.offset
        and before.offset + size == after.offset
    )


def _length(run: list[Part]) -> int:
    return sum(part.chunk.size_bytes for part in run)


def _read(handle: int, size: int, offset: int) -> bytes:
    try:
        return os.pread(handle, size, offset)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise


def _must_be_ours(status: os.stat_result, path: bytes) -> None:
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise OSError(errno.EEXIST, "is there, and is not a directory of ours", path)
