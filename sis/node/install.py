"""The story of an install, on one page: from an empty disk to a node that boots from it and is equal to its image."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from configurator.facts import read_facts
from sis.disk import apply as disk_apply
from sis.disk import bootloader
from sis.disk.mounts import mounted
from sis.disk.plan import make_plan
from sis.disk.planned import DiskPlan
from sis.disk.probe import found_disks
from sis.errors import ProgramFailed, SisError
from sis.image.store.sign import Signer
from sis.node import reports
from sis.node.boot import write_boot_menu
from sis.node.config import BootConfig, NodeConfig, write_config
from sis.node.connection import HeadConnection
from sis.node.held import PATIENT_ATTEMPTS, Held, held_to
from sis.node.progress import Teller, log_of, now, reason_of
from sis.sync.model import Outcome
from sis.wire import Hello

TARGET = Path("/target")
STATE = Path("var/lib/sis-node")
MARK = STATE / "installing"


@dataclass
class Story:
    """One install under way."""

    boot: BootConfig
    head: HeadConnection
    teller: Teller
    target: Path
    started: str
    clock: float


def install(boot: BootConfig, target: Path = TARGET) -> None:
    """Install this node as its head says. Interrupted anywhere, the next netboot runs it again and it converges."""
    head = HeadConnection(boot.head, boot.node, Signer.make(), boot.key)
    story = Story(boot, head, Teller(head), target, now(), time.monotonic())
    held: Held | None = None
    try:
        introduce(story)
        held = read_desired(story)
        plan = partition(story, held)
        with mounted(plan, target):
            mark(story)
            outcome = pull(story, held)
            place_identity(story)
            install_boot_loader(story, held, plan)
            finish(story)
        report_success(story, held, outcome)
    except BaseException as error:
        report_failure(story, held, error)
        raise
    finally:
        if held is not None:
            held.close()
        story.teller.close()


def introduce(story: Story) -> None:
    with story.teller.stage("hello"):
        facts = read_facts()
        story.head.hello(
            Hello(
                node=story.boot.node,
                macs=tuple(interface.mac for interface in facts.interfaces if interface.mac),
                uuid=facts.uuid,
                token=story.boot.token,
                key=story.head.key.public,
                facts=msgspec.to_builtins(facts),
            )
        )
    story.teller.begin()


def read_desired(story: Story) -> Held:
    with story.teller.stage("desired") as progress:
        desired = story.head.desired()
        held = held_to(desired, story.boot.head, pinned_key=story.boot.key, attempts=PATIENT_ATTEMPTS)
        progress.summary = f"{desired.image}@{desired.generation}, {len(desired.layer)} files of its own"
        return held


def partition(story: Story, held: Held) -> DiskPlan:
    with story.teller.stage("partitioning") as progress:
        if held.desired.layout is None:
            raise SisError(
                f"the head gave {story.boot.node} no disk layout",
                hint="name one in the image spec (disk:) or with 'sis node set NODE layout=single'",
            )
        layout, found = held.desired.layout, found_disks()
        plan = make_plan(layout, found)
        if not unfinished_install(plan, story.target):
            plan = make_plan(layout, found, fresh=True)
        for line in plan.describe():
            progress.say(line)
        disk_apply.apply(plan, observe=progress.say)
        return plan


def unfinished_install(plan: DiskPlan, target: Path) -> bool:
    """Whether the disk holds an install of ours that was cut short: what it fetched is then used again."""
    root = next(each for disk in plan.disks for each in disk.partitions if each.role == "root")
    if root.action != "reuse":
        return False
    try:
        with mounted(plan, target):
            return (target / MARK).exists()
    except ProgramFailed:
        return False  # a damaged file system is made anew


def mark(story: Story) -> None:
    """From here on the root holds an unfinished install; `finish` takes the mark away."""
    (story.target / STATE).mkdir(parents=True, exist_ok=True)
    (story.target / MARK).touch()


def finish(story: Story) -> None:
    os.sync()
    (story.target / MARK).unlink()
    os.sync()


def pull(story: Story, held: Held) -> Outcome:
    with story.teller.stage("pulling") as progress:
        outcome = held.sync(story.target, story.target / STATE, observe=progress.moved)
        progress.came_to(outcome)
        progress.summary = f"{outcome.totals.entries} entries, {outcome.totals.bytes_fetched / 1e6:.1f} MB fetched"
        return outcome


def place_identity(story: Story) -> None:
    with story.teller.stage("rendering"):
        boot = story.boot
        write_config(
            story.target, NodeConfig(head=boot.head, node=boot.node, secret=story.head.key.private, key=boot.key)
        )


def install_boot_loader(story: Story, held: Held, plan: DiskPlan) -> None:
    with story.teller.stage("bootloader") as progress:
        bootloader.install(story.target, plan)
        kernels = write_boot_menu(story.target, held)
        progress.summary = f"boots {kernels[0].release}"


def report_success(story: Story, held: Held, outcome: Outcome) -> None:
    with story.teller.stage("report"):
        story.head.send_report(
            reports.of_outcome(
                "install",
                held.desired,
                msgspec.structs.replace(outcome, in_sync=True, changes=()),
                started=story.started,
                seconds=time.monotonic() - story.clock,
            )
        )
    with story.teller.stage("rebooting"):
        pass


def report_failure(story: Story, held: Held | None, error: BaseException) -> None:
    """Tell the head why, if it listens; the fault itself goes on to the caller."""
    if not story.head.welcome:
        return
    failure = reports.of_failure(
        "install",
        held.desired if held else None,
        started=story.started,
        seconds=time.monotonic() - story.clock,
        error=reason_of(error),
        log=log_of(error, story.teller.log_lines),
    )
    with contextlib.suppress(SisError):
        story.head.send_report(failure, patience_s=30.0)
