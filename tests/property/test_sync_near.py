"""Going by a step alone comes to the same as the long way round: what is done, what is told, what is remembered."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sis.errors import SisError
from sis.image.deltas import making
from sis.image.kept.store import KeptStore
from sis.image.policy import Policy
from sis.image.store.local import LocalStore
from sis.image.store.reference import parse, resolve
from sis.sync import engine, mend
from sis.sync.desired import desired_tree
from sis.sync.model import LayerFile, Outcome
from sis.sync.staging.source import documents_of, open_source
from tests.sync_trees import Bench, age

pytestmark = pytest.mark.root

POLICIES = (
    {},
    {"/var/log/**": "node", "/etc/own": "node"},
    {"/etc/told": "report", "/usr/share/**": "ignore", "/opt/*.tmp": "node"},
)
LAYERS = (
    (),
    (LayerFile(path="/etc/host", content=b"n1\n", origin="test"),),
    (
        LayerFile(path="/lib/rules", content=b"mine", origin="test"),
        LayerFile(path="/etc/conf", kind="dir", origin="test"),
        LayerFile(path="/opt/gone", kind="absent", origin="test"),
    ),
)
FILES = (
    *("etc/hosts", "etc/host", "etc/own", "etc/told", "etc/conf/a", "etc/conf/b", "var/log/x", "var/state"),
    *("usr/lib/rules", "usr/share/doc", "usr/share/man", "opt/gone", "opt/a.tmp", "opt/b", "boot/vmlinuz-6.1", "top"),
)
NOISE = ("etc/own", "var/log/x", "var/log/new", "opt/x.tmp", "usr/share/doc")
UNTIMED = (b"n1\n", b"mine")
"""Content of the layers' files, whose times are not held."""

DRIFT = ("etc/hosts", "etc/conf/a", "var/state", "opt/b", "top")
ACTS = ("edit", "edit", "edit", "add", "remove", "mode", "symlink", "link", "directory", "time", "copy", "noise")


def make_tree(root: Path, rng: random.Random) -> None:
    for directory in ("etc/conf", "var/log", "usr/lib", "usr/share", "opt", "boot"):
        (root / directory).mkdir(parents=True)
    for name in FILES:
        if rng.random() < 0.9:
            (root / name).write_bytes(rng.randbytes(rng.choice((0, 10, 3000))))
    (root / "usr/lib/big").write_bytes(rng.randbytes(300_000))
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib/one").write_text("linked")
    os.link(root / "usr/lib/one", root / "usr/lib/two")
    age(root)


def change(root: Path, act: str, rng: random.Random) -> None:
    """Something of what an admin does to an image between two versions."""
    path = root / rng.choice((*FILES, "usr/lib/big", "usr/lib/one", "lib"))
    if act in ("add", "copy", "noise"):
        path = root / rng.choice(("etc", "etc/conf", "usr/lib", "opt", "var/log")) / f"new{rng.randrange(3)}"
    if act == "directory":
        path = root / rng.choice(("etc", "etc/conf", "opt/new", "usr/lib/new"))
        path.mkdir(exist_ok=True)
        path.chmod(rng.choice((0o755, 0o750)))
    elif act == "copy" and (root / "usr/lib/big").is_file():
        shutil.copyfile(root / "usr/lib/big", path)
    elif act in ("edit", "add", "noise", "copy"):
        data = bytearray(path.read_bytes() if path.is_file() else b"")
        at = rng.randrange(len(data) + 1)
        data[at : at + 3] = rng.randbytes(rng.choice((1, 5, 2000)))
        path.unlink(missing_ok=True)
        path.write_bytes(data)
    elif act == "symlink":
        path.unlink(missing_ok=True)
        path.symlink_to(rng.choice(("usr/lib", "nowhere")))
    elif not path.exists():
        return
    elif act == "remove":
        path.unlink()
    elif act == "mode":
        path.chmod(rng.choice((0o600, 0o4755)))
    elif act == "link":
        (root / "opt/linked").unlink(missing_ok=True)
        os.link(path, root / "opt/linked", follow_symlinks=False)
    elif act == "time":
        os.utime(path, ns=(1, rng.randrange(10**18)), follow_symlinks=False)


class Side:
    """A root that always goes one way: near where that can be, or long."""

    def __init__(self, where: Path, store: LocalStore, policy: Policy, layer: tuple[LayerFile, ...]) -> None:
        self.bench = Bench(store, where / "root", where / "node", policy)
        self.layer = layer
        self.bench.root.mkdir(parents=True)

    def run(self, reference: str, *, dry_run: bool = False, full: bool = False) -> Outcome | str:
        kept = KeptStore(self.bench.store, documents_of(self.bench.state))
        found = resolve(kept, parse(reference))
        source = open_source(kept, found.version_id, found.version)
        want = desired_tree(found.version.manifest, kept.manifest, self.layer)
        given = {"policy": self.bench.policy, "source": source, "state": self.bench.state}
        try:
            return engine.sync(self.bench.root, want, dry_run=dry_run, full=full, **given)  # type: ignore[arg-type]
        except SisError as error:
            return error.message


def look(root: Path) -> dict[str, tuple[object, ...]]:
    """By path: what is there. Names of one inode are told by the first of them."""
    seen: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        name = str(path.relative_to(root))
        is_timed = content not in UNTIMED and (path.is_symlink() or not path.is_dir())
        time = status.st_mtime_ns if is_timed else 0
        seen[name] = (status.st_mode, time, content, inodes.setdefault(status.st_ino, name))
    return seen


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    acts=st.lists(st.lists(st.sampled_from(ACTS), min_size=1, max_size=4), min_size=1, max_size=3),
    policy=st.sampled_from(POLICIES),
    layer=st.sampled_from(LAYERS),
    noise=st.lists(st.sampled_from(NOISE), max_size=2),
    drift=st.lists(st.sampled_from(DRIFT), max_size=1),
)
def test_a_step_comes_to_the_same_as_the_long_way_round(
    seed: int,
    acts: list[list[str]],
    policy: dict[str, str],
    layer: tuple[LayerFile, ...],
    noise: list[str],
    drift: list[str],
) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, pytest.MonkeyPatch.context() as patched:
        where = Path(name)
        store = LocalStore(where / "store")
        make_tree(where / "tree", rng)
        bench = Bench(store, where, where, Policy())
        bench.commit(where / "tree")
        sides = [Side(where / which, store, Policy(policy.items()), layer) for which in ("near", "long")]
        for side in sides:
            side.run("image@1")
        stepwise = mend.survey_near
        before = resolve(store, parse("image")).version_id
        for several in acts:
            for act in several:
                change(where / "tree", act, rng)
            bench.commit(where / "tree")
            after = resolve(store, parse("image")).version_id
            if after == before:
                return
            making.make(store, before, after, processes=1)
            told = []
            spoilt = [*noise, *drift]
            content = rng.randbytes(20)
            for side, way in zip(sides, (stepwise, lambda *_: None), strict=True):
                patched.setattr(mend, "survey_near", way)
                for path in spoilt:
                    there = side.bench.root / path
                    if there.parent.is_dir() and not there.is_dir():
                        there.write_bytes(content)
                        os.utime(there, ns=(1, seed))
                runs = [
                    side.run("image", dry_run=True),
                    side.run("image"),
                    side.run("image"),
                    side.run("image", full=True),
                ]
                told.append((runs, look(side.bench.root)))
            (near, near_look), (long, long_look) = told
            assert near == long
            assert near_look.items() ^ long_look.items() == set()
            before = after
            noise, drift = noise[1:], drift[1:]
