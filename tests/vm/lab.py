"""A small cluster on one machine: a network namespace with a bridge, and QEMU nodes on taps that boot from it.

    with Lab() as lab:
        lab.start(["dnsmasq", …])                    # runs inside the namespace, where 10.77.0.1 is the head
        node = lab.node("n001", firmware="uefi", disks=[4 << 30])
        node.power_on()
        node.wait_console(r"login:", timeout_s=90)

Everything a lab starts lives in its namespace and its folder, and ends with it: at the end of the block, at exit,
on SIGTERM and SIGHUP. What a killed process left is swept by the next lab.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from sis.errors import SisError
from sis.system import process

Firmware = Literal["bios", "uefi"]

_NAMESPACE = re.compile(r"sis-([0-9]+)(-[0-9]+)?")
_FOLDER_PREFIX = "sis-lab-"
_OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
_OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_NETNS = Path("/run/netns")
_BRIDGE = "br0"
_CLONE_NEWNET = 0x40000000
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17

_open_labs: list[Lab] = []
_count = 0


class Lab:
    """A network namespace `sis-<pid>-<n>` with bridge `br0`, which holds `head` ("10.77.0.1/24"), and its nodes."""

    def __init__(self, *, head: str = "10.77.0.1/24", folder: Path | None = None) -> None:
        global _count
        _count += 1
        self.head = IPv4Interface(head)
        self.address = str(self.head.ip)
        self.bridge = _BRIDGE
        self.namespace = f"sis-{os.getpid()}-{_count}"
        self._given_folder = folder
        self.folder = Path()
        self.nodes: dict[str, Node] = {}
        self._programs: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Lab:
        sweep()
        _catch_signals()
        _open_labs.append(self)
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every program in the namespace, then the namespace and the lab's folder. May be called twice."""
        if self in _open_labs:
            _open_labs.remove(self)
        for node in self.nodes.values():
            node.power_cut()
        for program in reversed(self._programs):
            process.stop(program, grace_s=3.0)
        _end_namespace(self.namespace)
        for node in self.nodes.values():
            node.release()
        if self._given_folder is None and self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, argv: process.Argv) -> tuple[str, ...]:
        """`argv` as run inside the namespace."""
        return ("ip", "netns", "exec", self.namespace, *(os.fspath(word) for word in argv))

    def run(self, argv: process.Argv, **options: Any) -> process.Completed:
        """`process.run` inside the namespace."""
        return process.run(self.command(argv), **options)

    def start(
        self, argv: process.Argv, *, output: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """`process.start` inside the namespace; the program ends with the lab."""
        program = process.start(self.command(argv), output=output, env=env)
        self._programs.append(program)
        return program

    def join(self, other: Lab) -> None:
        """A cable between the bridges of two labs."""
        mine, theirs = f"to-{other.namespace[-11:]}", f"to-{self.namespace[-11:]}"
        ip = ["ip", "-n", self.namespace, "link"]
        process.run([*ip, "add", mine, "type", "veth", "peer", "name", theirs, "netns", other.namespace])
        process.run([*ip, "set", mine, "master", self.bridge, "up"])
        process.run(["ip", "-n", other.namespace, "link", "set", theirs, "master", other.bridge, "up"])

    def node(
        self,
        name: str,
        *,
        firmware: Firmware,
        mac: str | None = None,
        memory_mb: int = 2048,
        disks: Sequence[Path | int] = (),
        boot: Sequence[Literal["network", "disk"]] = ("network", "disk"),
        nic: str = "virtio-net-pci",
        options: Sequence[str] = (),
    ) -> Node:
        """A virtual node, powered off.

        A disk is an image file (qcow2 by its name, else raw), a size in bytes for a new empty one, or a folder, which
        the node sees as a read-only FAT disk. `options` are further words for QEMU.
        """
        number = len(self.nodes) + 1
        files = []
        for index, disk in enumerate(disks):
            if isinstance(disk, int):
                path = self.folder / f"{name}-{index}.raw"
                with path.open("xb") as made:
                    made.truncate(disk)
                files.append(path)
            else:
                files.append(disk)
        node = Node(
            lab=self,
            name=name,
            firmware=firmware,
            mac=mac or f"52:54:00:77:00:{number:02x}",
            memory_mb=memory_mb,
            disks=tuple(files),
            boot=tuple(boot),
            nic=nic,
            options=tuple(options),
            tap=f"tap{number}",
        )
        self.nodes[name] = node
        self.tap(node.tap)
        return node

    def tap(self, name: str) -> str:
        """A port of the bridge for one more network card of a node."""
        process.run(["ip", "-n", self.namespace, "tuntap", "add", "dev", name, "mode", "tap"])
        process.run(["ip", "-n", self.namespace, "link", "set", name, "master", self.bridge, "up"])
        return name

    def _set_up(self) -> None:
        if self._given_folder is not None:
            self._given_folder.mkdir(parents=True, exist_ok=True)
            self.folder = self._given_folder
        else:
            self.folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-"))
        ip = ["ip", "-n", self.namespace]
        process.run(["ip", "netns", "add", self.namespace])
        process.run([*ip, "link", "set", "lo", "up"])
        process.run([*ip, "link", "add", self.bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0"])
        process.run([*ip, "address", "add", str(self.head), "dev", self.bridge])
        process.run([*ip, "link", "set", self.bridge, "up"])
        with inside(self.namespace):
            _checksum_in_software(self.bridge)


@dataclass
class Node:
    """One virtual machine. Its console is text in `console`; it survives power cycles and grows."""

    lab: Lab
    name: str
    firmware: Firmware
    mac: str
    memory_mb: int
    disks: tuple[Path, ...]
    boot: tuple[str, ...]
    nic: str
    options: tuple[str, ...]
    tap: str
    _machine: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _seen: int = 0

    @property
    def console(self) -> Path:
        return self.lab.folder / f"{self.name}.console"

    @property
    def running(self) -> bool:
        return self._machine is not None and self._machine.poll() is None

    def power_on(self) -> None:
        """Start the machine; `wait_console` looks at what appears from now on."""
        if self.running:
            raise SisError(f"{self.name} is already on")
        self._seen = self.console.stat().st_size if self.console.exists() else 0
        self._monitor_path.unlink(missing_ok=True)
        log = self.lab.folder / f"{self.name}.qemu.log"
        self._machine = process.start(self.lab.command(self._argv()), output=log)
        deadline = time.monotonic() + 90
        while not self._answers():
            if self._machine.poll() is not None or time.monotonic() > deadline:
                self.power_cut()
                raise SisError(f"{self.name} did not start", details=log.read_text(errors="replace").splitlines()[-10:])
            time.sleep(0.05)

    def power_off(self, timeout_s: float = 60.0) -> None:
        """Press the power button and wait for the machine to be off. Raises SisError if it stays on."""
        if self.running:
            self._order("system_powerdown")
            self.wait_off(timeout_s)

    def power_cut(self) -> None:
        """Pull the plug: SIGKILL to this machine's own process."""
        if self._machine is not None:
            if self._machine.poll() is None:
                self._machine.kill()
            self._machine.wait()
            self._machine = None

    def reset(self) -> None:
        """Press the reset button."""
        self._seen = self.console.stat().st_size if self.console.exists() else 0
        self._order("system_reset")

    def wait_off(self, timeout_s: float) -> None:
        """Wait until the machine has turned itself off."""
        assert self._machine is not None
        try:
            self._machine.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise SisError(f"{self.name} is still on after {timeout_s:.0f} s", details=self.tail()) from None
        self._machine = None

    def wait_console(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """Wait for a line of the console that matches, after the last match. Raises SisError with the console's end."""
        shape = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        while True:
            off = not self.running
            text = self._unseen()
            if match := shape.search(text):
                self._seen += len(text[: match.end()].encode("utf-8", "surrogateescape"))
                return match
            if off or time.monotonic() > deadline:
                why = "went off" if off else f"did not within {timeout_s:.0f} s"
                raise SisError(f"{self.name} should print {pattern!r}, but {why}", details=self.tail())
            time.sleep(0.1)

    def tail(self, lines: int = 25) -> list[str]:
        """The end of the console, for messages."""
        if not self.console.exists():
            return []
        text = self.console.read_bytes().decode("utf-8", "replace")
        return [re.sub(r"\x1b\[[0-9;=?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]", "", line) for line in text.splitlines()][
            -lines:
        ]

    def release(self) -> None:
        """Remove what this node keeps outside the lab's folder."""
        self._monitor_path.unlink(missing_ok=True)

    @property
    def _monitor_path(self) -> Path:
        # Not in the lab's folder: a socket's path has 107 bytes at most.
        return Path(tempfile.gettempdir()) / f"{self.lab.namespace}-{self.name}.qmp"

    def _unseen(self) -> str:
        if not self.console.exists():
            return ""
        with self.console.open("rb") as stream:
            stream.seek(self._seen)
            return stream.read().decode("utf-8", "surrogateescape")

    def _answers(self) -> bool:
        """Whether QEMU is past its start: the monitor's socket is there before disks are opened, its answer after."""
        try:
            self._order("query-status")
        except (OSError, ValueError, SisError):
            return False
        return True

    def _order(self, command: str) -> None:
        if not self.running:
            raise SisError(f"{self.name} is off")
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(60)
            monitor.connect(str(self._monitor_path))
            with monitor.makefile("rwb") as talk:
                talk.readline()
                for order in ("qmp_capabilities", command):
                    talk.write(json.dumps({"execute": order}).encode() + b"\n")
                    talk.flush()
                    while "return" not in (reply := json.loads(talk.readline())):
                        if "error" in reply:
                            raise SisError(f"{self.name}: {order}: {reply['error']['desc']}")

    def _argv(self) -> list[str]:
        place = {what: index + 1 for index, what in enumerate(self.boot)}
        card = f"{self.nic},netdev=net0,mac={self.mac}"
        if "network" in place:
            card += f",bootindex={place['network']}"
        argv = ["qemu-system-x86_64", "-name", self.name, "-nodefaults", "-display", "none", "-vga", "none"]
        argv += ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", str(self.memory_mb)]
        argv += ["-uuid", str(uuid.uuid5(uuid.NAMESPACE_DNS, self.mac))]
        argv += ["-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"]
        argv += ["-qmp", f"unix:{self._monitor_path},server=on,wait=off", "-device", "virtio-rng-pci"]
        argv += ["-netdev", f"tap,id=net0,ifname={self.tap},script=no,downscript=no,vhost=off"]
        if self.firmware == "uefi":
            # The card's own ROM is an iPXE; without it the firmware's PXE runs, as on real machines.
            card += ",romfile="
            argv += ["-machine", "q35", *self._pflash()]
        else:
            # Without graphics SeaBIOS brings the BIOS screen, iPXE's messages among it, to the serial console.
            argv += ["-machine", "pc,graphics=off"]
        argv += ["-device", card]
        for index, disk in enumerate(self.disks):
            # Not "cache=none": many temporary folders know no O_DIRECT. A flush is a flush either way.
            if disk.is_dir():
                argv += ["-drive", f"if=none,id=disk{index},file.driver=vvfat,file.dir={disk},format=raw,readonly=on"]
            else:
                kind = "qcow2" if disk.suffix == ".qcow2" else "raw"
                argv += ["-drive", f"if=none,id=disk{index},file={disk},format={kind},cache=writeback,discard=unmap"]
            device = f"virtio-blk-pci,drive=disk{index},serial={self.name}-{index}"
            if index == 0 and "disk" in place:
                device += f",bootindex={place['disk']}"
            argv += ["-device", device]
        return [*argv, *self.options]

    def _pflash(self) -> list[str]:
        variables = self.lab.folder / f"{self.name}.vars.fd"
        if not variables.exists():
            shutil.copyfile(_OVMF_VARS, variables)
        return [
            "-drive",
            f"if=pflash,unit=0,format=raw,readonly=on,file={_OVMF_CODE}",
            "-drive",
            f"if=pflash,unit=1,format=raw,file={variables}",
        ]


def leftovers(*gone: int) -> list[str]:
    """What labs of this process, and of these that are gone, have left behind: one line each."""
    owners = (os.getpid(), *gone)
    found = []
    for name, owner in _namespaces():
        if owner in owners:
            found.append(f"namespace {name}")
            found += [f"process {pid} in {name}" for pid in _pids(name)]
    temporary = Path(tempfile.gettempdir())
    for path in (*temporary.glob(f"{_FOLDER_PREFIX}*"), *temporary.glob("sis-[0-9]*.qmp")):
        owner = int(path.name.removeprefix(_FOLDER_PREFIX).removeprefix("sis-").split("-")[0])
        if owner in owners:
            found.append(f"path {path}")
    here = tuple(f"{temporary}/{_FOLDER_PREFIX}{owner}-" for owner in owners)
    found += [f"mount {line}" for line in _mounts() if line.startswith(here)]
    found += [f"loop device of {name}" for name in _loops() if name.startswith(here)]
    return found


def sweep() -> None:
    """Remove what labs of processes that are gone have left: theirs by name, so nothing of anyone alive."""
    for name, owner in _namespaces():
        if not _alive(owner):
            _end_namespace(name)
    temporary = Path(tempfile.gettempdir())
    for path in (*temporary.glob(f"{_FOLDER_PREFIX}*"), *temporary.glob("sis-[0-9]*.qmp")):
        if not _alive(int(path.name.removeprefix(_FOLDER_PREFIX).removeprefix("sis-").split("-")[0])):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in another network namespace; sockets made here stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net", "rb") as home, (_NETNS / namespace).open("rb") as there:
        if libc.setns(there.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter network namespace {namespace}")
        try:
            yield
        finally:
            if libc.setns(home.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot leave the network namespace")


def _checksum_in_software(interface: str) -> None:
    """Turn TX checksum offload off: raw DHCP clients see packets before any hardware would have filled it in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_STXCSUM, 0))
        request = struct.pack("16sP", interface.encode(), ctypes.addressof(value)).ljust(40, b"\0")
        fcntl.ioctl(handle.fileno(), _SIOCETHTOOL, request)


def _end_namespace(name: str) -> None:
    if not (_NETNS / name).exists():
        return
    for signum, wait_s in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 30.0)):
        for pid in _pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        deadline = time.monotonic() + wait_s
        while _pids(name) and time.monotonic() < deadline:
            time.sleep(0.05)
    process.run(["ip", "netns", "delete", name], check=False)


def _pids(namespace: str) -> list[int]:
    listed = process.run(["ip", "netns", "pids", namespace], check=False)
    return [int(word) for word in listed.stdout.split() if int(word) != os.getpid()]


def _namespaces() -> list[tuple[str, int]]:
    if not _NETNS.is_dir():
        return []
    matches = ((path.name, _NAMESPACE.fullmatch(path.name)) for path in _NETNS.iterdir())
    return [(name, int(match[1])) for name, match in matches if match]


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _mounts() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _loops() -> list[str]:
    return [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]


def _close_all() -> None:
    while _open_labs:
        _open_labs[-1].close()


def _catch_signals() -> None:
    """SIGTERM and SIGHUP end this process by an exception, so that `with` blocks and atexit do their work."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError):  # not the main thread: its owner decides
            if signal.getsignal(signum) == signal.SIG_DFL:
                signal.signal(signum, _leave)


def _leave(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


atexit.register(_close_all)
