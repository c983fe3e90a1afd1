"""What a node is held to, ready for the engine: version, manifest and layer, checked against the pinned key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urljoin

from sis.disk.model import Partition
from sis.errors import Corrupt
from sis.image.kept.store import KeptStore
from sis.image.model import Version
from sis.image.policy import Policy
from sis.image.store.opening import open_store
from sis.image.store.reader import Store
from sis.sync import engine
from sis.sync.desired import DesiredTree, desired_tree
from sis.sync.model import Observer, Outcome
from sis.sync.staging.source import ChunkSource, documents_of, open_source
from sis.wire import Desired

ATTEMPTS = 12
"""How often a server may fail to answer: a resync gives up after some 100 s; the next one goes on."""

PATIENT_ATTEMPTS = 60
"""An install has nothing better to do than wait: some 9 minutes, as for the head's other answers."""


@dataclass(frozen=True)
class Held:
    """One desired state: where its content comes from, what it is, and which paths are whose."""

    desired: Desired
    version: Version
    want: DesiredTree
    source: ChunkSource

    @property
    def mounts(self) -> frozenset[bytes]:
        """The mount points below the root whose file systems are held too: those of the layout, less the ESP."""
        return frozenset(mount.encode() for mount, _ in self._mounted())

    @cached_property
    def policy(self) -> Policy:
        """Whose paths are whose. What is on a partition that is kept is the node's own, unless the version's rules say
        otherwise."""
        kept = ((f"/{mount}/**", "node") for mount, partition in self._mounted() if partition.keep)
        return Policy((*kept, *self.version.policy))

    def _mounted(self) -> Iterator[tuple[str, Partition]]:
        """The partitions of the layout that are mounted below the root, but for the ESP, and where."""
        layout = self.desired.layout
        for partition in () if layout is None else (each for disk in layout.disks for each in disk.partitions):
            if partition.mount is not None and partition.mount != "/" and partition.role != "esp":
                yield partition.mount.strip("/"), partition

    @property
    def kernels(self) -> frozenset[str]:
        """The releases of the kernels in the image; the node may hold older ones besides."""
        prefix = b"boot/vmlinuz-"
        return frozenset(path.removeprefix(prefix).decode() for path in self.want.entries if path.startswith(prefix))

    def close(self) -> None:
        """Let go of connections."""
        self.source.store.close()

    def check(self, root: Path, state: Path, *, full: bool = False, begun: engine.Begun | None = None) -> Outcome:
        """What differs below `root`; nothing is changed."""
        return engine.check(
            root,
            self.want,
            policy=self.policy,
            source=self.source,
            state=state,
            mounts=self.mounts,
            full=full,
            begun=begun,
        )

    def sync(
        self,
        root: Path,
        state: Path,
        *,
        full: bool = False,
        only_stage: bool = False,
        observe: Observer | None = None,
        begun: engine.Begun | None = None,
    ) -> Outcome:
        """Make the tree below `root` equal to this; `only_stage`: only make ready beside it what that takes."""
        return engine.sync(
            root,
            self.want,
            policy=self.policy,
            source=self.source,
            state=state,
            mounts=self.mounts,
            full=full,
            only_stage=only_stage,
            observe=observe,
            begun=begun,
        )


def held_to(
    desired: Desired,
    head_url: str,
    *,
    pinned_key: str,
    state: Path | None = None,
    attempts: int = ATTEMPTS,
) -> Held:
    """The version `desired` names with the node's own files laid over it; manifest and content are read when needed.

    What is kept in `state` from earlier runs is not fetched again, and newer versions of it come as deltas. The image's
    ref, signed by the pinned key and no older than any seen before, must name that very version; every further read is
    bound to it by hash.
    """
    where = urljoin(head_url.rstrip("/") + "/", desired.store)
    is_of_head = where.startswith(head_url.rstrip("/") + "/")
    remote = open_store(where, attempts=attempts, ticket=desired.ticket if is_of_head else "")
    store = KeptStore(remote, None if state is None else documents_of(state))
    try:
        _check_signature(store, desired, pinned_key)
        version = store.version(desired.version)
    except BaseException:
        store.close()
        raise
    return Held(
        desired=desired,
        version=version,
        want=desired_tree(version.manifest, store.manifest, desired.layer),
        source=open_source(store, desired.version, version),
    )


def _check_signature(store: Store, desired: Desired, pinned_key: str) -> None:
    ref = store.ref(desired.image, key=pinned_key)
    if desired.version not in ref.generations.values():
        raise Corrupt(
            f"the signed list of {desired.image}'s generations does not hold version {desired.version[:12]}",
            hint="the head answers with a version its image key never signed: check 'sis image verify' on the head",
        )
