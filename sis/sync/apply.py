"""Execute a plan: each step is a rename, a link, an unlink or a change of metadata; nothing is decided here."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from sis.image.model import ANY_MTIME, TYPE_OF_KIND, Entry, Kind
from sis.sync.planning.planned import Plan, Step
from sis.sync.rules import STAGE
from sis.sync.staging.stage import Stage
from sis.sync.walk.listing import Row, fields_of, row_of
from sis.sync.walk.observe import Area
from sis.system.beneath import Beneath


class Applied(NamedTuple):
    """What came of it.

    placed     the lstat of every path placed, taken right after
    made       the lstat of what came into place with a new directory, taken before
    not_empty  directories that could not be removed because something new was in them
    """

    placed: Mapping[bytes, Row]
    made: Mapping[bytes, Row]
    not_empty: tuple[bytes, ...]


def apply(tree: Beneath, plan: Plan, stage: Stage, areas: Iterable[Area]) -> Applied:
    """Do the steps in order. Everything staged, and each phase, is durable before the next begins.

    Raises OSError; what was done by then stays done, and a further run does the rest.
    """
    return _Applying(tree, stage, tuple(areas)).run(plan)


class _Applying:
    def __init__(self, tree: Beneath, stage: Stage, areas: tuple[Area, ...]) -> None:
        self.tree = tree
        self.stage = stage
        self.areas = areas
        self.placed: dict[bytes, Row] = {}
        self.not_empty: list[bytes] = []
        self.do: Mapping[str, Callable[[Step], None]] = {
            "tree": self._tree,
            "directory": self._directory,
            "place": self._place,
            "link": self._link,
            "metadata": self._metadata,
            "remove": self._remove,
            "mtime": self._mtime,
            "barrier": self._barrier,
        }

    def run(self, plan: Plan) -> Applied:
        self._barrier()
        in_order = [step for step in plan.steps if step.verb != "mtime"]
        for step in in_order:
            self.do[step.verb](step)
        for area in self.areas:
            self.tree.remove_tree(area.path(STAGE))
        for step in plan.steps:
            if step.verb == "mtime":
                self._mtime(step)
        self._barrier()
        return Applied(self.placed, self.stage.made, tuple(self.not_empty))

    def _barrier(self, _step: Step | None = None) -> None:
        for area in self.areas:
            self.tree.sync_filesystem(area.mount)

    def _tree(self, step: Step) -> None:
        self.tree.rename(self.stage.path_of_tree(_entry(step)), step.path)
        self._note(step.path)

    def _directory(self, step: Step) -> None:
        entry = _entry(step)
        if step.mtime_ns == ANY_MTIME:
            self._make_directory(step, entry)
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
        if step.mtime_ns != ANY_MTIME:
            self.tree.set_mtime(step.path, step.mtime_ns)
        else:
            self._set_metadata(entry, mtime_ns=None if entry.mtime_ns == ANY_MTIME else entry.mtime_ns)
        self._note(step.path)

    def _remove(self, step: Step) -> None:
        try:
            if step.is_directory:
                self.tree.rmdir(step.path)
            else:
                self.tree.unlink(step.path)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not step.is_directory:
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


def is_as_desired(row: Row, entry: Entry, *, mtime: bool) -> bool:
    """Whether what lstat tells fits an entry (content and xattrs it does not tell)."""
    _, _, size, mtime_ns, _, mode, uid, gid = fields_of(row)
    if stat.S_IFMT(mode) != TYPE_OF_KIND[entry.kind]:
        return False
    if entry.kind is not Kind.SYMLINK and stat.S_IMODE(mode) != entry.mode:
        return False
    if uid != entry.uid or gid != entry.gid:
        return False
    if entry.kind is Kind.FILE and size != entry.size:
        return False
    return not mtime or entry.mtime_ns in (mtime_ns, ANY_MTIME)


def _entry(step: Step) -> Entry:
    if step.entry is None:
        raise OSError(errno.EINVAL, "a step without an entry", step.path)
    return step.entry
