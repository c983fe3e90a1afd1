"""A real lease with a relay's option 82, from real dnsmasq between two namespaces: the head learns the port."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from sis.netboot import ports, tftp
from sis.netboot.dnsmasq import BootNetwork

HEAD, NODE = (f"sis-o82-{which}-{os.getpid()}" for which in ("head", "node"))


@pytest.fixture
def wire() -> Iterator[None]:
    """Two namespaces with a cable between them."""
    steps = (
        f"netns add {HEAD}", f"netns add {NODE}", f"link add va netns {HEAD} type veth peer name vb netns {NODE}",
        f"-n {HEAD} addr add 10.99.0.1/24 dev va", f"-n {HEAD} link set va up", f"-n {NODE} link set vb up",
    )  # fmt: skip
    try:
        for step in steps:
            subprocess.run(["ip", *step.split()], check=True)
        yield
    finally:
        for namespace in (HEAD, NODE):
            subprocess.run(["ip", "netns", "del", namespace], check=False)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.root
@pytest.mark.usefixtures("wire")
def test_the_port_of_a_leased_machine_is_known(tmp_path: Path) -> None:
    pool = (IPv4Address("10.99.0.100"), IPv4Address("10.99.0.120"))
    network = BootNetwork(interface="va", address=IPv4Interface("10.99.0.1/24"), pool=pool)
    argv = tftp.prepare(tmp_path, network, [], head="http://10.99.0.1:8700")
    option = f"0x52:0106{b'Eth1/3'.hex()}0203{b'sw1'.hex()}"
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(["ip", "netns", "exec", HEAD, *argv], stderr=log)
        try:
            until(lambda: "DHCP" in (tmp_path / "log").read_text())
            client = [
                "busybox",
                "udhcpc",
                "-i",
                "vb",
                "-f",
                "-n",
                "-q",
                "-t",
                "12",
                "-T",
                "5",
                "-s",
                "/bin/true",
                "-x",
                option,
            ]
            subprocess.run(["ip", "netns", "exec", NODE, *client], check=True, timeout=120)
            until(lambda: ports.seen(tmp_path / "run" / ports.FOLDER))
        finally:
            server.terminate()
            server.wait(60)
    (told,) = ports.seen(tmp_path / "run" / ports.FOLDER).values()
    assert told == {"switch": "sw1", "port": "Eth1/3"}
