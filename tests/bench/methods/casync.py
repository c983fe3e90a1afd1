"""casync: an archive index and a chunk store over HTTP; the node's old tree is the seed of a new one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sis.system import process
from tests.bench.figures import Figure
from tests.bench.methods.method import Method, Node, swap, url


class Casync(Method):
    """`casync extract` beside the old tree: in place it fails on such updates ("Stale file handle")."""

    name = "casync"
    program = "casync"
    works = frozenset({"cold", "upgrade", "nochange", "commit", "recommit"})

    def publish(self, version: str) -> list[Figure]:
        index = self.place / f"{version}.caidx"
        make = ["casync", "make", f"--store={self.place}/default.castr", str(index)]
        make.append(str(self.scene.trees.path(version)))
        first = self.on_head("commit", make)
        again = [self.on_head("recommit", make)] if version == "v2" else []
        return [first, *again]

    def commands(self, node: Node, version: str, *, full: bool = False) -> Sequence[process.Argv]:
        words = ["casync", "extract", f"--store={url('casync/default.castr')}"]
        if any(node.root.iterdir()):
            words.append(f"--seed={node.root}")
        return [[*words, url(f"casync/{version}.caidx"), str(_made(node))]]

    def settle(self, node: Node) -> None:
        swap(_made(node), node.root)


def _made(node: Node) -> Path:
    return node.folder / "made"
