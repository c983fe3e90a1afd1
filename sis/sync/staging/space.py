"""Is there room? Asked before the first change, of every file system the plan writes to."""

from __future__ import annotations

import os
from collections.abc import Iterable

from sis.errors import NoSpace
from sis.image.names import show_path
from sis.sync.planning.planned import Need
from sis.sync.staging.stage import Stage
from sis.system.beneath import Beneath

_SLACK_BYTES = 1 << 20
"""For directories, journals and what else goes on meanwhile."""


def must_fit(tree: Beneath, needs: Iterable[Need], stage: Stage) -> None:
    """Raise NoSpace, with need and available of every file system that is too small."""
    short = []
    for need in needs:
        handle = tree.open_directory(need.area.mount)
        try:
            free = os.fstatvfs(handle)
        finally:
            os.close(handle)
        slack = min(_SLACK_BYTES, free.f_blocks * free.f_frsize // 50)
        needed = max(0, need.size_bytes - stage.present_bytes(need.area))
        available = max(0, free.f_bavail * free.f_frsize - slack) if os.geteuid() else _free_for_root(free, slack)
        where = show_path(need.area.mount)
        if needed > available:
            short.append(f"{where}: needs {_amount(needed)}, {_amount(available)} available")
        if free.f_files and need.inodes > free.f_ffree:
            short.append(f"{where}: needs {need.inodes} inodes, {free.f_ffree} available")
    if short:
        raise NoSpace(
            "not enough space, nothing was changed",
            details=short,
            hint="new files are made ready beside the old ones: free that much, or give the node a larger disk",
        )


def _free_for_root(free: os.statvfs_result, slack: int) -> int:
    return max(0, free.f_bfree * free.f_frsize - slack)


def _amount(size_bytes: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= size:
            return f"{size_bytes / size:.1f} {unit}"
    return f"{size_bytes} bytes"
