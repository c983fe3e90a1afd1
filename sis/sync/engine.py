"""Make a tree equal to what is desired, or say what differs: the whole story of a sync."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sis.errors import Locked, NotFound
from sis.image.codec import show_path
from sis.image.model import Kind
from sis.sync import index
from sis.sync.apply import Applied, apply, is_as_desired
from sis.sync.compare import Comparison, compare
from sis.sync.deltas import DeltaUse
from sis.sync.desired import DesiredTree
from sis.sync.faults import explained, fault_of
from sis.sync.fetch import ChunkSource, Fetching
from sis.sync.index import Remembered, Row, is_settled, row_of
from sis.sync.locate import locate
from sis.sync.model import Change, Totals
from sis.sync.observe import Observed, mount_points_below, observe
from sis.sync.plan import LocalContent, Plan, make_plan
from sis.sync.rules import PathPolicy, Rules, parents_of
from sis.sync.space import must_fit
from sis.sync.stage import Stage
from sis.system import locks
from sis.system.beneath import Beneath
from sis.system.files import make_dirs

log = logging.getLogger(__name__)

Observer = Callable[[int, int], None]
"""Told (bytes of content done, bytes in all)."""

_OUT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was found (check, dry run) or done (sync).

    in_sync        check: nothing differs; sync: nothing differs any more. Policy `report` does not count
    boot_changed   kernels, initrds or anything else below /boot is among the changes
    reboot_needed  the tree is the running system, and its kernel, initrd, C library or init was changed
    notices        a sentence each, for people
    """

    changes: tuple[Change, ...] = ()
    totals: Totals = Totals()
    in_sync: bool = True
    boot_changed: bool = False
    reboot_needed: bool = False
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Survey:
    """All that is known before anything is decided."""

    rules: Rules
    remembered: Remembered
    observed: Observed
    comparison: Comparison
    live: bool


def check(
    root: Path,
    want: DesiredTree,
    *,
    policy: PathPolicy,
    state: Path,
    source: ChunkSource | None = None,
    full: bool = False,
    mounts: frozenset[bytes] = frozenset(),
    retain: frozenset[str] = frozenset(),
) -> Outcome:
    """Say what differs below `root`; change nothing. The parameters are those of `sync`.

    With a `source`, `bytes_to_fetch` of each change is what a sync would move.
    """
    with _opened(root) as tree, explained("looking at the tree"):
        survey = _survey(tree, root, want, policy, state, full, mounts, retain)
        by_delta = _by_delta(tree, survey, source)
        plan = _plan(tree, want, survey, source, by_delta)
        _remember_what_was_verified(state, want, survey)
        if source is not None and survey.comparison.in_sync:
            source.settle(state)
    return _told(plan, survey, source, by_delta)


def sync(
    root: Path,
    want: DesiredTree,
    *,
    policy: PathPolicy,
    source: ChunkSource,
    state: Path,
    dry_run: bool = False,
    full: bool = False,
    mounts: frozenset[bytes] = frozenset(),
    retain: frozenset[str] = frozenset(),
    observe: Observer | None = None,
) -> Outcome:
    """Make the tree below `root` equal to `want`.

    state   the directory that is this root's memory between runs; below `root` it is left alone
    full    trust nothing remembered: read every byte
    mounts  mount points below the root (b"boot") whose file systems are held too
    retain  kernel releases kept when the image drops them; of a running system its own kernel is kept in any case
    observe told of progress

    Raises Locked, NoSpace (before the first change), Unreachable, Corrupt, and SisError for what the kernel refuses.
    Whenever it is interrupted, every file is the old one or the new one, and another run does the rest.
    """
    if dry_run:
        return check(root, want, policy=policy, state=state, source=source, full=full, mounts=mounts, retain=retain)
    make_dirs(state, mode=0o700)
    with locks.hold(state / "lock", f"sync of {root}"), _opened(root) as tree, _sole_writer(tree, root):
        with explained("looking at the tree"):
            survey = _survey(tree, root, want, policy, state, full, mounts, retain)
            by_delta = _by_delta(tree, survey, source)
            plan = _plan(tree, want, survey, source, by_delta)
        with Stage(tree, survey.observed, _progress(plan, observe)) as stage:
            with explained("preparing the staging directory"):
                stage.keep_only(plan.files)
                must_fit(tree, plan.needs, stage)
            if plan.is_empty:
                stage.discard()
                _remember_what_was_verified(state, want, survey)
                source.settle(state)
                return _told(plan, survey, source, by_delta)
            fetched = _make_ready(stage, plan, want, source, by_delta)
            index.intend(state, (want.entries[path] for path in survey.comparison.node_paths))
            with explained("putting the new files in place"):
                applied = apply(tree, plan, stage, survey.observed.areas)
            with explained("looking at what was placed"):
                changed_meanwhile = _remember(tree, state, want, survey, applied)
        source.settle(state)
        totals = _final_totals(plan, stage, fetched, by_delta)
    told = _told(plan, survey, source, by_delta)
    return _done(told, survey, totals, (*changed_meanwhile, *applied.not_empty))


def _survey(
    tree: Beneath,
    root: Path,
    want: DesiredTree,
    policy: PathPolicy,
    state: Path,
    full: bool,
    mounts: frozenset[bytes],
    retain: frozenset[str],
) -> _Survey:
    remembered = index.load(state, want.digest, want.entries)
    placed = (remembered.applied, remembered.intended)
    rules = Rules(policy, want.entries, placed=placed, own=_own_paths(root, state))
    live = _is_live(tree)
    observed = observe(
        tree,
        candidates=(want.entries, *placed),
        applied=remembered.applied,
        rows={} if full else remembered.rows,
        passes=rules.passes,
        mounts=mounts,
        mounted=mount_points_below(root),
    )
    running = {os.uname().release} if live else set()
    comparison = compare(want.entries, observed, rules, remembered, retain=retain | running, live=live)
    return _Survey(rules, remembered, observed, comparison, live)


def _by_delta(tree: Beneath, survey: _Survey, source: ChunkSource | None) -> DeltaUse | None:
    if source is None or source.delta is None or not survey.comparison.to_do:
        return None
    return DeltaUse(source.delta, tree, survey.observed, source.stored_bytes)


def _plan(
    tree: Beneath, want: DesiredTree, survey: _Survey, source: ChunkSource | None, by_delta: DeltaUse | None
) -> Plan:
    comparison = survey.comparison
    local = locate(tree, survey.observed, comparison, want.blobs) if source and comparison.to_do else _NOWHERE
    stored_bytes = by_delta.cost if by_delta else source.stored_bytes if source else _unknown
    plan = make_plan(want.entries, survey.observed, comparison, survey.rules, local, want.blobs, stored_bytes)
    if by_delta is None:
        return plan
    delta_bytes, chunk_bytes = by_delta.estimate(plan.to_fetch)
    totals = msgspec.structs.replace(plan.totals, bytes_fetched=delta_bytes + chunk_bytes, bytes_delta=delta_bytes)
    return dataclasses.replace(plan, totals=totals)


def _make_ready(stage: Stage, plan: Plan, want: DesiredTree, source: ChunkSource, by_delta: DeltaUse | None) -> int:
    """Stage every new file: from this node, from the layer, by the delta, and the rest fetched as chunks.

    Returns the bytes of these chunks.

    Out of room or with a disk error the staging directories are removed; after any other fault they are kept, so that
    the next run goes on from there.
    """
    fetching = None
    try:
        stage.make(plan.files, want.blobs)
        if stage.missing and by_delta is not None:
            with contextlib.closing(by_delta.make(stage.missing)) as made:
                for digest, data in made:
                    stage.put(digest, data)
        if stage.missing:
            fetching = Fetching(source, stage.missing)
            with contextlib.closing(iter(fetching)) as arrived:
                for digest, data in arrived:
                    stage.put(digest, data)
    except OSError as error:
        if error.errno in _OUT_OF_ROOM:
            with contextlib.suppress(OSError):
                stage.discard()
        raise fault_of(error, "making new files ready") from error
    return fetching.bytes_fetched if fetching else 0


def _remember(tree: Beneath, state: Path, want: DesiredTree, survey: _Survey, applied: Applied) -> tuple[bytes, ...]:
    """Write the index of the tree as it is now. Returns paths that someone changed while we worked."""
    index.wait_until_settled()
    now_ns = time.time_ns()
    rows = _verified_rows(want, survey)
    odd: list[bytes] = []
    named_often = {path for paths in survey.observed.shared.values() for path in paths}
    named_often.update(path for path in applied.placed if want.entries[path].link)
    disturbed = {parent for change in survey.comparison.to_do for parent in parents_of(change.path)[:1]}
    disturbed.update(area.mount for area in survey.observed.areas)
    for path in {*applied.placed, *disturbed, *(named_often & rows.keys())}:
        entry = want.entries.get(path)
        before = rows.pop(path, None)
        if entry is None or (path not in applied.placed and before is None):
            continue
        try:
            status = tree.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            odd.append(path)
            continue
        row = row_of(status)
        holds_mtime = entry.kind is not Kind.DIR or survey.rules.holds_mtime(path)
        known = applied.placed.get(path) or before
        assert known is not None
        moves = entry.kind is Kind.DIR or path in named_often
        is_same = row[:2] == known[:2] if moves else row == known
        if not is_same or not is_as_desired(status, entry, mtime=holds_mtime):
            odd.append(path)
        elif is_settled(row, now_ns):
            rows[path] = row
    _save(state, want, survey, rows)
    return tuple(sorted(odd))


def _remember_what_was_verified(state: Path, want: DesiredTree, survey: _Survey) -> None:
    """After a run that changed nothing: keep the lstat of what had to be read, so that it is not read again.

    The tree becomes the one applied only if nothing is left to do for it.
    """
    remembered, comparison = survey.remembered, survey.comparison
    if remembered.tree != want.digest and not (comparison.in_sync and not comparison.told):
        return
    is_same_tree = remembered.tree == want.digest and remembered.owned == comparison.owned
    if is_same_tree and not survey.observed.looked_at and remembered.retained == comparison.retained:
        return
    rows = _verified_rows(want, survey)
    if is_same_tree and rows == remembered.rows and remembered.retained == comparison.retained:
        return
    try:
        _save(state, want, survey, rows)
    except OSError as error:
        log.warning("%s: %s; what was verified now is verified again next time", state, error.strerror)


def _verified_rows(want: DesiredTree, survey: _Survey) -> dict[bytes, Row]:
    observed, comparison = survey.observed, survey.comparison
    differing = {difference.path for difference in (*comparison.to_do, *comparison.told)}
    rows = {}
    for path, found in observed.found.items():
        if path in want.entries and path not in differing and path not in comparison.owned:
            is_remembered = survey.remembered.rows.get(path) == found.row
            if is_remembered or is_settled(found.row, observed.started_ns):
                rows[path] = found.row
    return rows


def _save(state: Path, want: DesiredTree, survey: _Survey, rows: dict[bytes, Row]) -> None:
    comparison = survey.comparison
    remembered = Remembered(
        tree=want.digest,
        applied=want.entries,
        owned=comparison.owned,
        absent=comparison.absent,
        kernels=comparison.kernels,
        retained=comparison.retained,
        rows=rows,
    )
    index.save(state, remembered)


def _progress(plan: Plan, observer: Observer | None) -> Callable[[int], None]:
    if observer is None:
        return lambda _: None
    done, total = 0, plan.totals.bytes_written

    def moved(size: int) -> None:
        nonlocal done
        done += size
        observer(min(done, total), total)

    return moved


def _final_totals(plan: Plan, stage: Stage, fetched: int, by_delta: DeltaUse | None) -> Totals:
    counts = stage.counts
    delta_bytes = by_delta.bytes_fetched if by_delta else 0
    return msgspec.structs.replace(
        plan.totals,
        bytes_fetched=fetched + delta_bytes,
        bytes_delta=delta_bytes,
        bytes_local=counts.local + counts.resumed,
        bytes_written=counts.written,
    )


def _told(plan: Plan, survey: _Survey, source: ChunkSource | None, by_delta: DeltaUse | None) -> Outcome:
    of_source = source.notices if source and plan.to_fetch else ()
    of_delta = by_delta.notices() if by_delta else ()
    return Outcome(
        changes=plan.changes,
        totals=plan.totals,
        in_sync=survey.comparison.in_sync,
        boot_changed=plan.boot_changed,
        reboot_needed=survey.live and plan.reboot_worthy,
        notices=(*survey.comparison.notices, *of_source, *of_delta),
    )


def _done(told: Outcome, survey: _Survey, totals: Totals, changed_meanwhile: tuple[bytes, ...]) -> Outcome:
    notices = [f"{show_path(path)} was changed by someone else meanwhile: run it again" for path in changed_meanwhile]
    unmended = any(difference.action == "keep" for difference in survey.comparison.told)
    return msgspec.structs.replace(
        told, totals=totals, in_sync=not changed_meanwhile and not unmended, notices=(*told.notices, *notices)
    )


@contextlib.contextmanager
def _opened(root: Path) -> Iterator[Beneath]:
    try:
        tree = Beneath(root)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"no such directory: {root}") from error
    except PermissionError as error:
        raise fault_of(error, "opening the root") from error
    with tree:
        _allow_many_open_files()
        yield tree


@contextlib.contextmanager
def _sole_writer(tree: Beneath, root: Path) -> Iterator[None]:
    """Hold the root directory itself, for runs on one root that remember in different places."""
    try:
        fcntl.flock(tree.root, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Locked(f"another sync of {root} is under way", hint="wait for it to end, and try again") from error
    yield


def _own_paths(root: Path, state: Path) -> frozenset[bytes]:
    """The state directory as a path below the root, if it is below it."""
    try:
        inner = state.resolve().relative_to(root.resolve())
    except ValueError:
        return frozenset()
    return frozenset({os.fsencode(inner)}) if inner.parts else frozenset()


def _is_live(tree: Beneath) -> bool:
    return os.path.samestat(os.fstat(tree.root), os.stat("/"))


def _allow_many_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 8192:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard) if hard >= 0 else 8192, hard))


def _unknown(_digest: bytes) -> int:
    return 0


_NOWHERE = LocalContent({}, {})
