"""SIGKILL during commit, publish and prune, at random moments: the store stays sound, doing it again finishes it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from sis.image.commit import commit
from sis.image.model import Ref
from sis.image.store.local import LocalStore
from sis.image.verify import verify
from tests.image_trees import noise

SEED = 4711
KILLS = 30

WORK = """
import sys, time
from pathlib import Path
from sis.image import prune
from sis.image.commit import commit
from sis.image.store import refs
from sis.image.store.local import LocalStore
import sis.image.commit as committing

committing.PACK_BYTES_TARGET = 200_000
store, tree = LocalStore(Path(sys.argv[1])), Path(sys.argv[2])
print("ready", flush=True)
done = commit(store, "web", tree)
with store.changing_ref("web") as ref:
    store.write_ref(refs.publish(ref, done.version.generation, "stable").ref)
prune.apply(store, prune.plan(store, keep=2))
print("done", flush=True)
"""


def test_killed_anywhere_the_store_is_sound_and_the_work_can_be_done_again(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(300):
        (tree / f"file{number:03d}").write_bytes(noise(str(number), 5000))
    store = LocalStore(tmp_path / "state/store")
    commit(store, "web", tree)
    length_s = _length(store, tree)
    killed = 0
    for round_number in range(2 * KILLS):
        if killed == KILLS:
            break
        for number in range(round_number % 7, 300, 7):
            (tree / f"file{number:03d}").write_bytes(noise(f"{round_number}/{number}", 5000))
        before = store.ref("web")
        if _kill(store, tree, rng.uniform(0.0, length_s * 1.05)):
            killed += 1
        else:
            length_s *= 0.9  # measured on a busier machine than it is now
        _check(store, before, round_number)
    assert killed >= KILLS // 2, f"only {killed} runs were killed in time"
    done = commit(store, "web", tree)
    assert verify(store).problems == ()
    assert done.version.entries == 301
    assert not list((store.path / ".work/tmp").iterdir())
    assert not [path for path in store.path.glob("*/.*") if path.suffix == ".tmp"]


def _length(store: LocalStore, tree: Path) -> float:
    """How long the work takes after the imports."""
    with _start(store, tree) as child:
        started = _wait_ready(child)
        assert child.wait() == 0
    return time.monotonic() - started


def _kill(store: LocalStore, tree: Path, after_s: float) -> bool:
    with _start(store, tree) as child:
        _wait_ready(child)
        time.sleep(after_s)
        child.kill()
        return child.wait() == -signal.SIGKILL


def _start(store: LocalStore, tree: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WORK, str(store.path), str(tree)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def _wait_ready(child: subprocess.Popen[str]) -> float:
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return time.monotonic()


def _check(store: LocalStore, before: Ref, round_number: int) -> None:
    found = verify(store)
    assert found.problems == (), f"seed {SEED}, round {round_number}"
    after = store.ref("web")
    assert after.sequence >= before.sequence
    assert set(map(int, after.generations)) - set(map(int, before.generations)) <= {
        max(map(int, before.generations)) + 1
    }
    assert set(after.channels.values()) <= set(after.generations.values())
