"""The lab keeps its promise: whatever happens, nothing of it is left."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from sis.errors import SisError
from sis.system import process
from tests.vm.lab import Lab, leftovers, sweep

pytestmark = [pytest.mark.root, pytest.mark.vm]

ROOT = Path(__file__).parents[2]
VICTIM = """
import signal, time
for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):  # whoever started us may ignore them, as nohup does
    signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
from tests.vm.lab import Lab
with Lab() as lab:
    lab.start(["sleep", "1000"])
    node = lab.node("n001", firmware="bios", memory_mb=64, disks=[1 << 20])
    node.power_on()
    print(lab.namespace, lab.folder, node._machine.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def counting_disk(tmp_path: Path) -> Path:
    """A disk that prints STARTED once each time it boots, and stops."""
    code = bytes.fromhex("fc31c08ed8be287cac84c07406baf803eeebf5f4ebfd")
    sector = code.ljust(0x28, b"\0") + b"\r\nSTARTED\r\n\0"
    disk = tmp_path / "disk.raw"
    disk.write_bytes((sector.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    return disk


def test_power_buttons(counting_disk: Path) -> None:
    with Lab() as lab:
        node = lab.node("n001", firmware="bios", memory_mb=64, disks=[counting_disk], boot=["disk"])
        node.power_on()
        node.wait_console("STARTED", 150)
        node.reset()
        node.wait_console("STARTED", 150)
        with pytest.raises(SisError, match="n001 is already on"):
            node.power_on()
        with pytest.raises(SisError, match="n001 is still on after 1 s"):
            node.power_off(timeout_s=1)
        node.power_cut()
        assert not node.running
        with pytest.raises(SisError, match="n001 is off"):
            node.reset()
        node.power_on()
        node.wait_console("STARTED", 150)
        with pytest.raises(SisError, match="should print 'no such text', but did not within 1 s") as caught:
            node.wait_console("no such text", 1)
        assert "STARTED" in str(caught.value)
    assert leftovers() == []


def test_programs_inside_see_the_bridge_only() -> None:
    with Lab(head="10.99.0.1/24") as lab:
        assert lab.address == "10.99.0.1"
        names = lab.run(["ip", "-br", "link"]).stdout
        assert [line.split()[0] for line in names.splitlines()] == ["lo", "br0"]
        assert f"namespace {lab.namespace}" in leftovers()
    assert leftovers() == []


def test_a_machine_that_cannot_start_says_why(tmp_path: Path) -> None:
    with Lab() as lab:
        node = lab.node("n001", firmware="bios", disks=[tmp_path / "missing.raw"])
        with pytest.raises(SisError, match="n001 did not start") as caught:
            node.power_on()
        assert "No such file or directory" in str(caught.value)
    assert leftovers() == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_lab_that_is_ended_leaves_nothing(signum: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "victim.log"
    env = {"PYTHONPATH": str(ROOT)}
    victim = process.start([sys.executable, "-c", VICTIM], cwd=ROOT, env=env, output=log)
    deadline = time.monotonic() + 150
    while not log.read_text().endswith("\n"):
        assert victim.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    namespace, folder, machine = log.read_text().split()
    os.kill(victim.pid, signum)
    victim.wait(90)
    if signum == signal.SIGKILL:
        assert f"namespace {namespace}" in leftovers(victim.pid)
        sweep()
    assert leftovers(victim.pid) == []
    assert not Path(f"/run/netns/{namespace}").exists()
    assert not Path(folder).exists()
    while Path(f"/proc/{machine}").exists():  # ended, and init has yet to notice
        assert time.monotonic() < deadline
        time.sleep(0.05)
