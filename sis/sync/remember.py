"""What is remembered after a run: the lstat of all that was verified, and what makes a short answer of the next one."""

from __future__ import annotations

import itertools
import logging
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from sis.image.model import ANY_MTIME, TYPE_OF_KIND, Entry, Kind
from sis.sync.apply import Applied
from sis.sync.desired import DesiredTree
from sis.sync.planning.difference import Comparison
from sis.sync.planning.kernels import kernel_of
from sis.sync.rules import STAGE, Conditions, Rules
from sis.sync.walk import index, index_files
from sis.sync.walk.index import Index, is_settled
from sis.sync.walk.listing import (
    ListedRows,
    Listing,
    Row,
    fields_of,
    is_same_inode,
    joined,
    listed,
    packed,
    place_of,
    row_of,
)
from sis.sync.walk.observe import Observed
from sis.sync.walk.remembered import Remembered, Still
from sis.sync.walk.still import known_mounts
from sis.system.beneath import Beneath

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Amended:
    """That a survey is of a step alone (`near`): what it amends.

    part     what is looked at of the desired tree
    paths    those the step changes
    entries  how many the whole desired tree has
    """

    index: Index
    part: DesiredTree
    paths: frozenset[bytes]
    entries: int


@dataclass(frozen=True)
class Survey:
    """All that is known before anything is decided; of a step alone, with `amended`."""

    given: Conditions
    rules: Rules
    remembered: Remembered
    observed: Observed
    comparison: Comparison
    amended: Amended | None = None


class Remembering:
    """Writes the index of the tree as it is once it has been changed: what needs no look at it can be begun before."""

    def __init__(self, want: DesiredTree, survey: Survey) -> None:
        self._want = want
        self._survey = survey
        self._made: dict[bytes, Row] = {}
        self._verified: Mapping[bytes, Row] = {}
        self._odd: list[bytes] = []

    def begin(self, made: dict[bytes, Row]) -> Iterator[None]:
        """Note what is as it was, and what comes into place with a new directory (`made`: its lstat from before; ours).

        In parts, one at each step, the longest first.
        """
        want, survey = self._want, self._survey
        entries = want.entries
        self._verified = _verified_rows(want, survey)
        yield
        self._made = made
        self._odd = sorted(path for path, row in made.items() if not _is_as_desired(row, entries[path], mtime=True))
        for path in self._odd:
            del made[path]
        if survey.amended is None:
            index_files.write_entries(survey.given.state, want.digest, entries)
        yield

    def finish(self, tree: Beneath, applied: Applied) -> tuple[bytes, ...]:
        """Look at what was changed, and write the index. Returns paths that someone changed while we worked.

        What was done must be settled (`index.wait_until_settled`).
        """
        survey, rows, placed = self._survey, self._made, applied.placed
        entries, found, now_ns = self._want.entries, survey.observed.found, time.time_ns()
        odd = [*self._odd, *applied.disturbed]
        named_often = {path for paths in survey.observed.shared.values() for path in paths}
        named_often.update(path for path in itertools.chain(placed, rows) if entries[path].link)
        for path in [path for path, row in rows.items() if not is_settled(row, now_ns)]:
            del rows[path]
        rows.update(self._verified)
        self._verified = {}
        entered = {change.path.rpartition(b"/")[0] or b"." for change in survey.comparison.to_do}
        entered.update(area.mount for area in survey.observed.areas)
        timed = set(applied.timed)
        for path in sorted({*placed, *timed, *entered, *(named_often & rows.keys())}):
            entry = entries.get(path)
            before = rows.pop(path, None)
            known = placed.get(path) or (found[path].row if path in timed else before)
            if entry is None or known is None:
                continue
            try:
                row = row_of(tree.lstat(path))
            except (FileNotFoundError, NotADirectoryError):
                odd.append(path)
                continue
            is_directory = entry.kind is Kind.DIR
            moves = is_directory or path in named_often or path in timed
            is_same = is_same_inode(row, known) if moves else row == known
            if not is_same or not _is_as_desired(row, entry, mtime=not is_directory or survey.rules.holds_mtime(path)):
                odd.append(path)
            elif is_settled(row, now_ns):
                rows[path] = row
        _save(self._want, survey, rows, is_equal=not odd and not applied.not_empty)
        return tuple(sorted(odd))


def remember_what_was_verified(want: DesiredTree, survey: Survey) -> None:
    """After a run that changed nothing: keep the lstat of what had to be read, so that it is not read again.

    The tree becomes the one applied only if nothing is left to do for it.
    """
    remembered, comparison = survey.remembered, survey.comparison
    is_equal = comparison.in_sync and not comparison.told
    if remembered.tree != want.digest and not is_equal:
        return
    try:
        _save(want, survey, _verified_rows(want, survey), is_equal=is_equal)
    except OSError as error:
        log.warning("%s: %s; what was verified now is verified again next time", survey.given.state, error.strerror)


def _is_as_desired(row: Row, entry: Entry, *, mtime: bool) -> bool:
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


def _verified_rows(want: DesiredTree, survey: Survey) -> dict[bytes, Row]:
    observed, comparison, rules = survey.observed, survey.comparison, survey.rules
    differing = {difference.path for difference in (*comparison.to_do, *comparison.told)}
    listed_rows = ListedRows(survey.remembered.listings)
    rows = {}
    for path, found in observed.found.items():
        if path not in want.entries or path in differing or path in comparison.owned or rules.verb(path) == "ignore":
            continue
        if is_settled(found.row, observed.started_ns) or listed_rows.get(path) == found.row:
            rows[path] = found.row
    return rows


def _save(want: DesiredTree, survey: Survey, rows: dict[bytes, Row], *, is_equal: bool) -> None:
    """Write the index, unless it says all this already. `is_equal`: nothing is left to do or to tell.

    `rows` are of no use to anyone after, and emptied before much is written.
    """
    if survey.amended is not None:
        _amend(survey, survey.amended, rows, is_equal=is_equal)
        return
    comparison, before = survey.comparison, survey.remembered
    found = survey.observed.found
    directories = [path for path, entry in want.entries.items() if entry.kind is Kind.DIR]
    walked = (path for path in directories if path in rows or (path in found and _is_directory(found[path].row)))
    listings = listed(rows, walked)
    remembered = Remembered(
        tree=want.digest,
        applied=want.entries,
        intended=before.intended,
        owned=comparison.owned,
        absent=comparison.absent,
        kernels=comparison.kernels,
        retained=comparison.retained,
        listings=listings,
        still=_still(want, survey, rows, listings) if is_equal else None,
        overlaid=want.overlaid,
    )
    rows.clear()
    if before.intended or before.tree != want.digest or remembered != before:
        index.save(survey.given.state, remembered)


def _amend(survey: Survey, amended: Amended, rows: Mapping[bytes, Row], *, is_equal: bool) -> None:
    """Note in the index what a step has changed, instead of writing all of it anew."""
    before, entries = amended.index, amended.part.entries
    unfolded = ListedRows(before.listings)
    members: dict[bytes, dict[bytes, Row]] = {}
    for path in entries.keys() | amended.paths:
        directory, name = place_of(path)
        if directory not in members:
            members[directory] = dict(unfolded.within(directory))
        if path in rows:
            members[directory][name] = rows[path]
        else:
            members[directory].pop(name, None)
    listings = {path: joined([packed(*member) for member in inside.items()]) for path, inside in members.items()}
    still = before.still
    if still is not None and is_equal and rows.keys() >= entries.keys():
        restless = {path: entries[path].xattrs if path in entries else known for path, known in still.restless.items()}
        still = msgspec.structs.replace(still, entries=amended.entries, restless=restless)
    else:
        still = None
    changed = {path: entries.get(path) for path in amended.paths}
    moved = {path: listing for path, listing in listings.items() if listing != before.listings[path]}
    index.amend(survey.given.state, before, amended.part.digest, changed, moved, still)


def _is_directory(row: Row) -> bool:
    return stat.S_ISDIR(fields_of(row).mode)


def _still(
    want: DesiredTree, survey: Survey, rows: Mapping[bytes, Row], listings: Mapping[bytes, Listing]
) -> Still | None:
    """What the next walk needs to tell that nothing changed; None if there is something a walk cannot tell."""
    observed, comparison, rules = survey.observed, survey.comparison, survey.rules
    entries = want.entries
    aside: dict[bytes, dict[bytes, bool]] = {}

    def leave_aside(path: bytes, is_directory: bool) -> None:
        directory, name = place_of(path)
        if name != STAGE:
            aside.setdefault(directory, {})[name] = is_directory

    removed = {difference.path for difference in comparison.to_do if difference.want is None}
    for path, is_directory in (*observed.passed.items(), *observed.uncrossed.items()):
        leave_aside(path, is_directory)
    for path, here in observed.found.items():
        if path in rows or path in removed:
            continue
        is_left = path in comparison.owned or (path in entries and rules.verb(path) == "ignore")
        if not is_left and (path in entries or kernel_of(path) not in comparison.retained):
            return None
        leave_aside(path, _is_directory(here.row))
    absent = []
    for path in entries:
        if path in rows or path in observed.found:
            continue
        if path in comparison.owned:
            leave_aside(path, is_directory=False)
        elif rules.verb(path) != "ignore" and not observed.is_unreachable(path):
            if path not in comparison.absent:
                return None
            absent.append(path)
    return Still(
        terms=survey.given.terms,
        entries=len(entries),
        notices=comparison.notices,
        aside=aside,
        mounts=tuple(sorted(known_mounts(survey.given.mounted, aside, listings))),
        uncrossed=tuple(sorted(observed.uncrossed)),
        absent=tuple(sorted(absent)),
        restless={
            path: entry.xattrs
            for path, entry in entries.items()
            if entry.kind is Kind.DIR and path in rows and not rules.holds_mtime(path)
        },
    )
