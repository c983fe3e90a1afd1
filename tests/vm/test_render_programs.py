"""What we render is read back by the programs it is for, inside a small Debian tree that has them all.

They are kept off this machine: NetworkManager, sshd and chronyd would start to work on it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from configurator.record import decode
from configurator.rendered import RenderedFile
from sis.build import inside
from sis.system import process
from sis.system.process import Completed
from tests.golden.render_cases import cases
from tests.golden.test_render_parsers import assert_bridged

pytestmark = [pytest.mark.root, pytest.mark.timeout(900), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

GOOD = {case.name: case for case in cases() if not case.is_error()}
PACKAGES = "network-manager,netplan.io,ifupdown,openssh-server,chrony,sudo,nfs-kernel-server,kmod,systemd"
CACHE = Path(__file__).resolve().parents[2] / ".demo" / "render-programs"


@pytest.fixture(scope="module")
def tree() -> Path:
    """The tree, made once and kept: a minute with a mirror near by."""
    made = CACHE / "tree"
    if not made.exists():
        new = CACHE / "tree.new"
        shutil.rmtree(new, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        bare = [f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "locale")]
        lean = ["--variant=minbase", '--aptopt=APT::Install-Recommends "false"', *bare]
        process.run(["mmdebstrap", *lean, f"--include={PACKAGES}", "bookworm", new], timeout_s=800)
        new.rename(made)
    return made


class Machine:
    """One use of the tree: files are laid in, a program reads them, and they are taken out again."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self._laid: list[Path] = []

    def lay(self, files: Sequence[RenderedFile]) -> None:
        for file in files:
            if file.kind == "file":
                place = self.tree / file.path.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                self._laid.append(place)
                place.write_bytes(file.content)
                place.chmod(file.mode)
                os.chown(place, file.uid, file.gid)

    def run(self, *argv: str, stdin: str | None = None, check: bool = True) -> Completed:
        return inside.run(self.tree, argv, stdin=stdin, check=check, timeout_s=300)

    def clean(self) -> None:
        for place in self._laid:
            place.unlink(missing_ok=True)


@pytest.fixture
def machine(tree: Path) -> Iterator[Machine]:
    made = Machine(tree)
    yield made
    made.clean()


def files_of(name: str, part: str) -> list[RenderedFile]:
    return [file for file in GOOD[name].render() if part in file.path]


def cases_with(path: str) -> list[str]:
    return [name for name in GOOD if any(path in file.path for file in GOOD[name].expected_files())]


@pytest.mark.parametrize("name", cases_with(".nmconnection"))
def test_networkmanager_takes_the_keyfiles(machine: Machine, name: str) -> None:
    """nmcli reads a connection, changes one word and writes it again: nothing else may be lost."""
    for file in files_of(name, ".nmconnection"):
        argv = ["nmcli", "--offline", "connection", "modify", "connection.autoconnect-priority", "11"]
        read = machine.run(*argv, stdin=file.content.decode()).stdout.splitlines()
        ours = [line for line in file.content.decode().splitlines() if line and not line.startswith("#")]
        assert {*ours} - {*read} == {"autoconnect-priority=10"}


@pytest.mark.parametrize("name", cases_with("/etc/netplan/10-sis.yaml"))
def test_netplan_generates(machine: Machine, name: str) -> None:
    machine.lay(files_of(name, "/etc/netplan/"))
    done = machine.run("sh", "-euc", "netplan generate --root-dir / && cat /run/systemd/network/*")
    for interface in decode(GOOD[name].record_file.read_bytes()).interfaces:
        assert interface.address is None or f"Address={interface.address}" in done.stdout
    machine.run("rm", "-rf", "/run/systemd/network", "/run/NetworkManager")


@pytest.mark.parametrize("name", cases_with("/etc/network/interfaces"))
def test_ifquery_lists_the_interfaces(machine: Machine, name: str) -> None:
    machine.lay(files_of(name, "/etc/network/interfaces"))
    read = machine.run("ifquery", "--list", "-a").stdout.split()
    interfaces = decode(GOOD[name].record_file.read_bytes()).interfaces
    assert read == ["lo", *(interface.name for interface in interfaces)]
    for interface in interfaces:
        said = machine.run("ifquery", interface.name).stdout
        assert interface.address is None or interface.address.partition("/")[0] in said


@pytest.mark.parametrize("name", cases_with("chrony.conf"))
def test_chronyd_reads_its_servers(machine: Machine, name: str) -> None:
    [file] = files_of(name, "/chrony.conf")
    machine.lay([file])
    read = machine.run("chronyd", "-p", "-f", file.path).stdout
    servers = [line.split()[1] for line in read.splitlines() if line.startswith("server")]
    assert servers == [*decode(GOOD[name].record_file.read_bytes()).time_servers]


@pytest.mark.parametrize("name", cases_with("/etc/sudoers.d/"))
def test_visudo_checks_the_rules(machine: Machine, name: str) -> None:
    rules = files_of(name, "/etc/sudoers.d/")
    machine.lay(rules)
    for file in rules:
        assert "parsed OK" in machine.run("visudo", "-c", "-f", file.path).stdout
    assert "parsed OK" in machine.run("visudo", "-c").stdout


def test_sshd_starts_with_the_host_keys(machine: Machine) -> None:
    keys = files_of("ssh-keys", "/etc/ssh/ssh_host_")
    machine.lay([*keys, *files_of("ssh-keys", "/root/.ssh/authorized_keys")])
    machine.run("mkdir", "-p", "/run/sshd")
    private = [file.path for file in keys if not file.path.endswith(".pub")]
    assert len(private) == 3
    done = machine.run("/usr/sbin/sshd", "-t", "-f", "/dev/null", *(word for key in private for word in ("-h", key)))
    assert done.stderr == ""


@pytest.mark.parametrize("name", cases_with("/etc/exports.d/"))
def test_exportfs_reads_the_exports(machine: Machine, name: str) -> None:
    """Without a kernel's NFS server it cannot export; what counts is that no line is a fault to it."""
    machine.lay(files_of(name, "/etc/exports.d/"))
    said = machine.run("exportfs", "-ra", check=False).stderr
    assert not any(word in said for word in ("syntax", "unknown keyword", "bad option", "Neither"))


@pytest.mark.parametrize("name", cases_with("/etc/systemd/system/sis-resync.timer.d/"))
def test_systemd_reads_the_timer(machine: Machine, name: str) -> None:
    unit = "[Unit]\nDescription=resync\n[Timer]\nOnCalendar=daily\nUnit=sis-resync.service\n"
    service = "[Unit]\nDescription=resync\n[Service]\nExecStart=/bin/true\n"
    machine.lay([
        RenderedFile(path="/etc/systemd/system/sis-resync.timer", content=unit.encode()),
        RenderedFile(path="/etc/systemd/system/sis-resync.service", content=service.encode()),
        *files_of(name, "/etc/systemd/system/sis-resync.timer.d/"),
    ])  # fmt: skip
    done = machine.run("systemd-analyze", "verify", "--man=no", "/etc/systemd/system/sis-resync.timer", check=False)
    assert not [line for line in done.stderr.splitlines() if "sis-resync" in line]


WITH_IFUP = r"""
mount -t sysfs -o ro sysfs /sys
mkdir -p /run/network
for port in $1; do
    ip link add "${port%%=*}" address "${port#*=}" type veth peer name "p-${port%%=*}"
    ip link set "p-${port%%=*}" up
done
ifup -a >/run/log 2>&1 || cat /run/log >&2
ip -j addr
ip -j route
ip -6 -j route
ifdown -a >/run/log 2>&1 || cat /run/log >&2
ip -j link
"""


def test_ifup_makes_a_bridge_and_ifdown_removes_it(machine: Machine) -> None:
    case = GOOD["ifupdown-bridge"]
    machine.lay(files_of("ifupdown-bridge", "/etc/network/interfaces"))
    interfaces = decode(case.record_file.read_bytes()).interfaces
    ports = " ".join(f"{each.name}={each.mac}" for each in interfaces if each.mac)
    addresses, routes, routes6, links = machine.run("sh", "-euc", WITH_IFUP, "sh", ports).stdout.splitlines()
    assert_bridged(addresses, routes)
    assert ("default", "2001:db8:77::1") in {(route["dst"], route.get("gateway")) for route in json.loads(routes6)}
    assert "br0" not in {link["ifname"] for link in json.loads(links)}
