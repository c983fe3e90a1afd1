"""What `sis image verify` found to be damaged, told, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sis.image.verify import Problem

_DOCUMENTS = ("versions", "manifests", "tables", "dictionaries")


def lines(problem: Problem) -> Iterator[str]:
    """The file, what is wrong with it, and whom it hits."""
    yield f"{problem.file}: {problem.fault}"
    if problem.versions:
        yield f"    hits {', '.join(problem.versions)}"
    for path in problem.paths:
        yield f"    {path}"
    if problem.path_count > len(problem.paths):
        yield f"    … and {problem.path_count - len(problem.paths)} more files"


def remedy(problems: Sequence[Problem]) -> str:
    """What to do, for each kind of damage there is."""
    ways = []
    if any(not _is_delta(problem) and not _is_unused(problem) for problem in problems):
        ways.append("copy the named files from another copy of the store; without one:")
    ways += [way for concerns, way in _WAYS if any(map(concerns, problems))]
    return "\n  ".join(ways)


def _is_ref(problem: Problem) -> bool:
    return problem.file.startswith("refs/")


def _is_delta(problem: Problem) -> bool:
    return problem.file.startswith("deltas/") and bool(problem.versions)


def _is_unused(problem: Problem) -> bool:
    return not problem.versions


def _is_pack(problem: Problem) -> bool:
    return problem.file.startswith("packs/") and bool(problem.versions)


def _is_of_versions(problem: Problem) -> bool:
    return problem.file.startswith(("packs/", *(f"{folder}/" for folder in _DOCUMENTS))) and bool(problem.versions)


_MEND_REF = (
    "a ref: put keys/image.key back if that was changed; else remove the ref, commit the tree again and publish it: it"
    " is generation 1 then, earlier ones are gone"
)
_MEND_VERSIONS = (
    "commit the tree of the named generation again (sis image commit NAME --tree DIR); if that makes another"
    " generation, publish it to the channels of the damaged one, then 'sis image prune NAME@GENERATION' drops that"
)
_MEND_DELTA = (
    "nodes do without a damaged delta; publishing again makes it anew, as does 'sis image delta BEFORE AFTER'"
    " ('sis image deltas NAME CHANNEL --whole' if it leads from nothing)"
)
_WAYS: tuple[tuple[Callable[[Problem], bool], str], ...] = (
    (_is_ref, _MEND_REF),
    (_is_pack, "packs: remove those that are damaged, then"),
    (_is_of_versions, _MEND_VERSIONS),
    (_is_delta, _MEND_DELTA),
    (_is_unused, "what hits no version: remove the file, or 'sis image prune' does"),
)
