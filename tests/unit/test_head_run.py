"""`sis head run` as a process: up, one a state, ended in order by signals; with dnsmasq in a network namespace."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from sis.cli import main
from sis.image.store.local import LocalStore
from sis.image.store.sign import Signer
from tests import node_calls
from tests.ports import free_port


@contextmanager
def running(state: Path, *words: str, prefix: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A head that has said it is up; ended by its own pid."""
    argv = [*prefix, sys.executable, "-m", "sis", "--state", str(state), "head", "run", *words]
    child = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert child.stderr is not None
    try:
        for line in child.stderr:
            if line.startswith("head: "):
                break
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
        child.wait()
        child.stderr.close()


def init(state: Path) -> None:
    words = ["--state", str(state), "head", "init", "--network", "mgmt=10.77.0.0/24", "--address", "10.77.0.1"]
    assert CliRunner().invoke(main, words).exit_code == 0


def ask(port: int, path: str) -> int:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    line.request("GET", path)
    status = line.getresponse().status
    line.close()
    return status


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_even_with_agents_waiting(tmp_path: Path, signum: signal.Signals) -> None:
    from sis.inventory import db
    from sis.inventory.model import NewNode

    init(tmp_path)
    key, head_key = Signer.make(), LocalStore(tmp_path / "store").signer().public
    with db.open(tmp_path / "state.db") as inventory:
        inventory.nodes.add([NewNode("n1")])
        node_calls.put_key(inventory, "n1", key)
    port = free_port()
    with running(tmp_path, "--listen", f"127.0.0.1:{port}") as child:
        assert ask(port, "/api/v1/health") == 200
        answers: list[int] = []
        path = "/api/v1/nodes/n1/orders?wait=50"
        waiting = threading.Thread(
            target=lambda: answers.append(node_calls.call(port, head_key, "GET", path, node="n1", key=key).status)
        )
        waiting.start()
        time.sleep(0.5)
        child.send_signal(signum)
        assert child.wait(90) == 0
        waiting.join()
        assert answers == [204]


def test_one_head_a_state_and_a_port_in_use_are_told(tmp_path: Path) -> None:
    init(tmp_path / "one")
    init(tmp_path / "two")
    port = free_port()
    with running(tmp_path / "one", "--listen", f"127.0.0.1:{port}"):
        words = ["head", "run", "--listen", f"127.0.0.1:{port}"]
        second = CliRunner().invoke(main, ["--state", str(tmp_path / "one"), *words])
        assert second.exit_code == 1
        assert "head.lock is held by process" in second.stderr
        assert "(sis head run)" in second.stderr
        other = CliRunner().invoke(main, ["--state", str(tmp_path / "two"), *words])
        assert other.exit_code == 1
        assert f"sis: cannot listen on 127.0.0.1:{port}: Address already in use" in other.stderr
        assert f"ss -ltnp 'sport = {port}'" in other.stderr


def eventually(holds: Callable[[], bool], timeout_s: float = 90) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace with one interface, nodes0, that has the head's address."""
    name = f"sis-head-{os.getpid()}"
    commands = (
        f"ip netns add {name}",
        f"ip -n {name} link set lo up",
        f"ip -n {name} link add nodes0 type bridge",
        f"ip -n {name} addr add 10.77.0.1/24 dev nodes0",
        f"ip -n {name} link set nodes0 up",
    )
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


def pids_in(namespace: str) -> list[str]:
    return subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True).stdout.split()


def processes_in(namespace: str) -> list[str]:
    found = [Path(f"/proc/{pid}/comm") for pid in pids_in(namespace)]
    return [path.read_text().strip() for path in found if path.exists()]


@pytest.mark.root
def test_dnsmasq_starts_follows_the_inventory_and_ends_with_the_head(tmp_path: Path, namespace: str) -> None:
    init(tmp_path)
    tmp_path.chmod(0o755)
    prefix = ("ip", "netns", "exec", namespace)
    with running(tmp_path, "--interface", "nodes0", "--dhcp", prefix=prefix) as child:
        assert "dnsmasq" in processes_in(namespace)
        hosts = tmp_path / "run" / "dnsmasq.hosts"
        assert hosts.read_text() == ""
        words = ["--state", str(tmp_path), "node", "add", "n1", "--mac", "52:54:00:00:00:01"]
        assert CliRunner().invoke(main, words).exit_code == 0
        assert eventually(lambda: hosts.read_text() == "52:54:00:00:00:01,10.77.0.11,n1\n")
        log = tmp_path / "logs" / "dnsmasq.log"
        assert eventually(lambda: f"read {hosts}" in log.read_text())
        child.send_signal(signal.SIGTERM)
        assert child.wait(90) == 0
    assert processes_in(namespace) == []


@pytest.mark.root
def test_dnsmasq_comes_and_goes_as_the_inventory_says(tmp_path: Path, namespace: str) -> None:
    init(tmp_path)
    tmp_path.chmod(0o755)
    prefix = ("ip", "netns", "exec", namespace)
    sis = [*prefix, sys.executable, "-m", "sis", "--state", str(tmp_path), "head"]
    with running(tmp_path, "--listen", "10.77.0.1:8700", prefix=prefix):
        assert "dnsmasq" not in processes_in(namespace)
        said = subprocess.run([*sis, "netboot", "--interface", "nodes0"], capture_output=True, text=True, check=True)
        assert said.stdout == "netboot: as the network says on nodes0\n"
        assert eventually(lambda: "dnsmasq" in processes_in(namespace))
        found = [pid for pid in pids_in(namespace) if Path(f"/proc/{pid}/comm").read_text() == "dnsmasq\n"]
        pid = min(found, key=int)  # the other one runs its lease script, and ends with it
        os.kill(int(pid), signal.SIGKILL)
        assert eventually(lambda: "dnsmasq" in processes_in(namespace) and pid not in pids_in(namespace))
        subprocess.run([*sis, "netboot", "--off"], capture_output=True, check=True)
        assert eventually(lambda: "dnsmasq" not in processes_in(namespace))
        wrong = subprocess.run([*sis, "netboot", "--interface", "lo"], capture_output=True, text=True, check=False)
        assert wrong.returncode == 5
        assert "in no network of the inventory" in wrong.stderr
    assert processes_in(namespace) == []


@pytest.mark.root
def test_a_dnsmasq_that_dies_ends_the_head_with_its_words(tmp_path: Path, namespace: str) -> None:
    init(tmp_path)
    prefix = ("ip", "netns", "exec", namespace)
    with running(tmp_path, "--interface", "nodes0", prefix=prefix) as child:
        pids = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True)
        for pid in pids.stdout.split():
            if Path(f"/proc/{pid}/comm").read_text().strip() == "dnsmasq":
                os.kill(int(pid), signal.SIGKILL)
        assert child.stderr is not None
        told = child.stderr.read()
        assert child.wait(90) == 1
    assert "sis: dnsmasq failed (signal 9)" in told
    assert processes_in(namespace) == []


@pytest.mark.root
def test_an_interface_no_network_fits_is_refused_with_the_remedy(tmp_path: Path, namespace: str) -> None:
    subprocess.run(["ip", "-n", namespace, "addr", "add", "10.99.0.1/16", "dev", "lo"], check=True)
    init(tmp_path)
    argv = [sys.executable, "-m", "sis", "--state", str(tmp_path), "head", "run", "--interface", "lo"]
    done = subprocess.run(["ip", "netns", "exec", namespace, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "which is in no network of the inventory" in done.stderr
    assert "hint: define it: sis head init --network mgmt=" in done.stderr
