"""SIGKILL while deltas are made: no half one is served, no worker lives on, doing it again finishes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from sis.image.commit import commit
from sis.image.deltas.wanted import wanted
from sis.image.store.local import LocalStore
from sis.image.verify import verify
from tests.delta_trees import like_a_program, recompiled

PARTS = (0.3, 0.45, 0.6, 0.7, 0.8)
"""Of the time an undisturbed run takes."""
PROGRAM = Path(sys.executable).with_name("sis")


def _processes(state: Path) -> list[str]:
    """Command lines of whatever works on this state, and of orphans that did."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (path / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(state) in environment:
            found.append(line)
    return found


def _undisturbed_s(state: Path, copy: Path) -> float:
    shutil.copytree(state, copy, symlinks=True)
    begun = time.monotonic()
    argv = [PROGRAM, "--state", copy, "image", "publish", "web@2", "stable"]
    subprocess.run(argv, check=True, capture_output=True)
    return time.monotonic() - begun


def test_killed_anywhere_while_deltas_are_made(tmp_path: Path) -> None:
    rng = random.Random(7)
    state, tree = tmp_path / "state", tmp_path / "tree"
    store = LocalStore(state / "store")
    tree.mkdir()
    programs = {f"program{number}": like_a_program(rng, 1_100_000) for number in range(6)}
    for edits in (0, 40):
        for name, data in programs.items():
            (tree / name).write_bytes(recompiled(rng, data, edits) if edits else data)
        commit(store, "web", tree)
    subprocess.run([PROGRAM, "--state", state, "image", "publish", "web@1", "stable"], check=True, capture_output=True)
    publish = [PROGRAM, "--state", state, "image", "publish", "web@2", "stable"]
    took_s = _undisturbed_s(state, tmp_path / "copy")
    environment = {**os.environ, "SIS_TEST_OF": str(state)}
    killed = 0
    for part in PARTS:
        child = subprocess.Popen(publish, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        try:
            child.wait(took_s * part)
            took_s *= 0.8  # measured on a busier machine than it is now
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            killed += 1
        assert verify(store).problems == ()
    assert killed
    deadline = time.monotonic() + 90
    while left := _processes(state):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    subprocess.run(publish, check=True, capture_output=True)
    assert len(store.names("deltas")) == 1
    assert wanted(store) == ()
    assert verify(store).problems == ()
    assert list((store.path / ".work/deltas").iterdir()) == []
