"""Versions nobody needs any more: decide which, then remove them and whatever only they used."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sis.errors import Corrupt, NotFound, Refused, SisError, UsageFault
from sis.image.deltas.delta import NOTHING
from sis.image.model import Ref
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.image.store.reference import Reference
from sis.image.tree import seen


@dataclass(frozen=True)
class PrunePlan:
    """What would go: generations (image, number), and files of the store with their sizes in bytes."""

    generations: tuple[tuple[str, int], ...]
    files: tuple[tuple[str, int], ...]

    @property
    def bytes_freed(self) -> int:
        return sum(size for _, size in self.files)


def plan(
    store: LocalStore,
    *,
    images: Sequence[str] | None = None,
    keep: int | None = None,
    drop: Sequence[Reference] = (),
    needed: Collection[tuple[str, int]] = (),
) -> PrunePlan:
    """Drop the given generations and, with `keep`, all but the newest `keep` of each of `images` (default: of all).

    Never the newest generation of an image, one a channel points to, nor one that is `needed` (image, number: what
    nodes are held to, or go back to): `keep` passes over them, `drop` raises Refused. Files that no remaining version
    needs go too, what killed commits left behind among them. Raises Corrupt if the store cannot be followed to its
    ends: nothing is removed from a damaged store.
    """
    if keep is not None and keep < 1:
        raise UsageFault("at least one generation of every image is kept", hint="--keep 1, or more")
    going: set[tuple[str, int]] = set()
    for reference in drop:
        going.add(_checked(store, reference, needed))
    for image in images if images is not None else store.images():
        ref = store.ref(image)
        if keep is not None:
            numbers = sorted(map(int, ref.generations), reverse=True)
            going |= {(image, number) for number in numbers[keep:] if number not in _held(ref)} - set(needed)
    return PrunePlan(tuple(sorted(going)), tuple(_unreachable(store, going)))


def apply(store: LocalStore, planned: PrunePlan) -> PrunePlan:
    """Carry out a plan: refs first, then files. Killed half-way, the next prune removes the rest. Returns what went."""
    with store.writing("prune"):
        for image in sorted({image for image, _ in planned.generations}):
            dropped = {number for of, number in planned.generations if of == image}
            with store.changing_ref(image) as ref:
                if ref is not None and not dropped.isdisjoint(map(int, ref.generations)):
                    store.write_ref(refs.without(ref, dropped))
        removed = [(name, store.remove(name)) for name, _ in _unreachable(store, set())]
    return PrunePlan(planned.generations, tuple(removed))


def _checked(store: LocalStore, reference: Reference, needed: Collection[tuple[str, int]]) -> tuple[str, int]:
    if reference.generation is None:
        raise UsageFault(f"{reference}: name a generation to drop", hint=f"for example {reference.image}@1")
    ref = store.ref(reference.image)
    number = reference.generation
    if str(number) not in ref.generations:
        raise NotFound.of("generation", str(reference), (f"{ref.image}@{known}" for known in ref.generations))
    refs.without(ref, {number})
    if number == refs.latest(ref):
        raise Refused(f"{reference} is the newest generation of {ref.image}, which is always kept")
    if (ref.image, number) in needed:
        raise Refused(
            f"{reference} is what nodes are held to, or were last good at",
            hint="bring them to another version first: sis deploy NODESET --resync",
        )
    return ref.image, number


def _held(ref: Ref) -> set[int]:
    held = {refs.latest(ref)} if ref.generations else set()
    for version_id in ref.channels.values():
        generation = refs.generation_of(ref, version_id)
        if generation is not None:
            held.add(generation)
    return held


def _unreachable(store: LocalStore, without: set[tuple[str, int]]) -> list[tuple[str, int]]:
    """Files no version refers to, if the generations `without` were gone; versions first, packs last."""
    reached: set[str] = set()
    ids: set[str] = set()
    for image in store.images():
        for number, version_id in store.ref(image).generations.items():
            if (image, int(number)) in without:
                continue
            ids.add(version_id)
            version = store.version(version_id)
            reached |= {f"versions/{version_id}", f"manifests/{version.manifest}", f"tables/{version.table}"}
            for pack in store.table(version.table).packs:
                reached.add(f"packs/{pack.digest.hex()}")
                if pack.dictionary:
                    reached.add(f"dictionaries/{pack.dictionary.hex()}")
    _refuse_lost_refs(store, ids)
    files = []
    for folder in ("versions", "deltas", "tables", "manifests", "packs", "dictionaries"):
        for name in sorted(store.names(folder)):
            file = f"{folder}/{name}"
            kept = ids.issuperset(set(name.split("-")) - {NOTHING}) if folder == "deltas" else file in reached
            if not kept:
                files.append((file, (store.path / file).stat().st_size))
    return files


def _refuse_lost_refs(store: LocalStore, known: Collection[str]) -> None:
    """Raise Corrupt for versions that no ref names because the ref is lost."""
    for name in store.names("versions"):
        version = None
        if name not in known:
            with contextlib.suppress(SisError):
                version = store.version(name)
        if version is not None and seen.lacks_ref(store, version):
            raise Corrupt(
                f"refs/{version.image} is missing from the store, and versions of {version.image} are there",
                hint=f"copy it from another copy of the store, or commit the tree of {version.image} again",
            )
