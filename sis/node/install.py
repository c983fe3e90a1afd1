"""The story of an install, on one page: from an empty disk to a node that boots from it and is equal to its image."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from configurator.facts import read_facts
from sis.disk import apply as disk_apply
from sis.disk import bootloader
from sis.disk.mounts import mounted
from sis.disk.plan import DiskPlan, make_plan
from sis.disk.probe import found_disks
from sis.errors import SisError
from sis.node.config import BootConfig, NodeConfig, write_config
from sis.node.connection import HeadConnection
from sis.node.held import Held, held_to
from sis.node.progress import Teller, log_of, now, reason_of
from sis.sync import engine
from sis.sync.engine import Outcome
from sis.wire import Desired, Hello, Report

TARGET = Path("/target")
STATE = Path("var/lib/sis-node")


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
    head = HeadConnection(boot.head, boot.node)
    story = Story(boot, head, Teller(head), target, now(), time.monotonic())
    held: Held | None = None
    try:
        introduce(story)
        held = read_desired(story)
        plan = partition(story, held)
        with mounted(plan, target):
            outcome = pull(story, held, plan)
            place_identity(story)
            install_boot_loader(story, held, plan)
        report_success(story, held, outcome)
    except BaseException as error:
        report_failure(story, held, error)
        raise
    finally:
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
                facts=msgspec.to_builtins(facts),
            )
        )


def read_desired(story: Story) -> Held:
    with story.teller.stage("desired") as progress:
        desired = story.head.desired()
        held = held_to(desired, story.boot.head, pinned_key=story.boot.key)
        progress.summary = f"{desired.image}@{desired.generation}, {len(desired.layer)} files of its own"
        return held


def partition(story: Story, held: Held) -> DiskPlan:
    with story.teller.stage("partitioning") as progress:
        if held.desired.layout is None:
            raise SisError(
                f"the head gave {story.boot.node} no disk layout",
                hint="name one in the image spec (disk:) or with 'sis node set NODE layout=single'",
            )
        plan = make_plan(held.desired.layout, found_disks())
        for line in plan.describe():
            progress.say(line)
        disk_apply.apply(plan)
        return plan


def pull(story: Story, held: Held, plan: DiskPlan) -> Outcome:
    with story.teller.stage("pulling") as progress:
        outcome = engine.sync(
            story.target,
            held.want,
            policy=held.policy,
            source=held.source,
            state=story.target / STATE,
            mounts=plan.mount_points(),
            observe=progress.moved,
        )
        progress.bytes_moved = outcome.totals.bytes_fetched
        progress.summary = f"{outcome.totals.entries} entries, {outcome.totals.bytes_fetched / 1e6:.1f} MB fetched"
        return outcome


def place_identity(story: Story) -> None:
    with story.teller.stage("rendering"):
        boot = story.boot
        write_config(
            story.target, NodeConfig(head=boot.head, node=boot.node, secret=story.head.secret, key=boot.key)
        )


def install_boot_loader(story: Story, held: Held, plan: DiskPlan) -> None:
    with story.teller.stage("bootloader") as progress:
        bootloader.install(story.target, plan)
        kernels = write_boot_menu(story.target, held.desired)
        progress.summary = f"boots {kernels[0].release}"


def write_boot_menu(root: Path, desired: Desired) -> tuple[bootloader.KernelEntry, ...]:
    """The boot menu below `root`, from the kernels that are there: the newest first, older ones kept."""
    kernels = bootloader.kernels_in(root)
    if not kernels:
        raise SisError("no kernel below /boot: the node could not boot", hint="add a kernel to the image spec")
    layout = desired.layout
    assert layout is not None
    bootloader.write_menu(
        root,
        kernels,
        root_spec=bootloader.root_spec(layout),
        cmdline=" ".join(filter(None, (layout.kernel_cmdline, desired.kernel_cmdline))),
        serial_console=layout.serial_console,
    )
    return kernels


def report_success(story: Story, held: Held, outcome: Outcome) -> None:
    desired = held.desired
    with story.teller.stage("report"):
        story.head.send_report(
            Report(
                kind="install",
                outcome="ok",
                in_sync=True,
                image=desired.image,
                generation=desired.generation,
                version=desired.version,
                started=story.started,
                seconds=round(time.monotonic() - story.clock, 3),
                totals=outcome.totals,
            )
        )
    with story.teller.stage("rebooting"):
        pass


def report_failure(story: Story, held: Held | None, error: BaseException) -> None:
    """Tell the head why, if it listens; the fault itself goes on to the caller."""
    if not story.head.secret:
        return
    desired = held.desired if held else None
    with contextlib.suppress(SisError):
        story.head.send_report(
            Report(
                kind="install",
                outcome="failed",
                in_sync=False,
                image=desired.image if desired else "",
                generation=desired.generation if desired else 0,
                version=desired.version if desired else "",
                started=story.started,
                seconds=round(time.monotonic() - story.clock, 3),
                error=reason_of(error),
                log=log_of(error, story.teller.log_lines),
            ),
            patience_s=30.0,
        )
