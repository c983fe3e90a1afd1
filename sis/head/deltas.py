"""The head makes the deltas of channels that moved: in the background, gently, one channel at a time.

A node that comes before they are there fetches chunks; nobody waits for them, and nothing is lost when the head ends.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from pathlib import Path

from anyio import to_thread

from sis.errors import SisError
from sis.image.delta_wanted import wanted
from sis.image.store import LocalStore
from sis.inventory.stream import Stream, row
from sis.system import process

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
AGAIN_AFTER_S = 300.0
"""How long a channel whose deltas could not be made is left alone."""

_END_GRACE_S = 5.0


class DeltaMaker:
    """Runs `sis image deltas` for what is wanted in `store`; `follow` it for as long as the head runs."""

    def __init__(self, state: Path, store: LocalStore, stream: Stream) -> None:
        self._state = state
        self._store = store
        self._stream = stream
        self._child: process.Child | None = None
        self._making = ("", "")
        self._not_before: dict[tuple[str, str], float] = {}
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
        if self._child is not None:
            code = self._child.poll()
            if code is None:
                return
            self._child = None
            self._ended(code)
        now = time.monotonic()
        for pair in wanted(self._store):
            if self._not_before.get(pair, 0.0) <= now:
                self._begin(*pair)
                return

    def _begin(self, image: str, channel: str) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        words = ["--state", str(self._state), "image", "deltas", image, channel, "--gently"]
        self._child = process.start([sys.executable, "-m", "sis", *words], output=self.log_path)
        self._making = (image, channel)

    def _ended(self, code: int) -> None:
        image, channel = self._making
        if code == 0:
            self._tell("ok", "deltas made")
            return
        self._not_before[self._making] = time.monotonic() + AGAIN_AFTER_S
        said = self.log_path.read_text(errors="replace").strip().splitlines()[-1:]
        text = f"no deltas, nodes fetch chunks: {said[0] if said else f'exit code {code}'}"
        log.warning("%s@%s: %s", image, channel, text)
        self._tell("failed", text[:500])

    def _tell(self, outcome: str, text: str) -> None:
        subject = "@".join(self._making)
        self._stream.tell([row("published", subject=subject, what="deltas", outcome=outcome, text=text)])
