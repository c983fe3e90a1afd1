"""A small cluster in every state, with images, reports, drift and a past, behind a real `sis head run`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from sis.head.jobs import Job
from sis.image import commit
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.inventory import db
from sis.inventory.clock import now
from sis.inventory.db import Inventory
from sis.inventory.model import Assignment, Interface, Network, NewNode, Role
from sis.inventory.names import fold
from sis.sync.model import Change, Totals
from sis.system import process
from sis.wire import Event, Outcome, Report, Stage
from tests.ports import free_port

SIS = Path(sys.executable).parent / "sis"
COUNT = 24
RACKS = 3
READY_S = 120.0


@dataclass(frozen=True)
class World:
    """A running head over `state`; `url` without a slash at its end."""

    state: Path
    inventory: Inventory
    url: str

    def sis(self, *words: str) -> str:
        """Type a command on this head."""
        return process.run([SIS, "--state", self.state, *words], timeout_s=180).stdout.strip()

    def login(self, role: Role, name: str = "ada") -> str:
        """A one-time address like those `sis web login` prints."""
        return f"{self.url}/login?code={self.inventory.admins.new_login(name, role)}"


@contextlib.contextmanager
def head(state: Path) -> Iterator[World]:
    """`sis head run` over a state directory, on a free loopback port, ended in order at the end of the block."""
    with db.open(state / "state.db") as inventory, running(state) as url:
        yield World(state, inventory, url)


@contextlib.contextmanager
def running(state: Path, *, port: int = 0) -> Iterator[str]:
    """The program itself; its URL. `port` 0: a free one. Its output is in the state directory."""
    port = port or free_port()
    log = state / "head.log"
    child = process.start(
        [SIS, "--state", state, "head", "run", "--listen", f"127.0.0.1:{port}", "--no-dhcp"], output=log
    )
    try:
        deadline = time.monotonic() + READY_S
        while not answers(port):
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop(child)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/health", timeout=2):
        return True
    return False


def furnish(state: Path) -> None:
    """Fill an empty state directory with a cluster one can look at."""
    make_images(state)
    make_jobs(state)
    with db.open(state / "state.db") as inventory:
        inventory.settings.set(cluster="Andromeda")
        inventory.networks.put(Network("mgmt", "10.77.0.0/16", data={"head": "10.77.0.1"}))
        inventory.nodes.add([_node(at) for at in range(1, COUNT + 1)])
        make_past(inventory)


def make_images(state: Path) -> None:
    """`compute` with three generations (the second stable) and `login` with one."""
    store = LocalStore(state / "store")
    tree = state / "tree"
    for folder in ("etc/network", "sbin", "usr/bin", "usr/share/doc/tree"):
        (tree / folder).mkdir(parents=True)
    (tree / "sbin/ifup").write_text("#!/bin/sh\n")
    spec = json.dumps({"image": "compute", "disk": "single"})
    locks = (
        {"bash": "5.2", "nginx": "1.22", "openssl": "3.0.11"},
        {"bash": "5.3", "curl": "8.0", "openssl": "3.0.15"},
        {"bash": "5.3", "curl": "8.1", "openssl": "3.0.15", "munge": "0.5.15"},
    )
    for at, lock in enumerate(locks, 1):
        (tree / "etc/motd").write_text(f"edition {at}\n")
        (tree / "usr/bin/tool").write_bytes(bytes(at * 40_000))
        (tree / f"usr/share/doc/tree/edition-{at}").write_text("new\n")
        commit.commit(store, "compute", tree, spec=spec, lock=lock, note=f"edition {at}")
    commit.commit(store, "login", tree, spec=spec.replace("compute", "login"), lock=locks[0])
    with store.changing_ref("compute") as ref:
        assert ref is not None
        once = refs.publish(ref, 1, "stable").ref
        store.write_ref(refs.publish(once, 2, "stable").ref)


def make_past(inventory: Inventory) -> None:
    """Nodes in sync, drifted, installing, failed and armed; strangers at the door; rows in the audit log."""
    ids = {node.name: node.id for node in inventory.nodes.list()}
    history = inventory.history
    everyone = list(ids)
    for at, name in enumerate(everyone[:18]):
        history.record_facts(ids[name], {"hostname": name, "serial": f"SN-{at:05}", "memory_mb": 257_000, "cpus": 64})
        _tell(inventory, ids[name], ("hello", "ok", ""), ("pulling", "ok", "4.1 GB in 41,230 files"))
        history.record_report(ids[name], _report("install", f"2026-03-01T02:{at:02}:00.000Z", ()))
    for at, name in enumerate(everyone[:10]):
        _tell(inventory, ids[name], ("index", "ok", ""), ("plan", "ok", "nothing to change"))
        history.record_report(ids[name], _report("sync", f"2026-03-02T02:{at:02}:00.000Z", (), in_sync=True))
    drifted = (
        Change(action="update", path="/etc/motd", what=("content",)),
        Change(action="update", path="/etc/ssh/sshd_config", what=("content", "mode")),
        Change(action="remove", path="/usr/local/bin/" + "very-long-name-" * 8, what=("unknown",)),
    )
    for at, name in enumerate(everyone[10:15]):
        changes = drifted[: 1 + at % 3]
        history.record_report(ids[name], _report("check", f"2026-03-02T03:{at:02}:00.000Z", changes))
    failing, pulling = ids[everyone[18]], ids[everyone[19]]
    _tell(
        inventory, failing, ("hello", "ok", ""),
        ("partitioning", "failed", "/dev/sda holds a file system sis did not make"), log="sfdisk: refused\n" * 12,
    )  # fmt: skip
    _tell(
        inventory, pulling, ("hello", "ok", ""), ("partitioning", "ok", ""), ("pulling", "start", "38 % 1.6 of 4.1 GB")
    )
    inventory.access.arm([ids[everyone[20]], ids[everyone[21]]])
    inventory.orders.create([ids[everyone[0]]], "sync")
    for at in range(3):
        inventory.discoveries.record(f"52:54:00:aa:00:0{at}", {"uuid": f"4c4c4544-00{at}", "address": "10.77.9.9"})
    for action, fault in (("console sync", ""), ("publish", ""), ("deploy", "the image has no boot files")):
        entry = inventory.audit.begin("ada", "operate", "session", action, fold(everyone[:6]), outcome="begun")
        inventory.audit.end(entry, "failed" if fault else "ok", fault)
    inventory.audit.begin("eve", "view", "session", "console do", fold(everyone), outcome="refused")


def make_jobs(state: Path) -> None:
    """A build that went well and one that did not."""
    folder = state / "jobs"
    folder.mkdir()
    words = ("image", "build", "compute")
    log = "▸ packages\n" + "".join(f"  Unpacking package-{at} (1.0-{at}) ...\n" for at in range(60))
    for at, outcome, told in ((1, "ok", ""), (2, "failed", "E: Unable to locate package nosuch")):
        job = Job(id=at, title="build compute", words=words, by="ada", started=now(), ended=now(), outcome=outcome,
                  told=told)  # type: ignore[arg-type]  # fmt: skip
        (folder / f"{at}.json").write_bytes(msgspec.json.encode(job))
        (folder / f"{at}.log").write_text(log + told + "\n")


def _node(at: int) -> NewNode:
    interface = Interface("eth0", f"52:54:00:00:00:{at:02x}", f"10.77.0.{at + 10}", "mgmt")
    return NewNode(
        f"n{at:03}", (interface,), (f"rack{(at - 1) * RACKS // COUNT + 1}",), Assignment("compute", "stable")
    )


def _tell(inventory: Inventory, node_id: int, *told: tuple[Stage, Outcome, str], log: str = "") -> None:
    events = [
        Event(time="2026-03-01T02:00:00.000Z", stage=stage, outcome=outcome, message=message, seconds=1.5,
              log=log if outcome == "failed" else "")
        for stage, outcome, message in told
    ]  # fmt: skip
    inventory.history.record_events(node_id, events)


def _report(
    kind: Literal["install", "sync", "check"], started: str, changes: tuple[Change, ...], *, in_sync: bool = False
) -> Report:
    totals = Totals(bytes_fetched=48_000_000 if kind == "install" else 700_000, bytes_local=9_000_000)
    return Report(
        kind=kind, outcome="ok", in_sync=in_sync or kind == "install", image="compute", generation=2, version="x",
        started=started, seconds=12.5, totals=totals, changes=changes,
    )  # fmt: skip
