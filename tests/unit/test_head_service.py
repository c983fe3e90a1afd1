"""The head over real HTTP on a loopback port: boot answers, tokens, the store's files, orders, and who may do what."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import uvicorn

from sis import wire
from sis.head import app as head_app
from sis.head import node_calls as spoken
from sis.head.files import parse_range
from sis.head.renders import Renders
from sis.image import commit
from sis.image.store.local import LocalStore
from sis.image.store.sign import Signer
from sis.inventory import access, db
from sis.inventory.db import Inventory
from sis.inventory.model import Assignment, Interface, Network, NewNode, Node
from sis.netboot.installer import BootFile, BootFiles
from tests import node_calls
from tests.heads import Answer

MAC = "52:54:00:00:00:01"
OTHER_MAC = "52:54:00:00:00:02"


@dataclass
class Running:
    """A head on a loopback port, over a state with one image, two nodes and boot files."""

    state: Path
    inventory: Inventory
    port: int
    version_id: str

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        key: Signer | None = None,
        headers: dict[str, str] | None = None,
        *,
        node: str = "",
    ) -> Answer:
        if key is not None:
            known = node or path.removeprefix("/api/v1/nodes/").partition("/")[0]
            told = node_calls.call(self.port, self.head_key, method, path, body, node=known, key=key, headers=headers)
            return Answer(told.status, dict(told.headers), told.body)
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        sent = dict(headers or {})
        payload = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        line.request(method, path, payload, sent)
        response = line.getresponse()
        raw = response.read()
        line.close()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, raw)

    def node(self, name: str = "n1") -> Node:
        return self.inventory.nodes.get(name)

    def arm(self, name: str = "n1") -> None:
        self.inventory.access.arm([self.node(name).id])

    def boot(self, mac: str = MAC) -> str:
        answer = self.ask("GET", f"/boot/ipxe?mac={mac.replace(':', '-')}")
        assert answer.status == 200
        return answer.body.decode()

    def token(self, mac: str = MAC) -> str:
        found = re.search(r"sis\.token=(\S+)", self.boot(mac))
        assert found, "no install answer"
        return found[1]

    def hello(self, token: str | None, node: str = "n1", mac: str = MAC, key: Signer | None = None) -> Answer:
        key = key or Signer.make()
        said = wire.Hello(node=node, macs=(mac,), token=token, key=key.public, facts={"architecture": "x86_64"})
        return self.ask("POST", "/api/v1/hello", said, key, node=node)

    def welcomed(self, token: str, node: str = "n1", mac: str = MAC) -> Signer:
        """The key of a node that said hello with a token."""
        key = Signer.make()
        answer = self.hello(token, node, mac, key)
        assert (answer.status, answer.json) == (200, {"node": node})
        return key

    def key(self, name: str = "n1", mac: str = MAC) -> Signer:
        self.arm(name)
        return self.welcomed(self.token(mac), name, mac)

    @property
    def head_key(self) -> str:
        return LocalStore(self.state / "store").signer().public


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with one small image, made once."""
    state = tmp_path_factory.mktemp("image")
    tree = state / "tree"
    for folder in ("etc/network", "sbin", "usr/bin"):
        (tree / folder).mkdir(parents=True)
    (tree / "etc/motd").write_text("welcome\n")
    (tree / "sbin/ifup").write_text("#!/bin/sh\n")
    store = LocalStore(state / "store")
    done = commit.commit(store, "compute", tree, spec=json.dumps({"image": "compute", "disk": "single"}))
    return state, done.version_id


@pytest.fixture
def head(image: tuple[Path, str], tmp_path: Path) -> Iterator[Running]:
    made, version_id = image
    (tmp_path / "store").symlink_to(made / "store")
    (tmp_path / "keys").symlink_to(made / "keys")
    boot_folder = tmp_path / "boot" / version_id
    boot_folder.mkdir(parents=True)
    named = []
    for name in ("vmlinuz", "initrd", "root.squashfs"):
        (boot_folder / name).write_bytes(name.encode() * 100)
        named.append(BootFile(name=name, size_bytes=len(name) * 100, sha256="ab" * 32, blake3="cd" * 32))
    described = BootFiles(version_id=version_id, kernel_release="6.1", inputs="", files=tuple(named))
    (boot_folder / "boot.json").write_bytes(msgspec.json.encode(described))
    inventory = db.open(tmp_path / "state.db")
    inventory.networks.put(Network("mgmt", "10.77.0.0/24", data={"head": "10.77.0.1"}))
    inventory.nodes.add(
        [
            NewNode(name, (Interface("eth0", mac, address, "mgmt"),), assignment=Assignment("compute", ""))
            for name, mac, address in (("n1", MAC, "10.77.0.11"), ("n2", OTHER_MAC, "10.77.0.12"))
        ]
    )
    listener = socket.create_server(("127.0.0.1", 0))
    app = head_app.create(tmp_path, inventory)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Running(tmp_path, inventory, listener.getsockname()[1], version_id)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        inventory.close()


# --- boot answers


def test_an_unknown_mac_is_recorded_and_left_alone(head: Running) -> None:
    script = head.boot("52:54:00:99:99:99")
    assert "52:54:00:99:99:99 is not in the inventory" in script
    assert "sis.token" not in script
    assert [found.mac for found in head.inventory.discoveries.list()] == ["52:54:00:99:99:99"]
    head.boot("52:54:00:99:99:99")
    assert head.inventory.discoveries.list()[0].boots == 2


def test_a_node_that_is_not_armed_boots_its_disk(head: Running) -> None:
    assert "n1 boots from its disk" in head.boot()


def test_an_armed_node_gets_an_install_with_all_it_needs(head: Running) -> None:
    head.arm()
    script = head.boot()
    base = f"http://127.0.0.1:{head.port}"
    assert f"kernel --name vmlinuz {base}/boot/files/{head.version_id}/vmlinuz" in script
    assert f"sis.head={base} " in script
    assert "sis.node=n1 " in script
    assert f"sis.key={LocalStore(head.state / 'store').signer().public} " in script
    assert "console=ttyS0,115200" in script
    assert head.node().state.state == "netbooted"
    for name in ("vmlinuz", "initrd", "root.squashfs"):
        assert head.ask("GET", f"/boot/files/{head.version_id}/{name}").body == name.encode() * 100


def test_what_is_no_mac_is_refused(head: Running) -> None:
    answer = head.ask("GET", "/boot/ipxe?mac=%24%7Bnet0%7D")
    assert (answer.status, answer.json["detail"].split(":")[0]) == (409, "not a MAC address")


def test_an_armed_node_without_boot_files_is_red_with_the_reason_and_boots_its_disk(head: Running) -> None:
    (head.state / "boot" / head.version_id / "boot.json").unlink()
    head.arm()
    assert "n1 boots from its disk" in head.boot()
    state = head.node().state
    assert (state.state, state.step) == ("failed", "hello")
    assert state.reason.startswith("there are no boot files for version")


# --- tokens and keys


def test_only_the_newest_token_opens_the_door(head: Running) -> None:
    head.arm()
    old, new = head.token(), head.token()
    assert old != new
    denied = head.hello(old)
    assert (denied.status, denied.json) == (403, {"detail": "not allowed"})
    assert head.hello(new).status == 200


def test_all_wrong_keys_get_the_same_answer(head: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    head.arm()
    token = head.token()
    key = head.welcomed(token)
    assert head.ask("GET", "/api/v1/nodes/n1/desired", key=key).status == 200
    head.arm("n2")
    expired = head.token(OTHER_MAC)
    monkeypatch.setattr(access, "TOKEN_LIFE_S", -1)
    answers = [
        head.hello("made-up"),
        head.hello(token),
        head.hello(expired, "n2", OTHER_MAC),
        head.hello(token, "nobody"),
        head.hello(None),
        head.hello(None, key=Signer.make()),
        head.ask("GET", "/api/v1/nodes/n2/desired", key=key),
        head.ask("GET", "/api/v1/nodes/nobody/desired", key=key),
        head.ask("GET", "/api/v1/nodes/n1/orders?wait=0", key=Signer.make()),
        head.ask("POST", "/api/v1/nodes/n2/events", [], key),
        head.ask("POST", "/api/v1/nodes/n2/report", b"{}", key),
    ]
    assert {(answer.status, answer.body) for answer in answers} == {(403, b'{"detail":"not allowed"}')}


def test_a_token_is_bound_to_the_nodes_own_macs(head: Running) -> None:
    head.arm()
    assert head.hello(head.token(), "n1", OTHER_MAC).status == 403


def test_a_lost_answer_may_be_asked_for_again_until_the_key_is_used(head: Running) -> None:
    head.arm()
    token = head.token()
    first = head.welcomed(token)
    second = head.welcomed(token)
    assert head.ask("GET", "/api/v1/nodes/n1/desired", key=first).status == 403
    assert head.ask("GET", "/api/v1/nodes/n1/desired", key=second).status == 200
    assert head.hello(token).status == 403


def test_the_head_keeps_nothing_that_opens_a_door(head: Running) -> None:
    head.arm()
    token = head.token()
    key = head.welcomed(token)
    kept = b"".join(path.read_bytes() for path in head.state.glob("state.db*"))
    assert token.encode() not in kept
    assert key.private.encode() not in kept
    assert key.public.encode() in kept


def test_an_interrupted_install_goes_on_and_a_finished_one_does_not_loop(head: Running) -> None:
    head.key()
    assert "installing n1" in head.boot()
    key = head.welcomed(head.token())
    report = wire.Report(
        kind="install", outcome="ok", in_sync=True, image="compute", generation=1, version=head.version_id,
        started="2026-01-01T00:00:00.000Z", seconds=10,
    )  # fmt: skip
    assert head.ask("POST", "/api/v1/nodes/n1/report", report, key).status == 204
    assert "n1 boots from its disk" in head.boot()
    assert head.node().state.state == "rebooting"
    assert head.ask("GET", "/api/v1/nodes/n1/orders?wait=0", key=key).status == 204
    assert head.node().state.state == "in-sync"


def test_three_failed_installs_quarantine(head: Running) -> None:
    head.arm()
    for at in range(3):
        key = head.welcomed(head.token())
        report = wire.Report(
            kind="install", outcome="failed", in_sync=False, image="compute", generation=1, version="", error="no disk",
            started=f"2026-01-01T00:00:0{at}.000Z", seconds=1,
        )  # fmt: skip
        assert head.ask("POST", "/api/v1/nodes/n1/report", report, key).status == 204
    assert "n1 is quarantined" in head.boot()
    found = head.node().state
    assert (found.state, found.reason.endswith("no disk")) == ("quarantined", True)


# --- desired, events, report


def test_desired_is_the_image_and_the_nodes_own_layer(head: Running) -> None:
    key = head.key()
    answer = head.ask("GET", "/api/v1/nodes/n1/desired", key=key)
    desired = msgspec.json.decode(answer.body, type=wire.Desired)
    assert (desired.node, desired.image, desired.generation, desired.version) == ("n1", "compute", 1, head.version_id)
    assert desired.store == "store"
    assert desired.layout is not None
    assert desired.layout.name == "single"
    files = {file.path: file for file in desired.layer}
    assert b"n1" in files["/etc/hostname"].content
    assert b"10.77.0.12" in files["/etc/hosts"].content
    assert b"PARTLABEL=sis-root" in files["/etc/fstab"].content
    assert b"10.77.0.11" in files["/etc/network/interfaces"].content
    assert files["/etc/ssh/ssh_host_ed25519_key"].mode == 0o600 if "/etc/ssh/ssh_host_ed25519_key" in files else True


def test_a_nodes_layer_is_the_same_each_time(head: Running) -> None:
    renders = Renders(head.state, head.inventory)
    first, second = (renders.desired(head.node()) for _ in range(2))
    assert first == second


def test_faults_of_the_admins_wishes_reach_the_node_by_name(head: Running) -> None:
    from sis.inventory.nodes import Change

    key = head.key()
    head.inventory.nodes.change(["n1"], Change(assignment=lambda _: Assignment("compute", "stabel")))
    answer = head.ask("GET", "/api/v1/nodes/n1/desired", key=key)
    assert (answer.status, answer.json["detail"].splitlines()[0]) == (409, "no such channel: compute@stabel")
    head.inventory.nodes.change(["n1"], Change(assignment=lambda _: Assignment("compute", "", "singel")))
    answer = head.ask("GET", "/api/v1/nodes/n1/desired", key=key)
    assert answer.json["detail"] == "no such disk layout: singel\nhint: did you mean single or single-xfs?"


def test_events_move_the_state_and_a_failure_keeps_its_log(head: Running) -> None:
    key = head.key()
    told = [
        wire.Event(time="2026-01-01T00:00:00.000Z", stage="partitioning", outcome="start"),
        wire.Event(
            time="2026-01-01T00:00:01.000Z", stage="partitioning", outcome="failed", message="no disk", log="a\nb"
        ),
    ]
    assert head.ask("POST", "/api/v1/nodes/n1/events", told, key).status == 204
    state = head.node().state
    assert (state.state, state.step, state.reason) == ("failed", "partitioning", "no disk")
    assert state.event_id is not None
    event = head.inventory.history.event(state.event_id)
    assert event is not None
    assert event.log == "a\nb"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"node": 1}', b"\xff\xfe", b"[" * 5000])
def test_bodies_that_make_no_sense_are_refused(head: Running, body: bytes) -> None:
    assert head.ask("POST", "/api/v1/hello", body).status == 422


def test_bodies_are_bounded(head: Running) -> None:
    assert head.ask("POST", "/api/v1/hello", b" " * (spoken.HELLO_LIMIT_BYTES + 1)).status == 413


def test_a_body_without_length_is_bounded_too(head: Running) -> None:
    with socket.create_connection(("127.0.0.1", head.port), timeout=90) as line:
        line.sendall(b"POST /api/v1/hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(64):
                line.sendall(piece)
        except OSError:
            pass
        assert b" 413 " in line.recv(100)


# --- orders


def test_an_order_written_by_another_process_reaches_a_waiting_node(head: Running) -> None:
    key = head.key()
    answers: list[Answer] = []
    waiting = threading.Thread(
        target=lambda: answers.append(head.ask("GET", "/api/v1/nodes/n1/orders?wait=20", key=key))
    )
    waiting.start()
    time.sleep(0.3)
    with db.open(head.state / "state.db") as elsewhere:
        (order,) = elsewhere.orders.create([head.node().id], "sync", full=True)
    waiting.join()
    assert answers[0].json == {"id": order, "kind": "sync", "full": True}
    report = wire.Report(
        kind="sync", outcome="ok", in_sync=True, image="compute", generation=1, version=head.version_id,
        started="2026-01-01T00:00:00.000Z", seconds=1, order=order,
    )  # fmt: skip
    for _ in range(2):
        assert head.ask("POST", "/api/v1/nodes/n1/report", report, key).status == 204
    (done,) = head.inventory.orders.get([order])
    assert done.done is not None
    assert done.report_id is not None
    assert len(head.inventory.history.reports("n1")) == 1
    assert head.ask("GET", "/api/v1/nodes/n1/orders?wait=0", key=key).status == 204


def test_no_order_is_no_content_after_the_wait(head: Running) -> None:
    key = head.key()
    started = time.monotonic()
    assert head.ask("GET", "/api/v1/nodes/n1/orders?wait=1", key=key).status == 204
    assert time.monotonic() - started >= 0.9


# --- the store's files


def pack_of(head: Running) -> tuple[str, bytes]:
    path = next((head.state / "store" / "packs").iterdir())
    return f"/store/packs/{path.name}", path.read_bytes()


def test_a_file_whole_and_in_ranges(head: Running) -> None:
    path, content = pack_of(head)
    whole = head.ask("GET", path)
    assert (whole.status, whole.body) == (200, content)
    assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
    for asked, start, end in (("0-9", 0, 10), ("5-", 5, len(content)), ("-7", len(content) - 7, len(content))):
        part = head.ask("GET", path, headers={"Range": f"bytes={asked}"})
        assert (part.status, part.body) == (206, content[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(content)}"


def test_ranges_that_cannot_be(head: Running) -> None:
    path, content = pack_of(head)
    outside = head.ask("GET", path, headers={"Range": f"bytes={len(content)}-"})
    assert (outside.status, outside.headers["content-range"]) == (416, f"bytes */{len(content)}")
    for asked in ("bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "bytes=x", "bytes=-"):
        assert head.ask("GET", path, headers={"Range": asked}).body == content
    changed = head.ask("GET", path, headers={"Range": "bytes=0-1", "If-Range": '"another"'})
    assert changed.status == 200


def test_head_and_conditional_requests(head: Running) -> None:
    path, content = pack_of(head)
    asked = head.ask("HEAD", path)
    assert (asked.status, asked.body, asked.headers["content-length"]) == (200, b"", str(len(content)))
    assert head.ask("GET", path, headers={"If-None-Match": asked.headers["etag"]}).status == 304


def test_refs_are_asked_for_anew(head: Running) -> None:
    answer = head.ask("GET", "/store/refs/compute")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "path",
    [
        "/store/../state.db", "/store/packs/../../state.db", "/store/%2e%2e/state.db", "/store/packs/%2e%2e%2fx",
        "/store/packs/..%2f..%2fstate.db", "/store/packs//etc/passwd", "/store/keys/image.key", "/store/.work/tmp",
        "/store/packs/", "/store/packs", "/store/refs/%00", "/boot/files/../../state.db", "/store/refs/link",
        "/boot/files/%2e%2e/state.db", "/boot/loader/..%2fdnsmasq.conf", "/boot/files/x/state.db", "/state.db",
        "/store/refs/fifo", "//store/refs/../../state.db",
    ],
)  # fmt: skip
def test_nothing_outside_the_served_folders_can_be_reached(head: Running, path: str) -> None:
    refs = head.state / "store" / "refs"
    (refs / "link").unlink(missing_ok=True)
    (refs / "link").symlink_to(head.state / "state.db")
    if not (refs / "fifo").exists():
        os.mkfifo(refs / "fifo")
    try:
        answer = head.ask("GET", path)
        assert answer.status in (404, 405)
        assert b"SQLite" not in answer.body
    finally:
        (refs / "link").unlink()
        (refs / "fifo").unlink()


def test_ranges_as_values() -> None:
    assert parse_range("bytes=0-0", 5) == (0, 1)
    assert parse_range("bytes=-0", 5) == "outside"
    assert parse_range("bytes=-9", 5) == (0, 5)
    assert parse_range("bytes=0-", 0) == "outside"
    assert parse_range("bytes=99999999999999999999-", 5) is None


# --- many at once


def test_many_nodes_say_hello_at_once(head: Running) -> None:
    names = [f"m{at:03d}" for at in range(100)]
    macs = {name: f"52:54:01:00:00:{at:02x}" for at, name in enumerate(names)}
    head.inventory.nodes.add(
        [
            NewNode(
                name, (Interface("eth0", macs[name], f"10.77.0.{at + 100}", "mgmt"),), (), Assignment("compute", "")
            )
            for at, name in enumerate(names)
        ]
    )
    head.inventory.access.arm([node.id for node in head.inventory.nodes.list() if node.name in macs])

    def story(name: str) -> str:
        key = head.welcomed(head.token(macs[name]), name, macs[name])
        desired = head.ask("GET", f"/api/v1/nodes/{name}/desired", key=key)
        return str(desired.json["node"])

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(story, names)) == names


# --- the description


def test_openapi_describes_every_route_and_unauthenticated_ones_are_known(head: Running) -> None:
    described = head.ask("GET", "/api/v1/openapi.json").json
    routes = {(path, method) for path, methods in described["paths"].items() for method in methods}
    unlocked = {(path, method) for path, method in routes if not described["paths"][path][method].get("security")}
    assert {path for path, _ in unlocked} == {
        "/boot/ipxe", "/boot/sis.ipxe", "/boot/files/{version}/{name}", "/boot/loader/{name}",
        "/store/{folder}/{name}", "/api/v1/health", "/api/v1/hello",
    }  # fmt: skip
    assert {"Desired", "Report", "Event", "Order", "Hello", "Welcome"} <= set(described["components"]["schemas"])
    assert not re.search(r"https?://(?!127)", json.dumps(described["paths"]))
