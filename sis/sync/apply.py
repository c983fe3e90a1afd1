"""Execute a plan: each step is a rename, a link, an unlink or a change of metadata; nothing is decided here."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from sis.image.model import ANY_MTIME, Entry, Kind
from sis.sync.planning.planned import Plan, Step
from sis.sync.rules import STAGE
from sis.sync.staging import crew
from sis.sync.staging.stage import Stage
from sis.sync.walk.listing import Row, row_of
from sis.sync.walk.observe import Observed
from sis.system.beneath import Beneath

SHARED_FROM = 256
"""Files to be removed in one phase from which on several threads remove them."""

_TASK_STEPS = 64


class Applied(NamedTuple):
    """What came of it.

    placed     the lstat of every path placed, or given more than a time, taken right after
    timed      paths of what was there and was given its time
    disturbed  paths that someone changed after they were looked at; left as they are
    not_empty  directories that could not be removed because something new was in them
    at         when the last change had been made, by the monotonic clock
    """

    placed: Mapping[bytes, Row]
    timed: tuple[bytes, ...]
    disturbed: tuple[bytes, ...]
    not_empty: tuple[bytes, ...]
    at: float


def apply(tree: Beneath, plan: Plan, stage: Stage, observed: Observed, meanwhile: Iterator[None]) -> Applied:
    """Do the steps, each phase after the one before. Everything staged is durable before the first, all at the end.

    `meanwhile` goes on a step at each barrier, while the disk is waited for, and at the last one comes to its end.
    Raises OSError; what was done by then stays done, and a further run does the rest.
    """
    return _Applying(tree, stage, observed, meanwhile).run(plan)


class _Applying:
    def __init__(self, tree: Beneath, stage: Stage, observed: Observed, meanwhile: Iterator[None]) -> None:
        self.tree = tree
        self.stage = stage
        self.observed = observed
        self.meanwhile = meanwhile
        self.named_often = {path for paths in observed.shared.values() for path in paths}
        self.placed: dict[bytes, Row] = {}
        self.timed: list[bytes] = []
        self.disturbed: list[bytes] = []
        self.not_empty: list[bytes] = []
        self._ways: Mapping[str, Callable[[Step], None]] = {
            "tree": self._tree,
            "directory": self._directory,
            "place": self._place,
            "link": self._link,
            "metadata": self._metadata,
            "remove": self._remove,
            "mtime": self._mtime,
        }

    def run(self, plan: Plan) -> Applied:
        self._barrier(parts=1)
        phase: list[Step] = []
        times: list[Step] = []
        for step in plan.steps:
            if step.verb in ("phase", "barrier"):
                self._do(phase)
                phase = []
                if step.verb == "barrier":
                    self._barrier(parts=1)
            else:
                (times if step.verb == "mtime" else phase).append(step)
        self._do(phase)
        for area in self.observed.areas:
            self.tree.remove_tree(area.path(STAGE))
        self._do(times)
        at = time.monotonic()
        self._barrier(parts=None)
        return Applied(self.placed, tuple(self.timed), tuple(self.disturbed), tuple(self.not_empty), at)

    def _barrier(self, *, parts: int | None) -> None:
        """Wait for the disk, doing so many parts of what can be done meanwhile; None: all that are left."""
        failed: list[OSError] = []

        def wait() -> None:
            try:
                for area in self.observed.areas:
                    self.tree.sync_filesystem(area.mount)
            except OSError as error:
                failed.append(error)

        waiting = threading.Thread(target=wait, name="barrier")
        waiting.start()
        try:
            for _ in itertools.islice(self.meanwhile, parts):
                pass
        finally:
            waiting.join()
        for error in failed:
            raise error

    def _do(self, phase: list[Step]) -> None:
        if len(phase) >= SHARED_FROM and all(step.verb == "remove" and not step.is_directory for step in phase):
            self._remove_files(phase)
            return
        for step in phase:
            self._ways[step.verb](step)

    def _remove_files(self, steps: list[Step]) -> None:
        """By several threads: most of it is the kernel's work, and they wait for the disk together."""
        tasks = [steps[start : start + _TASK_STEPS] for start in range(0, len(steps), _TASK_STEPS)]

        @contextlib.contextmanager
        def worker() -> Iterator[Callable[[int], int]]:
            # Handles of its own: it may still wait for the disk when the work is broken off.
            with Beneath(os.dup(self.tree.root)) as tree:

                def remove(number: int) -> int:
                    for step in tasks[number]:
                        _remove_file(tree, step.path)
                    return number

                yield remove

        with contextlib.closing(crew.results(int, iter((len(tasks),)), worker, is_much=False)) as removed:
            for _ in removed:
                pass

    def _tree(self, step: Step) -> None:
        self.tree.rename(self.stage.path_of_tree(_entry(step)), step.path)
        self._note(step.path)

    def _directory(self, step: Step) -> None:
        if step.mtime_ns != ANY_MTIME:
            self.timed.append(step.path)
            return
        self._make_directory(step, _entry(step))
        self._note(step.path)

    def _make_directory(self, step: Step, entry: Entry) -> None:
        if not step.over_directory and self.tree.exists(step.path):
            self._set_metadata(entry, mtime_ns=None)
        else:
            self._move_in(self.stage.make_directory(entry), step.path, swap=step.over_directory)

    def _place(self, step: Step) -> None:
        entry = _entry(step)
        ready = self.stage.path_for(entry) if entry.kind is Kind.FILE else self.stage.make_special(entry)
        self._move_in(ready, step.path, swap=step.over_directory)
        self._note(step.path)

    def _link(self, step: Step) -> None:
        entry = _entry(step)
        self._move_in(self.stage.make_link(step.leader, entry), step.path, swap=step.over_directory)
        self._note(step.path)

    def _metadata(self, step: Step) -> None:
        entry = _entry(step)
        if not self._is_as_seen(entry):
            self.disturbed.append(step.path)
        elif step.mtime_ns != ANY_MTIME:
            self.tree.set_mtime(step.path, step.mtime_ns)
            self.timed.append(step.path)
        else:
            self._set_metadata(entry, mtime_ns=None if entry.mtime_ns == ANY_MTIME else entry.mtime_ns)
            self._note(step.path)

    def _is_as_seen(self, entry: Entry) -> bool:
        """Whether the content that was verified is still there: our change of its time would hide another's."""
        path = entry.path
        if entry.link or path in self.named_often:  # our own steps give its inode names and take them
            return True
        try:
            return row_of(self.tree.lstat(path)) == self.observed.found[path].row
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _remove(self, step: Step) -> None:
        if not step.is_directory:
            _remove_file(self.tree, step.path)
            return
        try:
            self.tree.rmdir(step.path)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            self.not_empty.append(step.path)

    def _mtime(self, step: Step) -> None:
        self.tree.set_mtime(step.path, step.mtime_ns)

    def _set_metadata(self, entry: Entry, mtime_ns: int | None) -> None:
        self.tree.set_metadata(
            entry.path, uid=entry.uid, gid=entry.gid, mode=entry.mode, xattrs=entry.xattrs, mtime_ns=mtime_ns
        )

    def _move_in(self, ready: bytes, path: bytes, *, swap: bool) -> None:
        """Put what is ready in the place of what is at `path`, in one step where the file system can."""
        if not swap:
            self.tree.rename(ready, path)
            return
        try:
            if self.tree.exchange(ready, path):
                self.tree.remove_tree(ready)
                return
        except FileNotFoundError:
            pass
        self.tree.remove_tree(path)
        self.tree.rename(ready, path)

    def _note(self, path: bytes) -> None:
        self.placed[path] = row_of(self.tree.lstat(path))


def _remove_file(tree: Beneath, path: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        tree.unlink(path)


def _entry(step: Step) -> Entry:
    if step.entry is None:
        raise OSError(errno.EINVAL, "a step without an entry", step.path)
    return step.entry
