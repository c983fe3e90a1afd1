"""The drain hooks of docs/rollouts.md with a real Slurm: controller and node daemon in namespaces of their own."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from sis.head.drains import Drains, Hooks
from sis.system import process

pytestmark = [pytest.mark.root, pytest.mark.timeout(120), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "rollouts.md"
T = TypeVar("T")
CONFIG = """
ClusterName=sis
SlurmctldHost=ctl(10.99.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
MpiDefault=none
ReturnToService=2
NodeName=n001 NodeAddr=10.99.0.1 NodeHostname=ctl CPUs=1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""
WORLD = """
hostname ctl
ip link set lo up
ip link add d0 type veth peer name d1
ip addr add 10.99.0.1/24 dev d0
ip link set d0 up
ip link set d1 up
slurmctld -D -f "$SLURM_CONF" >/dev/null 2>&1 &
slurmd -D -f "$SLURM_CONF" -N n001 >/dev/null 2>&1 &
wait
"""


@dataclass
class Slurm:
    """`around` begins a command that is to run beside the daemons."""

    folder: Path
    around: tuple[str, ...]

    def says(self, *words: str) -> str:
        return process.run([*self.around, *words], check=False, timeout_s=20).stdout.strip()

    def node(self) -> str:
        return self.says("sinfo", "--noheader", "--nodes=n001", "--format=%T")

    def hook(self, name: str) -> tuple[str, ...]:
        """A script as the documentation has it."""
        found = re.search(rf"```sh\n(#!/bin/sh -eu\n# {name} NODE.*?)```", DOCS.read_text(), re.DOTALL)
        assert found is not None, name
        script = self.folder / name
        script.write_text(found[1])
        script.chmod(0o755)
        return (*self.around, str(script))


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    """A cluster of one idle node. Its processes, network and host name end with the first of them."""
    (tmp_path / "spool").mkdir()
    config = tmp_path / "slurm.conf"
    config.write_text(CONFIG.format(folder=tmp_path))
    apart = ["unshare", "--net", "--uts", "--pid", "--mount-proc", "--fork", "--kill-child"]
    env = {**os.environ, "SLURM_CONF": str(config)}
    child = subprocess.Popen([*apart, "sh", "-c", WORLD], env=env, stdin=subprocess.DEVNULL)
    try:
        inside = until(lambda: Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().strip())
        around = ("nsenter", f"--target={inside}", "--net", "--uts", "env", f"SLURM_CONF={config}")
        made = Slurm(tmp_path, around)
        until(lambda: made.node() == "idle", lambda: (tmp_path / "slurmctld.log").read_text())
        yield made
    finally:
        child.kill()
        child.wait(30)


def until(value: Callable[[], T], told: Callable[[], object] = lambda: "") -> T:
    deadline = time.monotonic() + 60
    while not (found := value()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)
    return found


def test_a_node_is_drained_when_its_job_has_ended_and_taken_back(slurm: Slurm) -> None:
    assert slurm.says("sbatch", "--output=/dev/null", "--wrap=sleep 2") == "Submitted batch job 1"
    until(lambda: slurm.says("squeue", "--noheader", "--format=%T") == "RUNNING")
    hooks = Hooks(slurm.hook("sis-drain"), slurm.hook("sis-undrain"), timeout_s=60, again_after_s=0.1)
    drains = Drains()
    drains.drain("n001", hooks)
    until(lambda: slurm.node() == "draining")
    assert drains.state("n001") == "waiting", "the job runs on, the node is left alone"
    assert slurm.says("squeue", "--noheader", "--format=%T") == "RUNNING"
    until(lambda: drains.state("n001") != "waiting")
    assert drains.state("n001") == "done"
    assert slurm.node() == "drained"
    assert slurm.says("squeue", "--noheader") == ""
    assert "sis rollout" in slurm.says("sinfo", "--list-reasons", "--noheader")
    drains.undrain("n001", hooks)
    until(lambda: slurm.node().startswith("idle"), slurm.node)

    drains.drain("n002", hooks)
    until(lambda: drains.state("n002") != "waiting")
    assert "Invalid node name" in drains.state("n002")
    drains.stop()
