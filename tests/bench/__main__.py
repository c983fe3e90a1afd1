"""`make bench`: our sync beside rsync, casync and ostree, on the same two versions of an image, in one run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from sis.errors import Refused, SisError
from sis.system import locks, process
from tests.bench import disk, figures, limits, plot, scale, sizes, table, trees, works
from tests.bench.figures import Figure, Run, TreeFacts
from tests.bench.methods import chosen
from tests.bench.methods.method import HTTP_PORT, Method, Scene
from tests.bench.wire import HEAD, Wire

_REPOSITORY = Path(__file__).resolve().parents[2]
_RESULTS = _REPOSITORY / "docs" / "bench"
_UNDER_WAY = "run.json"
_PROGRAMS = ("rsync", "casync", "ostree", "nginx", "mmdebstrap", "ip")

_started = time.monotonic()


def main() -> int:
    """Exit code 0, or 1 when a work of ours failed or left a tree that rsync finds different."""
    name = os.environ.get("BENCH") or "full"
    size = None if name == "scale" else sizes.named(name)
    methods = chosen(_names("BENCH_METHODS") or (size.methods if size else ()))
    folder = Path(os.environ.get("BENCH_DIR") or _REPOSITORY / ".demo" / "bench").resolve() / name
    _need_programs()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)
    folder.mkdir(parents=True, exist_ok=True)
    with locks.hold(folder / "lock", f"benchmark {name}"):
        return _scaled(folder) if size is None else _compared(size, methods, folder)


def _compared(size: sizes.Size, methods: Sequence[type[Method]], folder: Path) -> int:
    """Ours beside the others, on the trees of a size."""
    scratch = folder / "scratch"
    nodes = disk.Disk(folder / "nodes.img", scratch / "nodes", size.disk_bytes)
    nodes.must_fit()
    made = trees.make(size, folder, _say)
    again = frozenset(method.name for method in chosen(_names("BENCH_AGAIN"))) if _names("BENCH_AGAIN") else frozenset()
    only = frozenset(_names("BENCH_WORKS"))
    before = _without(size, again, only) if again else _under_way(scratch)
    if only:
        size = dataclasses.replace(size, left_out=tuple(work for work in figures.WORKS if work not in only))
    if again or before is None:
        shutil.rmtree(scratch, ignore_errors=True)
    scene = _scene(size, made, scratch, nodes, folder / "kept")
    with (
        scene.disk,
        scene.wire as wire,
        wire.serving(_nginx(scratch), HTTP_PORT),
    ):
        run = before or _describe(size, scene, folder)
        done = frozenset((figure.work, figure.method) for figure in run.figures)
        if done:
            _say(f"going on after {len(done)} figures")
        wanted = [method for method in methods if not again or method.name in again]
        for figure in works.run([method(scene) for method in wanted], done, _say):
            run = _with(run, figure)
            _keep(run, scratch)
    shutil.rmtree(scratch)
    print(table.page(run))
    wrong = [figure for figure in run.figures if figure.method.startswith("ours") and figure.is_wrong]
    for figure in wrong:
        print(f"WRONG: {figure.method}, {figure.work}: {figure.fault or f'{figure.differences} paths differ'}")
    return 1 if wrong else 0


def _scaled(folder: Path) -> int:
    """A million files, and a long one."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    for name in ("head", "logs"):
        (scratch / name).mkdir(parents=True)
    try:
        with Wire(scratch / "logs") as wire, wire.serving(_nginx(scratch), HTTP_PORT):
            found = scale.measured(wire, folder, scratch, _RESULTS, _say)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(scale.page(found))
    return 1 if any(figure.is_wrong for figure in found.figures) else 0


def _leave(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def _need_programs() -> None:
    missing = [program for program in _PROGRAMS if process.find(program) is None]
    if os.geteuid() != 0:
        raise Refused("a benchmark makes network namespaces and whole systems", hint="run it as root")
    if missing:
        raise SisError(f"missing: {', '.join(missing)}", hint="make bench installs them")


def _names(variable: str) -> list[str]:
    return os.environ.get(variable, "").replace(",", " ").split()


def _without(size: sizes.Size, again: frozenset[str], only: frozenset[str]) -> Run | None:
    """The last run, but for the figures of methods (of these, `only` some works) that are to be measured again.

    What programs these are now is noted.
    """
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
        run = figures.read(_RESULTS / f"{size.name}.json")
        kept = tuple(it for it in run.figures if it.method not in again or (only and it.work not in only))
        return msgspec.structs.replace(run, figures=kept, versions=limits.versions())
    return None


def _under_way(scratch: Path) -> Run | None:
    """The run that was interrupted here, if it was one of these very programs; its head's folder is still there."""
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
        run = figures.read(scratch / _UNDER_WAY)
        if run.versions == limits.versions():
            return run
    return None


def _scene(size: sizes.Size, made: trees.Trees, scratch: Path, nodes: disk.Disk, kept: Path) -> Scene:
    for name in ("head", "many", "logs"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    basis = {version: trees.digest(made.path(version)) for version in ("v1", "v2")} | limits.machine(scratch)
    del basis["load before"]
    wire = Wire(scratch / "logs", size.memory_bytes)
    return Scene(size, made, wire, scratch / "head", nodes, scratch / "many", kept, basis)


def _describe(size: sizes.Size, scene: Scene, folder: Path) -> Run:
    _say("measuring the machine")
    facts = trees.compare(scene.trees.path("v1"), scene.trees.path("v2"))
    return Run(
        size=size.name,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=limits.machine(folder) | {"nodes": disk.KIND},
        versions=limits.versions(),
        tree=TreeFacts(entries=facts.entries, content_bytes=facts.content_bytes, changed_bytes=facts.changed_bytes),
        limits=limits.measure(scene.wire, scene.nodes, scene.trees.path("v2"), size.probe_bytes),
        figures=(),
    )


def _nginx(scratch: Path) -> list[str]:
    """nginx over the head's folder, as a plain web server would be set up."""
    folder = scratch / "nginx"
    folder.mkdir(exist_ok=True)
    temporary = "".join(
        f" {name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"user root; daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes auto;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on;{temporary}\n"
        f" server {{ listen {HEAD}:{HTTP_PORT}; root {scratch}/head; }} }}\n"
    )
    return ["nginx", "-c", str(config), "-p", str(folder), "-e", f"{folder}/error.log"]


def _with(run: Run, figure: Figure) -> Run:
    fault = f", {figure.fault}" if figure.fault else ""
    _say(f"  {figure.method}: {figure.wall_s:.2f} s, {table.size(figure.down_bytes)}{fault}")
    return figures.with_figure(run, figure)


def _keep(run: Run, scratch: Path) -> None:
    """Results so far: a long run that is interrupted goes on from here."""
    figures.write(run, scratch / _UNDER_WAY)
    _RESULTS.mkdir(parents=True, exist_ok=True)
    figures.write(run, _RESULTS / f"{run.size}.json")
    (_RESULTS / f"{run.size}.svg").write_text(plot.svg(run))
    (_RESULTS / f"{run.size}.md").write_text(f"{table.page(run)}\n\n![{run.size}]({run.size}.svg)\n")


def _say(line: str) -> None:
    print(f"{time.monotonic() - _started:7.1f}  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SisError as error:
        details = "".join(f"\n  {line}" for line in error.details)
        print(f"bench: {error.message}{details}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        sys.exit(error.exit_code)
