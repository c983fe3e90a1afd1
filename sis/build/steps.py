"""The steps of one build: told as they happen, timed, and written to one log that a failure points at."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from sis.errors import SisError
from sis.system import files

Progress = Callable[[str, str], None]
"""Told the step, and what it is doing just now ("" when it begins)."""

_KEPT_LOGS = 20
_TOLD = ("Unpacking ", "Setting up ", "I: ", "update-initramfs: Generating", "Processing triggers")


def quiet(step: str, doing: str) -> None:
    """Tells no one."""
    del step, doing


class Steps:
    """`log` is the build's log file; `seconds` has each finished step's time, in order."""

    def __init__(self, image: str, folder: Path, progress: Progress) -> None:
        files.make_dirs(folder)
        for old in sorted(folder.glob(f"build-{image}-*.log"))[:-_KEPT_LOGS]:
            old.unlink()
        self.log = folder / f"build-{image}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._current = ""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step. A SisError that leaves it names the step and the log."""
        self._current = name
        self._progress(name, "")
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"== {name}\n")
        started = time.monotonic()
        try:
            yield
        except SisError as error:
            error.details = (*error.details, f"(in step '{name}'; the whole log is {self.log})")
            raise
        self.seconds[name] = time.monotonic() - started

    def line(self, text: str) -> None:
        """What a program of the current step printed; some of it is shown."""
        if text.startswith(_TOLD):
            self._progress(self._current, text.removeprefix("I: ").rstrip(" ."))
