"""The plan: a frozen value that says everything a sync will do, in order.

Made by pure code, printed by a dry run, executed by `apply`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from sis.image.model import ANY_MTIME, HOLE, Chunk, Entry, Kind
from sis.sync.compare import CONTENT, Comparison, Difference
from sis.sync.model import Change, Totals
from sis.sync.observe import Area, Observed
from sis.sync.rules import Rules
from sis.sync.trees import NewTree, is_in_tree, new_trees, parent_of, tree_of_directories

COPIED_FOR_METADATA_BYTES_MAX = 1 << 20
"""A file up to this size is copied to change more than one of its properties in one rename."""

_BINARY_DIRECTORIES = (b"bin/", b"sbin/", b"usr/bin/", b"usr/sbin/", b"usr/local/bin/", b"usr/local/sbin/")
_BOOT_NAMES = (b"vmlinuz", b"vmlinuz.old", b"initrd.img", b"initrd.img.old")
_KERNEL_PREFIXES = (b"boot/vmlinu", b"boot/init")
_REBOOT_PREFIXES = (*_KERNEL_PREFIXES, b"usr/lib/systemd/systemd", b"lib/systemd/systemd")
_REBOOT_NAMES = (b"libc.so.6", b"ld-linux-x86-64.so.2", b"ld-linux-aarch64.so.1")

Verb = Literal["tree", "directory", "place", "link", "metadata", "remove", "mtime", "barrier"]


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

    `tree` is the path of the new directory it is made ready in; b"" for a file that goes where a directory is already.
    """

    entry: Entry
    parts: tuple[Part, ...]
    tree: bytes = b""


class Step(NamedTuple):
    """One change of the tree.

    tree       move a directory made ready, with all that is in it, to its path
    directory  make a directory (or give one its metadata)
    place      move a file made ready, or a new symlink, device or FIFO, to its path
    link       make the path a name of the inode at `leader`
    metadata   set owner, mode, xattrs and time in place
    remove     unlink, or remove an empty directory
    mtime      set a directory's modification time to `mtime_ns`
    barrier    make everything before durable before anything after
    """

    verb: Verb
    path: bytes = b""
    entry: Entry | None = None
    leader: bytes = b""
    over_directory: bool = False
    """A directory is at the path, or is to be, where something else was."""
    is_directory: bool = False
    mtime_ns: int = 0


class Need(NamedTuple):
    """What a file system must have free before the first change."""

    area: Area
    size_bytes: int
    inodes: int


@dataclass(frozen=True)
class Plan:
    """What a sync will do. An empty plan does nothing."""

    changes: tuple[Change, ...]
    files: tuple[NewFile, ...]
    trees: tuple[NewTree, ...]
    steps: tuple[Step, ...]
    needs: tuple[Need, ...]
    to_fetch: frozenset[bytes]
    """Digests of the chunks this node has not."""
    totals: Totals
    boot_changed: bool
    reboot_worthy: bool
    """Whether a running system has to restart to use what is changed: kernel, initrd, C library, init."""

    @property
    def is_empty(self) -> bool:
        return not self.steps


class LocalContent(NamedTuple):
    """Chunks this node has: anywhere, and in the file that is to be replaced (path → digest → offset)."""

    anywhere: Mapping[bytes, Source]
    in_place: Mapping[bytes, Mapping[bytes, int]]


def files_to_make(comparison: Comparison) -> tuple[Difference, ...]:
    """The differences that need a new file made ready, in path order."""
    return tuple(
        difference
        for difference in comparison.to_do
        if difference.want is not None
        and difference.want.kind is Kind.FILE
        and difference.path not in comparison.leader_of
        and _needs_new_inode(difference)
    )


def make_plan(
    want: Mapping[bytes, Entry],
    observed: Observed,
    comparison: Comparison,
    rules: Rules,
    local: LocalContent,
    blobs: Mapping[bytes, bytes],
    stored_bytes: Callable[[bytes], int],
) -> Plan:
    """Plan what `comparison` found to do. `stored_bytes` tells what fetching a chunk costs."""
    tree_of = tree_of_directories(comparison)
    making = files_to_make(comparison)
    files = tuple(_new_file(each, local, tree_of.get(parent_of(each.path), b"")) for each in making)
    to_fetch = _to_fetch(files, blobs)
    steps = tuple(_steps(want, observed, comparison, rules, tree_of))
    changes = tuple(_changes(comparison, files, to_fetch, stored_bytes))
    touched = [difference.path for difference in comparison.to_do]
    return Plan(
        changes=changes,
        files=files,
        trees=tuple(new_trees(comparison, tree_of)),
        steps=steps,
        needs=tuple(_needs(observed, comparison, files)),
        to_fetch=to_fetch,
        totals=_totals(want, comparison, files, to_fetch, stored_bytes),
        boot_changed=any(is_boot(path) for path in touched),
        reboot_worthy=any(_is_reboot_worthy(path) for path in touched),
    )


def is_boot(path: bytes) -> bool:
    """Whether a path belongs to what boots the machine, which is changed last."""
    return path.startswith(b"boot/") or path in _BOOT_NAMES


def _is_reboot_worthy(path: bytes) -> bool:
    return path.startswith(_REBOOT_PREFIXES) or path.rpartition(b"/")[2] in _REBOOT_NAMES


def _needs_new_inode(difference: Difference) -> bool:
    """Whether what is at the path must be replaced, rather than set right in place."""
    want, found, what = difference.want, difference.found, difference.what
    assert want is not None
    if found is None or CONTENT.intersection(what) or "link" in what:
        return True
    if want.kind is not Kind.FILE or want.link or want.size > COPIED_FOR_METADATA_BYTES_MAX:
        return False
    return len(what) > 1


# Content.


def _new_file(difference: Difference, local: LocalContent, tree: bytes) -> NewFile:
    entry = difference.want
    assert entry is not None
    in_place = local.in_place.get(entry.path, {})
    parts = []
    at = 0
    for chunk in entry.each_chunk():
        digest = chunk.digest
        source = None
        if digest != HOLE:
            offset = in_place.get(digest)
            source = Source(entry.path, offset) if offset is not None else local.anywhere.get(digest)
        parts.append(Part(at, chunk, source))
        at += chunk.size_bytes
    return NewFile(entry, tuple(parts), tree)


def _to_fetch(files: Iterable[NewFile], blobs: Mapping[bytes, bytes]) -> frozenset[bytes]:
    return frozenset(
        part.chunk.digest
        for file in files
        for part in file.parts
        if part.source is None and part.chunk.digest != HOLE and part.chunk.digest not in blobs
    )


# Order.


def _steps(
    want: Mapping[bytes, Entry],
    observed: Observed,
    comparison: Comparison,
    rules: Rules,
    tree_of: Mapping[bytes, bytes],
) -> Iterator[Step]:
    if not comparison.to_do:
        return
    replaced = tuple(
        difference.path + b"/"
        for difference in comparison.to_do
        if "type" in difference.what and _was_directory(difference)
    )
    boot_groups = {leader for path, leader in comparison.leader_of.items() if is_boot(path)}
    phases: list[list[Step]] = [[] for _ in range(9)]
    for difference in comparison.to_do:
        path = difference.path
        if difference.want is None:
            if path.startswith(replaced):
                continue
            step = Step("remove", path, is_directory=_was_directory(difference))
            phases[8 if is_boot(path) else 4].append(step)
            continue
        if tree_of.get(path) == path:
            phases[6 if is_boot(path + b"/") else 1].append(Step("tree", path, difference.want))
            continue
        if is_in_tree(difference, comparison, tree_of):
            continue
        step = _step(difference, comparison.leader_of.get(path))
        leader = comparison.leader_of.get(path, path)
        if is_boot(path) or leader in boot_groups or is_boot(leader):
            phases[_boot_phase(step)].append(step)
        else:
            phases[_phase(step)].append(step)
    for phase in (4, 8):
        phases[phase].reverse()
    directories, data, binaries, links, removals, kernels, boot_files, boot_links, boot_removals = phases
    yield from (*directories, *data, *binaries, *links, *removals)
    if kernels or boot_files or boot_links:
        yield Step("barrier")
        yield from (*kernels, *boot_files, *boot_links)
    if boot_removals:
        yield Step("barrier")
        yield from boot_removals
    yield from _directory_times(want, observed, comparison, rules, tree_of)


def _step(difference: Difference, leader: bytes | None) -> Step:
    want = difference.want
    assert want is not None
    if leader is not None:
        return Step("link", want.path, want, leader=leader, over_directory=_was_directory(difference))
    if want.kind is Kind.DIR:
        return Step("directory", want.path, want, over_directory="type" in difference.what)
    if _needs_new_inode(difference):
        return Step("place", want.path, want, over_directory=_was_directory(difference))
    return Step("metadata", want.path, want)


def _phase(step: Step) -> int:
    assert step.entry is not None
    if step.verb == "directory":
        return 0
    if step.verb == "link" or step.entry.kind is not Kind.FILE:
        return 3
    return 2 if step.path.startswith(_BINARY_DIRECTORIES) else 1


def _boot_phase(step: Step) -> int:
    assert step.entry is not None
    if step.verb == "directory":
        return 0
    if step.verb == "link" or step.entry.kind is not Kind.FILE:
        return 7
    return 5 if step.path.startswith(_KERNEL_PREFIXES) else 6


def _directory_times(
    want: Mapping[bytes, Entry],
    observed: Observed,
    comparison: Comparison,
    rules: Rules,
    tree_of: Mapping[bytes, bytes],
) -> Iterator[Step]:
    """The time of every directory that differs or has had a name in it changed, children first.

    What is in a new tree has its time before it is moved.
    """
    touched: set[bytes] = set()
    for difference in comparison.to_do:
        if is_in_tree(difference, comparison, tree_of):
            continue
        if difference.want is not None and difference.want.kind is Kind.DIR:
            touched.add(difference.path)
        if difference.path != b".":
            touched.add(difference.path.rpartition(b"/")[0] or b".")
    touched.update(area.mount for area in observed.areas)
    removed = {difference.path for difference in comparison.to_do if difference.want is None}
    for path in sorted(touched - removed, key=lambda path: (path != b".", path), reverse=True):
        mtime_ns = _time_of(path, want.get(path), observed, rules)
        if mtime_ns is not None:
            yield Step("mtime", path, mtime_ns=mtime_ns)


def _time_of(path: bytes, entry: Entry | None, observed: Observed, rules: Rules) -> int | None:
    """The image's time, also where it is not held afterwards; where that says nothing, what it was before us."""
    here = observed.found.get(path)
    was_directory = here is not None and here.entry is not None and here.entry.kind is Kind.DIR
    is_told = entry is not None and entry.kind is Kind.DIR and entry.mtime_ns != ANY_MTIME
    if is_told and (not was_directory or rules.verb(path) == "enforce"):
        assert entry is not None
        return entry.mtime_ns
    if was_directory and any(area.mount == path for area in observed.areas):
        assert here is not None
        assert here.entry is not None
        return here.entry.mtime_ns
    return None


def _was_directory(difference: Difference) -> bool:
    found = difference.found
    return found is not None and found.entry is not None and found.entry.kind is Kind.DIR


# Sums.


def _changes(
    comparison: Comparison,
    files: Iterable[NewFile],
    to_fetch: frozenset[bytes],
    stored_bytes: Callable[[bytes], int],
) -> Iterator[Change]:
    seen: set[bytes] = set()
    cost: Counter[bytes] = Counter()
    for file in files:
        for part in file.parts:
            digest = part.chunk.digest
            if part.source is None and digest in to_fetch and digest not in seen:
                seen.add(digest)
                cost[file.entry.path] += stored_bytes(digest)
    for difference in sorted((*comparison.to_do, *comparison.told), key=lambda difference: difference.path):
        yield difference.change(cost[difference.path])


def _totals(
    want: Mapping[bytes, Entry],
    comparison: Comparison,
    files: tuple[NewFile, ...],
    to_fetch: frozenset[bytes],
    stored_bytes: Callable[[bytes], int],
) -> Totals:
    actions = Counter(difference.action for difference in comparison.to_do)
    parts = [part for file in files for part in file.parts if part.chunk.digest != HOLE]
    return Totals(
        entries=len(want),
        created=actions["create"],
        updated=actions["update"] + actions["replace"],
        metadata=actions["metadata"],
        removed=actions["remove"],
        reported=len(comparison.told),
        bytes_fetched=sum(stored_bytes(digest) for digest in to_fetch),
        bytes_local=sum(part.chunk.size_bytes for part in parts if part.chunk.digest not in to_fetch),
        bytes_written=sum(part.chunk.size_bytes for part in parts),
    )


def _needs(observed: Observed, comparison: Comparison, files: Iterable[NewFile]) -> Iterator[Need]:
    sizes: Counter[bytes] = Counter()
    inodes: Counter[bytes] = Counter()
    blocks = {area.mount: area.block_bytes for area in observed.areas}
    for file in files:
        mount = observed.area_of(file.entry.path).mount
        block = blocks[mount]
        for part in file.parts:
            if part.chunk.digest != HOLE:
                end = part.offset + part.chunk.size_bytes
                sizes[mount] += -(-end // block) * block - part.offset // block * block
        if file.parts:
            sizes[mount] -= _shared_blocks(file.parts, block)
        inodes[mount] += 1
    for difference in comparison.to_do:
        entry = difference.want
        if entry is None or entry.kind is Kind.FILE or difference.path in comparison.leader_of:
            continue
        if difference.found is not None and "type" not in difference.what:
            continue
        mount = observed.area_of(entry.path).mount
        inodes[mount] += 1
        if entry.kind is Kind.DIR:
            sizes[mount] += blocks[mount]
    for area in observed.areas:
        if inodes[area.mount]:
            yield Need(area, sizes[area.mount], inodes[area.mount])


def _shared_blocks(parts: tuple[Part, ...], block: int) -> int:
    """Bytes of blocks counted twice because one run ends and the next begins in them."""
    twice = 0
    for before, after in pairwise(parts):
        if after.offset % block and HOLE not in (before.chunk.digest, after.chunk.digest):
            twice += block
    return twice
