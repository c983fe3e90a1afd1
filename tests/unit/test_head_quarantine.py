"""Nodes set aside: three failed installs over real HTTP, silent boots, maintenance; and how they are freed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from click.testing import CliRunner

from sis.cli import main
from sis.errors import Refused
from sis.head import rollouts, rollouts_act
from sis.head.renders import Renders
from sis.image.store.local import LocalStore
from sis.image.store.sign import Signer
from sis.inventory import access, db
from sis.inventory.history import INSTALL_TRIES
from sis.inventory.rollouts import last_good_of
from sis.netboot.installer import BootFile, BootFiles
from sis.node.connection import HeadConnection
from sis.node.progress import now
from sis.wire import Event, HealthResult, Hello, Report
from tests.heads import Serving, serving
from tests.sim_nodes import defined, made_image


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Serving]:
    """A head with an image that can be installed, and two nodes."""
    store = made_image(tmp_path)
    version_id = store.ref("compute").generations["1"]
    boot = tmp_path / "boot" / version_id
    boot.mkdir(parents=True)
    names = ("vmlinuz", "initrd", "root.squashfs")
    for name in names:
        (boot / name).write_bytes(b"x")
    files = tuple(BootFile(name=name, size_bytes=1, sha256="ab" * 32, blake3="cd" * 32) for name in names)
    described = BootFiles(version_id=version_id, kernel_release="6.1", inputs="", files=files)
    (boot / "boot.json").write_bytes(msgspec.json.encode(described))
    with db.open(tmp_path / "state.db") as inventory:
        defined(inventory, 2)
        with serving(tmp_path, inventory) as running:
            yield running


def deploy(head: Serving, nodeset: str = "n001") -> int:
    wanted = rollouts_act.wanted("install")
    renders = Renders(head.state, head.inventory)
    return rollouts_act.make(head.inventory, rollouts_act.plan(head.state, head.inventory, renders, nodeset, wanted)).id


def boots(head: Serving) -> str:
    return head.ask("GET", "/boot/ipxe?mac=52-54-00-00-00-00").text


def install(head: Serving, *, error: str = "") -> HeadConnection:
    """What the installer says from its boot answer to its report."""
    found = re.search(r"sis\.token=(\S+)", boots(head))
    assert found, "no install answer"
    key = Signer.make()
    line = HeadConnection(
        f"http://127.0.0.1:{head.port}", "n001", key, LocalStore(head.state / "store").signer().public
    )
    line.hello(Hello(node="n001", macs=("52:54:00:00:00:00",), token=found[1], key=key.public))
    desired = line.desired()
    told = Event(time=now(), stage="partitioning", outcome="failed" if error else "ok", message=error, log="the log")
    line.send_events([told])
    line.send_report(
        Report(
            kind="install",
            outcome="failed" if error else "ok",
            in_sync=not error,
            image="compute",
            generation=1,
            version=desired.version,
            started=now(),
            seconds=0,
            error=error,
            boot_id="installer",
        )
    )
    return line


def node_state(head: Serving) -> tuple[str, str, str]:
    state = head.inventory.nodes.get("n001").state
    return state.state, state.step, state.reason


def ended(head: Serving, number: int) -> rollouts.RolloutDetail:
    deadline = time.monotonic() + 120
    while True:
        found = rollouts.detail(head.inventory, number)
        if found.rollout.ended:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def good_report(kind: Literal["check", "sync"], version: str, **more: Any) -> Report:
    """What a node sends that is equal to its image."""
    return Report(
        kind=kind, outcome="ok", in_sync=True, image="compute", generation=1, version=version,
        started=now(), seconds=0, **more,
    )  # fmt: skip


def test_three_failed_installs_quarantine_a_node_and_only_an_admin_frees_it(head: Serving) -> None:
    number = deploy(head)
    for _ in range(INSTALL_TRIES - 1):
        install(head, error="disk is broken")
        assert node_state(head)[0] == "failed"
    install(head, error="disk is broken")
    assert node_state(head) == ("quarantined", "partitioning", "3 installs failed in a row: disk is broken")
    event_id = head.inventory.nodes.get("n001").state.event_id
    assert event_id is not None
    event = head.inventory.history.event(event_id)
    assert event is not None
    assert event.log == "the log"
    assert head.inventory.nodes.get("n001").arming is None

    script = boots(head)
    assert "sis.token" not in script
    assert "n001 is quarantined: its installs failed. See: sis node log n001" in script
    assert "sanboot --no-describe --drive 0x80 || goto stop" in script
    assert script.index(":stop") < script.index("shell")
    assert boots(head) == script

    found = ended(head, number)
    assert found.rollout.state == "done"
    assert [(node.step, node.reason) for node in found.nodes] == [
        ("failed", "3 installs failed in a row: disk is broken")
    ]
    with pytest.raises(Refused, match="quarantined after failed installs: n001") as refused:
        deploy(head)
    assert refused.value.hint == "see why: sis node log n001; then: sis node release n001"

    freed = head.ask("POST", "/api/v1/release", {"nodeset": "n[001-002]"}, token=head.token("operate"))
    assert freed.json == {"nodes": "n001"}
    assert node_state(head)[0] == "defined"
    deploy(head)
    assert "sis.token" in boots(head)


def test_an_install_is_good_when_the_node_came_back_from_its_disk_healthy(head: Serving) -> None:
    number = deploy(head)
    line = install(head)
    (place,) = rollouts.detail(head.inventory, number).nodes
    assert place.step in ("asked", "rebooting")
    version = line.desired().version
    well = HealthResult(check="port 22", ok=True)
    line.send_report(good_report("check", version, health=(well,), boot_id="disk"))
    found = ended(head, number)
    assert [(node.step, node.bytes) for node in found.nodes] == [("good", 0)]
    assert node_state(head)[0] == "in-sync"


def test_a_node_that_boots_its_installer_and_never_reports_is_not_looped(head: Serving) -> None:
    deploy(head)
    for _ in range(access.SILENT_BOOTS):
        assert "sis.token" in boots(head)
    assert "sis.token" not in boots(head)
    assert node_state(head)[0] == "quarantined"
    assert node_state(head)[2] == "booted its installer 10 times and never said how it ended"
    assert "is quarantined" in boots(head)


def test_maintenance_stays_whatever_the_node_tells(head: Serving) -> None:
    deploy(head)
    line = install(head)
    version = line.desired().version
    command = ["--state", str(head.state), "node", "maintenance"]
    refused = CliRunner().invoke(main, [*command, "on", "n001"])
    assert refused.exit_code == 5
    assert "maintenance needs a reason" in refused.stderr
    done = CliRunner().invoke(main, [*command, "on", "n001", "--why", "new fan"])
    assert done.output == "1 node in maintenance: n001\n"
    line.send_events([Event(time=now(), stage="apply", outcome="start")])
    failed = Event(time=now(), stage="apply", outcome="failed", message="no space")
    line.send_events([failed])
    assert node_state(head) == ("maintenance", "", "new fan")
    line.send_report(good_report("sync", version))
    assert node_state(head) == ("maintenance", "", "new fan")
    assert head.inventory.nodes.get("n001").state.version == version
    done = CliRunner().invoke(main, [*command, "off", "n[001-002]"])
    assert done.output.startswith("1 node out of maintenance: n001\n")
    assert node_state(head)[0] == "in-sync"
    assert [row.action for row in head.inventory.audit.last()] == ["node maintenance"] * 3
    body = {"nodeset": "n002", "on": True, "why": "<b>x</b>"}
    assert head.ask("POST", "/api/v1/maintenance", body, token=head.token("view")).status == 403
    assert head.ask("POST", "/api/v1/maintenance", body, token=head.token("operate")).json == {"nodes": "n002"}
    assert [(row.action, row.outcome) for row in head.inventory.audit.last()][:2] == [
        ("maintenance on", "ok"), ("maintenance", "refused"),
    ]  # fmt: skip


def test_an_unhealthy_node_is_failed_and_says_why(head: Serving) -> None:
    deploy(head)
    line = install(head)
    version = line.desired().version
    sick = (
        HealthResult(check="port 22", ok=True),
        HealthResult(check="unit slurmd", ok=False, output="● slurmd.service\nfailed"),
    )
    line.send_report(good_report("check", version, health=sick, boot_id="disk"))
    assert node_state(head) == ("failed", "health", "unit slurmd: failed")
    report = head.inventory.history.reports("n001")[0]
    assert report.unhealthy == ("unit slurmd: failed",)
    with head.inventory.database.read() as connection:
        assert last_good_of(connection, [1]) == {}
