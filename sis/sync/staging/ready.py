"""Make every new file ready: from this node, from the layer, by the delta, and the rest fetched as chunks."""

from __future__ import annotations

import contextlib
import errno
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import NamedTuple

from sis.image.deltas.delta import Placed
from sis.image.model import DIGEST_BYTES, RUN_BYTES
from sis.sync.desired import DesiredTree
from sis.sync.faults import fault_of
from sis.sync.planning.planned import NewFile, NewFiles, Plan
from sis.sync.staging import crew
from sis.sync.staging.deltas import DeltaUse, Made, Requests
from sis.sync.staging.fetch import Fetching, Range, coalesce, located
from sis.sync.staging.hands import Done, Hands
from sis.sync.staging.making import Making
from sis.sync.staging.source import ChunkSource
from sis.sync.staging.stage import Stage

MUCH_BYTES = 32 << 20
MUCH_FILES = 2000
"""What is worth processes of its own."""

FIRST_PORTION = 1024
PORTION_MAX = 16384
ON_THE_WAY = 32768
"""Files that are begun while others are being written: each takes half a kilobyte."""

_LONG_BYTES = 32 << 20
_COPIED_BYTES = 8 << 20
_COPIED_FILES = 256
_OUT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class _Copies(NamedTuple):
    makings: tuple[Making, ...]


class _Items(NamedTuple):
    group: tuple[Placed, ...]


class _Did(NamedTuple):
    """What came of a task. `fetched`: bytes of packs that were read for it."""

    number: int
    done: Done
    made: Made | None = None
    fetched: int = 0


_Task = _Copies | _Items | Range


def make_ready(
    stage: Stage,
    plan: Plan,
    want: DesiredTree,
    source: ChunkSource,
    by_delta: DeltaUse | None,
) -> int:
    """Stage all the plan's files and trees. Returns the bytes of the chunks that were fetched.

    Out of room or with a disk error the staging directories are removed; after any other fault they are kept, so that
    the next run goes on from there. Raises SisError.
    """
    try:
        return _Ready(stage, plan, want, source, by_delta).run()
    except OSError as error:
        if error.errno in _OUT_OF_ROOM:
            with contextlib.suppress(OSError):
                stage.discard()
        raise fault_of(error, "making new files ready") from error


class _Ready:
    def __init__(
        self, stage: Stage, plan: Plan, want: DesiredTree, source: ChunkSource, by_delta: DeltaUse | None
    ) -> None:
        self.stage = stage
        self.plan = plan
        self.blobs = want.blobs
        self.source = source
        self.by_delta = by_delta
        self.fetched = 0
        self.delta_given_up = mmap.mmap(-1, 1)
        self.tasks: dict[int, _Task] = {}
        self.added = 0

    def run(self) -> int:
        stage, trees = self.stage, self.plan.trees
        stage.open_areas(need.area for need in self.plan.needs)
        with stage.hands(self.blobs) as finishing:
            self._do(self._portions(), finishing)
            while stage.makings.every:
                self._do(self._round(), finishing)
        stage.complete_trees(trees)
        return self.fetched

    def _portions(self) -> Iterator[int | None]:
        """Begin the files, a portion at a time, and make tasks of what can be asked for by then.

        What a group of a delta's items makes is asked for when all files that want any of it are begun; so is a chunk
        that several files want.
        """
        stage, plan = self.stage, self.plan
        stage.prepare_trees(plan.trees)
        requests = self._requests(plan.to_fetch)
        for files in in_portions(plan.files):
            stage.begin(files, self.blobs)
            yield from self._add(requests)
            while len(stage.makings.every) > ON_THE_WAY and self.tasks:
                yield None
        left = requests.not_ready(plan.to_fetch & stage.makings.waiting.keys())
        if left:
            stage.makings.asked = left
            yield from self._add(self._requests(set(left)))
        stage.make_directories()
        stage.make_specials(plan.trees)
        _ = plan.steps, plan.costs

    def _round(self) -> Iterator[int]:
        """Ask again for all that did not come as it should have."""
        makings = self.stage.makings
        makings.begin_round()
        yield from self._add(self._requests(makings.waiting.keys()))

    def _requests(self, missing: Set[bytes]) -> Requests:
        return self.by_delta.requests(missing) if missing and self.by_delta else Requests()

    def _add(self, requests: Requests) -> Iterator[int]:
        """Make tasks of what is waited for since this was last done, the longest copies first.

        What needs the chunk table comes last: it is read when it is first asked for.
        """
        asked, copies = self.stage.makings.take_asked()
        groups, others = requests.sorted_out(asked)
        yield self._added([*_copies(copies), *map(_Items, groups)])
        if others:
            yield self._added(coalesce(located(self.source.locations, others)))

    def _added(self, tasks: Sequence[_Task]) -> int:
        self.tasks.update(enumerate(tasks, self.added))
        self.added += len(tasks)
        return self.added

    def _do(self, portions: Iterator[int | None], finishing: Hands) -> None:
        is_much = self.plan.bytes_written >= MUCH_BYTES or len(self.plan.files) >= MUCH_FILES
        self.tasks, self.added = {}, 0
        did = crew.results(_Did, portions, self._worker, is_much=is_much)
        with contextlib.closing(did):
            for each in did:
                self._note(self.tasks.pop(each.number), each, finishing)

    @contextlib.contextmanager
    def _worker(self) -> Iterator[Callable[[int], _Did]]:
        fetching = Fetching(self.source)
        with self.stage.hands(self.blobs) as hands:
            yield lambda number: self._task(number, self.tasks[number], hands, fetching)

    def _task(self, number: int, task: _Task, hands: Hands, fetching: Fetching) -> _Did:
        if isinstance(task, _Copies):
            for making in task.makings:
                hands.copy(making)
            return _Did(number, hands.told())
        if isinstance(task, _Items):
            assert self.by_delta is not None
            if self.delta_given_up[0]:
                lost = [chunk.digest for placed in task.group for chunk in placed.chunks]
                return _Did(number, hands.told(), Made(lost, is_unreadable=True))
            made = self.by_delta.make(task.group, hands.put)
            if made.is_unreadable:
                self.delta_given_up[0] = 1
            return _Did(number, hands.told(), made)
        before = fetching.bytes_fetched
        fetching.fetch(task, hands.put)
        return _Did(number, hands.told(), fetched=fetching.bytes_fetched - before)

    def _note(self, task: _Task, did: _Did, finishing: Hands) -> None:
        makings = self.stage.makings
        self.fetched += did.fetched
        if isinstance(task, _Copies):
            self.stage.take(did.done, task.makings, finishing)
            return
        if isinstance(task, _Items):
            assert self.by_delta is not None
            assert did.made is not None
            self.by_delta.learn(did.made)
            lost = frozenset(did.made.lost)
            digests = [chunk.digest for placed in task.group for chunk in placed.chunks if chunk.digest not in lost]
        else:
            digests = [location.digest for location in task.chunks]
        self.stage.take(did.done, makings.arrived(digests), finishing)


def _copies(makings: list[Making]) -> Iterator[_Copies]:
    """Files to be copied, the longest first, some together."""
    group: list[Making] = []
    size = 0
    for making in sorted(makings, key=lambda making: -making.entry.size):
        group.append(making)
        size += making.entry.size
        if size >= _COPIED_BYTES or len(group) >= _COPIED_FILES:
            yield _Copies(tuple(group))
            group, size = [], 0
    if group:
        yield _Copies(tuple(group))


def in_portions(files: NewFiles) -> Iterator[Iterator[NewFile]]:
    """All files once, in portions that grow, so that work begins soon: the longest first, then in order.

    Files that have a chunk in common are in the same portion.
    """
    sharing = _sharing(files)
    begun = bytearray(len(files))
    size = FIRST_PORTION
    portion: list[int] = []
    long = [number for number, entry in enumerate(files.entries) if entry.size >= _LONG_BYTES]
    for first in (*long, *range(len(files))):
        pending = [first]
        while pending:
            number = pending.pop()
            if not begun[number]:
                begun[number] = True
                portion.append(number)
                for digest in _repeated_in(files, number) if sharing else ():
                    pending += sharing.pop(digest, ())
        if len(portion) >= size:
            yield map(files.__getitem__, portion)
            portion, size = [], min(2 * size, PORTION_MAX)
    if portion:
        yield map(files.__getitem__, portion)


def _sharing(files: NewFiles) -> dict[bytes, list[int]]:
    """By digest of a chunk that several files have, their numbers."""
    sharing: dict[bytes, list[int]] = {}
    for number in range(len(files)) if files.repeated else ():
        for digest in _repeated_in(files, number):
            sharing.setdefault(digest, []).append(number)
    return sharing


def _repeated_in(files: NewFiles, number: int) -> Iterable[bytes]:
    raw = files.entries[number].chunks
    if len(raw) == RUN_BYTES:
        digest = raw[:DIGEST_BYTES]
        return (digest,) if digest in files.repeated else ()
    return files.repeated.intersection([raw[at : at + DIGEST_BYTES] for at in range(0, len(raw), RUN_BYTES)])
