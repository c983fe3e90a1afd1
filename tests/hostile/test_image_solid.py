"""Solid runs: right ones come out, wrong ones are refused before they take memory."""

from __future__ import annotations

import contextlib
import random
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sis.errors import Corrupt
from sis.image.deltas import solid


def _parts() -> list[bytes]:
    rng = random.Random(5)
    far = rng.randbytes(300_000)
    return [far, b"between" * 50_000, far[:200_000] + b"!", b"x"]


def _run(parts: list[bytes]) -> list[bytes]:
    return solid.compressed(iter(parts), sum(map(len, parts)))


def test_each_item_points_into_those_before_it() -> None:
    parts = _parts()
    payloads = _run(parts)
    assert len(payloads) == len(parts)
    assert len(payloads[2]) < 200
    run = solid.Inflating()
    assert [run.item(payload, len(part)) for payload, part in zip(payloads, parts, strict=True)] == parts


def test_another_length_is_refused() -> None:
    parts = _parts()
    for size, said in ((len(parts[0]) - 1, "more than"), (len(parts[0]) + 1, "instead of")):
        with pytest.raises(Corrupt, match=said):
            solid.Inflating().item(_run(parts)[0], size)


def test_what_goes_on_needs_what_was_before() -> None:
    parts = _parts()
    payloads = _run(parts)
    with pytest.raises(Corrupt):
        solid.Inflating().item(payloads[1], len(parts[1]))
    run = solid.Inflating()
    for payload, part in zip(payloads, parts, strict=True):
        run.item(payload, len(part))
    with pytest.raises(Corrupt):
        run.item(payloads[1], len(parts[1]))


def test_a_bomb_is_stopped_early() -> None:
    beginning = zstandard.ZstdCompressor(level=1, write_content_size=False).compressobj()
    head = (beginning.compress(b"x") + beginning.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))[:6]
    block = ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    tracemalloc.start()
    try:
        with pytest.raises(Corrupt, match="holds more than"):
            solid.Inflating().item(head + block * 100_000, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("window_log", "checksum"), [(solid.WINDOW_LOG + 1, False), (20, True)])
def test_frames_that_ask_for_much_are_refused(window_log: int, checksum: bool) -> None:
    parameters = zstandard.ZstdCompressionParameters(
        window_log=window_log, write_content_size=False, write_checksum=checksum
    )
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    payload = frame.compress(b"some") + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    with pytest.raises(Corrupt, match="not as it should be"):
        solid.Inflating().item(payload, 4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_refused_or_comes_out_at_the_right_length(data: st.DataObject) -> None:
    part = b"some text and some more text" * 100
    (payload,) = _run([part])
    spoiled = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        spoiled[data.draw(st.integers(0, len(spoiled) - 1))] = data.draw(st.integers(0, 255))
    kept = bytes(spoiled[: data.draw(st.integers(0, len(spoiled)))])
    with contextlib.suppress(Corrupt):
        assert len(solid.Inflating().item(kept, len(part))) == len(part)
