"""Names of versions as people write them: compute, compute@12, compute@stable, compute@b3:3f9c…"""

from __future__ import annotations

import re
from typing import NamedTuple

from sis.errors import NotFound, UsageFault
from sis.image.model import Ref, Version
from sis.image.names import CHANNEL_NAME, IMAGE_NAME
from sis.image.store import refs
from sis.image.store.reader import Store
from sis.image.store.sign import Trust

_ID = re.compile(r"b3:([0-9a-f]{6,64})")


class Reference(NamedTuple):
    """An image and at most one of: a generation, a channel, the beginning of a version id. None: the newest."""

    image: str
    generation: int | None = None
    channel: str | None = None
    version_prefix: str | None = None

    def __str__(self) -> str:
        if self.generation is not None:
            return f"{self.image}@{self.generation}"
        if self.version_prefix is not None:
            return f"{self.image}@b3:{self.version_prefix}"
        return f"{self.image}@{self.channel}" if self.channel else self.image


class Resolved(NamedTuple):
    image: str
    generation: int
    version_id: str
    version: Version
    channel: str | None
    ref: Ref
    trust: Trust = "unsigned"


def parse(text: str) -> Reference:
    """Read a reference. Raises UsageFault."""
    image, at, what = text.partition("@")
    if not IMAGE_NAME.fullmatch(image) or (at and not what):
        raise _malformed(text)
    if not at:
        return Reference(image)
    if match := _ID.fullmatch(what):
        return Reference(image, version_prefix=match[1])
    if what.isascii() and what.isdigit():
        if int(what) < 1:
            raise _malformed(text)
        return Reference(image, generation=int(what))
    if CHANNEL_NAME.fullmatch(what):
        return Reference(image, channel=what)
    raise _malformed(text)


def resolve(store: Store, reference: Reference, *, key: str | None = None, seen_sequence: int = 0) -> Resolved:
    """The version a reference names now. `key` is the pinned public key. Raises NotFound with near names, and what
    `sign.unseal` raises."""
    opened = store.opened(reference.image, key=key, seen_sequence=seen_sequence)
    ref = opened.ref
    version_id = _version_id(ref, reference)
    generation = refs.generation_of(ref, version_id)
    assert generation is not None
    version = store.version(version_id)
    return Resolved(ref.image, generation, version_id, version, reference.channel, ref, opened.trust)


def _version_id(ref: Ref, reference: Reference) -> str:
    image = ref.image
    if reference.generation is not None:
        found = ref.generations.get(str(reference.generation))
        if found is None:
            raise NotFound.of("generation", str(reference), (f"{image}@{generation}" for generation in ref.generations))
        return found
    if reference.channel is not None:
        found = ref.channels.get(reference.channel)
        if found is None:
            raise NotFound.of("channel", str(reference), (f"{image}@{channel}" for channel in ref.channels))
        return found
    if reference.version_prefix is not None:
        fitting = [known for known in ref.generations.values() if known.startswith(reference.version_prefix)]
        if len(set(fitting)) != 1:
            fault = "ambiguous version" if fitting else "no such version"
            raise NotFound(f"{fault}: {reference}", hint=f"'sis image show {image}' lists its generations")
        return fitting[0]
    return ref.generations[str(refs.latest(ref))]


def _malformed(text: str) -> UsageFault:
    return UsageFault(
        f"not an image reference: {text!r}", hint="for example compute, compute@12, compute@stable, compute@b3:3f9c01"
    )
