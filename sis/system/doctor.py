"""Everything a head needs of its machine, looked at all at once, each lack with its remedy."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from sis.system import process
from sis.system.amounts import human_bytes

Verdict = Literal["ok", "missing", "warning"]

LEAST_FREE_BYTES = 10 * 10**9
_MODULES = (
    "alembic", "blake3", "bsdiff4", "ClusterShell", "cryptography", "fastapi", "jinja2", "libarchive", "msgspec",
    "pydantic", "pyfastcdc", "rich", "sqlalchemy", "uvicorn", "yaml", "zstandard",
)  # fmt: skip


@dataclass(frozen=True)
class Package:
    """A line of sis/system/packages.list."""

    name: str
    proof: str
    ring: str
    purpose: str


@dataclass(frozen=True)
class Finding:
    """One thing looked at. A `remedy` can be typed, or says what to change."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def examine(state: Path, port: int, ring: str = "run") -> Iterator[Finding]:
    """Every finding about this machine, good ones too."""
    rings = ("run", "test", "bench")
    wanted = rings[: rings.index(ring) + 1]
    yield _python()
    for package in packages():
        if package.ring in wanted:
            yield _package(package)
    yield from _modules()
    yield _root()
    yield _writable(state)
    yield _space(state)
    yield _port(f"port {port}/tcp (HTTP)", socket.SOCK_STREAM, port)
    yield _port("port 67/udp (DHCP)", socket.SOCK_DGRAM, 67)
    yield _port("port 69/udp (TFTP)", socket.SOCK_DGRAM, 69)
    yield from _kernel()


def packages() -> tuple[Package, ...]:
    """The system packages sis needs, from the list that comes with it."""
    text = resources.files("sis.system").joinpath("packages.list").read_text()
    found = []
    for line in text.splitlines():
        words = line.split(None, 3)
        if words and not words[0].startswith("#"):
            found.append(Package(words[0], words[1], words[2], words[3] if len(words) > 3 else ""))
    return tuple(found)


def _python() -> Finding:
    return Finding("python", "ok", f"Python {'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}")


def _package(package: Package) -> Finding:
    if package.proof.startswith("/"):
        there = Path(package.proof).exists()
    elif ".so" in package.proof:
        there = _loads(package.proof)
    else:
        there = process.find(package.proof) is not None
    if there:
        return Finding(package.name, "ok", package.purpose)
    detail = f"{package.proof} is not there ({package.purpose})"
    return Finding(package.name, "missing", detail, f"apt-get install {package.name}")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _modules() -> Iterator[Finding]:
    from importlib.util import find_spec

    for name in _MODULES:
        if find_spec(name) is None:
            yield Finding(f"python: {name}", "missing", "the Python package is not there", "pip install siscluster")


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", "ok", "runs as root")
    return Finding("root", "missing", "images, disks and DHCP need root", "run it as root: sudo sis doctor")


def _writable(state: Path) -> Finding:
    place = _nearest(state)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Finding("state directory", "ok", f"{state} can be written")
    return Finding("state directory", "missing", f"{place} cannot be written", "run as root, or give --state DIR")


def _space(state: Path) -> Finding:
    place = _nearest(state)
    free = shutil.disk_usage(place).free
    detail = f"{human_bytes(free)} free on {place}"
    if free < LEAST_FREE_BYTES:
        remedy = f"free some, or give --state DIR elsewhere: {human_bytes(LEAST_FREE_BYTES)} is little for images"
        return Finding("disk space", "warning", detail, remedy)
    return Finding("disk space", "ok", detail)


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest of its parents that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def _port(check: str, kind: socket.SocketKind, port: int) -> Finding:
    flag = "t" if kind == socket.SOCK_STREAM else "u"
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  # only to see whether it is free
        except PermissionError:
            return Finding(check, "warning", "only root may listen there", "run as root")
        except OSError as error:
            remedy = f"see who has it: ss -l{flag}np 'sport = {port}' (another head is fine)"
            return Finding(check, "warning", f"in use: {error.strerror}", remedy)
    return Finding(check, "ok", "free")


def _kernel() -> Iterator[Finding]:
    looks: tuple[tuple[str, Callable[[], bool], str, str], ...] = (
        ("loop devices", lambda: Path("/dev/loop-control").exists(), "/dev/loop-control is not there", "modprobe loop"),
        ("ext4", lambda: _file_system("ext4"), "the kernel has no ext4", "modprobe ext4"),
        ("squashfs", lambda: _file_system("squashfs"), "the kernel has no squashfs", "modprobe squashfs"),
        ("overlay", lambda: _file_system("overlay"), "the kernel has no overlay", "modprobe overlay"),
        (
            "mount namespaces",
            lambda: Path("/proc/self/ns/mnt").exists(),
            "the kernel has no mount namespaces",
            "use a kernel with CONFIG_NAMESPACES",
        ),
    )
    for check, there, fault, remedy in looks:
        yield Finding(check, "ok", "there") if there() else Finding(check, "warning", fault, remedy)


def _file_system(name: str) -> bool:
    known = Path("/proc/filesystems").read_text().split()
    if name in known:
        return True
    modules = Path("/lib/modules", os.uname().release)
    return any(name in path.name for path in modules.glob(f"kernel/fs/{name}*"))
