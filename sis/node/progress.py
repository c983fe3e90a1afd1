"""Stages of the node's stories as events: told to the head in the background, and to the console."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime

from sis.errors import SisError
from sis.node.connection import HeadConnection
from sis.node.sender import Sender
from sis.sync.model import Outcome
from sis.system.amounts import human_bytes
from sis.wire import Event, Stage

_FLUSH_S = 1.0
LOG_LIMIT_CHARS = 16_000


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Teller:
    """Tells each stage's start, progress and outcome.

    From `begin` on events go to the head from a process of their own, in order; while the head is away they wait, and
    the story goes on. A thread would do, but no process with threads can be forked (`sis.sync.forked`), and the engine
    works with as many as there are cores. `close` waits a little for what is left.
    """

    def __init__(self, head: HeadConnection | None) -> None:
        self._head = head
        self._early: list[Event] = []
        self._sender: Sender | None = None
        self.log_lines: list[str] = []

    def begin(self) -> None:
        """The head has answered: send what there is to tell, and from here on all that comes."""
        if self._head is not None and self._head.welcome and self._sender is None:
            self._sender = Sender(self._head)
            for event in self._early:
                self._sender.send(event)
            self._early.clear()

    @contextlib.contextmanager
    def stage(self, name: Stage, message: str = "") -> Iterator[StageProgress]:
        """One step of the story: start at entry, ok or failed (with the reason and the log) at exit."""
        started = time.monotonic()
        self._tell(Event(time=now(), stage=name, outcome="start", message=message))
        progress = StageProgress(self, name)
        try:
            yield progress
        except BaseException as error:
            self._tell(
                Event(
                    time=now(),
                    stage=name,
                    outcome="failed",
                    message=reason_of(error),
                    seconds=round(time.monotonic() - started, 3),
                    log=log_of(error, self.log_lines),
                )
            )
            raise
        self._tell(
            Event(
                time=now(),
                stage=name,
                outcome="ok",
                message=progress.summary,
                bytes=progress.bytes_moved,
                seconds=round(time.monotonic() - started, 3),
            )
        )

    def note(self, stage: Stage, message: str, bytes_moved: int = 0) -> None:
        self._tell(Event(time=now(), stage=stage, outcome="note", message=message, bytes=bytes_moved))

    def close(self, wait_s: float = 10.0) -> None:
        self.begin()
        if self._sender is not None:
            self._sender.close(wait_s)

    def _tell(self, event: Event) -> None:
        line = f"sis: {event.stage}: {event.outcome}" + (f": {event.message}" if event.message else "")
        self.log_lines.append(f"{event.time} {line}")
        print(line, file=sys.stderr, flush=True)
        if self._sender is None:
            self._early.append(event)
        else:
            self._sender.send(event)


class StageProgress:
    """Handed to a stage's body: `say` a line, count `bytes_moved`, leave a `summary` for its end."""

    def __init__(self, teller: Teller, stage: Stage) -> None:
        self._teller = teller
        self._stage = stage
        self._last = time.monotonic()
        self.summary = ""
        self.bytes_moved = 0

    def say(self, message: str) -> None:
        self._teller.note(self._stage, message, self.bytes_moved)

    def came_to(self, outcome: Outcome) -> None:
        """End as an outcome says: what changed and where its bytes came from; what did not go as usual is said."""
        for notice in outcome.notices:
            self._teller.note(self._stage, notice)
        totals = outcome.totals
        self.bytes_moved = totals.bytes_fetched
        by_delta = f" ({human_bytes(totals.bytes_delta)} of it as a delta)" if totals.bytes_delta else ""
        self.summary = (
            f"{len(outcome.changes)} changes, {human_bytes(totals.bytes_fetched)} fetched{by_delta},"
            f" {human_bytes(totals.bytes_local)} from this machine"
        )

    def moved(self, done_bytes: int, total_bytes: int) -> None:
        """Progress of a transfer, told at most once a few seconds."""
        self.bytes_moved = done_bytes
        if time.monotonic() - self._last >= _FLUSH_S * 3 and total_bytes:
            self._last = time.monotonic()
            self.say(f"{done_bytes * 100 // total_bytes}% of {total_bytes / 1e6:.1f} MB")


def reason_of(error: BaseException) -> str:
    """One line that says why: the message of our own errors, the type and text of a stranger's."""
    if isinstance(error, SisError):
        return error.message
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def log_of(error: BaseException, lines: list[str]) -> str:
    """What the head shows as the log of a failed step: details, hint and, for a bug, the traceback."""
    parts = ["\n".join(lines[-40:])]
    if isinstance(error, SisError):
        parts.append(str(error))
    else:
        parts.append("".join(traceback.format_exception(error)))
    return "\n".join(parts)[-LOG_LIMIT_CHARS:]
