"""An image version as the configurator needs it: what it holds, what lies at a path, the bytes of single files."""

from __future__ import annotations

import threading
from typing import Literal

from configurator.evidence import of_tree
from configurator.footprint import Footprint
from configurator.shared import Shared
from configurator.site import Tree
from configurator.tree import Found
from sis.image.model import Entry, Kind, Manifest, Version
from sis.image.store.content import Contents
from sis.image.store.local import LocalStore

_KINDS: dict[Kind, Literal["file", "dir", "symlink"]] = {
    Kind.FILE: "file",
    Kind.DIR: "dir",
    Kind.SYMLINK: "symlink",
}
_LARGEST_FILE_BYTES = 64 << 20


class VersionTree:
    """One version, read once: accounts, modules and their aliases come from the store. Safe in threads.

    `footprint` holds the image's shadow: show its `summary()`, never itself. `shared` is what its nodes' files share.
    """

    def __init__(self, store: LocalStore, version: Version) -> None:
        self._store = store
        self._version = version
        self._manifest = store.manifest(version.manifest)
        self._entries: dict[bytes, Entry] = {entry.path: entry for entry in self._manifest.entries}
        self._texts: dict[str, bytes | None] = {}
        self._contents: Contents | None = None
        self._guard = threading.Lock()
        self.footprint: Footprint = of_tree(_listing(self._manifest), self.read)
        self._contents = None
        self.shared = Shared()

    def lookup(self, path: str) -> Found | None:
        """What lies at an absolute path, no link followed."""
        entry = self._entries.get(_key(path))
        return _found(entry) if entry is not None else None

    def entry(self, path: str) -> Entry | None:
        """The manifest's entry at an absolute path."""
        return self._entries.get(_key(path))

    def read(self, path: str) -> bytes | None:
        """The bytes of the file at an absolute path, no link followed; None where there is none."""
        with self._guard:
            if path not in self._texts:
                entry = self._entries.get(_key(path))
                self._texts[path] = self._read(entry) if entry is not None and entry.kind is Kind.FILE else None
            return self._texts[path]

    def _read(self, entry: Entry) -> bytes | None:
        if self._contents is None:
            self._contents = Contents(self._store, self._version, self._manifest)
        return self._contents.read(entry, _LARGEST_FILE_BYTES)

    @property
    def tree(self) -> Tree:
        """The image as site files see it."""
        return Tree(self.read, self.lookup)


def _listing(manifest: Manifest) -> dict[str, Found]:
    return {
        "/" + entry.path.decode("utf-8", "surrogateescape"): _found(entry)
        for entry in manifest.entries
        if entry.path != b"."
    }


def _found(entry: Entry) -> Found:
    return Found(_KINDS.get(entry.kind, "other"), entry.target.decode("utf-8", "surrogateescape"))


def _key(path: str) -> bytes:
    return path.strip("/").encode("utf-8", "surrogateescape") or b"."
