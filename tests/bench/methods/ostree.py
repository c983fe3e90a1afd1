"""ostree: pull and hard-link checkout, by objects or by a static delta. It cannot hold devices and sockets."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from sis.system import process
from tests.bench.figures import Figure
from tests.bench.methods.method import Method, Node, swap, url

_REMOTE = "head"


class Ostree(Method):
    """Objects: a request for each file."""

    name = "ostree"
    program = "ostree"
    works = frozenset({"cold", "upgrade", "nochange", "commit", "recommit"})
    pull_options: tuple[str, ...] = ("--disable-static-deltas",)

    @property
    def family(self) -> str:
        return "ostree"

    @property
    def repository(self) -> Path:
        return self.place / "repo"

    def publish(self, version: str) -> list[Figure]:
        if not self.repository.exists():
            process.run(["ostree", "init", f"--repo={self.repository}", "--mode=archive"])
        tree = self.scene.trees.path(version)
        skipped = self.place / "skipped"
        skipped.write_text("".join(f"/{path}\n" for path in _refused(tree)))
        commit = ["ostree", "commit", f"--repo={self.repository}", f"--branch={version}", f"--skip-list={skipped}"]
        commit += ["--timestamp=2026-01-01T00:00:00Z", str(tree)]
        figures = [self.on_head("commit", commit)]
        if version == "v2":
            figures.append(self.on_head("recommit", commit))
        process.run(["ostree", "summary", "-u", f"--repo={self.repository}"])
        return figures

    def begin(self, node: Node) -> None:
        super().begin(node)
        process.run(["ostree", "init", f"--repo={node.memory}", "--mode=bare"])
        process.run(
            ["ostree", "remote", "add", f"--repo={node.memory}", "--no-gpg-verify", _REMOTE, url("ostree/repo")]
        )

    def adopt(self, node: Node, version: str) -> None:
        pull = ["ostree", "pull-local", f"--repo={node.memory}", f"--remote={_REMOTE}", str(self.repository), version]
        process.run(pull, timeout_s=1800)
        process.run(_checkout(node, version), timeout_s=1800)
        self.settle(node)

    def commands(self, node: Node, version: str, *, full: bool = False) -> Sequence[process.Argv]:
        pull = ["ostree", "pull", f"--repo={node.memory}", *self.pull_options, _REMOTE, version]
        return [pull, _checkout(node, version)]

    def settle(self, node: Node) -> None:
        swap(_made(node), node.root)


class OstreeDelta(Ostree):
    """One static delta from v1 to v2."""

    name = "ostree-delta"
    works = frozenset({"upgrade", "publish"})
    pull_options = ("--require-static-deltas",)

    @property
    def is_dear(self) -> bool:
        return not self.is_made("delta")

    def published(self, version: str) -> list[Figure]:
        figures = super().published(version)
        if version != "v2":
            return figures
        return self.once("delta", self._generate, undo=lambda: shutil.rmtree(self.repository / "deltas", True))

    def _generate(self) -> list[Figure]:
        generate = ["ostree", "static-delta", "generate", f"--repo={self.repository}", "--from=v1", "--to=v2"]
        return [self.on_head("publish", generate, ["ostree", "summary", "-u", f"--repo={self.repository}"])]


def _checkout(node: Node, version: str) -> list[str]:
    return ["ostree", "checkout", f"--repo={node.memory}", "-H", f"{_REMOTE}:{version}", str(_made(node))]


def _made(node: Node) -> Path:
    return node.folder / "made"


def _refused(tree: Path) -> list[str]:
    """Paths of what is neither file, folder nor link."""
    found = []
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):
                found.append(str(path.relative_to(tree)))
    return found
