"""Two versions of a tree with edits of every kind between them, and a root that goes from one to the other."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from sis.image.deltas import making
from sis.image.deltas.making import Made
from sis.image.deltas.plan import Work, plan_items
from sis.image.documents import codec
from sis.image.documents.rows import Rows
from sis.image.documents.tables import novel_chunks
from sis.image.kept.store import KeptStore
from sis.image.model import Manifest
from sis.image.store.reader import DocumentStore
from sis.image.store.reference import parse, resolve
from sis.sync import engine
from sis.sync.desired import desired_tree
from sis.sync.model import LayerFile, Outcome
from sis.sync.staging.source import documents_of, open_source
from tests.sync_trees import Bench, age, make_bench, make_tree

T1 = 1_700_000_000_000_000_000


def like_a_program(rng: random.Random, size_bytes: int) -> bytes:
    """Bytes that compress somewhat and have zeros in them, as machine code has."""
    words = [rng.randbytes(rng.choice((2, 3, 4, 7))) + b"\0" * rng.choice((0, 1, 3)) for _ in range(600)]
    out = bytearray()
    while len(out) < size_bytes:
        out += rng.choice(words)
    return bytes(out[:size_bytes])


def recompiled(rng: random.Random, data: bytes, edits: int) -> bytes:
    """The same program with other addresses here and there, and a few bytes more in one place."""
    changed = bytearray(data)
    for _ in range(edits):
        at = rng.randrange(len(changed) - 4)
        changed[at : at + 3] = rng.randbytes(3)
    at = rng.randrange(len(changed))
    changed[at:at] = rng.randbytes(37)
    return bytes(changed)


def make_versions(where: Path, *, seed: int = 1, big_bytes: int = 11 << 20) -> tuple[Path, Path]:
    """Trees 1 and 2: everything of `make_tree`, modules of a kernel that was renamed, text, large and sparse files."""
    rng = random.Random(seed)
    one, two = where / "1", where / "2"
    make_tree(one, files=30, seed=seed)
    modules = one / "lib/modules/6.1.0-50/kernel"
    modules.mkdir(parents=True)
    programs = {f"m{number}.ko": like_a_program(rng, rng.randrange(9_000, 90_000)) for number in range(12)}
    for name, data in programs.items():
        (modules / name).write_bytes(data)
    (one / "usr/lib/libbig.so").write_bytes(like_a_program(rng, 700_000))
    (one / "usr/lib/huge").write_bytes(rng.randbytes(big_bytes // 2) + like_a_program(rng, big_bytes // 2))
    (one / "usr/lib/moved").write_bytes(rng.randbytes(200_000))
    lines = [f"line {number} {rng.random()}\n" for number in range(2_000)]
    (one / "etc/list").write_text("".join(lines))
    (one / "etc/linked").write_text("".join(lines[:300]))
    os.link(one / "etc/linked", one / "etc/linked2")
    age(one)
    _copy(one, two)
    after = two / "lib/modules/6.1.0-56/kernel"
    (two / "lib/modules/6.1.0-50").rename(two / "lib/modules/6.1.0-56")
    for name, data in programs.items():
        (after / name).write_bytes(recompiled(rng, data, 12))
    (two / "usr/lib/libbig.so").write_bytes(recompiled(rng, (one / "usr/lib/libbig.so").read_bytes(), 90))
    huge = bytearray((one / "usr/lib/huge").read_bytes())
    for _ in range(30):
        at = rng.randrange(len(huge))
        huge[at : at + 5] = rng.randbytes(5)
    huge[1000:1000] = rng.randbytes(37)
    (two / "usr/lib/huge").write_bytes(huge)
    (two / "usr/lib/moved").rename(two / "opt/moved-away")
    lines[7:9] = ["another line\n"]
    (two / "etc/list").write_text("".join(lines))
    with (two / "etc/linked").open("a") as file:
        file.write("and one more\n")
    (two / "etc/new").write_bytes(like_a_program(rng, 5_000))
    (two / "var/fifo2").unlink()
    (two / "usr/bin/su").write_bytes(b"other su" * 500)
    with (two / "var/sparse").open("r+b") as file:
        file.seek(6 << 20)
        file.write(b"further")
    age(two, T1)
    return one, two


def rows(manifest: Manifest) -> Rows:
    return Rows(codec.encode_manifest(manifest, checked=True))


def items(old: Manifest, new: Manifest, is_shared: Callable[[bytes], bool]) -> list[Work]:
    """The items of the delta between two manifests."""
    novel = tuple(chunk.digest for chunk in novel_chunks(old, new))
    left, bringing = set(novel), []
    for number, entry in enumerate(new.entries):
        here = left.intersection(chunk.digest for chunk in entry.each_chunk())
        if here:
            bringing.append(number)
            left -= here
    return list(plan_items(rows(old), rows(new), novel, bringing, is_shared))


def _copy(one: Path, two: Path) -> None:
    from sis.system import process

    process.run(["cp", "-a", one, two])


class DeltaBench:
    """A store with image@1 and image@2, a delta between them, and a root that is at image@1."""

    def __init__(self, where: Path, one: Path, two: Path) -> None:
        self.bench: Bench = make_bench(where)
        self.one, self.two = one, two
        self.bench.commit(one)
        self.bench.commit(two)
        self.sync("image@1")

    @property
    def root(self) -> Path:
        return self.bench.root

    @property
    def store(self) -> DocumentStore:
        return self.bench.store

    @property
    def ids(self) -> tuple[str, str]:
        generations = self.bench.store.ref("image").generations
        return generations["1"], generations["2"]

    @property
    def delta_file(self) -> Path:
        return self.bench.store.path / "deltas" / "-".join(self.ids)

    def make_delta(self, **options: int) -> Made:
        made = making.make(self.bench.store, *self.ids, **options)
        assert made is not None
        return made

    def sync(
        self,
        reference: str = "image@2",
        *,
        store: DocumentStore | None = None,
        layer: tuple[LayerFile, ...] = (),
        **options: object,
    ) -> Outcome:
        """One run as `sis-node sync` makes it."""
        state = self.bench.state
        kept = KeptStore(store or self.store, documents_of(state))
        found = resolve(kept, parse(reference))
        source = open_source(kept, found.version_id, found.version)
        want = desired_tree(found.version.manifest, kept.manifest, layer)
        return engine.sync(self.root, want, policy=self.bench.policy, source=source, state=state, **options)  # type: ignore[arg-type]

    def back_to_one(self) -> None:
        """The root at image@1 again, and nothing remembered of image@2."""
        shutil.rmtree(self.root)
        shutil.rmtree(self.bench.state)
        self.root.mkdir()
        self.sync("image@1")
