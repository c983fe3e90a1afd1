"""One sync, as a process that can be killed: STORE REFERENCE ROOT STATE. Prints its peak memory in kB."""

from __future__ import annotations

import sys
from pathlib import Path

from sis.image.policy import Policy
from sis.image.store.local import LocalStore
from sis.image.store.reference import parse, resolve
from sis.sync import engine
from sis.sync.desired import lay_over
from sis.sync.staging.source import ChunkSource


def main() -> None:
    where, reference, root, state = sys.argv[1:]
    store = LocalStore(Path(where))
    version = resolve(store, parse(reference)).version
    manifest = store.manifest(version.manifest)
    source = ChunkSource.of(store, manifest, store.table(version.table))
    engine.sync(Path(root), lay_over(manifest), policy=Policy(), source=source, state=Path(state))
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


if __name__ == "__main__":
    main()
