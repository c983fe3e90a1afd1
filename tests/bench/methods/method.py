"""What a method is: how its head serves a version, and how its node becomes equal to one."""

from __future__ import annotations

import contextlib
import inspect
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import msgspec

from sis.errors import SisError
from sis.system import process
from sis.system.files import atomic_write
from tests.bench import kept
from tests.bench.disk import Disk
from tests.bench.figures import Figure, figure
from tests.bench.sizes import Size
from tests.bench.trees import Trees
from tests.bench.wire import HEAD, Wire

HTTP_PORT = 8080


@dataclass(frozen=True)
class Scene:
    """Where a benchmark happens: `head` is served by nginx as http://HEAD:8080/, nodes live below `nodes`.

    Where several nodes work at once each lives below `many`, on a file system of its own.
    `kept` holds what other programs made on the head, for the runs to come, from `basis`: these trees, here.
    """

    size: Size
    trees: Trees
    wire: Wire
    head: Path
    disk: Disk
    many: Path
    kept: Path
    basis: dict[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> Path:
        return self.disk.folder

    @contextlib.contextmanager
    def many_nodes(self) -> Iterator[list[Node]]:
        """Nodes with a file system each while the block runs; what is below `nodes` is lost."""
        folders = [self.many / str(number) for number in range(self.size.together)]
        with self.disk.divided(folders):
            yield [Node(folder / "node") for folder in folders]


@dataclass(frozen=True)
class Node:
    """A node: its tree, and beside it what the method remembers of it."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def memory(self) -> Path:
        return self.folder / "memory"

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Method(ABC):
    """One way to make nodes equal to versions of a tree."""

    name: ClassVar[str]
    works: ClassVar[frozenset[str]]
    program: ClassVar[str] = ""
    """The package whose work on the head is kept from run to run; "" when nothing is."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.place = scene.head / self.family
        if self.program:
            self.place = kept.place(scene.kept, self.family, self._basis())
            with contextlib.suppress(FileExistsError):
                (scene.head / self.family).symlink_to(self.place)
        self.place.mkdir(parents=True, exist_ok=True)

    @property
    def family(self) -> str:
        """The folder on the head; methods that serve the same files share it."""
        return self.name

    @property
    def is_dear(self) -> bool:
        """Whether its head has so much to do yet that it is left for the end."""
        return False

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """What this method needs besides nginx runs while the block does."""
        yield

    def published(self, version: str) -> list[Figure]:
        """Have the head serve a version, if it does not yet. Returns what that took, also when it was long ago."""
        return self.once(version, lambda: self.publish(version), undo=lambda: self._begin_again(version))

    def once(self, key: str, make: Callable[[], list[Figure]], *, undo: Callable[[], None]) -> list[Figure]:
        """What `make` gave the first time; `undo` what an interrupted run left of it."""
        begun, done = self.place / f"{key}.begun", self.place / f"{key}.done"
        if self.is_made(key):
            return msgspec.json.decode(done.read_bytes(), type=list[Figure])
        if begun.exists():
            undo()
        begun.touch()
        figures = make()
        atomic_write(done, msgspec.json.encode(figures))
        return figures

    def _basis(self) -> dict[str, str]:
        version = process.run(["dpkg-query", "-Wf", "${Version}", self.program], check=False).stdout.strip()
        source = Path(inspect.getfile(type(self)))
        return {**self.scene.basis, "program": f"{self.program} {version}", "code": kept.code(source)}

    def is_made(self, key: str) -> bool:
        """Whether `once` has been through with it, in this run or one before."""
        return (self.place / f"{key}.done").exists()

    def _begin_again(self, version: str) -> None:
        shutil.rmtree(self.place)
        self.place.mkdir()
        if version != "v1":
            self.published("v1")

    def publish(self, version: str) -> list[Figure]:  # some serve trees as they are
        """Take in a version on the head, once. Returns what of it is worth a figure."""
        return []

    def begin(self, node: Node) -> None:
        """Prepare a node that has nothing yet."""
        node.root.mkdir(parents=True)
        node.memory.mkdir()

    def adopt(self, node: Node, version: str) -> None:  # noqa: B027  # some remember nothing
        """The node's tree is a copy of that version: let the method know it as one it made."""

    @abstractmethod
    def commands(self, node: Node, version: str, *, full: bool = False) -> Sequence[process.Argv]:
        """What the node runs to be equal to a version; `full`: every byte is read to be sure."""

    def settle(self, node: Node) -> None:  # noqa: B027  # some work in place
        """After the commands: put what they made at the node's root, if it is not there."""

    def on_head(self, work: str, *commands: process.Argv) -> Figure:
        """Run commands on the head, measured. Raises SisError when one fails."""
        measured = self.scene.wire.measure(*commands, on="head")
        if measured.fault:
            raise SisError(f"{self.name}: {work}: {measured.fault}")
        return figure(self.name, work, measured)


def url(path: str) -> str:
    """The address of a file below the head's folder."""
    return f"http://{HEAD}:{HTTP_PORT}/{path}"


def swap(made: Path, root: Path) -> None:
    """Put a tree made beside the node's root in its place."""
    shutil.rmtree(root)
    made.rename(root)
