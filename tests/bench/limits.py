"""What this machine can do at best: its disk, its wire, its hashing, a walk of a tree. Measured in the same run."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from sis.system import process
from tests.bench.figures import Limits
from tests.bench.wire import Wire

_PIECE = 4 << 20


def measure(wire: Wire, folder: Path, tree: Path, count: int) -> Limits:
    """Write, send and hash `count` bytes, and walk `tree`."""
    with wire.memory.given():
        written, flushed, read = _disk(folder / "probe", count)
    data = bytes(_PIECE)
    hashed = _fastest(lambda: blake3(data).digest()) / _PIECE
    process.run(["find", str(tree), "-size", "+99999999G"])
    walk_s = min(process.run(["find", str(tree), "-size", "+99999999G"]).seconds for _ in range(3))
    return Limits(
        disk_write=written,
        disk_write_flushed=flushed,
        disk_read=read,
        wire=max(wire.speed(count) for _ in range(2)),
        blake3=1 / hashed,
        walk_s=walk_s,
    )


def machine(folder: Path) -> dict[str, str]:
    """What was measured on. `folder` is on the disk that was."""
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory_kb = int(next(line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")).split()[1])
    file_system = process.run(["findmnt", "-n", "-o", "FSTYPE", "-T", str(folder)], check=False).stdout.strip()
    return {
        "processor": f"{os.cpu_count()} × {processor}",
        "memory": f"{memory_kb / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "file system": file_system or "unknown",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def versions() -> dict[str, str]:
    """The programs that were compared."""
    found = {"sis": _revision(), "Python": platform.python_version()}
    for name in ("rsync", "casync", "ostree", "nginx-light"):
        shown = process.run(["dpkg-query", "-Wf", "${Version}", name], check=False)
        found[name] = shown.stdout.strip() or "none"
    return found


def _revision() -> str:
    """The commit of our own code, and whether it has been changed since."""
    here = Path(__file__).parents[2]
    revision = process.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, check=False).stdout.strip()
    changed = process.run(["git", "status", "--porcelain", "--", "sis"], cwd=here, check=False).stdout.strip()
    return f"{revision or 'unknown'}{' with changes' if changed else ''}"


def _disk(path: Path, count: int) -> tuple[float, float, float]:
    """Bytes a second: into the page cache, until all are on the disk, and from there."""
    piece, buffer = os.urandom(_PIECE), bytearray(_PIECE)
    os.sync()
    started = time.perf_counter()
    try:
        with path.open("wb") as file:
            for _ in range(0, count, _PIECE):
                file.write(piece)
            file.flush()
            written = time.perf_counter() - started
            os.fsync(file.fileno())
            flushed = time.perf_counter() - started
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
        read = time.perf_counter() - started
    finally:
        path.unlink(missing_ok=True)
    return count / written, count / flushed, count / read


def _fastest(work: Callable[[], object], times: int = 20) -> float:
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def _lines(path: str) -> list[str]:
    return Path(path).read_text(errors="replace").splitlines()
