"""The works, one after the other, for one method: nodes are made, brought up to date, judged by rsync, removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from sis.errors import SisError
from sis.system import process
from tests.bench import trees
from tests.bench.figures import Figure, Measured, figure
from tests.bench.methods.method import Method, Node

_REPEATS = 3
"""Times that `nochange` and `verify` run; the median of each column counts."""

_ONCE_S = 5.0
"""What takes longer is steady enough to run once."""

Say = Callable[[str], None]


def run(method: Method, say: Say) -> Iterator[Figure]:
    """Every work of a method, in an order that makes few nodes. What fails is a figure with its fault."""
    with method.serving():
        for version in ("v1", "v2"):
            say(f"{method.name}: the head takes in {version}")
            try:
                made = method.publish(version)
            except SisError as error:
                yield _failed(method, "commit", error)
                return
            yield from (figure for figure in made if version == "v2" and figure.work in method.works)
        course = _Course(method)
        try:
            for work, step in course.steps().items():
                if work in method.works:
                    say(f"{method.name}: {work}")
                    try:
                        yield step()
                    except SisError as error:
                        yield _failed(method, work, error)
        finally:
            course.node.remove()


class _Course:
    """One method's node, and the version it stands at."""

    def __init__(self, method: Method) -> None:
        self.node = Node(method.scene.nodes / method.name)
        self._method = method
        self._wire = method.scene.wire
        self._version = ""

    def steps(self) -> dict[str, Callable[[], Figure]]:
        steps: dict[str, Callable[[], Figure]] = {
            "cold": self._cold,
            "nochange": lambda: self._repeated("nochange", full=False),
            "verify": lambda: self._repeated("verify", full=True),
            "edits": self._edits,
            "upgrade": self._upgrade,
            "drifted": self._drifted,
            "packed": self._packed,
            "together": self._together,
        }
        if not self._method.scene.trees.path("p1").is_dir():
            del steps["packed"]
        return steps

    def _cold(self) -> Figure:
        self.node.remove()
        self._method.begin(self.node)
        return self._bring("cold", "v2")

    def _edits(self) -> Figure:
        self._method.publish("v3")
        self._be_at("v2")
        return self._bring("edits", "v3")

    def _upgrade(self) -> Figure:
        self._be_at("v1")
        return self._bring("upgrade", "v2")

    def _drifted(self) -> Figure:
        self._be_at("v1")
        trees.drift(self.node.root, self._method.scene.size.drifted_files)
        return self._bring("drifted", "v2")

    def _packed(self) -> Figure:
        self._method.publish("p1")
        self._method.publish("p2")
        self._be_at("p1")
        return self._bring("packed", "p2")

    def _together(self) -> Figure:
        self.node.remove()
        method = self._method
        nodes = [Node(self.node.folder / str(number)) for number in range(method.scene.size.together)]
        for node in nodes:
            _make(method, node, "v1")
        measured = self._wire.measure_together([method.commands(node, "v2") for node in nodes])
        differences = None
        if not measured.fault:
            for node in nodes:
                method.settle(node)
            differences = sum(_differences(method, node, "v2") for node in nodes)
        return figure(method.name, "together", measured, nodes=len(nodes), differences=differences)

    def _bring(self, work: str, version: str) -> Figure:
        """Make the node equal to a version, and have rsync judge."""
        measured = self._wire.measure(*self._method.commands(self.node, version))
        self._version, differences = "", None
        if not measured.fault:
            self._method.settle(self.node)
            self._version, differences = version, _differences(self._method, self.node, version)
        return figure(self._method.name, work, measured, differences=differences)

    def _repeated(self, work: str, *, full: bool) -> Figure:
        """A work that changes nothing, several times."""
        self._be_at("v2")
        runs: list[Measured] = []
        while len(runs) < _REPEATS and not (runs and runs[0].wall_s > _ONCE_S):
            runs.append(self._wire.measure(*self._method.commands(self.node, "v2", full=full)))
            if runs[-1].fault:
                return figure(self._method.name, work, runs[-1])
            self._method.settle(self.node)
        middle = Measured(
            wall_s=median(it.wall_s for it in runs),
            down_bytes=int(median(it.down_bytes for it in runs)),
            up_bytes=int(median(it.up_bytes for it in runs)),
            head_cpu_s=median(it.head_cpu_s for it in runs),
            node_cpu_s=median(it.node_cpu_s for it in runs),
            rss_bytes=max(it.rss_bytes for it in runs),
            rest_cpu_s=median(it.rest_cpu_s for it in runs),
        )
        return figure(self._method.name, work, middle, differences=_differences(self._method, self.node, "v2"))

    def _be_at(self, version: str) -> None:
        """Have the node at a version: as the last work left it there, else made anew."""
        if self._version != version:
            _make(self._method, self.node, version)
            self._version = version


def _failed(method: Method, work: str, error: SisError) -> Figure:
    said = " / ".join((error.message, *error.details[-3:]))
    return figure(method.name, work, Measured(0.0, 0, 0, 0.0, 0.0, 0), fault=said[:300])


def _make(method: Method, node: Node, version: str) -> None:
    """A clean node at a version, as the method itself would have left it."""
    node.remove()
    method.begin(node)
    node.root.rmdir()
    trees.copy(method.scene.trees.path(version), node.root)
    method.adopt(node, version)


def _differences(method: Method, node: Node, version: str) -> int:
    """How many paths rsync would touch to make the node equal to the version's tree, by content."""
    words = ["rsync", "-aHAXnic", "--delete", "--numeric-ids", "--filter=-x trusted.SGI_ACL_*"]
    tree = method.scene.trees.path(version)
    return len(process.run([*words, f"{tree}/", f"{node.root}/"], timeout_s=1800).stdout.splitlines())
