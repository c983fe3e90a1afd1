"""What an admin types, and what she reads: nodes, images, deploy, sync, status, the cluster file, doctor."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from sis.cli import main
from sis.cli.output import printable
from sis.image import commit
from sis.image.store.local import LocalStore
from sis.inventory import db
from sis.inventory.drift import fold_changes
from sis.netboot.installer import BootFile, BootFiles
from sis.sync.model import Change, Totals
from sis.system.doctor import packages
from sis.wire import Event, Report

MACS = "52:54:00:00:00:01,52:54:00:00:00:02"
CLUSTER = """
cluster: demo
networks:
  mgmt: {cidr: 10.77.0.0/24, domain: demo.cluster, gateway: 10.77.0.254, head: 10.77.0.1}
defaults: {image: compute@stable, disk: single, timezone: Europe/Paris}
nodes:
  "n[001-004]":
    interfaces: {eth0: {network: mgmt, ip: "10.77.0.{index+10}"}}
    groups: [compute]
  n001: {interfaces: {eth0: {mac: 52:54:00:12:34:56}}}
groups: {rack1: "n[001-002]"}
"""


class Admin:
    """Someone at a prompt, with a state directory that has one published image."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.said("head", "init", "--network", "mgmt=10.77.0.0/24", "--address", "10.77.0.1")
        tree = state / "tree"
        (tree / "etc").mkdir(parents=True)
        store = LocalStore(state / "store")
        self.version = commit.commit(store, "compute", tree, spec='{"image":"compute","disk":"single"}').version_id
        self.said("image", "publish", "compute@1", "stable")

    def types(self, *words: str) -> Result:
        return CliRunner().invoke(main, ["--state", str(self.state), *words])

    def said(self, *words: str) -> str:
        done = self.types(*words)
        assert done.exit_code == 0, done.output
        return done.stdout

    def told_off(self, *words: str) -> tuple[int, str]:
        done = self.types(*words)
        assert not done.exception or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stderr

    def adds_two(self) -> None:
        self.said("node", "add", "n[001-002]", "--mac", MACS, "--image", "compute@stable", "--group", "rack1")

    def boot_files(self) -> None:
        folder = self.state / "boot" / self.version
        folder.mkdir(parents=True)
        (folder / "root.squashfs").write_bytes(b"x")
        files = (BootFile(name="root.squashfs", size_bytes=1, sha256="ab" * 32, blake3="cd" * 32),)
        text = msgspec.json.encode(BootFiles(version_id=self.version, kernel_release="6", inputs="", files=files))
        (folder / "boot.json").write_bytes(text)


@pytest.fixture
def admin(tmp_path: Path) -> Admin:
    return Admin(tmp_path)


def test_add_list_show(admin: Admin) -> None:
    admin.adds_two()
    assert admin.said("node", "list", "-o", "name") == "n001\nn002\n"
    rows = json.loads(admin.said("node", "list", "-o", "json"))
    assert [(row["name"], row["address"], row["image"]) for row in rows] == [
        ("n001", "10.77.0.11", "compute@stable"),
        ("n002", "10.77.0.12", "compute@stable"),
    ]
    assert admin.said("node", "list").splitlines()[-1] == "2 nodes: 2 defined n[001-002]"
    shown = json.loads(admin.said("node", "show", "n001", "-o", "json"))
    assert (shown["id"], shown["groups"]) == (1, ["rack1"])


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("node show n011", 1, "sis: no such node: n011\nhint: did you mean n001?\n"),
        ("node list n[001-009]", 1, "sis: no such node: n[003-009]\nhint: did you mean n[001-002]?\n"),
        ("node list @rak1", 1, "sis: no such group: rak1\nhint: did you mean rack1?\n"),
        ("node add n003 --image compte@stable", 1, "sis: no such image: compte\nhint: did you mean compute?\n"),
        ("node add n003 --image compute@stabel", 1,
         "sis: no such channel: compute@stabel\nhint: did you mean compute@stable?\n"),
        ("node add n003 --image compute@9", 1, "sis: no such generation: compute@9\nhint: did you mean compute@1?\n"),
        ("node add n003 --image compute --layout singel", 1,
         "sis: no such disk layout: singel\nhint: did you mean single or single-xfs?\n"),
        ("node add n003 --network mgnt", 1, "sis: no such network: mgnt\nhint: did you mean mgmt?\n"),
        (
            "node add n003 --mac 52:54:00:00:00:02",
            1,
            "sis: MAC 52:54:00:00:00:02 belongs to n002: n003 cannot have it too\n",
        ),
        ("node add n003 --ip 10.77.0.11", 1, "sis: address 10.77.0.11 belongs to n001: n003 cannot have it too\n"),
        ("node add n003 --ip 10.78.0.11", 1, "sis: n003: 10.78.0.11 is outside network mgmt (10.77.0.0/24)\n"),
        ("node add n[003-004] --mac 52:54:00:00:00:03", 2,
         "sis: 1 MAC for 2 nodes\nhint: give one MAC for each node\n"),
        ("node add n003 --ip 10.77.0.3,10.77.0.4", 2,
         "sis: 2 addresses for 1 node\nhint: give one address for each node\n"),
        (
            "node add n001",
            1,
            "sis: node n001 is defined already\nhint: change nodes that are there with 'sis node set'\n",
        ),
        ("node set n001 imag=compute", 1, "sis: no such setting: imag\nhint: did you mean image?\n"),
        ("node set n001 resync=never", 2, "sis: node n001: Invalid enum value 'never' - at `$.resync`\n"),
        ("node set n001 groups-=rack2", 1, "sis: no such group: rack2\nhint: did you mean rack1?\n"),
        ("node set n001 timezone", 2, "sis: not understood: timezone\n"),
        ("node delete n001", 2, "sis: Delete 1 node: n001? Not asked: this is no terminal\nhint: say --yes to go on\n"),
        ("deploy n003", 1, "sis: no such node: n003\n"),
        ("sync n003", 1, "sis: no such node: n003\n"),
        ("inventory export csv", 1, "sis: no such node: csv\nhint: a form is named by an option: --format csv\n"),
        ("head run --dhcp", 2, "sis: --dhcp needs --interface\n"),
        ("head run --listen nowhere", 2, "sis: not an address and port: nowhere\n"),
        ("head run --interface sisnone0", 1, "sis: no such interface: sisnone0\n"),
        ("cluster apply nowhere.yaml", 1, "sis: "),
    ],
)  # fmt: skip
def test_bad_input_gets_a_clear_error(admin: Admin, words: str, code: int, text: str) -> None:
    admin.adds_two()
    got = admin.told_off(*words.split())
    assert got[0] == code
    assert got[1].startswith(text)
    assert admin.said("node", "list", "-o", "name") == "n001\nn002\n"


def test_a_mistyped_state_makes_no_new_cluster(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--state", str(tmp_path / "typo"), "node", "list"])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"sis: there is no inventory in {tmp_path}/typo\nhint: make it with 'sis head init'")
    assert not (tmp_path / "typo").exists()


def test_several_networks_need_a_choice(admin: Admin) -> None:
    admin.said("head", "init", "--network", "ib=10.78.0.0/24")
    assert admin.told_off("node", "add", "n1") == (
        2,
        "sis: which network?\nhint: give --network mgmt or --network ib\n",
    )


def test_dry_runs_change_nothing(admin: Admin) -> None:
    assert "n001" in admin.said("node", "add", "n001", "-n")
    assert admin.said("node", "list", "-o", "json") == "[]\n"
    admin.adds_two()
    assert admin.said("node", "set", "@rack1", "timezone=Europe/Paris", "-n") == (
        "n[001-002]: timezone: - → Europe/Paris\n"
    )
    assert admin.said("node", "set", "@rack1", "timezone=Europe/Paris") == ("n[001-002]: timezone: - → Europe/Paris\n")
    assert admin.said("node", "set", "@rack1", "timezone=Europe/Paris") == "nothing to change\n"


def test_set_and_delete(admin: Admin) -> None:
    admin.adds_two()
    out = admin.said(
        "node",
        "set",
        "n001",
        "image=compute@1",
        "groups+=gpu",
        "groups-=rack1",
        "vars.rack=r1",
        "mac=52:54:00:00:00:09",
    )
    assert "n001: image: compute@stable → compute@1" in out
    assert "n001: groups: rack1 → gpu" in out
    assert "vars: - → rack=r1" in out
    assert "eth0 52:54:00:00:00:09 10.77.0.11" in out
    assert admin.said("node", "delete", "n001", "-y") == "1 node deleted: n001\n"
    assert admin.said("node", "list", "-o", "name") == "n002\n"


def test_render(admin: Admin) -> None:
    admin.adds_two()
    assert "/etc/hostname" in admin.said("node", "render", "n001")
    assert "10.77.0.12" in admin.said("node", "render", "n001", "/etc/hosts")
    assert admin.told_off("node", "render", "n001", "/etc/host")[1].startswith(
        "sis: no such file in the layer of n001: /etc/host\nhint: did you mean /etc/hosts"
    )


def test_deploy_says_what_will_happen_and_arms_once(admin: Admin) -> None:
    admin.adds_two()
    code, text = admin.told_off("deploy", "@rack1", "-y")
    assert code == 5
    assert "these nodes cannot be installed, none was armed" in text
    assert "n[001-002]: there are no boot files for version" in text
    admin.boot_files()
    out = admin.said("deploy", "@rack1", "-n")
    assert out.startswith(f"n[001-002]: install compute@1 (b3:{admin.version[:12]}), disk layout single\n")
    assert "the first disk: wiped, then " in out
    assert "(--allow-foreign-disk)" in out
    assert "2 defined" in admin.said("status")
    assert admin.told_off("deploy", "@rack1")[0] == 2
    assert "2 nodes armed: n[001-002]" in admin.said("deploy", "@rack1", "-y", "--allow-foreign-disk")
    assert "2 nodes: 2 armed n[001-002]" in admin.said("status")
    assert "waits for its network boot" in admin.said("status")
    assert admin.said("deploy", "n002", "--cancel") == "1 node disarmed: n002\n"
    with db.open(admin.state / "state.db") as inventory:
        arming = inventory.nodes.get("n001").arming
        assert arming is not None
        assert arming.allow_foreign_disk
        assert inventory.nodes.get("n002").arming is None


def test_a_node_without_a_mac_is_not_armed(admin: Admin) -> None:
    admin.boot_files()
    admin.said("node", "add", "n1", "--image", "compute@stable")
    code, text = admin.told_off("deploy", "n1", "-y")
    assert code == 5
    assert "n1: no MAC is known, so no boot request can be answered" in text


def a_report(kind: str, order: int, **more: object) -> Report:
    base: dict[str, object] = {
        "kind": kind, "outcome": "ok", "in_sync": True, "image": "compute", "generation": 1, "version": "v",
        "started": f"2026-01-01T00:00:00.{order:03d}Z", "seconds": 1.0, "order": order,
    }  # fmt: skip
    return Report(**{**base, **more})  # type: ignore[arg-type]


def answering(state: Path, reports: dict[str, dict[str, object]], kind: str) -> threading.Thread:
    """Nodes that take their order and report, in a thread with an inventory of its own."""

    def work() -> None:
        with db.open(state / "state.db") as inventory:
            ids = {node.name: node.id for node in inventory.nodes.list()}
            waiting = dict(reports)
            while waiting:
                for name in list(waiting):
                    order = inventory.orders.take(ids[name])
                    if order is not None:
                        inventory.history.record_report(ids[name], a_report(kind, order.id, **waiting.pop(name)))
                time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


MOTD = Change(action="update", path="/etc/motd", what=("content", "mtime"), bytes_to_fetch=5)


def test_sync_folds_changes_and_counts_bytes(admin: Admin) -> None:
    admin.adds_two()
    told = {"changes": (MOTD,), "totals": Totals(bytes_fetched=1500, bytes_written=10)}
    nodes = answering(admin.state, {"n001": told, "n002": told}, "sync")
    out = admin.said("sync", "@rack1", "--timeout", "20")
    nodes.join()
    assert out == (
        "n[001-002] update /etc/motd (content, mtime)\n2 nodes: 2 in-sync, 2 changes, 3.0 kB moved, 20 B written\n"
    )
    assert "2 nodes: 2 in-sync" in admin.said("status")


def test_a_dry_sync_that_finds_differences_is_four(admin: Admin) -> None:
    admin.adds_two()
    nodes = answering(admin.state, {"n001": {"changes": (MOTD,), "in_sync": False}, "n002": {}}, "check")
    done = admin.types("sync", "@rack1", "-n", "--timeout", "20")
    nodes.join()
    assert done.exit_code == 4
    assert done.stdout == (
        "n001 update /etc/motd (content, mtime)\n2 nodes: 1 in-sync, 1 differing, 1 difference, nothing was changed\n"
    )
    assert "n001: not equal to the image" in done.stderr
    assert "1 drifted n001" in admin.said("status")


def test_a_reboot_that_is_due_is_told_until_the_node_has_booted(admin: Admin) -> None:
    admin.adds_two()
    why = {"reboot_needed": True, "reboot_why": ("kernel command line (+quiet)",)}
    nodes = answering(admin.state, {"n001": why, "n002": why}, "sync")
    out = admin.said("sync", "@rack1", "--timeout", "20")
    nodes.join()
    assert "n[001-002]: reboot needed (kernel command line (+quiet))\n" in out
    assert "reboot needed: kernel" in admin.said("status")
    assert json.loads(admin.said("node", "show", "n001", "-o", "json"))["reboot_why"] == "kernel command line (+quiet)"
    assert admin.told_off("node", "reboot", "n001")[0] == 2, "no terminal to ask on"
    said = admin.said("node", "reboot", "-l", "reboot_needed=true", "-y")
    assert said == "2 nodes asked to reboot: n[001-002]\n"
    with db.open(admin.state / "state.db") as inventory:
        first = inventory.nodes.get("n001")
        assert (order := inventory.orders.take(first.id)) is not None
        assert order.kind == "reboot"
        inventory.history.record_report(first.id, a_report("check", 999))
    assert json.loads(admin.said("node", "show", "n001", "-o", "json"))["reboot_needed"] is False
    assert admin.said("node", "list", "-l", "reboot_needed=true", "-o", "name") == "n002\n"
    assert json.loads(admin.said("audit", "-o", "json"))[-1]["action"] == "node reboot"


def test_sync_with_failures_is_three_and_names_them(admin: Admin) -> None:
    admin.adds_two()
    nodes = answering(admin.state, {"n001": {"outcome": "failed", "error": "no space left", "log": "a\nb"}}, "sync")
    done = admin.types("sync", "@rack1", "--timeout", "3")
    nodes.join()
    assert done.exit_code == 3
    assert "n001 failed: no space left\n" in done.stdout
    assert "n002 failed: did not ask for its order within 3 s (last seen: never)\n" in done.stdout
    assert "2 of 2 nodes failed: n[001-002]" in done.stderr
    status = admin.said("status")
    assert "sync: no space left" in status
    assert "see why: sis node log n001" in status
    assert "    | a\n    | b\n" in admin.said("node", "log", "n001")
    with db.open(admin.state / "state.db") as inventory:
        assert inventory.orders.waiting_nodes() == frozenset()


def test_status_folds_alike_nodes_and_shows_what_failed(admin: Admin) -> None:
    admin.said("node", "add", "n[001-128]", "--image", "compute@stable")
    with db.open(admin.state / "state.db") as inventory:
        failed = [Event(time="2026-01-01T00:00:00Z", stage="pulling", outcome="failed", message="no \x1b[31mroute")]
        inventory.history.record_events(inventory.nodes.get("n017").id, failed)
    out = admin.said("status").splitlines()
    assert out[1].startswith("n017  ") or out[1].split()[0] == "n017"
    assert "pulling: no \\x1b[31mroute" in out[1]
    assert out[2].split()[:2] == ["n[001-016,018-128]", "defined"]
    assert out[-1] == "128 nodes: 1 failed n017  127 defined n[001-016,018-128]"


def test_fold_changes_tells_policy_and_escapes() -> None:
    kept = {"action": "keep", "path": "/var/a\nb", "what": ["mode"], "policy": "report"}
    lines = [printable(each.line) for each in fold_changes({"n1": [kept], "n2": [kept]})]
    assert lines == ["n[1-2] differs /var/a\\x0ab (mode; policy report)"]


def test_the_cluster_file_comes_in_whole(admin: Admin, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(CLUSTER)
    assert admin.said("cluster", "apply", str(file), "-n").splitlines()[0] == "added: n[001-004]"
    assert admin.said("node", "list", "-o", "json") == "[]\n"
    assert "demo: 4 nodes of 4 were changed" in admin.said("cluster", "apply", str(file))
    assert "demo: 0 nodes of 4 were changed" in admin.said("cluster", "apply", str(file))
    rows = json.loads(admin.said("node", "list", "@rack1", "-o", "json"))
    assert [(row["name"], row["address"], row["mac"]) for row in rows] == [
        ("n001", "10.77.0.11", "52:54:00:12:34:56"),
        ("n002", "10.77.0.12", None),
    ]
    admin.said("node", "set", "n002", "mac=52:54:00:00:00:09")
    file.write_text(CLUSTER.replace("Europe/Paris", "Europe/Rome"))
    out = admin.said("cluster", "apply", str(file))
    assert "changed: n[001-004]" in out
    shown = json.loads(admin.said("node", "show", "n002", "-o", "json"))
    assert (shown["mac"], shown["profile"]["timezone"]) == ("52:54:00:00:00:09", "Europe/Rome")
    assert "@rack1: n[001-002]" in admin.said("cluster", "show")
    assert "Europe/Rome" in admin.said("node", "render", "n001")


def test_a_cluster_file_that_claims_anothers_mac_changes_nothing(admin: Admin, tmp_path: Path) -> None:
    admin.said("node", "add", "x1", "--mac", "52:54:00:12:34:56")
    file = tmp_path / "cluster.yaml"
    file.write_text(CLUSTER)
    code, text = admin.told_off("cluster", "apply", str(file))
    assert code == 1
    assert "MAC 52:54:00:12:34:56 belongs to x1: n001 cannot have it too" in text
    assert admin.said("node", "list", "-o", "name") == "x1\n"


def test_doctor_lists_every_package_and_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sis.system import process

    everything = {package.name for package in packages()}
    assert {"dnsmasq-base", "mmdebstrap", "rsync"} <= everything
    monkeypatch.setattr(process, "find", lambda program: None)
    done = CliRunner().invoke(main, ["--state", str(tmp_path), "doctor", "-o", "json"])
    assert done.exit_code == 1
    found = {each["check"]: each for each in json.loads(done.stdout)}
    assert found["dnsmasq-base"]["verdict"] == "missing"
    assert found["dnsmasq-base"]["remedy"] == "apt-get install dnsmasq-base"
    assert found["python"]["verdict"] == "ok"
    assert "rsync" not in found
    assert "all at once: apt-get install" in done.stderr


def test_doctor_sees_a_port_in_use(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(main, ["--state", str(tmp_path), "doctor", "--port", str(port), "-o", "json"])
    found = {each["check"]: each for each in json.loads(done.stdout)}
    assert found[f"port {port}/tcp (HTTP)"]["verdict"] == "warning"
    assert f"ss -ltnp 'sport = {port}'" in found[f"port {port}/tcp (HTTP)"]["remedy"]
