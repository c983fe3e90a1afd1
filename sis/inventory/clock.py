"""The head's time as the inventory writes it: UTC, RFC 3339, milliseconds, so that text order is time order."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_since(time: str) -> float:
    """How long ago a time written by `now` was."""
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()


def seconds_between(earlier: str, later: str) -> float:
    """How long it was from one time written by `now` to another; at least 0, though clocks are set back."""
    return max(0.0, (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds())


def age(time: str | None) -> str:
    """How long ago, as people say it: "12 s", "3 min", "5 h", "2 d"; "never"."""
    if not time:
        return "never"
    seconds = max(0.0, seconds_since(time))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
