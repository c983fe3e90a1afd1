"""/etc/fstab from the record's mounts: parents before what is mounted in them, swap last, columns aligned."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.record import Mount
from configurator.rendered import RenderedFile, text_file
from configurator.renderers import Context, renderer

NAME = "fstab"
_CONFIGFS = Mount(source="configfs", path="/config", filesystem="configfs")


@renderer(NAME, reads="kerrighed mounts")
def fstab(context: Context) -> Iterator[RenderedFile]:
    mounts = sorted(context.record.mounts, key=_order)
    if context.record.kerrighed is not None and context.footprint.kerrighed != "none":
        if all(mount.path != _CONFIGFS.path for mount in mounts):
            mounts.append(_CONFIGFS)
        yield RenderedFile(path=_CONFIGFS.path, kind="dir", mode=0o755, origin=NAME)
    if mounts:
        yield text_file("/etc/fstab", NAME, _aligned([_fields(mount) for mount in mounts]))


def _order(mount: Mount) -> tuple[bool, list[str], str]:
    return (not mount.path.startswith("/"), [part for part in mount.path.split("/") if part], mount.source)


def _fields(mount: Mount) -> tuple[str, ...]:
    words = (mount.source, mount.path, mount.filesystem, mount.options, str(mount.dump), str(mount.passno))
    return tuple(_escaped(word) for word in words)


def _escaped(word: str) -> str:
    """A word as fstab(5) wants it: blanks and backslashes as octal. Other blanks did not pass the record's check."""
    return word.replace("\\", "\\134").replace(" ", "\\040")


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
