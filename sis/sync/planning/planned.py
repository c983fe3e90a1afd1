"""The values a plan is made of: files to be made ready, steps to be done, what they need. All frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple, overload

from sis.image.model import ANY_MTIME, DIGEST_BYTES, RUN_BYTES, Chunk, Entry
from sis.sync.model import Change, Totals
from sis.sync.planning.trees import NewTree
from sis.sync.walk.observe import Area

Verb = Literal["tree", "directory", "place", "link", "metadata", "remove", "mtime", "phase", "barrier"]


class Source(NamedTuple):
    """Where on this node the bytes of a chunk already are."""

    path: bytes
    offset: int


class Part(NamedTuple):
    """One run of a new file. `source` None: from the layer, a hole, or to be fetched."""

    offset: int
    chunk: Chunk
    source: Source | None


class NewFile(NamedTuple):
    """A file to be made ready beside the tree before anything is changed.

    sources  where on this node chunks of it are, by digest
    tree     the path of the new directory it is made ready in; b"" for a file that goes where a directory is already
    """

    entry: Entry
    sources: Mapping[bytes, Source]
    tree: bytes = b""

    def parts(self) -> Iterator[Part]:
        """Its runs in order."""
        at = 0
        for chunk in self.entry.each_chunk():
            yield Part(at, chunk, self.sources.get(chunk.digest))
            at += chunk.size_bytes

    def digests(self) -> list[bytes]:
        """Of its runs in order, holes included."""
        raw = self.entry.chunks
        return [raw[at : at + DIGEST_BYTES] for at in range(0, len(raw), RUN_BYTES)]


class NewFiles(Sequence[NewFile]):
    """The files a plan makes, in path order: each is made when it is asked for, so that none but those are in memory.

    repeated  digests of the chunks that are in more than one of them, or twice in one
    """

    def __init__(
        self, entries: Sequence[Entry], make: Callable[[Entry], NewFile], repeated: frozenset[bytes] = frozenset()
    ) -> None:
        self.entries = entries
        self.repeated = repeated
        self._make = make

    @overload
    def __getitem__(self, number: int) -> NewFile: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[NewFile]: ...
    def __getitem__(self, number: int | slice) -> NewFile | Sequence[NewFile]:
        if isinstance(number, slice):
            return NewFiles(self.entries[number], self._make, self.repeated)
        return self._make(self.entries[number])

    def __len__(self) -> int:
        return len(self.entries)


class Step(NamedTuple):
    """One change of the tree.

    tree       move a directory made ready, with all that is in it, to its path
    directory  make a directory (or give one its metadata); nothing yet if only its time differs (`mtime_ns`)
    place      move a file made ready, or a new symlink, device or FIFO, to its path
    link       make the path a name of the inode at `leader`
    metadata   set owner, mode, xattrs and time in place; only the time if nothing else differs (`mtime_ns`)
    remove     unlink, or remove an empty directory
    mtime      set a directory's modification time to `mtime_ns`
    phase      everything before is done before anything after; files to be removed in one may go in any order
    barrier    the same, and everything before is made durable
    """

    verb: Verb
    path: bytes = b""
    entry: Entry | None = None
    leader: bytes = b""
    over_directory: bool = False
    """A directory is at the path, or is to be, where something else was."""
    is_directory: bool = False
    mtime_ns: int = ANY_MTIME


class Need(NamedTuple):
    """What a file system must have free before the first change."""

    area: Area
    size_bytes: int
    inodes: int


@dataclass(frozen=True)
class Plan:
    """What a sync will do. An empty plan does nothing.

    What is not needed to begin with is put together when it is first asked for: `steps`, and `changes`, `costs` and
    `totals` to be told.

    to_fetch        digests of the chunks this node has not
    counts          totals of what is changed; nothing is said of bytes
    bytes_written   of all the files
    reboot_worthy   whether a running system has to restart to use what is changed: kernel, initrd, C library, init
    """

    files: NewFiles
    trees: tuple[NewTree, ...]
    needs: tuple[Need, ...]
    to_fetch: Set[bytes]
    counts: Totals
    bytes_written: int
    boot_changed: bool
    reboot_worthy: bool
    is_empty: bool
    make_steps: Callable[[], Iterable[Step]] = field(repr=False)
    make_costs: Callable[[], Sequence[int]] = field(repr=False)
    make_changes: Callable[[Sequence[int]], Iterable[Change]] = field(repr=False)
    make_totals: Callable[[], Totals] = field(repr=False)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """In the order in which they are done."""
        return tuple(self.make_steps())

    @cached_property
    def costs(self) -> Sequence[int]:
        """What each of the files makes the node fetch, in bytes: all of `changes` that takes where chunks lie."""
        return self.make_costs()

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """What differs, itemised, in path order."""
        return tuple(self.make_changes(self.costs))

    @cached_property
    def totals(self) -> Totals:
        """What it will come to, if all goes as planned."""
        return self.make_totals()

    def only_steps(self) -> Plan:
        """The same without what is of no use, and takes memory, once all files are ready; `changes` can be told."""
        steps, costs = self.steps, self.costs
        return replace(
            self,
            files=NewFiles((), lambda entry: NewFile(entry, {})),
            to_fetch=frozenset(),
            make_steps=lambda: steps,
            make_costs=lambda: costs,
            make_totals=Totals,
        )


class Needed(NamedTuple):
    """The chunks that new files are of, holes left out: all of them, and those that are there more than once.

    digests  by themselves, so that who gives them a place can use the same ones
    """

    digests: Mapping[bytes, bytes]
    repeated: frozenset[bytes]
    has_holes: bool


class LocalContent(NamedTuple):
    """Chunks this node has: anywhere, and in the file that is to be replaced (path → digest → offset)."""

    anywhere: Mapping[bytes, Source]
    in_place: Mapping[bytes, Mapping[bytes, int]]
