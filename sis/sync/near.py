"""From one version to the next by what differs alone: the same comparison and plan, of the paths that change.

It is for a tree that still is what the last run left, where the version wanted is a step (`sis.image.kept.step`) away
that changes single paths, all of them the image's. Anything out of the ordinary is for the long way round (`mend`),
which comes to the same.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from types import MappingProxyType

import msgspec

from sis.image.kept.step import Step
from sis.image.model import HOLE, Entry, Kind
from sis.sync.desired import DesiredTree, Laid
from sis.sync.planning.compare import compare
from sis.sync.planning.difference import Comparison
from sis.sync.planning.kernels import kernel_of
from sis.sync.remember import Amended, Survey
from sis.sync.rules import Conditions, Rules, parents_of
from sis.sync.walk import index
from sis.sync.walk.index import Index, is_settled
from sis.sync.walk.listing import ListedRows, differs_in_time_only, fields_of, place_of, row_of
from sis.sync.walk.look import Found
from sis.sync.walk.observe import Area, Observed, area_at
from sis.sync.walk.remembered import Remembered
from sis.sync.walk.still import Walked, is_harmless
from sis.system.beneath import Beneath


def survey_near(tree: Beneath, want: DesiredTree, given: Conditions, walked: Walked, step: Step) -> Survey | None:
    """The survey of what a step changes, and of the directories it does so in; None where that is not all there is."""
    before, known = walked.remembered, walked.known
    if before is None or known is None or walked.changed is None or want.digest_over(step.before) != before.tree:
        return None
    old, new = step.changes.old, step.changes.new
    paths = old.keys() | new.keys()
    if not index.can_amend(before, 2 * len(paths)) or not all(
        _is_ordinary(path, step, given, before) for path in paths
    ):
        return None
    if not is_harmless(tree, known, walked.changed):
        return None
    started_ns = time.time_ns()
    areas = tuple(_areas(tree, given))
    around = {parents_of(path)[0] for path in paths if path != b"."} | {area.mount for area in areas}
    if not around.isdisjoint((*before.head.overlaid.covers, *before.head.overlaid.directories)):
        return None
    bases = [entry for entry in step.delta.entries.values() if entry.path not in paths]
    if any(_is_overlaid(entry, before) or given.verb(entry.path) != "enforce" for entry in bases):
        return None
    found: dict[bytes, Found] = {}
    entries = dict(new)
    looking = _Looking(tree, given, before, started_ns)
    for path in (*paths, *around, *(entry.path for entry in bases)):
        entry = old.get(path) if path in paths else step.changes.before.get(path)
        if not looking.is_as_remembered(path, entry):
            return None
        if entry is not None:
            found[path] = looking.found(path, entry)
            if path not in paths:
                entries[path] = entry
    if not _is_content_at_hand(new.values(), found.values(), step):
        return None
    total = known.still.entries + len(new) - len(old)
    laid = Laid(MappingProxyType({path: entries[path] for path in sorted(entries)}), {}, {}, before.head.overlaid)
    part = DesiredTree(want.digest, lambda: laid, want.layer)
    observed = Observed(found, {}, {}, {}, areas, started_ns)
    return _survey(part, given, before, observed, Amended(before, part, frozenset(paths), total))


def _survey(part: DesiredTree, given: Conditions, before: Index, observed: Observed, amended: Amended) -> Survey | None:
    head = before.head
    applied = {path: found.entry for path, found in observed.found.items() if found.entry is not None}
    remembered = Remembered(tree=head.tree, applied=applied, listings=before.listings)
    rules = Rules(given, part.entries)
    comparison = compare(part.entries, observed, rules, remembered)
    if comparison.told or not amended.paths.issuperset(difference.path for difference in comparison.to_do):
        return None
    return Survey(given, rules, remembered, observed, _of_the_whole(comparison, before), amended)


def _of_the_whole(comparison: Comparison, before: Index) -> Comparison:
    """With what a comparison of the whole tree would say besides: nothing of that has changed."""
    head = before.head
    assert head.still is not None
    return dataclasses.replace(
        comparison,
        owned=frozenset(head.owned),
        absent=frozenset(head.absent),
        kernels=head.kernels,
        retained=head.retained,
        notices=head.still.notices,
    )


def _is_ordinary(path: bytes, step: Step, given: Conditions, before: Index) -> bool:
    """Whether a change of this path touches nothing else: no kernel, nothing of the layer, nothing of the node's."""
    if given.verb(path) != "enforce" or kernel_of(path) is not None or path in before.head.absent:
        return False
    entries = (step.changes.old.get(path), step.changes.new.get(path))
    return not any(_is_overlaid(entry, before) for entry in entries if entry is not None)


def _is_overlaid(entry: Entry, before: Index) -> bool:
    """Whether the layer is laid over an entry, or its places depend on it."""
    overlaid, path = before.head.overlaid, entry.path
    if entry.kind is not Kind.DIR and path in overlaid.asked:
        return True
    return path in overlaid.directories or not set(overlaid.covers).isdisjoint((path, *parents_of(path)))


def _areas(tree: Beneath, given: Conditions) -> Iterator[Area]:
    """The held file systems, as `observe` tells them."""
    yield area_at(tree, b".")
    for mount in sorted(given.mounts, key=len, reverse=True):
        above = parents_of(mount)[0]
        if mount in given.mounted or tree.lstat(mount).st_dev != tree.lstat(above).st_dev:
            yield area_at(tree, mount)


def _is_content_at_hand(new: Iterable[Entry], found: Iterable[Found], step: Step) -> bool:
    """Whether all content is novel or in the files looked at, and need not be searched for elsewhere on the node."""
    here = {chunk.digest for each in found if each.entry is not None for chunk in each.entry.each_chunk()}
    wanted = {chunk.digest for entry in new for chunk in entry.each_chunk()}
    return not wanted - here - step.delta.number_of.keys() - {HOLE}


class _Looking:
    """What is at a path by the index, of a tree that was walked: in no directory but the node's own has moved."""

    def __init__(self, tree: Beneath, given: Conditions, before: Index, started_ns: int) -> None:
        assert before.still is not None
        self._tree = tree
        self._given = given
        self._still = before.still
        self._listings = before.listings
        self._rows = ListedRows(before.listings)
        self._started_ns = started_ns
        self._now: dict[bytes, bytes] = {}

    def is_as_remembered(self, path: bytes, entry: Entry | None) -> bool:
        """Whether what is at `path` is known to be `entry`, but for the time of a directory where that is not held."""
        directory, name = place_of(path)
        row = self._rows.get(path)
        if directory not in self._listings or name in self._still.aside.get(directory, ()):
            return False
        if entry is None or row is None:
            return entry is None and row is None
        if entry.kind is Kind.DIR:
            now = row_of(self._tree.lstat(path))
            if now != row:
                if path not in self._still.restless or not differs_in_time_only(row, now):
                    return False
                row = now
            if self._given.verb(path) == "ignore" or not is_settled(row, self._started_ns):
                return False
        self._now[path] = row
        return True

    def found(self, path: bytes, entry: Entry) -> Found:
        row = self._now[path]
        if entry.kind is Kind.DIR and row != self._rows.get(path):
            return Found(msgspec.structs.replace(entry, mtime_ns=fields_of(row).mtime_ns), row)
        return Found(entry, row)
