"""rsync: a daemon, everything a tree can hold, deletions; uncompressed, compressed, and with checksums."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import ClassVar

from sis.system import process
from tests.bench.methods.method import Method, Node
from tests.bench.wire import HEAD

_PORT = 8730


class Rsync(Method):
    """`rsync -aHAX --delete --numeric-ids` from a daemon."""

    name = "rsync"
    works = frozenset({"cold", "upgrade", "drifted", "nochange", "edits", "together"})
    options: ClassVar[tuple[str, ...]] = ()

    @property
    def family(self) -> str:
        return "rsync"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        config = self.place / "rsyncd.conf"
        config.write_text(
            f"address = {HEAD}\nport = {_PORT}\npid file =\n"
            f"lock file = {self.place}/lock\nlog file = {self.place}/log\n"
            "uid = 0\ngid = 0\nuse chroot = no\nread only = yes\nmunge symlinks = no\nreverse lookup = no\n"
            f"[trees]\npath = {self.scene.trees.folder}\n"
        )
        with self.scene.wire.serving(["rsync", "--daemon", "--no-detach", f"--config={config}"], _PORT):
            yield

    def commands(self, node: Node, version: str, *, full: bool = False) -> Sequence[process.Argv]:
        options = ["-aHAX", "--delete", "--numeric-ids", *self.options]
        return [["rsync", *options, f"rsync://{HEAD}:{_PORT}/trees/{version}/", f"{node.root}/"]]


class RsyncCompressed(Rsync):
    name = "rsync-z"
    works = frozenset({"cold", "upgrade", "packed", "drifted", "edits"})
    options = ("-z",)


class RsyncChecksum(Rsync):
    name = "rsync-c"
    works = frozenset({"verify"})
    options = ("-c",)
