"""Where the cluster is on its way from an empty head to nodes in-sync, read off what is there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sis.errors import SisError
from sis.head import images
from sis.inventory.model import Node
from sis.netboot import installer
from sis.system import doctor
from sis.system.doctor import Finding

if TYPE_CHECKING:
    from sis.head.app import Head

Mark = Literal["done", "now", "todo", "fault"]

DOCTOR_GOOD_S = 20.0
_BUSY = ("armed", "netbooted", "partitioning", "pulling", "rendering", "bootloader", "rebooting", "syncing")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the wizard. `mark`: done, to be done now, later, or hindered; `told` says why in a few words."""

    key: str
    title: str
    mark: Mark
    told: str

    @property
    def path(self) -> str:
        return f"/wizard/{self.key}"


@dataclass(frozen=True, slots=True)
class Survey:
    """The whole way, with what its pages need to know again. `spec` is the image spec it is about."""

    steps: tuple[Step, ...]
    spec: str
    findings: tuple[Finding, ...]
    nodes: tuple[Node, ...]
    image: images.Image | None

    @property
    def now(self) -> Step:
        """The step to go on with."""
        return next((step for step in self.steps if step.mark in ("now", "fault")), self.steps[-1])

    def beside(self, key: str) -> tuple[Step | None, Step | None]:
        """The steps before and after one."""
        at = next(number for number, step in enumerate(self.steps) if step.key == key)
        return (self.steps[at - 1] if at else None), (self.steps[at + 1] if at + 1 < len(self.steps) else None)


class Surveyor:
    """Looks round; what the machine itself lacks is looked at every now and then only. Safe in threads."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._found: tuple[float, tuple[Finding, ...]] | None = None

    def look(self, spec: str = "", *, afresh: bool = False) -> Survey:
        """The way as it is now. Raises NotFound for a spec that is not there."""
        head = self._head
        chosen = head.specs.chosen(spec)
        findings = self._findings(afresh=afresh)
        nodes = head.inventory.nodes.list()
        image = image_of(head, chosen)
        known = [
            ("preflight", "Preflight", *_preflight(findings)),
            ("packages", "Packages", *_packages(head, chosen, image)),
            ("configure", "Configure", *_configure(head, chosen)),
            ("head", "Head", *_head(head)),
            ("build", "Build", *_build(head, chosen, image)),
            ("nodes", "Nodes", *_nodes(nodes)),
            ("boot", "Network boot", *_boot(head, nodes)),
            ("deploy", "Deploy", *_deploy(nodes)),
            ("test", "Test", *_test(nodes)),
        ]
        steps: list[Step] = []
        reached = False
        for key, title, verdict, told in known:
            mark: Mark = "done" if verdict is True else "fault" if verdict is None else "todo" if reached else "now"
            reached = reached or mark in ("now", "fault")
            steps.append(Step(key, title, mark, told))
        return Survey(tuple(steps), chosen, findings, nodes, image)

    def _findings(self, *, afresh: bool) -> tuple[Finding, ...]:
        if afresh or self._found is None or time.monotonic() - self._found[0] > DOCTOR_GOOD_S:
            self._found = (time.monotonic(), tuple(doctor.examine(self._head.state, self._head.port)))
        return self._found[1]


Verdict = tuple[bool | None, str]
"""Done, not yet, or (None) hindered; and a few words."""


def image_of(head: Head, name: str) -> images.Image | None:
    try:
        return images.one_image(head.renders.store, name)
    except SisError:
        return None


def boot_files(head: Head, version_id: str) -> str:
    """Why nodes cannot boot from the network into a version, or ""."""
    try:
        installer.load(head.state / "boot" / version_id)
    except SisError as fault:
        return fault.message
    return ""


def serving(head: Head) -> tuple[bool, str]:
    """Whether this head answers network boots now, and where, or why not."""
    if head.netboot is None:
        return False, "this head runs without DHCP and TFTP of its own"
    status = head.netboot.status
    if status.network is not None:
        return True, f"{status.network.dhcp} DHCP and TFTP on {status.network.interface} ({status.network.address})"
    return False, status.fault.partition("\n")[0] or "DHCP and TFTP are off"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _preflight(findings: Sequence[Finding]) -> Verdict:
    missing = sum(1 for each in findings if each.verdict == "missing")
    if missing:
        return None, plural(missing, "thing") + " missing"
    warnings = sum(1 for each in findings if each.verdict == "warning")
    return True, "nothing missing" + (f", {plural(warnings, 'warning')}" if warnings else "")


def _packages(head: Head, chosen: str, image: images.Image | None) -> Verdict:
    source = head.specs.source(chosen)
    if source.spec is None:
        return None, f"{chosen} has faults"
    done = source.own or bool(image and image.generations)
    return done, f"{chosen}: {plural(len(source.spec.packages), 'package')}" if done else "choose an image spec"


def _configure(head: Head, chosen: str) -> Verdict:
    source = head.specs.source(chosen)
    if source.spec is None:
        return None, f"{chosen} has faults"
    return True, f"{source.spec.distribution} {source.spec.release}, disk {source.spec.disk or 'none'}"


def _head(head: Head) -> Verdict:
    if not head.inventory.networks.list():
        return False, "no network is defined"
    up, told = serving(head)
    if head.netboot is not None and head.netboot.status.fault:
        return None, told
    return up, told


def _build(head: Head, chosen: str, image: images.Image | None) -> Verdict:
    job = head.jobs.running()
    if job is not None:
        return False, f"{job.title} is running"
    if image is None or not image.generations:
        return False, f"{chosen} is not built yet"
    if not image.channels:
        return False, f"{image.generations[0].name} is built, not published"
    channel, generation = next(iter(image.channels.items()))
    return True, f"{channel} is {chosen}@{generation}"


def _nodes(nodes: Sequence[Node]) -> Verdict:
    if not nodes:
        return False, "none is defined"
    without = sum(1 for node in nodes if node.assignment is None)
    return not without, plural(len(nodes), "node") + (f", {without} without image" if without else "")


def _boot(head: Head, nodes: Sequence[Node]) -> Verdict:
    lacking = sum(1 for node in nodes if not node.macs)
    waiting = len(head.inventory.discoveries.list())
    told = f"{plural(lacking, 'node')} without MAC" if lacking else "every node has its MAC"
    return bool(nodes) and not lacking, (told if nodes else "no node yet") + (f", {waiting} unknown" if waiting else "")


def _deploy(nodes: Sequence[Node]) -> Verdict:
    installed = sum(1 for node in nodes if node.state.version)
    failed = sum(1 for node in nodes if node.state.state in ("failed", "quarantined"))
    busy = sum(1 for node in nodes if node.state.state in _BUSY)
    told = f"{installed} of {len(nodes)} installed" + (f", {busy} at work" if busy else "")
    return (None if failed else bool(nodes) and installed == len(nodes)), told + (
        f", {failed} failed" if failed else ""
    )


def _test(nodes: Sequence[Node]) -> Verdict:
    states = Counter(node.state.state for node in nodes)
    return bool(nodes) and states["in-sync"] == len(nodes), f"{states['in-sync']} of {len(nodes)} in-sync"
