"""Make a tree equal to what is desired, or say what differs. Where nothing changed it ends here, after one walk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sis.errors import Locked, NotFound
from sis.sync.desired import DesiredTree
from sis.sync.faults import explained, fault_of
from sis.sync.model import Observer, Outcome, Totals
from sis.sync.rules import Conditions, PathPolicy
from sis.sync.walk import index, still
from sis.sync.walk.index_files import has_intent
from sis.sync.walk.mounts import mount_points_below
from sis.system import locks
from sis.system.beneath import Beneath
from sis.system.files import make_dirs

if TYPE_CHECKING:
    from sis.sync.staging.source import ChunkSource

_ENDING_S = 0.2
"""How long what a killed run has forked may hold a root after it."""


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
    begun: Begun | None = None,
) -> Outcome:
    """Say what differs below `root`; change nothing. The parameters are those of `sync`.

    With a `source`, `bytes_to_fetch` of each change is what a sync would move.
    """
    with _begun(begun, root, state, full=full) as ahead, explained("looking at the tree"):
        tree = ahead.tree
        given = _conditions(tree, root, state, policy, mounts, retain)
        walked = _walked(ahead, given, full)
        told = _as_before(tree, want, given, walked, full)
        if told is not None:
            if source is not None and not source.is_settled():
                source.settle(state)
            return told
        from sis.sync import mend

        return mend.look(tree, want, given, walked, source=source, full=full)


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
    only_stage: bool = False,
    begun: Begun | None = None,
) -> Outcome:
    """Make the tree below `root` equal to `want`.

    state   the directory that is this root's memory between runs; below `root` it is left alone
    full    trust nothing remembered: read every byte
    mounts  mount points below the root (b"boot") whose file systems are held too
    retain  kernel releases kept when the image drops them; of a running system its own kernel is kept in any case
    observe told of progress
    only_stage  make all that is new ready beside the tree and stop: the next run fetches nothing
    begun   `begin` for this root and state, which holds them

    Raises Locked, NoSpace (before the first change), Unreachable, Corrupt, and SisError for what the kernel refuses.
    Whenever it is interrupted, every file is the old one or the new one, and another run does the rest.
    """
    if dry_run:
        return check(
            root, want, policy=policy, state=state, source=source, full=full, mounts=mounts, retain=retain, begun=begun
        )
    with _begun(begun, root, state, full=full, changing=True) as ahead:
        tree = ahead.tree
        given = _conditions(tree, root, state, policy, mounts, retain)
        walked = _walked(ahead, given, full)
        told = _as_before(tree, want, given, walked, full)
        if told is not None and source.is_settled():
            return told
        from sis.sync import mend

        return mend.make_equal(
            tree, want, given, walked, source=source, full=full, observe=observe, only_stage=only_stage
        )


@dataclass(frozen=True)
class Begun:
    """A run of which it is not known yet what it is held to: its root open, and already walked if that is of use.

    changing  nobody else may change the root or what is remembered of it
    """

    tree: Beneath
    remembered: index.Index | None
    walk: still.Walk | None
    changing: bool

    def without_walk(self) -> Begun:
        """The same, to be walked anew."""
        return replace(self, walk=None)


@contextlib.contextmanager
def begin(root: Path, state: Path, *, full: bool = False, changing: bool = False) -> Iterator[Begun]:
    """Begin a `check`, or a `sync` (`changing`), whose other parameters are found out while a second process walks.

    Raises as these.
    """
    with contextlib.ExitStack() as stack:
        if changing:
            make_dirs(state, mode=0o700)
            stack.enter_context(locks.hold(state / "lock", f"sync of {root}"))
        tree = stack.enter_context(_opened(root))
        if changing:
            stack.enter_context(_sole_writer(tree, root))
        walk = None
        with explained("looking at what is remembered"):
            remembered = index.read(state)
            if not full and remembered is not None and remembered.still is not None and not has_intent(state):
                walk = still.Walk(tree, remembered, remembered.still)
                stack.callback(walk.drop)
        yield Begun(tree, remembered, walk, changing)


@contextlib.contextmanager
def _begun(begun: Begun | None, root: Path, state: Path, *, full: bool, changing: bool = False) -> Iterator[Begun]:
    if begun is None:
        with begin(root, state, full=full, changing=changing) as begun:
            yield begun
    else:
        assert begun.changing or not changing
        yield begun


def _walked(ahead: Begun, given: Conditions, full: bool) -> still.Walked:
    """What is remembered, and what a walk says to it: only if the last run left nothing to do, on the same terms."""
    remembered = ahead.remembered
    if remembered is None or remembered.still is None or remembered.still.terms != given.terms:
        return still.Walked(remembered)
    if has_intent(given.state):
        return still.Walked(remembered)
    known = still.Known(remembered.listings, remembered.still, given.passes)
    walk = ahead.walk
    if full or walk is None:
        return still.Walked(remembered, known)
    return still.Walked(remembered, known, lambda: still.changed_directories(ahead.tree, known, given.mounted, walk))


def _as_before(tree: Beneath, want: DesiredTree, given: Conditions, walked: still.Walked, full: bool) -> Outcome | None:
    """The outcome if nothing has changed since the last run left nothing to do; None if that cannot be told."""
    remembered, known = walked.remembered, walked.known
    if remembered is None or known is None or remembered.tree != want.digest:
        return None
    if full:
        from sis.sync.walk.verify import is_as_left

        is_known = is_as_left(tree, want.entries, known, given.mounted, lambda path: given.verb(path) == "ignore")
    else:
        is_known = walked.changed is not None and still.is_harmless(tree, known, walked.changed)
    return Outcome(totals=Totals(entries=known.still.entries), notices=known.still.notices) if is_known else None


def _conditions(
    tree: Beneath, root: Path, state: Path, policy: PathPolicy, mounts: frozenset[bytes], retain: frozenset[str]
) -> Conditions:
    live = os.path.samestat(os.fstat(tree.root), os.stat("/"))
    return Conditions(
        policy=policy,
        state=state,
        own=_own_paths(root, state),
        mounts=mounts,
        mounted=mount_points_below(root),
        retain=retain | {os.uname().release} if live else retain,
        live=live,
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
        yield tree


@contextlib.contextmanager
def _sole_writer(tree: Beneath, root: Path) -> Iterator[None]:
    """Hold the root directory itself, for runs on one root that remember in different places."""
    given_up = time.monotonic() + _ENDING_S
    while True:
        try:
            fcntl.flock(tree.root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= given_up:
                raise Locked(
                    f"another sync of {root} is under way", hint="wait for it to end, and try again"
                ) from error
            time.sleep(_ENDING_S / 20)
        else:
            break
    yield


def _own_paths(root: Path, state: Path) -> frozenset[bytes]:
    """The state directory as a path below the root, if it is below it."""
    try:
        inner = state.resolve().relative_to(root.resolve())
    except ValueError:
        return frozenset()
    return frozenset({os.fsencode(inner)}) if inner.parts else frozenset()
