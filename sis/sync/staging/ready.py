"""Make every new file ready: from this node, from the layer, by the delta, and the rest fetched as chunks."""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sis.image.delta import Placed
from sis.sync.desired import DesiredTree
from sis.sync.faults import fault_of
from sis.sync.planning.planned import Plan
from sis.sync.staging import crew
from sis.sync.staging.deltas import DeltaUse, Made, together
from sis.sync.staging.fetch import Fetching, Range, coalesce, located
from sis.sync.staging.hands import Done, Hands
from sis.sync.staging.making import Making
from sis.sync.staging.source import ChunkSource
from sis.sync.staging.stage import Stage

MUCH_BYTES = 32 << 20
MUCH_FILES = 2000
"""What is worth processes of its own."""

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

    def run(self) -> int:
        stage, trees = self.stage, self.plan.trees
        stage.prepare_trees(trees)
        stage.begin(self.plan.files, self.blobs)
        meanwhile: Callable[[], None] = self._meanwhile
        with stage.hands(self.blobs) as finishing:
            while tasks := self._tasks():
                self._do(tasks, meanwhile, finishing)
                meanwhile = _nothing
        meanwhile()
        stage.complete_trees(trees)
        return self.fetched

    def _meanwhile(self) -> None:
        """What can be done while files are being written."""
        self.stage.make_specials(self.plan.trees)
        _ = self.plan.steps, self.plan.changes

    def _tasks(self) -> list[_Task]:
        """What is to be done now, the longest copies first."""
        makings = self.stage.makings
        makings.begin_round()
        copies, makings.to_copy = makings.to_copy, []
        missing = makings.waiting.keys()
        items = self.by_delta.chosen(missing) if missing and self.by_delta else ()
        made = {chunk.digest for placed in items for chunk in placed.chunks}
        tasks: list[_Task] = [*_copies(copies)]
        tasks += (_Items(tuple(group)) for group in together(items))
        if rest := [digest for digest in missing if digest not in made]:
            tasks += coalesce(located(self.source.locations, rest))
        return tasks

    def _do(self, tasks: list[_Task], meanwhile: Callable[[], None], finishing: Hands) -> None:
        is_much = self.plan.totals.bytes_written >= MUCH_BYTES or len(self.plan.files) >= MUCH_FILES
        self.source.store.close()  # no two processes on one connection
        for start in range(0, len(tasks), crew.TASKS_MAX):
            these = tasks[start : start + crew.TASKS_MAX]
            worker = functools.partial(self._worker, these)
            did = crew.results(_Did, len(these), worker, is_much=is_much, begun=meanwhile)
            meanwhile = _nothing
            with contextlib.closing(did):
                for each in did:
                    self._note(these[each.number], each, finishing)

    @contextlib.contextmanager
    def _worker(self, tasks: list[_Task]) -> Iterator[Callable[[int], _Did]]:
        with self.stage.hands(self.blobs) as hands:
            yield lambda number: self._task(number, tasks[number], hands)

    def _task(self, number: int, task: _Task, hands: Hands) -> _Did:
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
        fetching = Fetching(self.source)
        fetching.fetch(task, hands.put)
        return _Did(number, hands.told(), fetched=fetching.bytes_fetched)

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


def _nothing() -> None:
    pass
