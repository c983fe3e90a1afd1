"""What an admin types about discovered machines, groups, selectors, blame and the followed cluster file."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from sis.inventory import db
from tests.unit.test_cli_nodes import CLUSTER, Admin

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


@pytest.fixture
def admin(tmp_path: Path) -> Admin:
    made = Admin(tmp_path)
    with db.open(tmp_path / "state.db") as inventory:
        inventory.discoveries.record(A, {"address": "10.77.0.201", "serial": "AAA"})
        inventory.discoveries.record(B, {"address": "10.77.0.202", "serial": "B\x1b[31m"})
    return made


def test_list_accept_and_reject(admin: Admin, tmp_path: Path) -> None:
    out = admin.said("node", "discover", "list", "--nodes", "n[1-2]")
    assert "n1" in out
    assert "\\x1b" in out
    assert "\x1b" not in out
    admin.said("node", "discover", "reject", B)
    assert json.loads(admin.said("node", "discover", "list", "-o", "json"))[0]["why"] == "no name is left"
    assert B in admin.said("node", "discover", "list", "--rejected", "-o", "name")
    out = admin.said("node", "discover", "accept", "--nodes", "n[1-2]", "--image", "compute@stable", "-n")
    assert "1 machine would be accepted: n1" in out
    code, told = admin.told_off("node", "discover", "accept", "--nodes", "n1")
    assert code == 2
    assert "Accept 1 machine as n1? Not asked" in told
    out = admin.said("node", "discover", "accept", "--nodes", "n1", "--group", "rack1", "--yes")
    assert "install them: sis deploy n1" in out
    assert "@rack1: n1" in admin.said("cluster", "show")
    admin.said("node", "discover", "reject", B, "--again")
    names = tmp_path / "names"
    names.write_text("b\x1b[31m,n7\n")
    code, told = admin.told_off("node", "discover", "accept", "--name-by", "serial", "--yes")
    assert (code, told) == (2, "sis: --name-by serial needs --names FILE\nhint: lines such as: CZ1234ABCD,n001\n")
    admin.said("node", "discover", "accept", "--name-by", "serial", "--names", str(names), "--yes")
    assert admin.said("node", "list", "-o", "name").split() == ["n1", "n7"]
    code, told = admin.told_off("node", "discover", "accept", "--nodes", "n8", "--yes")
    assert (code, "no name is known for any machine" in told) == (1, True)


def test_one_machine_by_its_mac(admin: Admin) -> None:
    assert "accepted: n5" in admin.said("node", "discover", "accept", f"{B}=n5", "--yes")
    code, told = admin.told_off("node", "discover", "accept", "52:54:00:77:77:77=n6", "--yes")
    assert (code, "no such discovered machine" in told) == (1, True)


def test_watch_accepts_machines_as_they_come(admin: Admin) -> None:
    def boots_later() -> None:
        time.sleep(0.3)
        with db.open(admin.state / "state.db") as inventory:
            inventory.discoveries.record("52:54:00:00:00:0c", {})

    later = threading.Thread(target=boots_later)
    later.start()
    out = admin.said("node", "discover", "watch", "--nodes", "n[1-3]", "--accept")
    later.join()
    assert out.splitlines()[-1] == "all names are given"
    assert "52:54:00:00:00:0c → n3 accepted" in out


def test_groups(admin: Admin) -> None:
    admin.said("node", "add", "n[1-4]")
    assert admin.said("group", "add", "rack1", "n[1-3]") == "@rack1: 3 nodes added\n"
    assert admin.said("group", "remove", "rack1", "n3") == "@rack1: 1 node taken out\n"
    assert admin.said("group", "list").splitlines()[1].split() == ["rack1", "2", "n[1-2]"]
    assert admin.told_off("group", "remove", "rak1", "n1")[1].startswith("sis: no such group: rak1")
    admin.said("group", "delete", "rack1", "--yes")
    assert json.loads(admin.said("group", "list", "-o", "json")) == []


def test_selectors_where_nodes_are_taken(admin: Admin) -> None:
    admin.said("node", "add", "n[1-4]", "--image", "compute@stable")
    admin.said("node", "set", "n3", "timezone=Asia/Tokyo", "overlays+=gpu")
    assert admin.said("node", "list", "-l", "timezone~^Asia", "-o", "name") == "n3\n"
    assert admin.said("node", "list", "n[1-2]", "-l", "overlay!=gpu", "-o", "name") == "n1\nn2\n"
    assert admin.said("node", "set", "-l", "overlay=gpu", "timezone=") == "n3: timezone: Asia/Tokyo → -\n"
    assert "4 nodes" in admin.said("status", "-l", "image=compute")
    assert admin.told_off("node", "set", "-l", "state=failed", "timezone=UTC")[1].startswith(
        "sis: no node matches state=failed"
    )
    code, told = admin.told_off("node", "delete", "--yes")
    assert (code, told.splitlines()[0]) == (2, "sis: which nodes?")
    assert admin.said("node", "delete", "-l", "name=n3", "--yes") == "1 node deleted: n3\n"


def test_the_followed_file_is_edited_and_blamed(admin: Admin, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(CLUSTER)
    admin.said("cluster", "apply", str(file))
    out = admin.said("node", "set", "n001", "image=compute@1", "-n")
    assert "+  n001: {interfaces: {eth0: {mac: 52:54:00:12:34:56}}, image: compute@1}" in out
    assert file.read_text() == CLUSTER
    assert f"{file}: 2 lines changed" in admin.said("node", "set", "n001", "image=compute@1")
    rows = {row["setting"]: row for row in json.loads(admin.said("node", "show", "n001", "--blame", "-o", "json"))}
    assert rows["image"] == {"setting": "image", "value": "compute@1", "origin": f"{file}:10"}
    assert rows["timezone"]["origin"] == f"{file}:5"
    assert "root (command) changed n001" in admin.said("node", "show", "n001", "--changes")
    file.write_text(file.read_text() + "# by hand\n")
    code, told = admin.told_off("node", "set", "n002", "resync=off")
    assert (code, "was edited since the inventory was made from it" in told) == (1, True)
    admin.said("cluster", "forget")
    admin.said("node", "set", "n002", "resync=off")
    assert file.read_text().endswith("# by hand\n")
    assert "(command)" in admin.said("node", "show", "n002", "--blame")


def test_edit_keeps_what_was_written_when_someone_else_was_faster(
    admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, editor = tmp_path / "cluster.yaml", tmp_path / "editor"
    file.write_text(CLUSTER)
    admin.said("cluster", "apply", str(file))
    editor.write_text('#!/bin/sh\nsed -i "s,Europe/Paris,Asia/Tokyo," "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    assert "4 nodes changed" in admin.said("cluster", "edit", "--yes")
    assert "Asia/Tokyo" in file.read_text()
    assert "nothing was changed" in admin.said("cluster", "edit", "--yes")
    editor.write_text(f'#!/bin/sh\nsed -i "s,Asia/Tokyo,Asia/Seoul," "$1"\necho "# faster" >> {file}\n')
    code, told = admin.told_off("cluster", "edit", "--yes")
    assert (code, "was changed by someone else just now" in told) == (1, True)
    kept = Path(told.rsplit(" ", 1)[-1].strip())
    assert "Asia/Seoul" in kept.read_text()
    assert file.read_text().endswith("# faster\n")
    kept.unlink()
    kept.parent.rmdir()


def test_requested_beside_observed(admin: Admin) -> None:
    admin.said("node", "add", "n1", "--mac", A, "--image", "compute@stable")
    out = admin.said("node", "show", "n1")
    assert "compute@stable = compute@1" in out
    sides = {row["what"]: row for row in json.loads(admin.said("node", "show", "n1", "-o", "json"))["sides"]}
    assert sides["eth0"] == {
        "what": "eth0", "requested": f"{A} 10.77.0.11 on mgmt", "observed": "", "agrees": None
    }  # fmt: skip
