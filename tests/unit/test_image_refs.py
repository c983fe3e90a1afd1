from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from sis.errors import Corrupt, NotFound, Refused, SisError, UsageFault
from sis.image.commit import commit
from sis.image.documents.codec import decode_ref, encode_ref
from sis.image.model import Ref
from sis.image.store import reference, refs, sign
from sis.image.store.local import LocalStore
from sis.image.store.reference import Reference
from tests.image_trees import make_simple

IDS = {number: f"{number:064x}" for number in range(1, 9)}


def ref_with(count: int) -> Ref:
    ref: Ref | None = None
    for number in range(1, count + 1):
        ref = refs.with_generation(ref, "compute", number, IDS[number])
    assert ref is not None
    return ref


def test_every_change_has_a_higher_sequence_number() -> None:
    ref = ref_with(3)
    moved = refs.publish(ref, 2, "stable")
    assert (moved.before, moved.after) == (None, 2)
    again = refs.publish(moved.ref, 3, "stable")
    back = refs.rollback(again.ref, "stable")
    assert (back.before, back.after) == (3, 2)
    assert back.ref.channels == {"stable": IDS[2]}
    assert ref.sequence < moved.ref.sequence < again.ref.sequence < back.ref.sequence


def test_a_head_restored_from_a_backup_is_believed_again_with_its_next_change() -> None:
    old = msgspec.structs.replace(ref_with(2), sequence=7)
    seen = refs.publish(refs.publish(old, 1, "stable").ref, 2, "stable").ref.sequence
    assert refs.publish(old, 2, "stable").ref.sequence >= seen - 1  # in the same second; a restore takes longer


def test_rollback_goes_back_step_by_step_and_then_says_so() -> None:
    ref = ref_with(3)
    for number in (1, 2, 3, 3):
        ref = refs.publish(ref, number, "stable").ref
    ref = refs.rollback(ref, "stable").ref
    moved = refs.rollback(ref, "stable")
    assert (moved.before, moved.after) == (2, 1)
    with pytest.raises(Refused, match="nothing earlier is known of compute@stable, which is generation 1"):
        refs.rollback(moved.ref, "stable")
    with pytest.raises(NotFound, match="no such channel: compute@stabel") as caught:
        refs.rollback(ref, "stabel")
    assert caught.value.hint == "did you mean compute@stable?"


def test_publish_refuses_what_is_not_there() -> None:
    with pytest.raises(NotFound, match="no such generation: compute@9"):
        refs.publish(ref_with(2), 9, "stable")
    for name in ("12", "a/b", "", "-x", "a b"):
        with pytest.raises(UsageFault, match="not a channel name"):
            refs.publish(ref_with(2), 1, name)


def test_dropped_generations_leave_the_history_too() -> None:
    ref = ref_with(4)
    for number in (1, 2, 3):
        ref = refs.publish(ref, number, "stable").ref
    with pytest.raises(Refused, match="compute@3 is what channel stable points to"):
        refs.without(ref, {3})
    slim = refs.without(ref, {2})
    assert slim.history == {"stable": (IDS[1],)}
    assert refs.rollback(slim, "stable").after == 1
    assert decode_ref(encode_ref(slim)) == slim


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("compute", Reference("compute")),
        ("compute@12", Reference("compute", generation=12)),
        ("compute@stable", Reference("compute", channel="stable")),
        ("compute@2024-q1", Reference("compute", channel="2024-q1")),
        ("a.b_c-d@b3:3f9c01", Reference("a.b_c-d", version_prefix="3f9c01")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    assert reference.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text", ["", "@1", "a@", "a@0", "a@b@c", "../a", "a/b", "a@b3:xyz", "a@b3:3f", "a@../x", "a\n"]
)
def test_malformed_references(text: str) -> None:
    with pytest.raises(UsageFault, match="not an image reference"):
        reference.parse(text)


def test_references_are_resolved_against_a_store(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "state/store")
    tree = make_simple(tmp_path / "tree")
    first = commit(store, "compute", tree)
    (tree / "new").touch()
    second = commit(store, "compute", tree)
    with store.changing_ref("compute") as ref:
        assert ref is not None
        store.write_ref(refs.publish(ref, 1, "stable").ref)
    key = store.signer().public

    def resolved(text: str) -> tuple[int, str]:
        found = reference.resolve(store, reference.parse(text), key=key)
        assert found.trust == "pinned"
        return found.generation, found.version_id

    assert resolved("compute") == resolved("compute@2") == (2, second.version_id)
    assert resolved("compute@stable") == (1, first.version_id)
    assert resolved(f"compute@b3:{first.version_id[:8]}") == (1, first.version_id)
    with pytest.raises(NotFound, match="no such version: compute@b3:000000000000"):
        resolved("compute@b3:000000000000")
    with pytest.raises(NotFound, match="no such image: computer") as caught:
        reference.resolve(store, reference.parse("computer"))
    assert caught.value.hint == "did you mean compute?"


@pytest.fixture
def signer(tmp_path: Path) -> sign.Signer:
    return sign.load_or_make(tmp_path / "keys/image.key")


def test_the_key_is_made_once_and_is_private(tmp_path: Path, signer: sign.Signer) -> None:
    path = tmp_path / "keys/image.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sign.load_or_make(path).public == signer.public
    path.chmod(0o644)
    with pytest.raises(Refused, match="can be read by others"):
        sign.load_or_make(path)
    path.chmod(0o600)
    path.write_bytes(b"\xffnonsense")
    with pytest.raises(Corrupt, match="is not a signing key"):
        sign.load_or_make(path)


def test_trust_says_what_a_ref_is_worth(signer: sign.Signer) -> None:
    ref = ref_with(1)
    sealed = sign.seal(ref, signer)
    assert sign.unseal(sealed, image="compute", key=signer.public) == sign.Opened(ref, "pinned", signer.public)
    assert sign.unseal(sealed, image="compute").trust == "unpinned"
    assert sign.unseal(sign.seal(ref, None), image="compute") == sign.Opened(ref, "unsigned", None)


def test_what_is_refused_and_why(signer: sign.Signer, tmp_path: Path) -> None:
    ref = msgspec.structs.replace(ref_with(2), sequence=2)
    sealed = sign.seal(ref, signer)
    other = sign.load_or_make(tmp_path / "other/image.key")
    key = signer.public
    now = datetime(2026, 1, 2, tzinfo=UTC)
    expiring = msgspec.structs.replace(ref, expires="2026-01-01T00:00:00Z")

    def refused(
        data: bytes, match: str, error: type[SisError] = Refused, image: str = "compute", seen: int = 0
    ) -> None:
        with pytest.raises(error, match=match):
            sign.unseal(data, image=image, key=key, seen_sequence=seen, now=now)

    refused(sealed.replace(b'"sequence":2', b'"sequence":3'), "the ref was changed after it was signed")
    refused(sign.seal(ref, None), "is not signed, and a key is pinned here")
    refused(sign.seal(ref, other), "signed by another key")
    refused(sealed, "in truth the ref of compute", image="login")
    refused(sealed, r"older than one seen before \(sequence 2 after 3\)", seen=3)
    refused(sign.seal(expiring, signer), "expired at 2026-01-01")
    refused(sealed[:-20] + b"\n", "signature of the ref of compute is malformed", Corrupt)
    refused(sealed + b"\n", "malformed", Corrupt)
    refused(sealed[:50], "cut off", Corrupt)
    with pytest.raises(SisError, match="not a public key: 'abc'"):
        sign.unseal(sealed, image="compute", key="abc")
    later = now - timedelta(days=3)
    assert sign.unseal(sign.seal(expiring, signer), image="compute", key=key, now=later).trust == "pinned"


def test_a_signature_over_something_else_is_none_on_a_ref(signer: sign.Signer) -> None:
    """The signed bytes begin with what they are."""
    ref = ref_with(1)
    payload = encode_ref(ref)
    raw = signer._key.sign(payload)
    forged = payload + f"\ned25519 {signer.public} {raw.hex()}\n".encode()
    with pytest.raises(Refused, match="wrong"):
        sign.unseal(forged, image="compute", key=signer.public)


@pytest.mark.parametrize("at", range(0, 128, 9))
def test_a_signature_with_one_digit_changed(signer: sign.Signer, at: int) -> None:
    sealed = bytearray(sign.seal(ref_with(1), signer))
    where = len(sealed) - 129 + at
    sealed[where] = ord("0") if sealed[where] != ord("0") else ord("1")
    with pytest.raises(Refused, match="wrong"):
        sign.unseal(bytes(sealed), image="compute", key=signer.public)


def test_a_store_does_not_take_over_a_ref_of_another_key(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "state/store")
    tree = make_simple(tmp_path / "tree")
    commit(store, "compute", tree)
    os.rename(store.key, tmp_path / "kept")
    sign.load_or_make(store.key)
    with pytest.raises(Refused, match="signed by another key"):
        commit(store, "compute", tree)
