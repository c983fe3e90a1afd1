"""What differs between two entries, and between two manifests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from sis.image.model import ANY_MTIME, Entry, Kind, Manifest
from sis.image.names import show_path

Action = Literal["create", "update", "replace", "metadata", "remove"]


class ManifestChange(msgspec.Struct, frozen=True, kw_only=True):
    """One path that differs. `path` is printable and absolute; `raw` as in the manifest.

    update: the content of a file; replace: another type, link target or device; metadata: mode, owner, time, ACLs,
    capabilities, other xattrs, hard link.
    """

    action: Action
    path: str
    raw: bytes
    what: tuple[str, ...] = ()
    size_before: int = 0
    size_after: int = 0


def what_differs(have: Entry, want: Entry, *, mtime: bool = True) -> tuple[str, ...]:
    """What differs: type alone, or any of content, size, target, device, mode, owner, mtime, acl, capability, xattrs.

    With `mtime` false, or ANY_MTIME in `want`, times are not compared. Hard links are for `link_peers` to tell.
    """
    if have.kind is not want.kind:
        return ("type",)
    what = []
    if have.chunks != want.chunks:
        what.append("content")
    if have.size != want.size:
        what.append("size")
    if have.target != want.target:
        what.append("target")
    if have.rdev != want.rdev:
        what.append("device")
    if have.mode != want.mode:
        what.append("mode")
    if (have.uid, have.gid) != (want.uid, want.gid):
        what.append("owner")
    if mtime and want.mtime_ns not in (have.mtime_ns, ANY_MTIME):
        what.append("mtime")
    if have.xattrs != want.xattrs:
        differing = {name for name, _ in set(have.xattrs) ^ set(want.xattrs)}
        what += sorted({_NAMED_XATTRS.get(name, "xattrs") for name in differing})
    return tuple(what)


_NAMED_XATTRS = {
    b"system.posix_acl_access": "acl",
    b"system.posix_acl_default": "acl",
    b"security.capability": "capability",
}


def action_of(what: tuple[str, ...]) -> Action:
    """How differences are put right: by another inode in its place, other content, or other metadata."""
    if not {"type", "target", "device"}.isdisjoint(what):
        return "replace"
    return "update" if not {"content", "size"}.isdisjoint(what) else "metadata"


def link_peers(entries: Iterable[Entry]) -> dict[bytes, bytes]:
    """For every path that is one of several names of an inode: the first of these names."""
    first: dict[int, bytes] = {}
    return {entry.path: first.setdefault(entry.link, entry.path) for entry in entries if entry.link}


def compare(before: Manifest, after: Manifest) -> list[ManifestChange]:
    """Every path that differs, in manifest order."""
    old = {entry.path: entry for entry in before.entries}
    old_links, new_links = link_peers(before.entries), link_peers(after.entries)
    changes = []
    for entry in after.entries:
        had = old.pop(entry.path, None)
        if had is None:
            changes.append(_change("create", entry.path, (), None, entry))
        elif had != entry or old_links or new_links:
            what = what_differs(had, entry)
            if "type" not in what and old_links.get(entry.path) != new_links.get(entry.path):
                what = (*what, "link")
            if what:
                changes.append(_change(action_of(what), entry.path, what, had, entry))
    changes += [_change("remove", path, (), entry, None) for path, entry in old.items()]
    changes.sort(key=lambda change: change.raw)
    return changes


def compare_locks(before: dict[str, str], after: dict[str, str]) -> list[tuple[str, str, str]]:
    """Packages that differ: (name, version before or "", version after or ""), by name."""
    names = sorted(before.keys() | after.keys())
    return [(name, before.get(name, ""), after.get(name, "")) for name in names if before.get(name) != after.get(name)]


def _change(action: Action, raw: bytes, what: tuple[str, ...], had: Entry | None, want: Entry | None) -> ManifestChange:
    return ManifestChange(
        action=action,
        path=show_path(raw),
        raw=raw,
        what=what,
        size_before=had.size if had is not None and had.kind is Kind.FILE else 0,
        size_after=want.size if want is not None and want.kind is Kind.FILE else 0,
    )
