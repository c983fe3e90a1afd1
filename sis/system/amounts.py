"""Amounts as people read them."""

from __future__ import annotations


def human_bytes(count: int) -> str:
    """4096 → "4.1 kB"; decimal units."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
