"""Finding packages by name in the archives a spec builds from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from sis.build import pipeline
from sis.errors import UsageFault
from sis.spec.imagespec import ImageSpec

LISTS_GOOD_S = 86_400
LEAST_LETTERS = 2


@dataclass(frozen=True, slots=True)
class Found:
    """A package of the archives. `taken`: the spec has it already."""

    name: str
    about: str
    taken: bool


def find(spec: ImageSpec, state: Path, word: str, *, fetch: bool = True) -> tuple[Found, ...]:
    """Packages whose name holds `word`, the nearest names first. With `fetch` lists older than a day are fetched anew.

    Raises UsageFault for a word too short, SisError when an archive cannot be reached, or there are no lists.
    """
    word = word.strip().lower()
    if len(word) < LEAST_LETTERS:
        raise UsageFault(f"'{word}' is too short to search for", hint=f"give {LEAST_LETTERS} letters or more")
    archive, text = pipeline.archive_of(spec, state)
    if fetch and not _fresh(archive.path / "etc/sources.sources", archive.lists):
        archive.update(text)
    if not (archive.path / "etc/apt.conf").is_file():
        raise UsageFault("the package lists were not fetched yet", hint=f"sis image packages {spec.image} {word}")
    taken = set(spec.packages)
    found = [Found(name, about, name in taken) for name, about in archive.search(word)]
    return tuple(sorted(found, key=lambda each: (each.name != word, not each.name.startswith(word), each.name)))


def _fresh(*paths: Path) -> bool:
    try:
        return all(time.time() - path.stat().st_mtime < LISTS_GOOD_S for path in paths)
    except FileNotFoundError:
        return False
