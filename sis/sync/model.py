"""The nouns of sync: LayerFile, Change, Totals. Frozen values that also travel on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from sis.image.model import PolicyVerb


class LayerFile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rendered path of the node's own layer. `content` is bytes (base64 in JSON); `path` is absolute."""

    path: str
    kind: Literal["file", "symlink", "dir", "absent"] = "file"
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    content: bytes = b""
    target: str = ""
    origin: str = ""
    """Which renderer or site file made it."""


class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One itemised difference, for `-n`, drift reports and status. `path` is printable (escaped), absolute."""

    action: Literal["create", "update", "replace", "metadata", "remove", "keep"]
    path: str
    what: tuple[str, ...] = ()
    """What differs: content, size, mode, owner, mtime, acl, capability, xattrs, target, type, link, device."""
    bytes_to_fetch: int = 0
    policy: PolicyVerb = "enforce"


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    entries: int = 0
    created: int = 0
    updated: int = 0
    metadata: int = 0
    removed: int = 0
    reported: int = 0
    bytes_fetched: int = 0
    """Payload bytes that came over the wire."""
    bytes_delta: int = 0
    """Of these, how many came as a delta; the others as chunks."""
    bytes_local: int = 0
    """Content bytes taken from what the node already had."""
    bytes_written: int = 0


Observer = Callable[[int, int], None]
"""Told (bytes of content done, bytes in all)."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was found (check, dry run) or done (sync).

    in_sync        check: nothing differs; sync: nothing differs any more. Policy `report` does not count
    boot_changed   kernels, initrds or anything else below /boot is among the changes
    reboot_needed  the tree is the running system, and its kernel, initrd, C library or init was changed
    notices        a sentence each, for people
    """

    changes: tuple[Change, ...] = ()
    totals: Totals = Totals()
    in_sync: bool = True
    boot_changed: bool = False
    reboot_needed: bool = False
    notices: tuple[str, ...] = ()
