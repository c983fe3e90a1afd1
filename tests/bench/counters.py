"""What is counted: bytes by interface, processor time by control group, memory by process. Parsing is pure."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from sis.system import process

_GROUPS = Path("/sys/fs/cgroup")
_GROUP_NAME = re.compile(r"sis-([0-9]+)-[0-9]+")
_SAMPLE_S = 0.05


class Traffic(NamedTuple):
    """Bytes an interface has received and sent, headers included."""

    received: int
    sent: int


def parse_traffic(text: str) -> Traffic:
    """The counters in the output of `ip -s -j link show dev X`. Raises ValueError."""
    try:
        (link,) = json.loads(text)
        counted = link.get("stats64") or link["stats"]
        return Traffic(int(counted["rx"]["bytes"]), int(counted["tx"]["bytes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not the counters of one interface: {text[:80]!r}") from error


def parse_usage(text: str, kind: str) -> float:
    """Seconds of processor time in a control group's file: `cpuacct.usage` (v1) or `cpu.stat` (v2)."""
    if kind == "v1":
        return int(text) / 1e9
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) / 1e6
    raise ValueError("cpu.stat without usage_usec")


def parse_peak(text: str) -> int:
    """Bytes of the line VmHWM in /proc/PID/status; 0 for a process that has no memory (any more)."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def parse_ticks(text: str) -> int:
    """Clock ticks used by a process and by its children that have ended, of /proc/PID/stat."""
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def parse_busy(text: str) -> int:
    """Clock ticks the processors were not idle, of /proc/stat; those a hypervisor took away are not in it."""
    user, nice, system, _idle, _waiting, interrupts, soft = map(int, text.split(maxsplit=8)[1:8])
    return user + nice + system + interrupts + soft


def busy_s() -> float:
    """Seconds all processors together have been busy, with whatever."""
    return parse_busy(Path("/proc/stat").read_text()) / os.sysconf("SC_CLK_TCK")


class Account(Protocol):
    """Counts the processor time of the programs started with `words` before their own."""

    def words(self) -> tuple[str, ...]: ...
    def cpu_s(self) -> float: ...
    def pids(self) -> list[int]: ...
    def close(self) -> None: ...


class GroupAccount:
    """A control group of its own, of either version."""

    def __init__(self, name: str, kind: str) -> None:
        self._kind = kind
        self._folder = (_GROUPS / "cpuacct" if kind == "v1" else _GROUPS) / name
        self._folder.mkdir()

    def words(self) -> tuple[str, ...]:
        return ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self._folder))

    def cpu_s(self) -> float:
        name = "cpuacct.usage" if self._kind == "v1" else "cpu.stat"
        return parse_usage((self._folder / name).read_text(), self._kind)

    def pids(self) -> list[int]:
        return [int(word) for word in (self._folder / "cgroup.procs").read_text().split()]

    def close(self) -> None:
        for _ in range(50):
            try:
                self._folder.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.1)
            else:
                return


class ProcessAccount:
    """Without control groups: our children that have ended (on either side), and what still runs in the namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def words(self) -> tuple[str, ...]:
        return ()

    def cpu_s(self) -> float:
        ticks = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                ticks += parse_ticks(Path(f"/proc/{pid}/stat").read_text())
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ticks / os.sysconf("SC_CLK_TCK") + ended.ru_utime + ended.ru_stime

    def pids(self) -> list[int]:
        listed = process.run(["ip", "netns", "pids", self._namespace], check=False)
        return [int(word) for word in listed.stdout.split() if int(word) != os.getpid()]

    def close(self) -> None:
        pass


def kind_of_groups() -> str:
    """`v1`, `v2`, or "" where there are none we may make."""
    if (_GROUPS / "cpuacct" / "cpuacct.usage").is_file():
        return "v1"
    return "v2" if (_GROUPS / "cgroup.controllers").is_file() and os.access(_GROUPS, os.W_OK) else ""


def account(name: str, namespace: str) -> Account:
    """An account for the programs of one side."""
    kind = kind_of_groups()
    return GroupAccount(name, kind) if kind else ProcessAccount(namespace)


def sweep() -> None:
    """Remove control groups of benchmarks that are gone."""
    for folder in (_GROUPS / "cpuacct", _GROUPS):
        for path in folder.glob("sis-*"):
            found = _GROUP_NAME.fullmatch(path.name)
            if found and not Path(f"/proc/{found[1]}").exists():
                with contextlib.suppress(OSError):
                    path.rmdir()


class Peak:
    """The largest resident memory any one process of an account ever had while this was watching."""

    def __init__(self) -> None:
        self.bytes = 0

    @contextlib.contextmanager
    def watching(self, account: Account) -> Iterator[None]:
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(account, ended), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, account: Account, ended: threading.Event) -> None:
        while not ended.wait(_SAMPLE_S):
            for pid in account.pids():
                with contextlib.suppress(OSError):
                    self.bytes = max(self.bytes, parse_peak(Path(f"/proc/{pid}/status").read_text()))
