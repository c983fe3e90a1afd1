"""Maintenance windows such as "Sun 01:00-05:00": read, asked whether one is open, and when the next one opens.

Times are of the wall clock in a time zone. Where clocks go forward a window in the skipped hour does not open; where
they go back one in the repeated hour is open twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from configurator.errors import ConfiguratorError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
EXAMPLE = "Sun 01:00-05:00"

_DAY_MINUTES = 24 * 60
_WINDOW = re.compile(r"(?:([A-Za-z,-]+) +)?(\d{1,2}):(\d{2}) *- *(\d{1,2}):(\d{2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """`days` (0 is Monday) on which it opens, at `start` minutes of the day, for `minutes`, perhaps past midnight."""

    days: frozenset[int]
    start: int
    minutes: int

    def is_open(self, wall: datetime) -> bool:
        """Whether it is open at this wall clock time."""
        minute = wall.hour * 60 + wall.minute
        today = wall.weekday() in self.days and self.start <= minute < self.start + self.minutes
        since_yesterday = minute + _DAY_MINUTES
        before = (wall.weekday() - 1) % 7 in self.days and since_yesterday < self.start + self.minutes
        return today or before


def parse(text: str) -> Window:
    """A window: days ("Sun", "Mon-Fri", "Sat,Sun"; none: every day) and times. Raises ConfiguratorError."""
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ConfiguratorError(f"not a maintenance window: {text!r}; write it like {EXAMPLE!r}")
    start, end = _minutes(text, found[2], found[3]), _minutes(text, found[4], found[5])
    if start == _DAY_MINUTES or end == start:
        raise ConfiguratorError(f"maintenance window {text!r}: it is never open; for a whole day write 00:00-24:00")
    return Window(_days(text, found[1]), start, (end - start) % _DAY_MINUTES or _DAY_MINUTES)


def is_open(windows: Sequence[str], moment: datetime, zone: str) -> bool:
    """Whether a node with these windows may be changed at `moment` (aware). Without any window: always."""
    if not windows:
        return True
    wall = moment.astimezone(zone_of(zone))
    return any(parse(text).is_open(wall) for text in windows)


def next_opening(windows: Sequence[str], moment: datetime, zone: str) -> datetime:
    """When one of the windows is next open: `moment` itself, or within eight days (UTC). There must be a window."""
    place = zone_of(zone)
    parsed = [parse(text) for text in windows]
    if any(window.is_open(moment.astimezone(place)) for window in parsed):
        return moment
    today = moment.astimezone(place).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    found = []
    # Sixteen days: a window in the hour skipped in spring opens a week later.
    for ahead in range(16):
        day = today + timedelta(days=ahead)
        for window in parsed:
            if day.weekday() in window.days:
                opening = (day + timedelta(minutes=window.start)).replace(tzinfo=place).astimezone(UTC)
                if opening > moment and window.is_open(opening.astimezone(place)):
                    found.append(opening)
    return min(found)


def on_calendar(windows: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Each window as systemd's OnCalendar writes its opening, and how many minutes it is open."""
    return tuple(
        (
            f"{_day_words(window.days)}*-*-* {window.start // 60:02}:{window.start % 60:02}:00",
            window.minutes,
        )
        for window in map(parse, windows)
    )


def zone_of(name: str) -> tzinfo:
    """The time zone, or UTC where this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def _minutes(text: str, hours: str, minutes: str) -> int:
    made = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or made > _DAY_MINUTES:
        raise ConfiguratorError(f"maintenance window {text!r}: no such time as {hours}:{minutes}")
    return made


def _days(text: str, written: str | None) -> frozenset[int]:
    if written is None or written.lower() == "daily":
        return frozenset(range(7))
    days: set[int] = set()
    for part in written.split(","):
        first, dash, last = part.partition("-")
        numbers = [_day(text, each) for each in ((first, last) if dash else (first,))]
        span = (numbers[-1] - numbers[0]) % 7
        days.update((numbers[0] + step) % 7 for step in range(span + 1))
    return frozenset(days)


def _day(text: str, name: str) -> int:
    try:
        return DAYS.index(name[:3].capitalize())
    except ValueError:
        raise ConfiguratorError(
            f"maintenance window {text!r}: no such day as {name!r}; days are {', '.join(DAYS)}"
        ) from None


def _day_words(days: frozenset[int]) -> str:
    return "" if len(days) == 7 else ",".join(DAYS[day] for day in sorted(days)) + " "
