"""The works in their order, each by every method in turn: nodes are made, brought up to date, judged by rsync."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

from sis.errors import SisError
from sis.system import process
from tests.bench import disk, trees
from tests.bench.figures import BASES, GIGABIT, UNCACHED, Figure, Measured, figure
from tests.bench.methods.method import Method, Node
from tests.bench.wire import GIGABIT_BYTES

_LASTING = ("nochange", "verify", *UNCACHED)
"""Works that leave the node as it is; the median of each column counts."""

_ENOUGH_S = {"edits": 10.0, "cold": 20.0, "upgrade": 20.0} | dict.fromkeys(_LASTING, 5.0) | dict.fromkeys(GIGABIT, 12.0)
"""The works that are repeated, and the seconds in all after which a method has run often enough."""

_ORDER = (
    *("commit", "recommit", "publish", "newcomers", "cold-gigabit", "cold", "nochange", "verify"),
    *("nochange-uncached", "verify-uncached", "edits"),
    *("upgrade", "upgrade-gigabit", "drifted", "packed", "together"),
)
"""What begins from where the work before left its node comes after it."""

_TAKEN_IN = {"commit": "v2", "recommit": "v2", "publish": "v2", "newcomers": "v2"}
"""What the head does, and the version it is measured at."""

Say = Callable[[str], None]
Done = frozenset[tuple[str, str]]
"""(work, method) of what has its figure already."""


class Step(NamedTuple):
    """One work by some methods, which take turns."""

    work: str
    methods: tuple[Method, ...]


def schedule(methods: Sequence[Method], done: Done, *, packed: bool, left_out: Sequence[str] = ()) -> Iterator[Step]:
    """What is left to do: work by work, so that noise hits all methods alike; the dear ones in the end.

    `packed`: whether there are trees with a compressed initramfs.
    """
    left_for_the_end = [method for method in methods if method.is_dear]
    for turn in ([method for method in methods if method not in left_for_the_end], left_for_the_end):
        for work in _ORDER:
            if work in left_out or (work == "packed" and not packed):
                continue
            if chosen := tuple(it for it in turn if BASES.get(work, work) in it.works and (work, it.name) not in done):
                yield Step(work, chosen)


def run(methods: Sequence[Method], done: Done, say: Say) -> Iterator[Figure]:
    """Every figure that is not `done`. What fails is a figure with its fault; the others go on."""
    courses = {method.name: _Course(method) for method in methods}
    try:
        packed = bool(methods) and methods[0].scene.trees.path("p1").is_dir()
        left_out = methods[0].scene.size.left_out if methods else ()
        for work, able in schedule(methods, done, packed=packed, left_out=left_out):
            say(work)
            yield from _in_turn(work, [courses[method.name] for method in able])
            for course in courses.values():
                course.leave_if_done(work)
    finally:
        for course in courses.values():
            course.node.remove()


def _in_turn(work: str, courses: Sequence[_Course]) -> Iterator[Figure]:
    if work not in _ENOUGH_S:
        for course in courses:
            yield course.figure_of(work)
        return
    runs: dict[str, list[Figure]] = {course.name: [] for course in courses}
    size = courses[0].size
    for _ in range(size.lasting_repeats if work in _LASTING else size.repeats):
        for course in courses:
            known = runs[course.name]
            if not known or not (known[0].is_wrong or sum(it.wall_s for it in known) > _ENOUGH_S[work]):
                known.append(course.figure_of(work))
    yield from (_middle(known) for known in runs.values())


def _middle(figures: Sequence[Figure]) -> Figure:
    """The median of every column, the worst of what must not be."""
    first = next((it for it in figures if it.is_wrong), figures[0])
    middle = Measured(
        wall_s=median(it.wall_s for it in figures),
        down_bytes=int(median(it.down_bytes for it in figures)),
        up_bytes=int(median(it.up_bytes for it in figures)),
        head_cpu_s=median(it.head_cpu_s for it in figures),
        node_cpu_s=median(it.node_cpu_s for it in figures),
        rss_bytes=max(it.rss_bytes for it in figures),
        rest_cpu_s=median(it.rest_cpu_s for it in figures),
        on_disk_s=median(it.on_disk_s for it in figures),
        fault=first.fault,
    )
    return figure(first.method, first.work, middle, differences=first.differences)


class _Course:
    """One method's node, and the version it stands at."""

    def __init__(self, method: Method) -> None:
        self.name = method.name
        self.size = method.scene.size
        self.node = Node(method.scene.nodes / method.name)
        self._method = method
        self._wire = method.scene.wire
        self._version = ""

    def figure_of(self, work: str) -> Figure:
        """Have the head serve what the work needs, and do the work."""
        try:
            if work in _TAKEN_IN:
                return self._on_head(work)
            if work == "packed":
                self._publish("p1", "p2")
            else:
                self._publish("v1", "v2", *(["v3"] if work == "edits" else []))
            slowed = self._wire.slowed(GIGABIT_BYTES) if work in GIGABIT else contextlib.nullcontext()
            with self._method.serving(), slowed:
                return self._on_node(work)
        except SisError as error:
            said = " / ".join((error.message, *error.details[-3:]))
            return figure(self.name, work, Measured(0.0, 0, 0, 0.0, 0.0, 0), fault=said[:300])

    def leave_if_done(self, work: str) -> None:
        """A node that no later work begins from takes no more room."""
        if work == "cold" or work in _LASTING:
            return
        self._version = ""
        self.node.remove()

    def _on_head(self, work: str) -> Figure:
        self._publish("v1")
        for found in self._method.published(_TAKEN_IN[work]):
            if found.work == work and found.method == self.name:
                return found
        raise SisError(f"{self.name}: {work} gave no figure")

    def _publish(self, *versions: str) -> None:
        for version in versions:
            self._method.published(version)

    def _on_node(self, work: str) -> Figure:
        match BASES.get(work, work):
            case "cold":
                self.node.remove()
                self._method.begin(self.node)
                return self._bring(work, "v2")
            case "nochange" | "verify":
                self._be_at("v2")
                return self._bring(work, "v2", full=BASES.get(work, work) == "verify")
            case "edits":
                self._be_at("v2")
                return self._bring(work, "v3")
            case "packed":
                self._be_at("p1")
                return self._bring(work, "p2")
            case "together":
                return self._together()
        self._be_at("v1")
        if work == "drifted":
            trees.drift(self.node.root, self._method.scene.size.drifted_files)
        return self._bring(work, "v2")

    def _together(self) -> Figure:
        method = self._method
        with method.scene.many_nodes() as nodes:
            for node in nodes:
                _make(method, node, "v1")
            measured = self._wire.measure_together([method.commands(node, "v2") for node in nodes])
            differences = None
            if not measured.fault:
                for node in nodes:
                    method.settle(node)
                differences = sum(_differences(method, node, "v2") for node in nodes)
        return figure(method.name, "together", measured, nodes=len(nodes), differences=differences)

    def _bring(self, work: str, version: str, *, full: bool = False) -> Figure:
        """Make the node equal to a version, and have rsync judge."""
        forget = functools.partial(disk.forget, self._method.scene.trees.path(version))
        before = forget if work in UNCACHED else lambda: None
        measured = self._wire.measure(*self._method.commands(self.node, version, full=full), before=before)
        self._version, differences = "", None
        if not measured.fault:
            self._method.settle(self.node)
            self._version, differences = version, _differences(self._method, self.node, version)
        return figure(self.name, work, measured, differences=differences)

    def _be_at(self, version: str) -> None:
        """Have the node at a version: as the last work left it there, else made anew."""
        if self._version != version:
            _make(self._method, self.node, version)
            self._version = version


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
