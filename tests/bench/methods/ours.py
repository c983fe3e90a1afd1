"""Ours: sis-node against the store, served by nginx as plain files, or by our head."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sis.system import process
from tests.bench.figures import Figure
from tests.bench.methods.method import Method, Node, url
from tests.bench.wire import HEAD

_PROGRAMS = Path(sys.executable).parent
_PORT = 8700
_CHANNEL = "stable"
_ONE_DELTA = {"v3": ("bench@2", "bench@3"), "p2": ("packed@1", "packed@2")}
_NODE_WORKS = frozenset({"cold", "upgrade", "drifted", "nochange", "verify", "edits", "together"})


class Ours(Method):
    """The store behind nginx. Versions v1, v2, v3 are generations 1, 2, 3 of one image; p1, p2 of another."""

    name = "ours"
    works = _NODE_WORKS | {"packed", "commit", "recommit", "publish", "newcomers"}

    @property
    def family(self) -> str:
        return "ours"

    def publish(self, version: str) -> list[Figure]:
        image, generation = _generation(version)
        tree = self.scene.trees.path(version)
        commit = self._sis("image", "commit", image, "--tree", str(tree), "--policy", "none")
        publish = self._sis("image", "publish", f"{image}@{generation}", _CHANNEL)
        figures = [self.on_head("commit", commit)]
        if version == "v2":
            figures.append(self.on_head("recommit", commit))
        if version in _ONE_DELTA:
            # Publishing would make the delta from v1 too, and no work here uses it.
            delta = self._sis("image", "delta", *_ONE_DELTA[version])
            figures.append(self.on_head("publish", [*publish, "--no-deltas"], delta))
        else:
            figures.append(self.on_head("publish", [*publish, *(["--no-deltas"] if version == "p1" else [])]))
        if version == "v2" and "newcomers" not in self.scene.size.left_out:
            figures.append(self.on_head("newcomers", self._sis("image", "deltas", image, _CHANNEL, "--whole")))
        return figures

    def adopt(self, node: Node, version: str) -> None:
        process.run(self._sync(node, version, str(self.place / "store")), timeout_s=1800)

    def commands(self, node: Node, version: str, *, full: bool = False) -> Sequence[process.Argv]:
        return [[*self._sync(node, version, self.address()), *(["--full"] if full else [])]]

    def address(self) -> str:
        return url("ours/store")

    def _sync(self, node: Node, version: str, where: str) -> list[str]:
        image, generation = _generation(version)
        words = [str(_PROGRAMS / "sis-node"), "sync", "--from", where, "--image", f"{image}@{generation}"]
        return [*words, "--root", str(node.root), "--state", str(node.memory)]

    def _sis(self, *words: str) -> list[str]:
        return [str(_PROGRAMS / "sis"), "--state", str(self.place), *words]


class OursHead(Ours):
    """The same store behind our own head."""

    name = "ours-head"
    works = _NODE_WORKS - {"drifted", "verify"}

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        if not (self.place / "initialised").exists():
            process.run(self._sis("head", "init"))
            (self.place / "initialised").touch()
        for marks in (self.place / "store" / ".work").glob("wanted*"):
            shutil.rmtree(marks)  # it would make deltas meanwhile that no work here is about
        with self.scene.wire.serving(self._sis("head", "run", "--listen", f"{HEAD}:{_PORT}", "--no-dhcp"), _PORT):
            yield

    def address(self) -> str:
        return f"http://{HEAD}:{_PORT}"


def _generation(version: str) -> tuple[str, int]:
    return "bench" if version[0] == "v" else "packed", int(version[1:])
