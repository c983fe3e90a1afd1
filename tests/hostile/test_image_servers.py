"""A store behind a server that misbehaves: the right bytes, or a clear error, never a wrong byte and never a hang."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from sis.errors import Corrupt, NotFound, SisError, Unreachable
from sis.image.commit import Committed, commit
from sis.image.store.local import LocalStore
from sis.image.store.patience import Limits
from sis.image.store.remote import HttpStore
from tests.image_trees import make_simple, noise
from tests.ports import free_port
from tests.store_servers import Answer, FileServer, Handler, serving

QUICK = Limits(connect_s=2, read_s=1.5, attempts=4, backoff_s=0.005)
LENGTH = 700_000
OFFSET = 12_345


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStore, Committed]:
    top = tmp_path_factory.mktemp("stores")
    store = LocalStore(top / "state/store")
    tree = make_simple(top / "tree")
    (tree / "big").write_bytes(noise("big", 1_000_000))
    return store, commit(store, "web", tree)


@pytest.fixture
def server(made: tuple[LocalStore, Committed]) -> Iterator[FileServer]:
    with serving(made[0].path) as server:
        yield server


@pytest.fixture
def remote(server: FileServer) -> Iterator[HttpStore]:
    store = HttpStore(server.url, limits=QUICK)
    yield store
    store.close()


def pack(made: tuple[LocalStore, Committed]) -> tuple[str, bytes]:
    (name,) = made[0].names("packs")
    return f"packs/{name}", (made[0].path / "packs" / name).read_bytes()


def ignores_range(handler: Handler, data: bytes) -> None:
    handler.send(200, data)


def breaks_off(after: int) -> Answer:
    def answer(handler: Handler, data: bytes) -> None:
        body, headers, status = handler.part(data)
        handler.send(status, body[:after], headers, length=len(body))
        handler.close_connection = True

    return answer


def sends_short(missing: int) -> Answer:
    """Claims and sends less than was asked for."""

    def answer(handler: Handler, data: bytes) -> None:
        body, headers, status = handler.part(data)
        handler.send(status, body[:-missing], headers)

    return answer


def sends_more(handler: Handler, data: bytes) -> None:
    body, headers, status = handler.part(data)
    handler.send(status, body + noise("more", 100_000), headers)


def other_range(handler: Handler, data: bytes) -> None:
    wanted = handler.range()
    assert wanted is not None
    first, last = wanted[0] + 7, wanted[1] + 7
    handler.send(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})


def no_content_range(handler: Handler, data: bytes) -> None:
    handler.send(206, handler.part(data)[0])


def multipart(handler: Handler, data: bytes) -> None:
    handler.send(206, b"--x\r\n\r\n" + handler.part(data)[0], {"Content-Type": "multipart/byteranges; boundary=x"})


def status(code: int, headers: dict[str, str] | None = None) -> Answer:
    return lambda handler, data: handler.send(code, b"sorry", headers)


def says_nothing(handler: Handler, data: bytes) -> None:
    time.sleep(2.0)
    handler.reset()


def stalls(handler: Handler, data: bytes) -> None:
    body, headers, code = handler.part(data)
    handler.send(code, body[:1000], headers, length=len(body))
    handler.wfile.flush()
    time.sleep(2.0)
    handler.reset()


def closes_at_once(handler: Handler, data: bytes) -> None:
    handler.reset()


def chunked(handler: Handler, data: bytes) -> None:
    body, headers, code = handler.part(data)
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for at in range(0, len(body), 10_000):
        piece = body[at : at + 10_000]
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def no_length(handler: Handler, data: bytes) -> None:
    body, headers, code = handler.part(data)
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


def nonsense(handler: Handler, data: bytes) -> None:
    handler.wfile.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    handler.close_connection = True


def redirected(handler: Handler, data: bytes) -> None:
    handler.send(302, b"", {"Location": handler.path})


SHORT_BY_ONE, SHORT_BY_HALF = sends_short(1), sends_short(350_000)
ONLY_OF_RANGES = (other_range, no_content_range, multipart, sends_more, SHORT_BY_ONE, SHORT_BY_HALF)
"""A document is asked for whole: these answers then are damage, not a reason to ask again."""

HEALED: dict[str, list[Answer]] = {
    "ignores the range": [ignores_range],
    "breaks off at the start": [breaks_off(0)],
    "breaks off in the middle": [breaks_off(300_000)],
    "breaks off at every turn": [breaks_off(100_000)] * 6,
    "sends one byte too little": [SHORT_BY_ONE],
    "sends half": [SHORT_BY_HALF],
    "sends too much": [sends_more],
    "answers another range": [other_range],
    "206 without a range": [no_content_range],
    "multipart": [multipart],
    "503": [status(503)],
    "503 with retry-after": [status(503, {"Retry-After": "0"})],
    "503 with a malformed retry-after": [status(503, {"Retry-After": "soon"})],
    "500, 502, 504": [status(500), status(502), status(504)],
    "429": [status(429)],
    "no answer": [says_nothing],
    "stalls": [stalls],
    "closes at once": [closes_at_once],
    "chunked": [chunked],
    "no length": [no_length],
    "not HTTP": [nonsense],
    "redirect": [redirected] * 5,
    "one of each": [breaks_off(70_000), status(503), closes_at_once, ignores_range],
}


@pytest.mark.parametrize("name", HEALED)
def test_what_is_healed(name: str, made: tuple[LocalStore, Committed], server: FileServer, remote: HttpStore) -> None:
    file, data = pack(made)
    server.answers = list(HEALED[name])
    assert b"".join(remote.read(file, OFFSET, LENGTH)) == data[OFFSET : OFFSET + LENGTH]
    assert not server.answers
    server.only = "manifests"
    server.answers = [answer for answer in HEALED[name] if answer not in ONLY_OF_RANGES]
    assert remote.manifest(made[1].version.manifest) == made[0].manifest(made[1].version.manifest)


GIVEN_UP: dict[str, tuple[list[Answer], type[SisError], str]] = {
    "always 503": ([status(503)] * 20, Unreachable, r"HTTP 503 \(4 attempts\)"),
    "always resets": ([closes_at_once] * 20, Unreachable, r"\(4 attempts\)"),
    "never gets anywhere": ([breaks_off(1000)] * 20, Unreachable, r"broke off|IncompleteRead|reset"),
    "never answers": ([says_nothing] * 20, Unreachable, r"no answer in time"),
    "403": ([status(403)], Unreachable, r"HTTP 403"),
    "401": ([status(401)], Unreachable, r"HTTP 401"),
    "teapot": ([status(418)], Unreachable, r"HTTP 418"),
    "204": ([status(204)], Unreachable, r"HTTP 204"),
    "416": ([status(416)], Corrupt, r"is shorter than"),
    "404": ([status(404)] * 2, Corrupt, r"is missing from the store .*\nhint: 'sis image verify' on the head"),
    "compressed": (
        [lambda handler, data: handler.send(206, b"x", {"Content-Encoding": "gzip"})],
        Unreachable,
        r"served compressed",
    ),
    "redirect loop": ([redirected] * 20, Unreachable, r"more than 5 redirects"),
    "redirect to a file": ([status(302, {"Location": "file:///etc/passwd"})], Unreachable, r"is not followed"),
    "redirect to nowhere": ([status(302)] * 20, Unreachable, r"more than 5 redirects"),
    "always another range": ([other_range] * 20, Unreachable, r"asked for bytes from 12345, got"),
    "a shorter file": (
        [
            lambda handler, data: handler.send(
                206, data[OFFSET:20_000], {"Content-Range": f"bytes {OFFSET}-19999/20000"}
            )
        ],
        Corrupt,
        r"is 20000 bytes long",
    ),
    "a shorter file, whole": (
        [lambda handler, data: handler.send(200, data[:20_000])] * 20,
        Corrupt,
        r"20000 bytes long",
    ),
}


@pytest.mark.parametrize("name", GIVEN_UP)
def test_what_is_given_up(name: str, made: tuple[LocalStore, Committed], server: FileServer, remote: HttpStore) -> None:
    file, data = pack(made)
    answers, error, match = GIVEN_UP[name]
    server.answers = list(answers)
    came = bytearray()
    with pytest.raises(error, match=match):
        came.extend(byte for piece in remote.read(file, OFFSET, LENGTH) for byte in piece)
    assert data[OFFSET : OFFSET + len(came)] == bytes(came), "what came before the error is right"
    server.answers = []
    assert b"".join(remote.read(file, OFFSET, LENGTH)) == data[OFFSET : OFFSET + LENGTH], "and the store is usable"


def test_only_the_rest_is_asked_for_again(
    made: tuple[LocalStore, Committed], server: FileServer, remote: HttpStore
) -> None:
    file, _ = pack(made)
    server.answers = [breaks_off(300_000)]
    list(remote.read(file, OFFSET, LENGTH))
    ranges = [wanted for _, wanted in server.requests]
    assert ranges[0] == f"bytes={OFFSET}-{OFFSET + LENGTH - 1}"
    assert len(ranges) == 2
    assert ranges[1] is not None
    assert int(ranges[1].removeprefix("bytes=").split("-")[0]) > OFFSET + 200_000


def test_one_connection_serves_many_requests(
    made: tuple[LocalStore, Committed], server: FileServer, remote: HttpStore
) -> None:
    file, _ = pack(made)
    list(remote.read(file, 0, 10))
    remote.ref("web")
    for at in range(20):
        list(remote.read(file, at * 1000, 1000))
        remote.ref("web")
    assert len(server.clients) == 1


def test_a_server_that_is_not_there() -> None:
    remote = HttpStore(f"http://127.0.0.1:{free_port()}", limits=QUICK)
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        remote.ref("web")
    assert "head's service running" in (caught.value.hint or "")


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(Unreachable, match=r"http://no\.such\.host\.invalid"):
        HttpStore("http://no.such.host.invalid", limits=QUICK).ref("web")


def test_a_port_that_accepts_and_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = HttpStore(
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            limits=Limits(connect_s=1, read_s=0.1, attempts=2, backoff_s=0.001),
        )
        with pytest.raises(Unreachable, match="no answer in time"):
            remote.ref("web")


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "https:///store"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(SisError, match="not a URL of a store"):
        HttpStore(url)


def test_an_endless_answer_is_cut_off(server: FileServer, remote: HttpStore) -> None:
    def endless(handler: Handler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(bytes(1 << 20))
        except OSError:
            pass
        handler.close_connection = True

    server.answers = [endless]
    with pytest.raises(Corrupt, match="is longer than"):
        remote.ref("web")


def test_a_server_that_trickles_is_given_up(server: FileServer, made: tuple[LocalStore, Committed]) -> None:
    def trickles(handler: Handler, data: bytes) -> None:
        body, headers, code = handler.part(data)
        handler.send(code, b"", headers, length=len(body))
        try:
            for at in range(60):
                handler.wfile.write(body[at : at + 1])
                time.sleep(0.02)
        except OSError:
            pass
        handler.reset()

    server.answers = [trickles] * 10
    remote = HttpStore(server.url, limits=Limits(connect_s=1, read_s=0.1, attempts=3, backoff_s=0.001))
    with pytest.raises(Unreachable, match="too slow"):
        list(remote.read(pack(made)[0], OFFSET, LENGTH))


@pytest.mark.parametrize("seed", range(40))
def test_damage_on_the_way_is_never_taken_for_content(
    seed: int, made: tuple[LocalStore, Committed], server: FileServer, remote: HttpStore
) -> None:
    """One bit flipped, cut, doubled or swapped in any served file: refused when the value is read."""
    rng = random.Random(seed)
    local, done = made
    reads: list[Callable[[], object]] = [
        lambda: remote.ref("web", key=local.signer().public),
        lambda: remote.version(done.version_id),
        lambda: remote.manifest(done.version.manifest),
        lambda: remote.table(done.version.table),
    ]
    good = [
        local.ref("web"),
        done.version,
        local.manifest(done.version.manifest),
        local.table(done.version.table),
    ]
    which = rng.randrange(len(reads))

    def damaged(handler: Handler, data: bytes) -> None:
        raw = bytearray(data)
        how = rng.choice(["flip", "cut", "extend", "swap", "empty"])
        at = rng.randrange(len(raw))
        if how == "flip":
            raw[at] ^= 1 << rng.randrange(8)
        elif how == "cut":
            del raw[at:]
        elif how == "extend":
            raw += bytes(rng.randrange(1, 50))
        elif how == "swap":
            raw[:] = (local.path / "versions" / done.version_id).read_bytes()[::-1]
        else:
            raw.clear()
        handler.send(200, bytes(raw))

    server.answers = [damaged]
    with pytest.raises(SisError):
        reads[which]()
    assert reads[which]() == good[which]


def test_an_unknown_image_of_a_reachable_store(remote: HttpStore) -> None:
    with pytest.raises(NotFound, match="no such image: nothing"):
        remote.ref("nothing")
