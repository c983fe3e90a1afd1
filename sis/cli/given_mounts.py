"""Mount points that a user says a tree is held to as well: each must be one, and be in the image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sis.errors import UsageFault, near_names
from sis.image.model import Kind
from sis.image.names import show_path
from sis.sync.walk.mounts import mount_points_below

if TYPE_CHECKING:
    from sis.sync.desired import DesiredTree, Laid

_SHOWN_MAX = 8


def mount_points(root: Path, given: Iterable[str]) -> frozenset[bytes]:
    """What was given, as paths below `root`. Raises UsageFault for one where nothing is mounted."""
    paths = {mount: mount.strip("/").encode("utf-8", "surrogateescape") for mount in given}
    there = mount_points_below(root) if paths else frozenset()
    for mount, path in paths.items():
        if path not in there:
            raise UsageFault(
                f"--mount {mount}: nothing is mounted at {root / mount.strip('/')}", hint=_hint(path, there)
            )
    return frozenset(paths.values())


def must_be_in(want: DesiredTree, mounts: frozenset[bytes]) -> DesiredTree:
    """The same tree, which raises UsageFault when it is put together and has one of `mounts` not as a directory."""

    def make() -> Laid:
        laid = want.make()
        for mount in sorted(mounts):
            entry = laid.entries.get(mount)
            if entry is None or entry.kind is not Kind.DIR:
                raise UsageFault(
                    f"--mount {show_path(mount)}: the image has no directory of that name",
                    hint="held to the image, all that is on it would be removed; without --mount it is left alone",
                )
        return laid

    return replace(want, make=make) if mounts else want


def _hint(path: bytes, there: frozenset[bytes]) -> str:
    names = sorted(show_path(point).lstrip("/") for point in there)
    if not names:
        return "nothing is mounted below the root: leave --mount out"
    near = near_names(path.decode("utf-8", "surrogateescape"), names)
    shown = near or names[:_SHOWN_MAX]
    more = ", …" if len(shown) < len(names) and not near else ""
    return f"{'did you mean' if near else 'mounted below the root:'} {', '.join(shown)}{more}{'?' if near else ''}"
