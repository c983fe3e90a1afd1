"""Generations and channels of an image, as changes of its Ref: every change has a higher sequence number.

Nodes refuse a number lower than one they have seen. It is the time in seconds, or one more than the last: so a head
that was restored from a backup is believed again with its next change.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from sis.errors import NotFound, Refused, SisError, UsageFault
from sis.image.model import Ref
from sis.image.names import CHANNEL_NAME, IMAGE_NAME

HISTORY_MAX = 20


class Moved(NamedTuple):
    """A channel that was moved: the new ref, and the generations it named before and names now."""

    ref: Ref
    before: int | None
    after: int


def now_text() -> str:
    """The time as refs and versions hold it: UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_image_name(image: str) -> None:
    if not IMAGE_NAME.fullmatch(image):
        raise UsageFault(
            f"not an image name: {image!r}", hint="letters, digits, '.', '_' and '-', at most 64, the first no sign"
        )


def with_generation(ref: Ref | None, image: str, generation: int, version_id: str) -> Ref:
    """The ref with one generation more; `ref` is None for an image's first."""
    if ref is None:
        ref = Ref(image=image, sequence=0, updated=now_text(), generations={}, channels={})
    return _changed(ref, generations={**ref.generations, str(generation): version_id})


def publish(ref: Ref, generation: int, channel: str) -> Moved:
    """Point `channel` at a generation. Raises NotFound for one that is not there."""
    if not CHANNEL_NAME.fullmatch(channel):
        raise UsageFault(
            f"not a channel name: {channel!r}",
            hint="letters, digits, '.', '_' and '-', not a number: for example stable",
        )
    version_id = ref.generations.get(str(generation))
    if version_id is None:
        raise NotFound.of("generation", f"{ref.image}@{generation}", (f"{ref.image}@{g}" for g in ref.generations))
    before = ref.channels.get(channel)
    history = dict(ref.history)
    if before is not None and before != version_id:
        history[channel] = (before, *history.get(channel, ()))[:HISTORY_MAX]
    changed = _changed(ref, channels={**ref.channels, channel: version_id}, history=history)
    return Moved(changed, generation_of(ref, before), generation)


def rollback(ref: Ref, channel: str) -> Moved:
    """Point `channel` at what it named before. Raises NotFound, or Refused when it never named anything else."""
    before = ref.channels.get(channel)
    if before is None:
        raise NotFound.of("channel", f"{ref.image}@{channel}", (f"{ref.image}@{c}" for c in ref.channels))
    earlier = ref.history.get(channel, ())
    if not earlier:
        raise Refused(
            f"nothing earlier is known of {ref.image}@{channel}, which is generation {generation_of(ref, before)}",
            hint=f"publish another generation: sis image publish {ref.image}@N {channel}",
        )
    changed = _changed(
        ref,
        channels={**ref.channels, channel: earlier[0]},
        history={**ref.history, channel: earlier[1:]},
    )
    after = generation_of(ref, earlier[0])
    assert after is not None
    return Moved(changed, generation_of(ref, before), after)


def without(ref: Ref, generations: Collection[int]) -> Ref:
    """The ref with generations dropped. Raises Refused if a channel points to one of them."""
    for channel, version_id in ref.channels.items():
        generation = generation_of(ref, version_id)
        if generation in generations:
            raise Refused(
                f"{ref.image}@{generation} is what channel {channel} points to",
                hint=f"publish another generation to {channel} first",
            )
    kept = {g: v for g, v in ref.generations.items() if int(g) not in generations}
    ids = set(kept.values())
    history = {channel: tuple(v for v in earlier if v in ids) for channel, earlier in ref.history.items()}
    return _changed(ref, generations=kept, history=history)


def generation_of(ref: Ref, version_id: str | None) -> int | None:
    """The number of a version among the image's generations."""
    for generation, known in ref.generations.items():
        if known == version_id:
            return int(generation)
    return None


def latest(ref: Ref) -> int:
    """The highest generation. Raises SisError for a ref without any."""
    if not ref.generations:
        raise SisError(f"image {ref.image} has no generation left", hint=f"sis image commit {ref.image} --tree DIR")
    return max(map(int, ref.generations))


def _changed(
    ref: Ref,
    *,
    generations: dict[str, str] | None = None,
    channels: dict[str, str] | None = None,
    history: dict[str, tuple[str, ...]] | None = None,
) -> Ref:
    return msgspec.structs.replace(
        ref,
        sequence=max(ref.sequence + 1, int(datetime.now(UTC).timestamp())),
        updated=now_text(),
        generations=ref.generations if generations is None else generations,
        channels=ref.channels if channels is None else channels,
        history={k: v for k, v in (ref.history if history is None else history).items() if v},
    )
