"""The head's time as the inventory writes it: UTC, RFC 3339, milliseconds, so that text order is time order."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_since(time: str) -> float:
    """How long ago a time written by `now` was."""
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
