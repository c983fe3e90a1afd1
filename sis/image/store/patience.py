"""How a server is waited for that does not answer as it should: another try, after a pause, until it is given up."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from sis.errors import Unreachable

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
ATTEMPTS = 6
"""Tries in a row that bring next to nothing before a server is given up."""

BACKOFF_S = 0.2
BACKOFF_MAX_S = 10.0
RETRY_AFTER_MAX_S = 30.0
TOLD_TO_WAIT_MAX = 500
"""How often a server may say when to come back before that counts as a failure: hours, with many others before us."""

_T = TypeVar("_T")


class Limits(msgspec.Struct, frozen=True):
    """How patient to be. Seconds; tests make them small."""

    connect_s: float = CONNECT_TIMEOUT_S
    read_s: float = READ_TIMEOUT_S
    attempts: int = ATTEMPTS
    backoff_s: float = BACKOFF_S


class Retry(Exception):
    """An answer, or the lack of one, that is worth another try."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


FAILURES = (OSError, http.client.HTTPException, Retry)
"""What is worth another try."""


class Patience:
    """With one server; `drop` closes the connection a try has failed on."""

    def __init__(self, limits: Limits, drop: Callable[[], None]) -> None:
        self._limits = limits
        self._drop = drop
        self._told_to_wait = 0

    def until_done(self, url: str, attempt: Callable[[], _T]) -> _T:
        """What `attempt` returns when it does not fail. Raises Unreachable when it has failed too often."""
        failures = 0
        while True:
            try:
                return attempt()
            except FAILURES as error:
                failures = self.pause(url, error, failures + 1)

    def pause(self, url: str, error: Exception, failures: int) -> int:
        """Wait before another try, longer each time, jittered so that a thousand nodes do not come back at once.

        Returns how many failures that makes: a server that says when to come back has not failed, for a long while.
        Raises Unreachable when these are too many.
        """
        self._drop()
        if isinstance(error, Retry) and error.after_s and self._told_to_wait < TOLD_TO_WAIT_MAX:
            self._told_to_wait += 1
            time.sleep(min(error.after_s, RETRY_AFTER_MAX_S) * random.uniform(1.0, 1.2))
            return failures - 1
        if failures >= self._limits.attempts:
            raise Unreachable(
                f"{url}: {_reason(error)} ({failures} attempts)", hint="is the head's service running, and reachable?"
            ) from error
        wait_s = min(self._limits.backoff_s * 2 ** (failures - 1), BACKOFF_MAX_S) * random.uniform(0.5, 1.5)
        asked_s = error.after_s if isinstance(error, Retry) and error.after_s is not None else 0.0
        time.sleep(max(wait_s, min(asked_s, RETRY_AFTER_MAX_S) * random.uniform(1.0, 1.2)))
        return failures


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
