"""The head makes the deltas of channels that moved: in the background, gently, one channel at a time.

Those from nothing, for new nodes, take minutes: they are left as soon as another is wanted. A node that comes before
they are there fetches chunks; nobody waits for them, and nothing is lost when the head ends.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from anyio import to_thread

from sis.errors import SisError
from sis.image.deltas.wanted import wanted, wanted_whole
from sis.image.store.local import LocalStore
from sis.inventory.stream import Stream, row
from sis.system import process

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
AGAIN_AFTER_S = 300.0
"""How long a channel whose deltas could not be made is left alone."""

_END_GRACE_S = 5.0


class _Job(NamedTuple):
    image: str
    channel: str
    is_whole: bool


class DeltaMaker:
    """Runs `sis image deltas` for what is wanted in `store`; `follow` it for as long as the head runs."""

    def __init__(self, state: Path, store: LocalStore, stream: Stream) -> None:
        self._state = state
        self._store = store
        self._stream = stream
        self._child: process.Child | None = None
        self._making = _Job("", "", False)
        self._not_before: dict[_Job, float] = {}
        self._guard = threading.Lock()
        self._stopped = False

    @property
    def log_path(self) -> Path:
        """What the command said, run after run."""
        return self._state / "logs" / "deltas.log"

    async def follow(self) -> None:
        """Look for what is wanted, start it, note how it ended."""
        while True:
            try:
                await to_thread.run_sync(self.look)
            except (SisError, OSError) as fault:
                log.warning("deltas: %s", fault)
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """One look; returns at once."""
        with self._guard:
            if not self._stopped:
                self._look()

    def stop(self) -> None:
        """End what is being made: it is begun again when the head is back."""
        with self._guard:
            self._stopped = True
            child, self._child = self._child, None
        if child is not None:
            process.stop(child, _END_GRACE_S)

    def _look(self) -> None:
        if self._child is not None and (code := self._child.poll()) is not None:
            self._child = None
            self._ended(code)
        job = self._next()
        if job is None:
            return
        if self._child is not None:
            if job.is_whole or not self._making.is_whole:
                return
            process.stop(self._child, _END_GRACE_S)
        self._begin(job)

    def _next(self) -> _Job | None:
        jobs = [_Job(*pair, False) for pair in wanted(self._store)] + [
            _Job(*pair, True) for pair in wanted_whole(self._store)
        ]
        now = time.monotonic()
        return next((job for job in jobs if self._not_before.get(job, 0.0) <= now), None)

    def _begin(self, job: _Job) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        words = ["image", "deltas", job.image, job.channel, "--gently", *(["--whole"] if job.is_whole else [])]
        argv = [sys.executable, "-m", "sis", "--state", str(self._state), *words]
        self._child = process.start(argv, output=self.log_path)
        self._making = job

    def _ended(self, code: int) -> None:
        image, channel, is_whole = self._making
        if code == 0:
            self._tell("ok", "one file for new nodes made" if is_whole else "deltas made")
            return
        self._not_before[self._making] = time.monotonic() + AGAIN_AFTER_S
        said = self.log_path.read_text(errors="replace").strip().splitlines()[-1:]
        text = f"no deltas, nodes fetch chunks: {said[0] if said else f'exit code {code}'}"
        log.warning("%s@%s: %s", image, channel, text)
        self._tell("failed", text[:500])

    def _tell(self, outcome: str, text: str) -> None:
        subject = "@".join(self._making[:2])
        self._stream.tell([row("published", subject=subject, what="deltas", outcome=outcome, text=text)])
