"""A head and a node on one machine: two network namespaces joined by a cable that counts."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from sis.errors import SisError
from sis.system import process
from tests.bench import counters, memory
from tests.bench.figures import Measured
from tests.vm import lab

HEAD = "10.77.9.1"
NODE = "10.77.9.2"
DEADLINE_S = 3600.0
_INTERFACE = "wire0"
GIGABIT_BYTES = 125_000_000
"""What a wire of 1 Gbit/s carries in a second."""

_IDLE_INTERVAL_S = 0.3
_IDLE_CPU_S = 0.005
"""Processor time of a head that only waits is below this in that interval."""

_FAILED = "failed: "
_GATE_S = 0.2
"""What a program takes at most from being counted to waiting at the gate."""

_QUIET_DISK_ACTS = 15
_QUIET_DISK_INTERVAL_S = 0.3
_QUIET_DISK_WITHIN_S = 60.0
"""A disk is quiet that reads, writes and discards less often than this in its interval; it is waited for this long."""


class Wire:
    """Namespaces `sis-<pid>-1` (the head) and `-2` (the node). Ends what runs in them when the block is left.

    memory_bytes  how much memory is there for what is measured (`memory.Held`)
    """

    def __init__(self, folder: Path, memory_bytes: int = 0) -> None:
        self.memory = memory.Held(memory_bytes)
        self.head = f"sis-{os.getpid()}-1"
        self.node = f"sis-{os.getpid()}-2"
        self._folder = folder
        self._accounts: dict[str, counters.Account] = {}
        self._programs: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def __enter__(self) -> Wire:
        lab.sweep()
        counters.sweep()
        try:
            self._lay()
            self.memory.__enter__()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.memory.__exit__()
        self._remove()

    @contextlib.contextmanager
    def serving(self, argv: process.Argv, port: int) -> Iterator[None]:
        """A program that listens on `port` of the head while the block runs. Raises SisError when it does not."""
        output = self._folder / f"{Path(argv[0]).name}-{port}.log"
        with process.running(self._command(self.head, argv), output=output) as program:
            self._wait_for(port, program, output)
            self._wait_until_idle()
            yield

    @contextlib.contextmanager
    def slowed(self, bytes_per_s: int) -> Iterator[None]:
        """No more than this goes through the wire in a second, either way, while the block runs."""
        shape = ["root", "tbf", "rate", f"{bytes_per_s * 8}bit", "burst", "1mb", "latency", "50ms"]
        ends = (self.head, self.node)
        try:
            for end in ends:
                process.run(["tc", "-n", end, "qdisc", "replace", "dev", _INTERFACE, *shape])
            yield
        finally:
            for end in ends:
                process.run(["tc", "-n", end, "qdisc", "delete", "dev", _INTERFACE, "root"], check=False)

    def measure(self, *commands: process.Argv, on: str = "node", before: Callable[[], None] = lambda: None) -> Measured:
        """What these commands, one after the other, take on the `node` or on the `head`; `before` is done before."""
        return self.measure_together([commands], on=on, before=before)

    def measure_together(
        self, chains: Sequence[Sequence[process.Argv]], *, on: str = "node", before: Callable[[], None] = lambda: None
    ) -> Measured:
        """The same for chains of commands that run at the same time. Data not yet on disk is written out before."""
        namespace = self.node if on == "node" else self.head
        os.sync()
        before()
        _wait_for_a_quiet_disk()
        self._ended = False
        peak = counters.Peak()
        account = self._accounts[namespace]
        with _Gate(self._folder / "gate") as gate, peak.watching(account), ThreadPoolExecutor(len(chains)) as pool:
            count = len(account.pids()) + len(chains)
            running = [pool.submit(self._chain, namespace, at, chain, gate) for at, chain in enumerate(chains)]
            try:
                _wait_until_ready(account, count, running)
                with self.memory.given():
                    sent, head_cpu, node_cpu = self._read()
                    busy = counters.busy_s()
                    started = time.perf_counter()
                    gate.open(len(chains))
                    faults = [each.result() for each in running]
                    wall_s = time.perf_counter() - started
                    os.sync()
                    on_disk_s = time.perf_counter() - started
                    busy = counters.busy_s() - busy
                    after, head_cpu_after, node_cpu_after = self._read()
            except BaseException:
                self._end_programs()
                raise
        head_cpu, node_cpu = head_cpu_after - head_cpu, node_cpu_after - node_cpu
        return Measured(
            wall_s=wall_s,
            on_disk_s=on_disk_s,
            down_bytes=after.received - sent.received,
            up_bytes=after.sent - sent.sent,
            head_cpu_s=head_cpu,
            node_cpu_s=node_cpu,
            rss_bytes=peak.bytes,
            rest_cpu_s=max(0.0, busy - head_cpu - node_cpu),
            fault="; ".join(filter(None, faults)),
        )

    def speed(self, count: int) -> float:
        """Bytes a second one TCP connection carries from head to node, nothing else being done with them."""
        with lab.inside(self.head):
            listening = socket.create_server((HEAD, 7))
        with lab.inside(self.node):
            receiving = socket.create_connection((HEAD, 7))
        sending, _ = listening.accept()
        with listening, receiving, sending:
            sender = threading.Thread(target=_send, args=(sending, count))
            started = time.perf_counter()
            sender.start()
            space = bytearray(1 << 20)
            left = count
            while left:
                left -= receiving.recv_into(space)
            seconds = time.perf_counter() - started
            sender.join()
        return count / seconds

    def _end_programs(self) -> None:
        """Interrupted, or out of time: what is being measured ends, and nothing more begins."""
        self._ended = True
        for program in tuple(self._programs):
            process.end_group(program.pid)

    def _lay(self) -> None:
        for namespace in (self.head, self.node):
            process.run(["ip", "netns", "add", namespace])
            self._accounts[namespace] = counters.account(namespace, namespace)
            process.run(self._inside(namespace, ["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]))
            process.run(["ip", "-n", namespace, "link", "set", "lo", "up"])
            if namespace == self.node:
                ends = ["ip", "-n", self.head, "link", "add", _INTERFACE, "type", "veth", "peer", "name", _INTERFACE]
                process.run([*ends, "netns", self.node])
        for namespace, address in ((self.head, HEAD), (self.node, NODE)):
            process.run(["ip", "-n", namespace, "address", "add", f"{address}/30", "dev", _INTERFACE])
            process.run(["ip", "-n", namespace, "link", "set", _INTERFACE, "up"])

    def _remove(self) -> None:
        for namespace in (self.node, self.head):
            for pid in process.run(["ip", "netns", "pids", namespace], check=False).stdout.split():
                if int(pid) != os.getpid():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
            process.run(["ip", "netns", "delete", namespace], check=False)
        for account in self._accounts.values():
            account.close()
        self._accounts.clear()

    def _read(self) -> tuple[counters.Traffic, float, float]:
        shown = process.run(["ip", "-n", self.node, "-s", "-j", "link", "show", "dev", _INTERFACE]).stdout
        traffic = counters.parse_traffic(shown)
        return traffic, self._accounts[self.head].cpu_s(), self._accounts[self.node].cpu_s()

    def _chain(self, namespace: str, number: int, chain: Sequence[process.Argv], gate: _Gate) -> str:
        """Run commands, once the gate opens, until one fails. Returns what it said, or ""."""
        output = self._folder / f"{namespace}-{number}.log"
        output.unlink(missing_ok=True)
        if self._ended:
            return "ended from outside"
        script = "\n".join(('read -r _ <"$0"', *(_told_apart(argv) for argv in chain)))
        program = process.start(self._command(namespace, ["sh", "-c", script, gate.path]), output=output)
        self._programs.add(program)
        try:
            code = program.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.end_group(program.pid)
            program.wait()
            return f"{_names(chain)} did not end within {DEADLINE_S:.0f} s"
        finally:
            self._programs.discard(program)
        if code:
            lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
            *said, name = lines[-4:] or [""]
            name = name.removeprefix(_FAILED) if name.startswith(_FAILED) else _names(chain)
            return f"{name} ended with {code}: {' / '.join(said)}"[:300]
        return ""

    def _command(self, namespace: str, argv: process.Argv) -> tuple[str, ...]:
        return self._inside(namespace, [*self._accounts[namespace].words(), *argv])

    def _inside(self, namespace: str, argv: process.Argv) -> tuple[str, ...]:
        return ("nsenter", f"--net=/run/netns/{namespace}", "--", *(os.fspath(word) for word in argv))

    def _wait_for(self, port: int, program: subprocess.Popen[bytes], output: Path) -> None:
        deadline = time.monotonic() + 30
        while program.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), lab.inside(self.node), socket.create_connection((HEAD, port), 0.5):
                return
            time.sleep(0.05)
        said = output.read_text(errors="replace").splitlines()[-10:]
        raise SisError(f"{output.stem} does not listen on port {port}", details=said)

    def _wait_until_idle(self) -> None:
        """What a server does once, when it starts, is no cost of the first work."""
        account = self._accounts[self.head]
        deadline = time.monotonic() + 30
        before = account.cpu_s()
        while time.monotonic() < deadline:
            time.sleep(_IDLE_INTERVAL_S)
            now = account.cpu_s()
            if now - before < _IDLE_CPU_S:
                return
            before = now


class _Gate:
    """A pipe that programs wait at, so that what they need before their first act is not measured."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> _Gate:
        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path)
        self._pipe = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pipe)
        self.path.unlink()

    def open(self, count: int) -> None:
        """So many programs, each of which reads a line, go on."""
        os.write(self._pipe, b"\n" * count)


def _names(chain: Sequence[process.Argv]) -> str:
    return " or ".join(Path(argv[0]).name for argv in chain)


def _told_apart(argv: process.Argv) -> str:
    """A command as a line of a script that ends with it when it fails, having said which it was."""
    words = [os.fspath(word) for word in argv]
    name = shlex.quote(_FAILED + Path(words[0]).name)
    return f"{shlex.join(words)} || {{ code=$?; printf '\\n%s\\n' {name}; exit $code; }}"


def _wait_until_ready(account: counters.Account, count: int, running: Sequence[Future[str]]) -> None:
    """Until so many programs are counted, and wait."""
    deadline = time.monotonic() + 10
    while len(account.pids()) < count and time.monotonic() < deadline and not any(it.done() for it in running):
        time.sleep(0.02)
    time.sleep(_GATE_S)


def _wait_for_a_quiet_disk() -> None:
    """What was written and deleted before keeps the disk busy for a while after sync (blocks are discarded)."""
    deadline = time.monotonic() + _QUIET_DISK_WITHIN_S
    before = _disk_acts()
    while time.monotonic() < deadline:
        time.sleep(_QUIET_DISK_INTERVAL_S)
        now = _disk_acts()
        if now - before < _QUIET_DISK_ACTS:
            return
        before = now


def _disk_acts() -> int:
    """Reads, writes and discards of all disks so far."""
    fields = (line.split() for line in Path("/proc/diskstats").read_text().splitlines())
    return sum(int(line[3]) + int(line[7]) + int(line[14]) for line in fields)


def _send(connection: socket.socket, count: int) -> None:
    piece = bytes(1 << 20)
    while count:
        part = min(count, len(piece))
        connection.sendall(memoryview(piece)[:part])
        count -= part
