"""`make bench`, the configurator's part: thousands of nodes rendered, and a preview of one changed key.

Every renderer the tree has a use for takes part; the cluster is that of `render_cluster`. Times are of whole commands
where a command does it, else of the calls the head makes; the better of two, as other work only adds.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from sis.head import applied
from sis.head.renders import Renders
from sis.inventory import db
from sis.system import process
from tests.bench.render_cluster import cluster_text, make_state

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "bench" / "render.md"
_SIS = Path(sys.executable).with_name("sis")
_RUNS = 2
_BUSY = 1.5
"""More waiting programs a core than this: others are at work."""
_RENDER_GOAL_S, _PREVIEW_GOAL_S = 20.0, 5.0


class Took(NamedTuple):
    """What a work took; `cpu_s` counts all processes and does not grow while other programs hold the machine."""

    wall_s: float
    cpu_s: float


class Row(NamedTuple):
    what: str
    took: Took
    goal_s: float | None = None


def main() -> int:
    """Exit code 1 when a goal was missed. BENCH_NODES says how many nodes there are."""
    nodes = int(os.environ.get("BENCH_NODES") or 5000)
    with tempfile.TemporaryDirectory(prefix="sis-bench-render-") as scratch:
        state = Path(scratch)
        make_state(state, nodes).close()
        applied.keep_site(state, applied.read_site(state / "site"))
        files = _layers(state, 0, nodes) // nodes
        rows = [
            Row(
                f"{nodes} nodes rendered from the database on, {files} files each",
                _best(lambda: _layers(state, 0, nodes)),
                _RENDER_GOAL_S,
            ),
            Row("the same nodes asked again, nothing changed", _again(state)),
        ]
        (state / "cluster.yaml").write_text(cluster_text(nodes, timezone="Asia/Tokyo"))
        preview = _best(lambda: _command(state, "config", "preview", expected=4))
        rows.append(Row(f"`sis config preview`: one changed key, {nodes} nodes change", preview, _PREVIEW_GOAL_S))
        rows.append(
            Row(f"`sis config lint`: {nodes} nodes", _best(lambda: _command(state, "config", "lint", expected=0)))
        )
    page = _page(rows, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
    if nodes == 5000:
        _PAGE.write_text(page)
    print(page)
    return 1 if any(row.goal_s is not None and row.took.cpu_s > row.goal_s for row in rows) else 0


def _layers(state: Path, first: int, last: int) -> int:
    """The files of a fresh head's answers for nodes first..last, from opening the database on."""
    inventory = db.open(state / "state.db")
    renders = Renders(state, inventory)
    files = sum(len(renders.desired(node).layer) for node in inventory.nodes.list()[first:last])
    inventory.close()
    return files


def _again(state: Path) -> Took:
    """The second round of one head."""
    inventory = db.open(state / "state.db")
    renders = Renders(state, inventory)
    found = inventory.nodes.list()

    def ask() -> None:
        for node in found:
            renders.desired(node)

    ask()
    took = _best(ask)
    inventory.close()
    return took


def _command(state: Path, *words: str, expected: int) -> None:
    done = process.run([_SIS, "--state", state, *words], check=False, timeout_s=600)
    assert done.returncode == expected, done.stdout + done.stderr


def _best(work: Callable[[], object]) -> Took:
    took = []
    for _ in range(_RUNS):
        began, used = time.perf_counter(), sum(os.times()[:4])
        work()
        took.append(Took(time.perf_counter() - began, sum(os.times()[:4]) - used))
    return min(took, key=lambda each: each.cpu_s)


def _page(rows: list[Row], peak_mib: int) -> str:
    load = os.getloadavg()[0]
    how = (
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, load {load:.1f}. Made by `python -m tests.bench.render`; "
        f"the best of {_RUNS}, each by one process. A node has a bond, a VLAN, IPv6, IPoIB, 50 accounts, site files "
        "and every file that lists the cluster."
    )
    lines = ["# Rendering a cluster", "", how]
    if load > _BUSY * (os.cpu_count() or 1):
        lines.append("The machine was busy with other work: CPU seconds are what a quiet one takes at most.")
    lines += ["", "| work | seconds | CPU seconds | goal | CPU of the goal |", "|---|---:|---:|---:|---:|"]
    for what, took, goal_s in rows:
        told = ("-", "-") if goal_s is None else (f"{goal_s:.0f}", f"{100 * took.cpu_s / goal_s:.0f} %")
        lines.append(f"| {what} | {took.wall_s:.1f} | {took.cpu_s:.1f} | {told[0]} | {told[1]} |")
    lines += ["", f"The largest of the processes took {peak_mib} MiB.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
