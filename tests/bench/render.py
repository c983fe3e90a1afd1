"""`make bench`, the configurator's part: thousands of nodes rendered, and a preview of one changed key.

Every renderer the tree has a use for takes part; the cluster is that of `render_cluster`. Times are of whole commands
where a command does it, else of the calls the head makes; the best of three, as other work only adds.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from sis.head import applied
from sis.head.renders import Renders
from sis.inventory import db
from sis.system import process
from tests.bench.render_cluster import cluster_text, make_state

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "bench" / "render.md"
_SIS = Path(sys.executable).with_name("sis")
_RUNS = 3
_RENDER_GOAL_S, _PREVIEW_GOAL_S = 20.0, 5.0


def main() -> int:
    """Exit code 1 when a goal was missed. BENCH_NODES says how many nodes there are."""
    nodes = int(os.environ.get("BENCH_NODES") or 5000)
    with tempfile.TemporaryDirectory(prefix="sis-bench-render-") as scratch:
        state = Path(scratch)
        make_state(state, nodes).close()
        applied.keep_site(state, applied.read_site(state / "site"))
        files = _layers(state, 0, nodes)[1] // nodes
        one = _best(lambda: _layers(state, 0, nodes))
        two = _best(lambda: _on_two(state, nodes))
        again = _again(state)
        (state / "cluster.yaml").write_text(cluster_text(nodes, timezone="Asia/Tokyo"))
        preview = _best(lambda: _command(state, "config", "preview", expected=4))
        lint = _best(lambda: _command(state, "config", "lint", expected=0))
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    rows = [
        (f"{nodes} nodes rendered, {files} files each, one process", one, _RENDER_GOAL_S),
        (f"{nodes} nodes rendered, two processes", two, _RENDER_GOAL_S),
        ("the same nodes again, nothing changed (one process that knows them)", again, None),
        (f"`sis config preview`, one changed key, {nodes} nodes change", preview, _PREVIEW_GOAL_S),
        (f"`sis config lint`, {nodes} nodes", lint, None),
    ]
    page = _page(rows, peak_mib)
    if nodes == 5000:
        _PAGE.write_text(page)
    print(page)
    return 1 if two > _RENDER_GOAL_S or preview > _PREVIEW_GOAL_S else 0


def _layers(state: Path, first: int, last: int) -> tuple[float, int]:
    """Seconds and files of a fresh head's answers for nodes first..last, from opening the database on."""
    began = time.perf_counter()
    inventory = db.open(state / "state.db")
    renders = Renders(state, inventory)
    files = 0
    for node in inventory.nodes.list()[first:last]:
        files += len(renders.desired(node).layer)
    inventory.close()
    return time.perf_counter() - began, files


def _on_two(state: Path, nodes: int) -> tuple[float, int]:
    began = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        done = [pool.submit(_layers, state, first, first + nodes // 2) for first in (0, nodes // 2)]
        files = sum(each.result()[1] for each in done)
    return time.perf_counter() - began, files


def _again(state: Path) -> float:
    """Seconds of the second round of one head."""
    inventory = db.open(state / "state.db")
    renders = Renders(state, inventory)
    found = inventory.nodes.list()
    for node in found:
        renders.desired(node)
    began = time.perf_counter()
    for node in found:
        renders.desired(node)
    seconds = time.perf_counter() - began
    inventory.close()
    return seconds


def _command(state: Path, *words: str, expected: int) -> tuple[float, int]:
    began = time.perf_counter()
    done = process.run([_SIS, "--state", state, *words], check=False, timeout_s=600)
    assert done.returncode == expected, done.stdout + done.stderr
    return time.perf_counter() - began, 0


def _best(work: Callable[[], tuple[float, int]]) -> float:
    return min(work()[0] for _ in range(_RUNS))


def _page(rows: list[tuple[str, float, float | None]], peak_mib: int) -> str:
    how = (
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}; load when it ended: {os.getloadavg()[0]:.1f}. Made by "
        "`python -m tests.bench.render`; each figure is the best of three. A node has a bond, a VLAN, IPv6, IPoIB, 50 "
        "accounts, site files and every file that lists the cluster."
    )
    lines = [
        "# Rendering a cluster",
        "",
        how,
        "",
        "| work | seconds | goal | of the goal |",
        "|---|---:|---:|---:|",
    ]
    for what, seconds, goal in rows:
        told = ("-", "-") if goal is None else (f"{goal:.0f}", f"{100 * seconds / goal:.0f} %")
        lines.append(f"| {what} | {seconds:.1f} | {told[0]} | {told[1]} |")
    lines += ["", f"The largest of the processes took {peak_mib} MiB.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
