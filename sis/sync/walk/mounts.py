"""What is mounted below a root, as the kernel tells."""

from __future__ import annotations

import os
import re
from pathlib import Path


def mount_points_below(root: Path) -> frozenset[bytes]:
    """Every mount point below `root`, relative to it; empty where /proc is not there to ask."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except FileNotFoundError:
        return frozenset()
    top = os.fsencode(root.resolve()).rstrip(b"/") + b"/"
    points = (_unescaped(line.split(b" ")[4]) for line in lines)
    return frozenset(point[len(top) :] for point in points if point.startswith(top) and point != top)


def _unescaped(point: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), point)
