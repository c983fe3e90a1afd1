"""What the head takes in memory for a delta grows little with the number of files that stay."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from blake3 import blake3

from sis.image.documents import manifest_out
from sis.image.model import TABLE_ROW, Chunk, ChunkTable, Entry, Kind, Manifest, PackRef, Version, pack_chunks
from sis.image.store.local import LocalStore
from sis.image.store.packs import PackRow, encode
from sis.image.store.refs import now_text

FILES = 60_000
BOUND_BYTES = 100 << 20
"""Some 45 MB are the interpreter and the libraries; with all entries of both versions held it were 137 MB."""

_MAKE = """
import sys
from pathlib import Path
from sis.image.deltas import making
from sis.image.store.local import LocalStore
made = making.make(LocalStore(Path(sys.argv[1])), *sys.argv[2:])
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(made.output_bytes, int(peak.split()[1]) * 1024)
"""


def version(store: LocalStore, generation: int, entries: list[Entry], packs: tuple[PackRef, ...], rows: bytes) -> str:
    manifest = Manifest((Entry(b".", Kind.DIR, 0o755, 0, 0, 0), *entries))
    named = manifest_out.named(manifest)
    store.write_manifest(manifest, named)
    table = store.write_table(ChunkTable(packs, rows))
    return store.write_version(
        Version(
            image="many",
            generation=generation,
            parent=None,
            manifest=named.digest,
            table=table,
            created=now_text(),
            entries=len(entries),
            content_bytes=0,
            stored_bytes=0,
        )
    )


def stored(store: LocalStore, number: int, data: bytes) -> tuple[PackRow, PackRef]:
    """One chunk in a pack of its own."""
    writer = store.new_pack(number)
    return writer.add(blake3(data).digest(), len(data), encode(data)), store.place_pack(writer)


def file(number: int, *, digest: bytes, size: int) -> Entry:
    return Entry(b"file-%06d" % number, Kind.FILE, 0o644, 0, 0, number, size, pack_chunks([Chunk(digest, size)]))


def test_a_delta_of_one_file_among_many(tmp_path: Path) -> None:
    """What stays and is not like the new file lies in a pack that is not there: it is not read."""
    rng = random.Random(1)
    store = LocalStore(tmp_path / "store")
    store.prepare()
    (like, first), (new, last) = (stored(store, at, b"something %d " % at * 20) for at in range(2))
    absent = PackRef(rng.randbytes(32), 1 << 30)
    entries = [file(0, digest=like.digest, size=like.size)]
    rows = [TABLE_ROW.pack(0, like.offset, like.stored, like.size)]
    for number in range(1, FILES):
        entries.append(file(number, digest=rng.randbytes(32), size=100))
        rows.append(TABLE_ROW.pack(1, 16 + 100 * number, 100, 100))
    before = version(store, 1, entries, (first, absent), b"".join(rows))
    entries.append(file(FILES, digest=new.digest, size=new.size))
    rows.append(TABLE_ROW.pack(2, new.offset, new.stored, new.size))
    after = version(store, 2, entries, (first, absent, last), b"".join(rows))
    done = subprocess.run(
        [sys.executable, "-c", _MAKE, str(store.path), before, after], check=True, capture_output=True, text=True
    )
    output_bytes, peak = map(int, done.stdout.split())
    assert output_bytes == new.size
    assert peak < BOUND_BYTES
