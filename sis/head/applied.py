"""What the admin applied last: the cluster file as it was written, and the site's own files. Nodes are held to these,
never to files that are being edited.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec
from blake3 import blake3

from configurator.errors import ConfiguratorError
from configurator.site import Site
from configurator.site import load as load_site
from sis.errors import SisError, SpecInvalid
from sis.inventory.clock import now
from sis.system.files import atomic_write

T = TypeVar("T")

FOLDER = "applied"
SITE = "site"
"""Of the state directory: the site's files as the admin edits them."""


class ClusterText(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster file as it was when it was applied. `file` is where it was read from."""

    file: str
    text: str
    applied: str


class AppliedSite(msgspec.Struct, frozen=True, kw_only=True):
    """The site files nodes get. `digest` names their content, "" where there are none."""

    site: Site = Site()
    digest: str = ""
    applied: str = ""


def cluster(state: Path) -> ClusterText | None:
    """The cluster file applied last; None before the first."""
    return _read(state / FOLDER / "cluster.json", ClusterText)


def keep_cluster(state: Path, file: Path, raw: bytes) -> None:
    """Remember the text of a cluster file that was brought into the inventory."""
    text = ClusterText(file=str(file.absolute()), text=raw.decode("utf-8", "replace"), applied=now())
    _write(state / FOLDER / "cluster.json", msgspec.json.encode(text))


def site(state: Path) -> AppliedSite:
    """The site files applied last; none before the first."""
    return _read(state / FOLDER / "site.json", AppliedSite) or AppliedSite()


def stamp(state: Path) -> tuple[int, int, int]:
    """Differs when other site files were applied."""
    try:
        status = (state / FOLDER / "site.json").stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def read_site(folder: Path) -> AppliedSite:
    """The site files in a directory as they are now. Raises SpecInvalid with every fault, each with its file."""
    try:
        found = load_site(folder)
    except ConfiguratorError as fault:
        raise SpecInvalid(fault.message, details=fault.details, hint=fault.hint) from fault
    digest = blake3(msgspec.json.encode(found)).hexdigest() if found.layers else ""
    return AppliedSite(site=found, digest=digest, applied=now())


def keep_site(state: Path, found: AppliedSite) -> None:
    """Hold nodes to these site files from now on."""
    _write(state / FOLDER / "site.json", msgspec.json.encode(found))


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise SisError(f"{path} is damaged: {error}", hint="apply the cluster file again: sis cluster apply") from error


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic_write(path, data, mode=0o600)
