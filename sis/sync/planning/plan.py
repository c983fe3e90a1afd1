"""The plan: a frozen value (`planned`) that says everything a sync will do, in order.

Made by pure code, printed by a dry run, executed by `apply`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sis.image.model import ANY_MTIME, DIGEST_BYTES, HOLE, RUN_BYTES, Entry, Kind
from sis.sync.planning import sums
from sis.sync.planning.difference import CONTENT, Comparison, Difference
from sis.sync.planning.planned import LocalContent, Needed, NewFile, NewFiles, Plan, Source, Step
from sis.sync.planning.trees import is_in_tree, new_trees, parent_of, tree_of_directories
from sis.sync.rules import Rules
from sis.sync.walk.observe import Observed

COPIED_FOR_METADATA_BYTES_MAX = 1 << 20
"""A file up to this size is copied to change more than one of its properties in one rename."""

_BINARY_DIRECTORIES = (b"bin/", b"sbin/", b"usr/bin/", b"usr/sbin/", b"usr/local/bin/", b"usr/local/sbin/")
_BOOT_NAMES = (b"vmlinuz", b"vmlinuz.old", b"initrd.img", b"initrd.img.old")
_KERNEL_PREFIXES = (b"boot/vmlinu", b"boot/init")
_REBOOT_PREFIXES = (*_KERNEL_PREFIXES, b"usr/lib/systemd/systemd", b"lib/systemd/systemd")
_NOT_HERE: Mapping[bytes, Any] = MappingProxyType({})
_REBOOT_NAMES = (b"libc.so.6", b"ld-linux-x86-64.so.2", b"ld-linux-aarch64.so.1")


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


def needed_by(making: Iterable[Difference], blobs: Iterable[bytes]) -> Needed:
    """The chunks of the files to be made; `blobs` are at hand."""
    joined = b"".join([difference.want.chunks for difference in making if difference.want is not None])
    digests = [joined[at : at + DIGEST_BYTES] for at in range(0, len(joined), RUN_BYTES)]
    needed = dict(zip(digests, digests, strict=True))
    repeated: set[bytes] = set()
    if len(digests) > len(needed):
        left = set(needed)
        for digest in digests:
            if digest in left:
                left.remove(digest)
            else:
                repeated.add(digest)
    has_holes = HOLE in needed
    without = {HOLE, *blobs}
    for digest in without:
        needed.pop(digest, None)
    return Needed(needed, frozenset(repeated - without), has_holes)


def make_plan(
    want: Mapping[bytes, Entry],
    observed: Observed,
    comparison: Comparison,
    rules: Rules,
    making: Sequence[Difference],
    needed: Needed,
    local: LocalContent,
    stored_bytes: Callable[[bytes], int],
) -> Plan:
    """Plan what `comparison` found to do, for which the files `making` (`files_to_make`) and their chunks are needed.

    `stored_bytes` tells what fetching a chunk costs.
    """
    tree_of = tree_of_directories(comparison)
    entries = [difference.want for difference in making if difference.want is not None]
    work = sums.work(observed, comparison, entries, has_holes=needed.has_holes)
    counts = sums.counts(len(want), comparison)
    to_fetch = needed.digests.keys() - local.anywhere.keys() if local.anywhere else needed.digests.keys()
    to_do = comparison.to_do
    files = NewFiles(entries, lambda entry: _new_file(entry, local, tree_of), frozenset(needed.repeated & to_fetch))
    return Plan(
        files=files,
        trees=tuple(new_trees(comparison, tree_of)),
        needs=work.needs,
        to_fetch=to_fetch,
        counts=counts,
        bytes_written=work.bytes_written,
        boot_changed=any(is_boot(difference.path) for difference in to_do),
        reboot_worthy=any(_is_reboot_worthy(difference.path) for difference in to_do),
        is_empty=not to_do,
        make_steps=lambda: _steps(want, observed, comparison, rules, tree_of),
        make_costs=lambda: sums.costs(files, to_fetch, stored_bytes),
        make_changes=lambda costs: sums.changes(comparison, entries, costs),
        make_totals=lambda: sums.totals(counts, work, to_fetch, stored_bytes),
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


def _new_file(entry: Entry, local: LocalContent, tree_of: Mapping[bytes, bytes]) -> NewFile:
    path = entry.path
    file = NewFile(entry, _NOT_HERE, tree_of.get(parent_of(path), b""))
    if not local.anywhere:
        return file
    in_place = local.in_place.get(path, _NOT_HERE)
    sources = {}
    for digest in file.digests():
        offset = in_place.get(digest)
        source = Source(path, offset) if offset is not None else local.anywhere.get(digest)
        if source is not None:
            sources[digest] = source
    return file._replace(sources=sources) if sources else file


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
    yield from _in_phases(directories, data, binaries, links, *_files_first(removals))
    if kernels or boot_files or boot_links:
        yield Step("barrier")
        yield from _in_phases(kernels, boot_files, boot_links)
    if boot_removals:
        yield Step("barrier")
        yield from _in_phases(*_files_first(boot_removals))
    yield from _directory_times(want, observed, comparison, rules, tree_of)


def _in_phases(*phases: Iterable[Step]) -> Iterator[Step]:
    for phase in phases:
        yield from phase
        yield Step("phase")


def _files_first(removals: list[Step]) -> tuple[list[Step], list[Step]]:
    """What is in directories that go as well, then the directories, children first."""
    return [step for step in removals if not step.is_directory], [step for step in removals if step.is_directory]


def _step(difference: Difference, leader: bytes | None) -> Step:
    want = difference.want
    assert want is not None
    if leader is not None:
        return Step("link", want.path, want, leader=leader, over_directory=_was_directory(difference))
    time_ns = want.mtime_ns if difference.what == ("mtime",) else ANY_MTIME
    if want.kind is Kind.DIR:
        return Step("directory", want.path, want, over_directory="type" in difference.what, mtime_ns=time_ns)
    if _needs_new_inode(difference):
        return Step("place", want.path, want, over_directory=_was_directory(difference))
    return Step("metadata", want.path, want, mtime_ns=time_ns)


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
