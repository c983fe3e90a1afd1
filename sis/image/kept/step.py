"""From the version a node has to the next one without the whole of either: by what differs alone."""

from __future__ import annotations

from typing import NamedTuple

from sis.image.deltas.reading import Delta, OpenDelta
from sis.image.documents.rows import CHANGES_MAX, RowChanges, Rows, row_changes


class Step(NamedTuple):
    """The way from the version applied to another one, by what differs alone.

    before  digest of the manifest applied
    """

    before: str
    changes: RowChanges
    delta: Delta

    def cost(self, digest: bytes) -> int:
        """What fetching a novel chunk takes."""
        return self.delta.stored.get(digest, 0)


def is_small(opened: OpenDelta) -> bool:
    """Whether a delta may be a step: by the number of novel chunks it says it has."""
    return opened.has_table and opened.novel_chunks <= CHANGES_MAX


def step_between(opened: OpenDelta, before: str, old: bytes, new: bytes) -> Step | None:
    """The step between two manifests, whose bytes are proved; None where there is more to look at. Raises Corrupt."""
    changes = row_changes(Rows(old), Rows(new))
    delta = None if changes is None else opened.bound_by(changes)
    if changes is None or delta is None:
        return None
    return Step(before, changes, delta)
