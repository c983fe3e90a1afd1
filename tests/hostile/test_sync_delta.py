"""Nodes that move from one version to another by a delta: sound, damaged, for another base, and on drifted roots."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import msgspec
import pytest
from blake3 import blake3

from sis.image.deltas import delta
from sis.image.model import ANY_MTIME
from sis.image.store.patience import Limits
from sis.image.store.remote import HttpStore
from sis.sync import mend
from sis.sync.model import LayerFile
from tests.delta_trees import DeltaBench, make_versions
from tests.store_servers import FileServer, serving
from tests.sync_trees import rsync_differences

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> DeltaBench:
    """Made once; each test copies it."""
    where = tmp_path_factory.mktemp("delta")
    bench = DeltaBench(where, *make_versions(where))
    bench.make_delta(processes=1)
    return bench


@pytest.fixture
def bench(prepared: DeltaBench) -> Iterator[DeltaBench]:
    """The root at image@1, the delta as it was made."""
    good = prepared.delta_file.read_bytes()
    prepared.back_to_one()
    yield prepared
    prepared.delta_file.write_bytes(good)


def test_everything_new_comes_by_the_delta(bench: DeltaBench) -> None:
    planned = bench.sync(dry_run=True)
    outcome = bench.sync()
    assert outcome.in_sync
    assert rsync_differences(bench.two, bench.root) == []
    assert outcome.notices == ()
    assert outcome.totals.bytes_delta == outcome.totals.bytes_fetched > 0
    assert planned.totals.bytes_delta == outcome.totals.bytes_delta
    assert outcome.totals.bytes_local > 10_000_000
    assert outcome.totals.bytes_delta < 120_000
    assert bench.sync().changes == ()


def test_it_costs_less_than_chunks(bench: DeltaBench) -> None:
    size = bench.delta_file.stat().st_size
    bench.delta_file.unlink()
    outcome = bench.sync()
    assert rsync_differences(bench.two, bench.root) == []
    assert outcome.totals.bytes_delta == 0
    assert outcome.totals.bytes_fetched > 5 * size
    assert outcome.notices == ("the store has no delta from image@1 to image@2: chunks are fetched instead",)


def cut(data: bytes, keep: float) -> bytes:
    return data[: int(len(data) * keep)]


def flip(data: bytes, where: float) -> bytes:
    changed = bytearray(data)
    changed[min(int(len(data) * where), len(data) - 1)] ^= 0x10
    return bytes(changed)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half a header": lambda data: data[: delta.HEADER.size // 2],
    "only the header": lambda data: data[: delta.HEADER.size],
    **{f"cut at {keep}": lambda data, keep=keep: cut(data, keep) for keep in (0.2, 0.5, 0.9, 0.999)},  # type: ignore[misc]
    **{
        f"bit flipped at {at}": lambda data, at=at: flip(data, at)
        for at in (0.0, 0.0005, 0.002, 0.1, 0.5, 0.8, 0.99999)
    },  # type: ignore[misc]
    "longer": lambda data: data + b"more",
    "zeros": lambda data: bytes(len(data)),
    "another file": lambda data: b"SISPACK\n" + data[8:],
    "items swapped": lambda data: (
        data[: len(data) // 2] + data[len(data) * 3 // 4 :] + data[len(data) // 2 : len(data) * 3 // 4]
    ),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_delta_never_makes_a_wrong_byte(bench: DeltaBench, how: str) -> None:
    bench.delta_file.write_bytes(DAMAGE[how](bench.delta_file.read_bytes()))
    outcome = bench.sync()
    assert outcome.in_sync
    assert rsync_differences(bench.two, bench.root) == []
    assert len(outcome.notices) >= 1
    assert "delta" in outcome.notices[0]
    assert outcome.totals.bytes_fetched > outcome.totals.bytes_delta
    assert not (bench.root / ".sis-stage").exists()


def test_a_delta_for_another_base_is_refused(bench: DeltaBench) -> None:
    one, two = bench.ids
    raw = bench.delta_file.read_bytes()
    header = delta.decode_header(raw, one, two, len(raw))
    head = raw[delta.HEADER.size : header.items_offset]
    foreign = delta.encode_header("77" * 32, two, head, header.items_bytes, header.items_digest)
    bench.delta_file.write_bytes(foreign + raw[len(foreign) :])
    outcome = bench.sync()
    (notice,) = outcome.notices
    assert notice.startswith(
        "the delta from image@1 to image@2 is not used, chunks are fetched instead:"
        f" the delta from {one[:12]} to {two[:12]} is in truth"
    )
    assert rsync_differences(bench.two, bench.root) == []


def of_another_format(raw: bytes, head: delta.Head, header: delta.Header) -> bytes:
    fields = delta.HEADER.pack(*delta.HEADER.unpack_from(raw)[:1], 2, *delta.HEADER.unpack_from(raw)[2:-1], bytes(32))
    return fields[:-32] + blake3(fields[:-32]).digest() + raw[delta.HEADER.size :]


def with_head(**changed: object) -> Callable[[bytes, delta.Head, delta.Header], bytes]:
    def made(raw: bytes, head: delta.Head, header: delta.Header) -> bytes:
        stored = delta.encode_head(msgspec.structs.replace(head, **changed))
        ids = header.before.hex(), header.after.hex()
        fields = delta.encode_header(*ids, stored, header.items_bytes, header.items_digest)
        return fields + stored + raw[header.items_offset :]

    return made


def with_an_item_of_another_kind(raw: bytes, head: delta.Head, header: delta.Header) -> bytes:
    first, *others = head.items
    return with_head(items=(msgspec.structs.replace(first, method=9), *others))(raw, head, header)


NEWER: dict[str, tuple[Callable[[bytes, delta.Head, delta.Header], bytes], str]] = {
    "format": (of_another_format, "has format 2; this program reads format 1"),
    "head": (with_head(format=2), "head has format 2; this program reads format 1"),
    "manifest": (with_head(manifest=b"SISNEWER" + bytes(99)), "the manifest in the delta is in a form"),
    "version": (with_head(version=b"SISNEWER" + bytes(99)), "the version in the delta is in a form"),
    "item": (with_an_item_of_another_kind, "has method 9; this program knows 1 to 5"),
}


@pytest.mark.parametrize("what", NEWER)
def test_what_a_newer_program_made_is_done_without(bench: DeltaBench, what: str) -> None:
    """A node whose program is older than its head's has a night like any other; it is told that it fetched chunks."""
    made, why = NEWER[what]
    raw = bench.delta_file.read_bytes()
    header = delta.decode_header(raw, *bench.ids, len(raw))
    bench.delta_file.write_bytes(
        made(raw, delta.decode_head(raw[delta.HEADER.size : header.items_offset], header), header)
    )
    outcome = bench.sync()
    assert outcome.in_sync
    assert rsync_differences(bench.two, bench.root) == []
    assert outcome.totals.bytes_delta == 0
    (notice,) = outcome.notices
    assert notice.startswith("the delta from image@1 to image@2 is not used, chunks are fetched instead: ")
    assert why in notice


def test_many_faults_are_one_sentence(bench: DeltaBench) -> None:
    raw = bytearray(bench.delta_file.read_bytes())
    header = delta.decode_header(bytes(raw), *bench.ids, len(raw))
    raw[header.items_offset :: 400] = bytes(len(raw[header.items_offset :: 400]))
    bench.delta_file.write_bytes(raw)
    outcome = bench.sync()
    assert rsync_differences(bench.two, bench.root) == []
    (notice,) = outcome.notices
    assert "chunks did not come by the delta but from the packs: the delta is damaged" in notice
    assert notice.endswith("faults more")


def test_drifted_bases_fall_back_path_by_path(bench: DeltaBench) -> None:
    module = bench.root / "lib/modules/6.1.0-50/kernel/m3.ko"
    module.write_bytes(module.read_bytes()[:-1] + b"!")
    (bench.root / "etc/list").unlink()
    outcome = bench.sync()
    assert outcome.in_sync
    assert rsync_differences(bench.two, bench.root) == []
    assert 0 < outcome.totals.bytes_delta < outcome.totals.bytes_fetched
    (notice,) = outcome.notices
    assert "/etc/list" in notice
    assert "/lib/modules/6.1.0-50/kernel/m3.ko" in notice
    assert "came as chunks" in notice


def test_a_base_that_changes_after_the_plan_makes_no_wrong_byte(
    bench: DeltaBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same size, same times: only what comes out tells."""
    really = mend.make_ready

    def spoilt_first(*given: object) -> int:
        for path in bench.root.glob("lib/modules/6.1.0-50/kernel/*.ko"):
            before = path.stat()
            data = bytearray(path.read_bytes())
            data[: len(data) // 2] = bytes(len(data) // 2)
            path.write_bytes(data)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return really(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(mend, "make_ready", spoilt_first)
    outcome = bench.sync()
    assert rsync_differences(bench.two, bench.root) == []
    assert any("does not come out as chunk" in notice or "cannot be applied" in notice for notice in outcome.notices)


def test_a_layer_over_a_base_is_no_base(bench: DeltaBench) -> None:
    layer = (LayerFile(path="/etc/list", content=b"the node's own\n", origin="test"),)
    bench.sync("image@1", layer=layer)
    outcome = bench.sync(layer=layer)
    assert outcome.in_sync
    assert outcome.notices == (), "that is as it is to be, and nothing to tell every night"
    assert (bench.root / "etc/list").read_bytes() == b"the node's own\n"
    assert [line for line in rsync_differences(bench.two, bench.root) if not line.endswith("etc/list")] == []
    assert outcome.totals.bytes_delta > 0
    assert ANY_MTIME == -1


@pytest.fixture
def server(bench: DeltaBench) -> Iterator[FileServer]:
    with serving(bench.bench.store.path) as server:
        server.only = "deltas/"
        yield server


@pytest.fixture
def remote(server: FileServer) -> Iterator[HttpStore]:
    store = HttpStore(server.url, limits=Limits(connect_s=2, read_s=2, attempts=3, backoff_s=0.01))
    yield store
    store.close()


def test_over_http_it_is_one_file_in_order(bench: DeltaBench, server: FileServer, remote: HttpStore) -> None:
    outcome = bench.sync(store=remote)
    assert rsync_differences(bench.two, bench.root) == []
    assert outcome.notices == ()
    paths = [path for path, _ in server.requests]
    assert paths[0] == "/refs/image"
    assert {path.split("/")[1] for path in paths[1:]} == {"deltas"}
    assert len(paths) <= 4
    starts = [int(asked.removeprefix("bytes=").split("-")[0]) for _, asked in server.requests[1:] if asked]
    assert starts == sorted(starts)


def test_nothing_changed_is_one_request(bench: DeltaBench, server: FileServer, remote: HttpStore) -> None:
    bench.sync(store=remote)
    server.requests.clear()
    assert bench.sync(store=remote).changes == ()
    assert [path for path, _ in server.requests] == ["/refs/image"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda handler, data: handler.send(200, data),
        lambda handler, data: handler.send(404, b"gone"),
        lambda handler, data: handler.send(500, b"broken"),
        lambda handler, data: handler.send(403, b"no"),
        lambda handler, data: handler.send(206, data[:10], {"Content-Range": "bytes 99-108/1000"}),
        lambda handler, data: handler.send(206, data, {"Content-Range": f"bytes 0-9/{len(data)}"}),
        lambda handler, data: handler.send(200, data[:100], length=len(data)),
        lambda handler, data: handler.send(206, handler.part(data)[0][:7], handler.part(data)[1]),
        lambda handler, data: handler.send(200, data * 2),
        lambda handler, data: handler.send(416, b""),
        lambda handler, data: handler.send(200, data, {"Content-Encoding": "gzip"}),
        lambda handler, data: handler.send(302, b"", {"Location": "/nowhere"}),
        lambda handler, data: handler.reset(),
        lambda handler, data: handler.send(206, b"", {"Content-Range": "bytes 0-0/99999999999999"}),
    ],
)
@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_misbehaving_server(
    bench: DeltaBench, server: FileServer, remote: HttpStore, answer: Callable[..., None], first: int
) -> None:
    server.answers = [lambda handler, data: handler.serve(data)] * first + [answer] * 8
    outcome = bench.sync(store=remote)
    assert outcome.in_sync
    assert rsync_differences(bench.two, bench.root) == []


def test_kept_documents_that_are_damaged_are_fetched_again(
    bench: DeltaBench, server: FileServer, remote: HttpStore
) -> None:
    bench.sync()
    documents = bench.bench.state / "documents"
    for path in documents.rglob("*"):
        if path.is_file():
            path.write_bytes(flip(path.read_bytes(), 0.5))
    assert bench.sync(store=remote).changes == ()
    assert bench.sync(store=remote).changes == ()
    shutil.rmtree(documents)
    assert bench.sync().changes == ()
