"""Power cuts in user space: a run's writes to a disk are recorded, and the disk is made as a cut anywhere leaves it."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sis.system import process

PLUGIN = Path(__file__).with_name("nbd_write_log.py")
RECORD = struct.Struct("<cQI")
PIECE_BYTES = 4096
START_S = 60.0


@dataclass(frozen=True)
class Event:
    """A write, or (with `data` None) a flush."""

    offset: int
    data: bytes | None


@dataclass(frozen=True)
class Recorded:
    """A disk as it was before a run, and what the run sent to it."""

    base: Path
    events: tuple[Event, ...]

    def after_cut(self, at: int, rng: random.Random, disk: Path) -> None:
        """Make `disk` what a power cut just before event `at` leaves behind.

        What was written before the last flush is there; of later writes each piece is, or is not, by chance.
        """
        flushed = max((n for n in range(at) if self.events[n].data is None), default=-1)
        process.run(["cp", "--sparse=always", self.base, disk])
        with disk.open("r+b", buffering=0) as file:
            for number, event in enumerate(self.events[:at]):
                data = event.data or b""
                for start in range(0, len(data), PIECE_BYTES):
                    if number <= flushed or rng.random() < 0.5:
                        os.pwrite(file.fileno(), data[start : start + PIECE_BYTES], event.offset + start)


def record(base: Path, folder: Path, run: Callable[[Path], None], *, options: str = "rw") -> Recorded:
    """Mount a copy of the file system image `base`, run, unmount; what the disk was sent meanwhile."""
    folder.mkdir()
    log = folder / "writes.log"
    with served(base, log, folder) as disk, mounted(disk, folder / "mnt", options=options) as root:
        run(root)
    return Recorded(base, tuple(events(log)))


@contextlib.contextmanager
def served(base: Path, log: Path, folder: Path) -> Iterator[Path]:
    """A file, behind FUSE, whose writes are logged."""
    socket, fuse = folder / "nbd.sock", folder / "fuse"
    fuse.mkdir()
    with _program(
        ["nbdkit", "-f", "-U", socket, "python", PLUGIN, f"img={base}", f"log={log}"], folder / "nbdkit.log", socket
    ):
        try:
            with _program(["nbdfuse", fuse / "disk", "--unix", socket], folder / "nbdfuse.log", fuse / "disk"):
                try:
                    yield fuse / "disk"
                finally:
                    _unmount(fuse)
        finally:
            process.run(["umount", "--quiet", "--lazy", fuse], check=False)


@contextlib.contextmanager
def mounted(disk: Path, where: Path, *, options: str = "rw") -> Iterator[Path]:
    """A file system image, mounted by way of a loop device."""
    where.mkdir(exist_ok=True)
    process.run(["mount", "-o", f"loop,{options}", disk, where])
    try:
        yield where
    finally:
        process.run(["umount", where])


def _unmount(where: Path) -> None:
    """A loop device lets go of its file a moment after its own file system is unmounted."""
    deadline = time.monotonic() + START_S
    while process.run(["umount", where], check=False).returncode != 0:
        assert time.monotonic() < deadline, f"{where} stays busy"
        time.sleep(0.1)


def events(log: Path) -> Iterator[Event]:
    raw, at = log.read_bytes(), 0
    while at + RECORD.size <= len(raw):
        kind, offset, size = RECORD.unpack_from(raw, at)
        at += RECORD.size
        yield Event(offset, raw[at : at + size] if kind == b"W" else None)
        at += size


@contextlib.contextmanager
def _program(argv: process.Argv, output: Path, appears: Path) -> Iterator[None]:
    """A program for as long as the block lasts, once it has made `appears`."""
    child = process.start(argv, output=output, env={"PYTHONPATH": ":".join(sys.path)})
    try:
        deadline = time.monotonic() + START_S
        while not appears.exists():
            assert child.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.02)
        yield
    finally:
        process.stop(child)
