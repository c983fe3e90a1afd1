"""How large a benchmark is: what its two versions are made of."""

from __future__ import annotations

from dataclasses import dataclass

from sis.errors import UsageFault
from tests.bench.figures import BASES


@dataclass(frozen=True)
class Size:
    """The recipe of two versions. Packages of v2 come from the updated archive; `old` are only in v1, `new` in v2."""

    name: str
    packages: tuple[str, ...]
    old: tuple[str, ...]
    new: tuple[str, ...]
    leave_out: tuple[str, ...]
    kernel: str | None
    large_bytes: int
    """Length of each of the two large files."""
    large_edits: int
    drifted_files: int
    together: int
    """Nodes that are brought up to date at once."""
    disk_bytes: int
    """The disk all nodes live on, or as many parts of it as there are nodes at once."""
    memory_bytes: int
    """Memory that is there for what is measured, if this machine has three times as much."""
    probe_bytes: int
    """How much is written, sent and hashed to find the limits of the machine."""
    repeats: int
    """Times that a cold installation, five edits and an upgrade are done; the median of each column counts."""
    lasting_repeats: int = 3
    """The same for works that leave the node as it is."""
    left_out: tuple[str, ...] = ()
    """Works that are not done."""
    methods: tuple[str, ...] = ()
    """The methods that are measured when none are named; all of them for none."""


SMALL = Size(
    name="small",
    packages=("python3", "perl", "openssl", "iproute2"),
    old=("bc", "dc", "less"),
    new=("nano", "tree", "file"),
    leave_out=("docs", "man", "locales"),
    kernel=None,
    large_bytes=10_000_000,
    large_edits=50,
    drifted_files=50,
    together=3,
    disk_bytes=4 << 30,
    memory_bytes=512 << 20,
    probe_bytes=100_000_000,
    repeats=1,
    lasting_repeats=1,
    left_out=("newcomers", *BASES),
    methods=("ours", "rsync", "rsync-z", "rsync-c", "casync", "ostree"),
)

FULL = Size(
    name="full",
    packages=(
        *("systemd-sysv", "udev", "dbus", "initramfs-tools", "openssh-server", "openssh-client", "iproute2", "ethtool"),
        *("g++", "gfortran", "make", "dpkg-dev", "gdb", "git", "strace", "vim", "less", "htop", "rsync", "curl"),
        *("openmpi-bin", "libopenmpi-dev", "libhdf5-dev", "libfftw3-dev", "libopenblas0-pthread"),
        *("python3-dev", "python3-numpy", "python3-venv", "perl", "tcl", "locales", "sudo", "man-db", "manpages"),
        *("nfs-common", "munge", "chrony", "rsyslog", "lvm2", "xfsprogs", "pciutils", "ipmitool", "openssl", "bind9"),
        "iputils-ping",
    ),
    old=("cmake", "tmux", "ganglia-monitor"),
    new=("nginx-light", "python3-pip", "fio"),
    leave_out=(),
    kernel="linux-image-amd64",
    large_bytes=200_000_000,
    large_edits=200,
    drifted_files=200,
    together=8,
    disk_bytes=32 << 30,
    memory_bytes=6 << 30,
    probe_bytes=1_000_000_000,
    repeats=3,
)

SIZES = {size.name: size for size in (SMALL, FULL)}


def named(name: str) -> Size:
    """The size of that name. Raises UsageFault."""
    if name not in SIZES:
        raise UsageFault(f"BENCH={name}: no such size", hint=f"one of {', '.join(SIZES)}")
    return SIZES[name]
