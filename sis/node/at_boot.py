"""Fetch now, apply at the next boot: what was staged is put in place early in the boot, before services start.

Nothing is fetched at boot: version, manifest and chunk table are kept documents, the new files lie in the staging
directories. Whatever is missing then leaves the tree as it was.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import msgspec

from sis.image.kept.store import KeptStore
from sis.image.store.local import LocalStore
from sis.node import reports
from sis.node.due import reboot_due
from sis.node.held import Held
from sis.node.progress import log_of, now, reason_of
from sis.node.triggers import triggers
from sis.sync.desired import desired_tree
from sis.sync.staging.source import ChunkSource, Content, documents_of
from sis.system.files import atomic_write
from sis.wire import Desired, Report

STAGED = "at-boot.json"
TOLD = "at-boot-report.json"


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """What is applied at the next boot."""

    desired: Desired
    staged: str


def keep(state: Path, desired: Desired) -> None:
    """Have what was staged applied at the next boot."""
    text = msgspec.json.encode(Staged(desired=desired, staged=now()))
    atomic_write(state / STAGED, text, mode=0o600)


def pending(state: Path) -> Staged | None:
    """What is to be applied at the next boot, if anything."""
    try:
        return msgspec.json.decode((state / STAGED).read_bytes(), type=Staged)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def forget(state: Path) -> None:
    """Nothing is applied at the next boot."""
    (state / STAGED).unlink(missing_ok=True)


def apply(root: Path, state: Path) -> Report | None:
    """Put in place what was staged, and leave a report for the agent to send; None when nothing was.

    It is tried once: after a failure the node runs on as it was, and the report says why.
    """
    found = pending(state)
    if found is None:
        forget(state)
        return None
    started, clock = now(), time.monotonic()
    forget(state)
    try:
        held = _offline(found.desired, state)
        outcome = held.sync(root, state)
        for _ in triggers(root, held, outcome):
            pass
        due = reboot_due(state, held, outcome, root=root, early=True) if root == Path("/") else []
        took = time.monotonic() - clock
        report = reports.of_outcome("sync", held.desired, outcome, started=started, seconds=took, reboot_why=due)
    except Exception as error:  # noqa: BLE001  # whatever it is, the boot goes on and the head is told
        report = _failed(found.desired, error, started, time.monotonic() - clock)
    atomic_write(state / TOLD, msgspec.json.encode(report), mode=0o600)
    return report


def untold(state: Path) -> Report | None:
    """The report of what this boot applied, until `told`."""
    try:
        return msgspec.json.decode((state / TOLD).read_bytes(), type=Report)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def told(state: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (state / TOLD).unlink()


def _offline(desired: Desired, state: Path) -> Held:
    """What `desired` names, from kept documents alone; it was checked against the pinned key when it was staged."""
    documents = documents_of(state)
    store = KeptStore(LocalStore(documents), documents)
    version = store.version(desired.version)

    def content() -> Content:
        return Content(store.manifest(version.manifest), lambda: store.table(version.table))

    return Held(
        desired=desired,
        version=version,
        want=desired_tree(version.manifest, store.manifest, desired.layer),
        source=ChunkSource(store, content, desired.version),
    )


def _failed(desired: Desired, error: Exception, started: str, seconds: float) -> Report:
    return reports.of_failure(
        "sync",
        desired,
        started=started,
        seconds=seconds,
        error=f"applying at boot: {reason_of(error)}",
        log=log_of(error, []),
    )
