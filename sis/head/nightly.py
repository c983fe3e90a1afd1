"""The head's night work: the past is pruned once a day, in the small hours, or as soon as the head is up again."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from anyio import to_thread

from sis.errors import SisError
from sis.inventory.clock import seconds_since
from sis.inventory.pruning import Past

log = logging.getLogger(__name__)

LOOK_EVERY_S = 600.0
HOURS = range(2, 5)
"""Local time; nodes resync by night too, but the head has little to do then."""
DAY_S = 86_400.0


class Nightly:
    def __init__(self, past: Past) -> None:
        self._past = past

    async def follow(self) -> None:
        """Prune when it is time, for as long as the head runs."""
        while True:
            try:
                if is_due(await to_thread.run_sync(self._past.last), datetime.now().astimezone()):
                    await to_thread.run_sync(self._past.prune)
            except SisError as fault:
                log.warning("%s", fault.message)
            await asyncio.sleep(LOOK_EVERY_S)


def is_due(last: str | None, moment: datetime) -> bool:
    """Whether the past is to be pruned now: by night once a day, and at any hour when two days went by."""
    if last is None:
        return moment.hour in HOURS
    age_s = seconds_since(last)
    return age_s > 2 * DAY_S or (moment.hour in HOURS and age_s > DAY_S / 2)
