"""Documents as patches on older ones: whole or in pieces, what was moved found again, nothing malformed believed."""

from __future__ import annotations

import random
import struct

import pytest

from sis.errors import Corrupt
from sis.image.deltas import document_patch

LIMIT = 1 << 24
ROW = struct.Struct("<QII")


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short documents are treated as long ones are."""
    for name, value in {"WHOLE_BYTES_MAX": 0, "PIECE_BYTES": 20_000, "_MARGIN_BYTES": 5_000}.items():
        monkeypatch.setattr(document_patch, name, value)


def rows(count: int, seed: int = 1) -> bytes:
    rng = random.Random(seed)
    return b"".join(b"usr/lib/file-%06d " % number + rng.randbytes(32) for number in range(count))


@pytest.mark.usefixtures("in_pieces")
def test_what_moved_is_found_again() -> None:
    before = rows(5_000)
    rng = random.Random(2)
    inserted, removed = before[:500] + rng.randbytes(60_000) + before[500:], before[:1_000] + before[90_000:]
    assert len(document_patch.make(before, before)) < 3_000
    for after, bytes_max in ((inserted, 64_000), (removed, 16_000)):
        patch = document_patch.make(before, after)
        assert len(patch) < bytes_max
        assert document_patch.applied(patch, before, LIMIT, "it") == after


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize(("before", "after"), [(b"", rows(2_000)), (rows(2_000), b""), (rows(9), rows(2_000, 3))])
def test_documents_with_nothing_in_common(before: bytes, after: bytes) -> None:
    assert document_patch.applied(document_patch.make(before, after), before, LIMIT, "it") == after


def test_short_documents_are_one_frame() -> None:
    patch = document_patch.make(rows(100), rows(101))
    assert patch.startswith(b"\x28\xb5\x2f\xfd")
    assert document_patch.applied(patch, rows(100), LIMIT, "it") == rows(101)


@pytest.mark.usefixtures("in_pieces")
def test_what_is_malformed_is_refused() -> None:
    before = rows(1_000)
    good = document_patch.make(before, before)
    start = len(document_patch.MAGIC)
    offset, length, stored = ROW.unpack_from(good, start)

    def with_piece(*fields: int) -> bytes:
        return good[:start] + ROW.pack(*fields) + good[start + ROW.size :]

    for patch, message in (
        (good[: start + 5], "cut off"),
        (good[:-1], "malformed"),
        (with_piece(len(before), 1, stored), "malformed"),
        (with_piece(offset, document_patch.PREFIX_BYTES_MAX + 1, stored), "malformed"),
        (with_piece(offset, length, 0), "malformed"),
        (with_piece(offset, length, stored - 1), "does not decompress"),
    ):
        with pytest.raises(Corrupt, match=f"the manifest.*{message}"):
            document_patch.applied(patch, before, LIMIT, "the manifest in the delta")
    with pytest.raises(Corrupt, match="holds more than 30000 bytes"):
        document_patch.applied(good, before, 30_000, "the manifest in the delta")
