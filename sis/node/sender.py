"""Events on their way to the head, sent by a second process: whoever tells them never waits for the head."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from typing import NoReturn

import msgspec

from sis.errors import SisError
from sis.node.connection import HeadConnection
from sis.sync.forked import fork
from sis.system import parent
from sis.wire import Event

_PATIENCE_S = 300.0
_LOOK_EVERY_S = 0.01


class Sender:
    """A child process with a line to the head of its own. What it was told last is sent before it ends; where this
    process dies, it dies as well."""

    def __init__(self, head: HeadConnection) -> None:
        end, self._pipe = os.pipe()
        here = os.getpid()
        self._pid = fork()
        if self._pid == 0:
            _send_all(head, end, here)
        os.close(end)

    def send(self, event: Event) -> None:
        """Have an event sent after those before it."""
        line = msgspec.json.encode(event) + b"\n"
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._pipe, line) :]

    def close(self, wait_s: float) -> None:
        """Give it so long to send what is left."""
        os.close(self._pipe)
        give_up = time.monotonic() + wait_s
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() >= give_up:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                return
            time.sleep(_LOOK_EVERY_S)


def _send_all(head: HeadConnection, pipe: int, started_by: int) -> NoReturn:
    """The child's whole life. It keeps none of the files and locks that are open in its parent."""
    try:
        parent.end_with(started_by)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.closerange(3, pipe)
        os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
        waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        sending = threading.Thread(target=_send, args=(head, waiting), daemon=True)
        sending.start()
        with open(pipe, "rb") as lines:
            for line in lines:
                waiting.put(msgspec.json.decode(line, type=Event))
        waiting.put(None)
        sending.join()
    finally:
        os._exit(0)


def _send(head: HeadConnection, waiting: queue.SimpleQueue[Event | None]) -> None:
    """All that has come by now goes in one call."""
    while (first := waiting.get()) is not None:
        batch = [first]
        ended = False
        with contextlib.suppress(queue.Empty):
            while not ended:
                event = waiting.get_nowait()
                if event is None:
                    ended = True
                else:
                    batch.append(event)
        with contextlib.suppress(SisError):
            head.send_events(batch, patience_s=_PATIENCE_S)
        if ended:
            return
