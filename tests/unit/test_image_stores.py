"""One contract for every kind of store: a directory, a plain HTTP server, a head, nginx."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.errors import Corrupt, NotFound, SisError
from sis.image.commit import Committed, commit
from sis.image.documents.tables import chunk_locations
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.image.store.opening import open_store
from sis.image.store.packs import decode
from sis.image.store.patience import Limits
from sis.image.store.reader import Store
from sis.image.store.remote import HttpStore
from tests.image_trees import make_simple, noise
from tests.store_servers import nginx, serving

QUICK = Limits(connect_s=2, read_s=2, attempts=3, backoff_s=0.005)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStore, Committed]:
    top = tmp_path_factory.mktemp("stores")
    store = LocalStore(top / "state/store")
    tree = make_simple(top / "tree")
    (tree / "big").write_bytes(noise("big", 2_000_000))
    done = commit(store, "web", tree)
    with store.changing_ref("web") as ref:
        assert ref is not None
        store.write_ref(refs.publish(ref, 1, "stable").ref)
    return store, done


@pytest.fixture(params=["directory", "plain", "head", "nginx"])
def store(request: pytest.FixtureRequest, made: tuple[LocalStore, Committed], tmp_path: Path) -> Iterator[Store]:
    local = made[0]
    with contextlib.ExitStack() as stack:
        if request.param == "directory":
            yield open_store(str(local.path))
            return
        if request.param == "plain":
            url = stack.enter_context(serving(local.path)).url
        elif request.param == "head":
            url = stack.enter_context(serving(local.path, prefix="/store/")).url
        else:
            if not shutil.which("nginx", path="/usr/sbin:/usr/bin"):
                pytest.skip("nginx is not installed")
            url = stack.enter_context(nginx(local.path, tmp_path))
        remote = HttpStore(url, limits=QUICK)
        stack.callback(remote.close)
        yield remote


def test_every_document_is_the_same_everywhere(store: Store, made: tuple[LocalStore, Committed]) -> None:
    local, done = made
    key = local.signer().public
    assert store.opened("web", key=key).trust == "pinned"
    assert store.ref("web") == local.ref("web")
    assert store.version(done.version_id) == done.version
    assert store.manifest(done.version.manifest) == local.manifest(done.version.manifest)
    assert store.table(done.version.table) == local.table(done.version.table)


def test_every_chunk_can_be_read(store: Store, made: tuple[LocalStore, Committed]) -> None:
    _, done = made
    manifest, table = store.manifest(done.version.manifest), store.table(done.version.table)
    for location in chunk_locations(manifest, table).values():
        name = f"packs/{table.packs[location.pack].digest.hex()}"
        decode(b"".join(store.read(name, location.offset, location.stored)), location)


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (0, 8), (5, 0), (100, 1_500_000), (-1, 1)])
def test_ranges(store: Store, made: tuple[LocalStore, Committed], offset: int, length: int) -> None:
    local, _ = made
    (name,) = local.names("packs")
    data = (local.path / "packs" / name).read_bytes()
    at = len(data) - 1 if offset < 0 else offset
    assert b"".join(store.read(f"packs/{name}", at, length)) == data[at : at + length]


def test_a_range_behind_the_end_is_damage(store: Store, made: tuple[LocalStore, Committed]) -> None:
    local, _ = made
    (name,) = local.names("packs")
    size = (local.path / "packs" / name).stat().st_size
    for offset, length in ((size, 1), (size - 10, 11), (size + 1000, 5)):
        with pytest.raises(Corrupt, match=name):
            list(store.read(f"packs/{name}", offset, length))


def test_what_is_missing(store: Store) -> None:
    nobody = "0" * 64
    with pytest.raises(NotFound, match="no such image: wev"):
        store.ref("wev")
    with pytest.raises(NotFound, match="no such image: \\.\\./x"):
        store.ref("../x")
    with pytest.raises(NotFound, match="no such version in the store: 000000000000"):
        store.version(nobody)
    for read in (store.manifest, store.table):
        with pytest.raises(Corrupt, match="is missing from the store"):
            read(nobody)
    with pytest.raises(Corrupt, match="is missing from the store"):
        list(store.read(f"packs/{nobody}", 0, 1))


@pytest.mark.parametrize("name", ["packs/../refs/web", "refs/web", "packs/abc", "/etc/passwd", "packs/" + "A" * 64])
def test_only_immutable_files_are_read_by_range(store: Store, name: str) -> None:
    with pytest.raises(SisError, match="not the name of a file of a store"):
        list(store.read(name, 0, 1))


def test_a_reader_may_stop_early_and_go_on_with_something_else(
    store: Store, made: tuple[LocalStore, Committed]
) -> None:
    local, done = made
    (name,) = local.names("packs")
    pieces = store.read(f"packs/{name}", 0, 1_000_000)
    next(iter(pieces))
    pieces.close()  # type: ignore[attr-defined]
    assert store.version(done.version_id) == done.version


def test_a_forked_process_shares_no_connection(made: tuple[LocalStore, Committed]) -> None:
    local, _ = made
    (name,) = local.names("packs")
    data = (local.path / "packs" / name).read_bytes()
    with serving(local.path) as server:
        store = HttpStore(server.url, limits=Limits(connect_s=2, read_s=2, attempts=1))

        def is_right() -> bool:
            spans = [(at, 1 + at % 5000) for at in range(0, len(data) - 50_000, 20_000)]
            return all(b"".join(store.read(f"packs/{name}", at, size)) == data[at : at + size] for at, size in spans)

        assert is_right()
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                code = 0 if is_right() else 2
            os._exit(code)
        try:
            assert is_right()
        finally:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            store.close()
    assert code == 0


def test_many_threads_read_at_once(store: Store, made: tuple[LocalStore, Committed]) -> None:
    local, _ = made
    (name,) = local.names("packs")
    data = (local.path / "packs" / name).read_bytes()
    wrong: list[int] = []

    def read(number: int) -> None:
        wrong.extend(
            at
            for at in range(number * 1000, len(data) - 50_000, 400_000)
            if b"".join(store.read(f"packs/{name}", at, 50_000)) != data[at : at + 50_000]
        )

    threads = [threading.Thread(target=read, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
