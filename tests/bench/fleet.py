"""`python -m tests.bench.fleet`: commands, pages and the head's memory with 5,000 nodes; whole processes."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sis.image import commit
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.inventory import db
from sis.inventory.clock import now
from sis.inventory.exchange import forms
from sis.inventory.model import Assignment, Interface, Network, NewNode
from sis.inventory.wiring import FREE
from sis.wire import Event

NODES = 5_000
RUNS = 3
_REPOSITORY = Path(__file__).resolve().parents[2]
_RESULT = _REPOSITORY / "docs" / "bench" / "fleet.md"
_SIS = (sys.executable, "-m", "sis")


@dataclass(frozen=True)
class Work:
    """One thing measured: what is typed or asked, and the goal in seconds (None: none is set)."""

    name: str
    words: tuple[str, ...]
    goal_s: float | None = None
    database: str = "SQLite"


@dataclass(frozen=True)
class Figure:
    """`wall_s` and `cpu_s` are of the best run."""

    work: Work
    wall_s: float
    cpu_s: float


WORKS = (
    Work("list all nodes", ("node", "list"), 0.5),
    Work("status of all", ("status",), 1.0),
    Work("set the image of all", ("node", "set", "@*", "image=compute@{turn}"), 1.0),
    Work("select by image and state", ("node", "list", "-l", "image=compute", "-l", "state=pulling", "-o", "name")),
    Work("one node, requested beside observed", ("node", "show", "n0001")),
    Work("export for Ansible", ("inventory", "export", "--format", "ansible")),
    Work("export as a cluster file", ("inventory", "export", "--format", "yaml")),
    Work("what would be pruned", ("inventory", "prune", "-n")),
)
FOLLOWED = (
    Work("bring a cluster file in that changes nothing", ("cluster", "apply", "cluster.yaml")),
    Work("set the image of all, in the followed file too", ("node", "set", "@*", "image=compute@{turn}")),
    Work("set one node, in the followed file too", ("node", "set", "n0001", "timezone={zone}")),
)


def main() -> int:
    """Measure all, write docs/bench/fleet.md; exit code 1 when a goal was missed."""
    folder = Path(tempfile.mkdtemp(prefix="sis-fleet-"))
    try:
        added_s = _make(folder)
        figures = [_measured(folder, work) for work in WORKS]
        memory, page_s = _head(folder)
        _follow(folder)
        figures += [_measured(folder, work) for work in FOLLOWED]
    finally:
        shutil.rmtree(folder)
    text = _text(figures, added_s, memory, page_s)
    _RESULT.write_text(text)
    sys.stdout.write(text)
    return 1 if any(each.work.goal_s is not None and each.wall_s > each.work.goal_s for each in figures) else 0


def _make(folder: Path) -> float:
    """A store with two generations and an inventory of NODES nodes with events. Returns how long adding took."""
    tree = folder / "tree"
    (tree / "etc").mkdir(parents=True)
    store = LocalStore(folder / "store")
    store.prepare()
    for generation in (1, 2):
        (tree / "etc/motd").write_text(f"welcome to {generation}\n")
        commit.commit(store, "compute", tree, spec='{"image":"compute","disk":"single"}')
    with store.changing_ref("compute") as ref:
        assert ref is not None
        store.write_ref(refs.publish(ref, 1, "stable").ref)
    new = [
        NewNode(
            f"n{at:04}",
            (Interface("eth0", f"52:54:00:00:{at >> 8:02x}:{at & 255:02x}", FREE, "mgmt"),),
            ("compute", f"rack{at // 40:03}"),
            Assignment("compute", "1", "single"),
        )
        for at in range(1, NODES + 1)
    ]
    with db.open(folder / "state.db") as inventory:
        inventory.networks.put(Network("mgmt", "10.64.0.0/16", data={"head": "10.64.0.1"}))
        began = time.perf_counter()
        nodes = inventory.nodes.add(new)
        took = time.perf_counter() - began
        for node in nodes:
            stage = [
                Event(time=now(), stage="pulling", outcome=outcome, message="image") for outcome in ("start", "note")
            ]
            inventory.history.record_events(node.id, stage)
    return took


def _follow(folder: Path) -> None:
    """Have the inventory follow a cluster file that says all it has: an entry for each node, with its MAC."""
    with db.open(folder / "state.db") as inventory:
        (folder / "cluster.yaml").write_text(forms.write(inventory, inventory.nodes.list(), "yaml"))


def _measured(folder: Path, work: Work) -> Figure:
    best: tuple[float, float] | None = None
    for turn in range(RUNS):
        zone = ("Europe/Paris", "Asia/Tokyo")[turn % 2]
        words = [word.format(turn=2 - turn % 2, zone=zone) for word in work.words]
        took = _run([*_SIS, "--state", str(folder), *words], folder)
        best = min(best or took, took)
    assert best is not None
    sys.stderr.write(f"{work.name}: {best[0]:.2f} s\n")
    return Figure(work, *best)


def _run(argv: Sequence[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one process, started and ended."""
    began = time.perf_counter()
    child = subprocess.Popen(
        argv, cwd=folder, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(_REPOSITORY)}
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if child.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {child.returncode}")
    return wall, usage.ru_utime + usage.ru_stime


def _head(folder: Path) -> tuple[int, dict[str, float]]:
    """The memory of a head that answered what a console asks, and how long its answers took at best."""
    answers: dict[str, float] = {}
    with _running(folder) as (pid, port):
        with db.open(folder / "state.db") as inventory:
            token = inventory.admins.add_token("bench", "admin")
            code = inventory.admins.new_login("bench", "admin")
        session = _asked(port, f"/login?code={code}", "").partition(";")[0]
        for path in ("/", "/drift", "/api/v1/nodes", "/metrics"):
            times = []
            for _ in range(RUNS):
                began = time.perf_counter()
                _asked(port, path, token if path.startswith(("/api", "/metrics")) else session)
                times.append(time.perf_counter() - began)
            answers[path] = min(times)
        status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024, answers


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[tuple[int, int]]:
    """A head's process id and port, for as long as the block lasts."""
    argv = [*_SIS, "--state", str(folder), "head", "run", "--listen", "127.0.0.1:0"]
    url = folder / "run" / "head.url"
    url.unlink(missing_ok=True)
    child = subprocess.Popen(argv, cwd=folder, env={**os.environ, "PYTHONPATH": str(_REPOSITORY)})
    try:
        deadline = time.monotonic() + 60
        while not url.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        yield child.pid, int(url.read_text().strip().rpartition(":")[2])
    finally:
        child.terminate()
        child.wait(30)


def _asked(port: int, path: str, key: str) -> str:
    """Ask for a page; returns the cookie it sets, "" for none."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Cookie": key} if key.startswith("sis_session") else {"Authorization": f"Bearer {key}"} if key else {}
    line.request("GET", path, headers=headers)
    answer = line.getresponse()
    answer.read()
    cookie = answer.getheader("set-cookie") or ""
    line.close()
    if answer.status >= 400:
        raise SystemExit(f"{path}: {answer.status}")
    return cookie


def _text(figures: Sequence[Figure], added_s: float, memory: int, page_s: dict[str, float]) -> str:
    load = os.getloadavg()[1]
    lines = [
        "# 5,000 nodes",
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d} by `python -m tests.bench.fleet`: whole processes, from the shell and",
        f"back, on {os.cpu_count()} cores, the best of {RUNS} runs. Load average of the machine meanwhile: {load:.1f};",
        "where that is more than its cores, wall seconds tell of others' work, and CPU seconds are nearer the truth.",
        "",
        "| work | goal | wall | CPU |",
        "|---|---|---|---|",
    ]
    for each in figures:
        goal = f"{each.work.goal_s:.1f} s" if each.work.goal_s else "–"
        typed = "sis " + " ".join(each.work.words).replace("{turn}", "2").replace("{zone}", "Asia/Tokyo")
        lines.append(f"| {each.work.name}: `{typed}` | {goal} | {each.wall_s:.2f} s | {each.cpu_s:.2f} s |")
    lines += [
        "",
        f"Defining the {NODES:,} nodes in one transaction: {added_s:.2f} s.",
        "",
        f"The head, after answering all of this {RUNS} times: **{memory / 1e6:.0f} MB** at most (goal: below 300 MB).",
        "",
        "| asked | best |",
        "|---|---|",
        *(f"| `{path}` | {seconds * 1000:.0f} ms |" for path, seconds in page_s.items()),
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
