"""A store that lies below the root that is made equal to an image of it: it would be removed while it is read."""

from __future__ import annotations

import os
from pathlib import Path

from sis.errors import Refused
from sis.sync.rules import PathPolicy
from sis.sync.walk.mounts import mount_points_below


def refuse_store_below(root: Path, where: str, policy: PathPolicy, held: frozenset[bytes]) -> None:
    """Raise Refused if the directory `where` is below `root`, unless the policy or its file system leaves it alone.

    held  mount points below the root whose file systems are held too
    """
    store = Path(where)
    if not store.is_dir() or not store.resolve().is_relative_to(root.resolve()):
        return
    path = os.fsencode(store.resolve().relative_to(root.resolve()))
    is_apart = any((path + b"/").startswith(point + b"/") for point in mount_points_below(root) - held)
    if is_apart or policy.verb(path) in ("ignore", "node"):
        return
    raise Refused(
        f"the store {where} lies below the root {root}: what is not in the image would be removed, the store too",
        hint="sync from a copy that lies elsewhere or is mounted there, or leave it alone by the policy",
    )
