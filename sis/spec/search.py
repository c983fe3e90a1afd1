"""Where specs are looked for: the site's folder first, then those that come with the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sis.errors import NotFound

SITE = Path("/etc/sis/imagespecs")


def shipped() -> Path:
    """The specs that come with this package: inside it when installed, beside it in a clone."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "imagespecs"
    return inside if inside.is_dir() else package.parent / "imagespecs"


def folders(extra: Sequence[Path] = ()) -> tuple[Path, ...]:
    """`extra` first, then the site's folder, then the shipped one."""
    return (*extra, SITE, shipped())


def find(kind: str, name: str, places: Sequence[Path], *, suffix: str = ".yaml") -> Path:
    """The file a name means: a path when it looks like one, else `<name><suffix>` in the first folder that has it.

    `kind` is the noun of the message. Raises NotFound with near names.
    """
    if "/" in name or name.endswith(suffix):
        path = Path(name)
        if not path.is_file():
            raise NotFound(f"no such {kind}: {name}")
        return path
    for folder in places:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return path
    raise NotFound.of(kind, name, names(places, suffix=suffix))


def names(places: Sequence[Path], *, suffix: str = ".yaml") -> list[str]:
    """What `find` would find by name, sorted."""
    return sorted({path.name.removesuffix(suffix) for folder in places for path in folder.glob(f"*{suffix}")})
