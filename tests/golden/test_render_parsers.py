"""What we render is read back by the programs it is for, where they are installed; tests/vm has others in a tree."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest
import yaml

from configurator.apply import apply, plan
from configurator.record import Record, decode
from configurator.rendered import RenderedFile
from sis.system import process
from tests.golden.render_cases import Case, cases

GOOD = {case.name: case for case in cases() if not case.is_error()}


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(process.find(program) is None, reason=f"{program} is not installed")


def record_of(case: Case) -> Record:
    return decode(case.record_file.read_bytes())


def files_of(name: str) -> dict[str, RenderedFile]:
    return {file.path: file for file in GOOD[name].render()}


def cases_with(path: str) -> list[str]:
    return [name for name in GOOD if any(path in file.path for file in GOOD[name].expected_files())]


def written(name: str, path: str, place: Path) -> Path:
    """One rendered file of a case, written with its mode."""
    file = files_of(name)[path]
    copy = place / Path(path).name
    copy.write_bytes(file.content)
    copy.chmod(file.mode)
    return copy


@needs("ssh-keygen")
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_host_keys(kind: str, tmp_path: Path) -> None:
    private = written("ssh-keys", f"/etc/ssh/ssh_host_{kind}_key", tmp_path)
    public = written("ssh-keys", f"/etc/ssh/ssh_host_{kind}_key.pub", tmp_path)
    assert f"({kind.upper()})" in process.run(["ssh-keygen", "-l", "-f", public]).stdout
    from_private = process.run(["ssh-keygen", "-y", "-f", private]).stdout.split()
    assert from_private[:2] == public.read_text().split()[:2]


@needs("ssh-keygen")
def test_authorized_keys(tmp_path: Path) -> None:
    file = written("ssh-keys", "/root/.ssh/authorized_keys", tmp_path)
    wanted = record_of(GOOD["ssh-keys"]).root_authorized_keys
    assert len(process.run(["ssh-keygen", "-l", "-f", file]).stdout.splitlines()) == len(wanted)


@needs("findmnt")
@pytest.mark.parametrize("name", cases_with("/etc/fstab"))
def test_fstab(name: str, tmp_path: Path) -> None:
    file = written(name, "/etc/fstab", tmp_path)
    # --verify also looks for sources and targets on this machine; what counts here is that every line is understood.
    assert "0 parse errors" in process.run(["findmnt", "--verify", "--tab-file", file], check=False).stderr
    columns = ["-o", "SOURCE,TARGET,FSTYPE,OPTIONS,FREQ,PASSNO"]
    read = json.loads(process.run(["findmnt", "-J", "--list", "--tab-file", file, *columns]).stdout)["filesystems"]
    mounts = {(m.source, m.path, m.filesystem, m.options, m.dump, m.passno) for m in record_of(GOOD[name]).mounts}
    rows = {tuple(row[key] for key in ("source", "target", "fstype", "options", "freq", "passno")) for row in read}
    assert rows - {("configfs", "/config", "configfs", "defaults", 0, 0)} == mounts


@needs("modprobe")
@pytest.mark.parametrize("name", cases_with("/etc/modprobe.d/zz-sis.conf"))
def test_modprobe(name: str, tmp_path: Path) -> None:
    file = written(name, "/etc/modprobe.d/zz-sis.conf", tmp_path)
    done = process.run(["modprobe", "-C", file, "-c"])
    assert done.stderr == ""
    read = set(done.stdout.splitlines())
    record = record_of(GOOD[name])
    assert {f"blacklist {module}" for module in record.blacklist} <= read
    assert {f"options {module.name} {module.options}" for module in record.modules if module.options} <= read
    if any(module.alias == "eth" for module in record.modules):
        assert {"alias eth0 e1000", "alias eth1 eepro100"} <= read


@needs("sh")
@pytest.mark.parametrize(
    ("name", "path", "values"),
    [
        ("kerrighed-small", "/etc/default/kerrighed", {"ADD_OPTS": "--total 4", "LEGACY_SCHED": "true"}),
        ("kerrighed-small", "/etc/default/kerrighed-host", {"BOOT_ID": "-1", "KRGLOG_OPTS": "+epm +faf"}),
        ("kerrighed-2.4", "/etc/default/kerrighed", {"ENABLE": "true", "LEGACY_SCHED": "false"}),
        ("ifcfg", "/etc/sysconfig/network-scripts/ifcfg-eth0", {"IPADDR": "10.77.0.11", "BOOTPROTO": "none"}),
        ("ifupdown-two-nics-mtu-routes", "/etc/dhcp/dhclient-enter-hooks.d/sis", {}),
    ],
)
def test_shell_reads_it(name: str, path: str, values: dict[str, str], tmp_path: Path) -> None:
    file = written(name, path, tmp_path)
    echo = "".join(f'; printf "%s\\n" "${key}"' for key in values)
    done = process.run(["sh", "-euc", f'. "$1"{echo}', "sh", file])
    assert (done.stdout.splitlines(), done.stderr) == ([*values.values()], "")


def test_netplan_is_yaml(tmp_path: Path) -> None:
    read = yaml.load(written("netplan", "/etc/netplan/10-sis.yaml", tmp_path).read_bytes(), yaml.CSafeLoader)
    eth0 = read["network"]["ethernets"]["eth0"]
    assert eth0["match"] == {"macaddress": "52:54:00:77:00:0b"}
    assert eth0["addresses"] == ["10.77.0.11/24"]
    assert eth0["nameservers"] == {"addresses": ["10.77.0.1", "10.77.0.2"], "search": ["cluster.lan"]}
    assert list(read["network"]["ethernets"]) == ["eth0", "eth1", "spare0"]


@pytest.mark.parametrize("port", ["eno1", "eno2", "ib0", "spare0"])
def test_keyfiles_are_key_files(port: str) -> None:
    content = files_of("networkmanager")[f"/etc/NetworkManager/system-connections/sis-{port}.nmconnection"].content
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes="#", strict=True)
    parser.read_string(content.decode())
    assert {"connection", "ipv4", "ipv6"} < set(parser.sections())
    assert parser["connection"]["type"] in parser.sections()


@needs("pwck")
@pytest.mark.parametrize("name", cases_with("/etc/passwd"))
def test_passwd_and_shadow(name: str, tmp_path: Path) -> None:
    files = [written(name, path, tmp_path) for path in ("/etc/passwd", "/etc/shadow")]
    said = process.run(["pwck", "-r", *files], check=False).stdout
    # It looks for homes and groups on this machine; what counts is that each line is an entry with its shadow.
    assert not any(word in said for word in ("invalid", "duplicate", "no matching"))


@pytest.mark.parametrize("name", cases_with("/etc/clustershell/"))
def test_clustershell(name: str, tmp_path: Path) -> None:
    from ClusterShell.NodeUtils import YAMLGroupLoader

    (source,) = YAMLGroupLoader(str(written(name, "/etc/clustershell/groups.d/cluster.yaml", tmp_path)))
    assert source.groups["gpu"] == "n[005-006,010]"


@needs("ssh-keygen")
def test_known_hosts(tmp_path: Path) -> None:
    file = written("peer-files", "/etc/ssh/ssh_known_hosts", tmp_path)
    for name in ("n001", "n001.cluster.lan", "10.77.0.11"):
        assert "found: line 2" in process.run(["ssh-keygen", "-F", name, "-f", file]).stdout


NETWORKD = Path("/lib/systemd/systemd-networkd")

# A private network, mount and /run: nothing of the machine's own network is seen or touched. A read-only /sys tells
# networkd that there is no udev to wait for. The processes inside end with the namespace.
IN_A_PRIVATE_NETWORK = r"""
mount --make-rprivate /
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd
mount --bind "$1/etc/systemd/network" /etc/systemd/network
shift
for port in $1; do
    ip link add "${port%%=*}" address "${port#*=}" type veth peer name "p-${port%%=*}"
    ip link set "p-${port%%=*}" up
done
"""

RUN_NETWORKD = (
    IN_A_PRIVATE_NETWORK
    + r"""
SYSTEMD_LOG_LEVEL=info /lib/systemd/systemd-networkd >/run/log 2>&1 &
pid=$!
tries=0
until [ "$(ip -o -4 route | wc -l)" -ge "$2" ] || [ $tries -ge 100 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
kill $pid
wait $pid
ip -j addr
ip -j route
cat /run/log
"""
)


def in_a_private_network(script: str, *words: str | Path) -> list[str]:
    argv = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-euc", script, "sh", *words]
    return process.run(argv, timeout_s=90).stdout.splitlines()


@pytest.mark.root
@pytest.mark.skipif(not NETWORKD.exists(), reason="systemd-networkd is not installed")
def test_networkd_does_what_the_record_says(tmp_path: Path) -> None:
    case = GOOD["networkd-two-nics-mtu-routes"]
    apply(tmp_path, plan(tmp_path, case.render()))
    interfaces = record_of(case).interfaces
    ports = " ".join(f"{interface.name}={interface.mac}" for interface in interfaces)
    addresses, routes, *log = in_a_private_network(RUN_NETWORKD, tmp_path, ports, "5")
    seen = {
        port["ifname"]: (
            port["mtu"],
            [f"{a['local']}/{a['prefixlen']}" for a in port["addr_info"] if a["family"] == "inet"],
        )
        for port in json.loads(addresses)
    }
    assert seen["eth0"] == (1500, ["10.77.0.11/24"])
    assert seen["data0"] == (9000, ["10.78.0.11/16"])
    assert seen["spare0"] == (1500, [])
    ways = {(route["dst"], route.get("gateway"), route["dev"]) for route in json.loads(routes)}
    assert {
        ("default", "10.77.0.1", "eth0"),
        ("10.80.0.0/16", "10.78.0.254", "data0"),
        ("192.0.2.0/24", "10.78.0.253", "data0"),
    } <= ways
    assert [line for line in log if "/etc/systemd/network" in line and "Configuring with" not in line] == []


BRIDGE_ADDRESSES = {"10.77.0.11/24", "10.77.1.11/24", "2001:db8:77::11/64"}


def assert_bridged(addresses: str, routes: str) -> None:
    """br0 has its three addresses and both members; the routes of both families are there."""
    ports = {port["ifname"]: port for port in json.loads(addresses)}
    seen = {f"{each['local']}/{each['prefixlen']}" for each in ports["br0"]["addr_info"] if each["scope"] == "global"}
    assert (seen, ports["br0"]["mtu"]) == (BRIDGE_ADDRESSES, 1400)
    assert (ports["lan0"]["master"], ports["lan1"]["master"]) == ("br0", "br0")
    ways = {(route["dst"], route.get("gateway"), route["dev"]) for route in json.loads(routes)}
    assert {("default", "10.77.0.1", "br0"), ("10.80.0.0/16", "10.77.1.254", "br0")} <= ways


@pytest.mark.root
@pytest.mark.skipif(not NETWORKD.exists(), reason="systemd-networkd is not installed")
def test_networkd_makes_a_bridge(tmp_path: Path) -> None:
    case = GOOD["networkd-bridge"]
    apply(tmp_path, plan(tmp_path, case.render()))
    ports = " ".join(f"{each.name}={each.mac}" for each in record_of(case).interfaces if each.mac)
    addresses, routes, *log = in_a_private_network(RUN_NETWORKD, tmp_path, ports, "4")
    assert_bridged(addresses, routes)
    assert [line for line in log if "/etc/systemd/network" in line and "Configuring with" not in line] == []


@pytest.mark.root
@needs("udevadm")
def test_udev_pins_the_name(tmp_path: Path) -> None:
    if not Path("/etc/systemd/network").is_dir():
        pytest.skip("/etc/systemd/network is not there to be covered (no systemd on this machine)")
    apply(tmp_path, plan(tmp_path, GOOD["ifupdown-static"].render()))
    ask = IN_A_PRIVATE_NETWORK + "udevadm test-builtin net_setup_link /sys/class/net/port0 2>&1"
    read = in_a_private_network(ask, tmp_path, "port0=52:54:00:77:00:0b")
    assert "ID_NET_NAME=lan0" in read
    assert "ID_NET_LINK_FILE=/etc/systemd/network/10-sis-lan0.link" in read


@needs("systemctl")
def test_the_links_are_those_systemctl_enable_makes(tmp_path: Path) -> None:
    units = Path("/lib/systemd/system")
    if not (units / "systemd-networkd.service").exists():
        pytest.skip("systemd-networkd is not installed")
    copies = tmp_path / "lib/systemd/system"
    copies.mkdir(parents=True)
    for unit in units.glob("systemd-network*.s*"):
        (copies / unit.name).write_bytes(unit.read_bytes())
    process.run(["systemctl", f"--root={tmp_path}", "enable", "systemd-networkd.service"])
    made = {
        f"/{link.relative_to(tmp_path)}": str(link.readlink())
        for link in tmp_path.rglob("etc/**/*")
        if link.is_symlink()
    }
    ours = {
        path: file.target
        for path, file in files_of("networkd-static").items()
        if path.startswith("/etc/systemd/system/")
    }
    assert ours == made
