"""What the commands of `sis image` share: the store, references to its versions, a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sis.cli.context import Context

if TYPE_CHECKING:
    from sis.image.progress import Progress
    from sis.image.store.local import LocalStore
    from sis.image.store.reference import Reference, Resolved


def store_of(context: Context) -> LocalStore:
    from sis.image.store.local import LocalStore

    return LocalStore(context.store)


def parse(text: str) -> Reference:
    from sis.image.store import reference

    return reference.parse(text)


def resolve(store: LocalStore, text: str) -> Resolved:
    from sis.image.store import reference

    return reference.resolve(store, reference.parse(text))


@contextmanager
def progress_bar(what: str) -> Iterator[Progress | None]:
    """A progress bar on a terminal's stderr, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=what, unit="B", unit_scale=True, leave=False, delay=0.5) as bar:

        def advance(step: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_description(step, refresh=False)
            bar.update(done - bar.n)

        yield advance
