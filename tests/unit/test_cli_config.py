"""Nodes' own files at the prompt: render, diff, explain, preview, lint, import, facts; read as an admin would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configurator.facts import read_facts
from sis.inventory import db
from tests.config_states import Head
from tests.trees import FIXTURES


@pytest.fixture
def head(tmp_path: Path) -> Head:
    return Head(tmp_path).applied()


def test_a_file_is_printed_with_its_exact_bytes(head: Head) -> None:
    assert head.said("node", "render", "n1", "/etc/hostname") == "n1\n"
    assert (
        head.said("node", "render", "n1", "/etc/localtime") == "/etc/localtime -> /usr/share/zoneinfo/Europe/Madrid\n"
    )
    rows = json.loads(head.said("node", "render", "n1", "-o", "json"))
    by_path = {row["path"]: row for row in rows}
    assert by_path["/etc/ssh/ssh_host_ed25519_key"]["mode"] == "0600"
    assert len(rows) >= 20
    done = head.types("node", "render", "n1", "/etc/hostnam")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "sis: no such file in the layer of n1: /etc/hostnam",
        "hint: did you mean /etc/hostname or /etc/hosts or /etc/fstab?",
    ]


def test_render_is_compared_with_another_version(head: Head) -> None:
    from sis.image import commit
    from sis.image.store.local import LocalStore
    from tests.config_states import TREE
    from tests.trees import make_tree, read_listing

    assert head.said("node", "render", "n1", "--diff", "compute@stable") == ""
    listing = read_listing(TREE)
    listing["/etc/passwd"] += "new:x:500:500::/:/bin/sh\n"
    del listing["/usr/sbin/chronyd"]
    commit.commit(LocalStore(head.state / "store"), "compute", make_tree(listing, head.state / "tree2"))
    head.edit("  locale: en_US.UTF-8", "  locale: en_US.UTF-8\n  time_servers: [10.77.0.1]")
    head.applied()
    told = head.said("node", "render", "n1", "--diff", "compute@2", code=4)
    assert "--- /etc/chrony/chrony.conf (none)\n+++ /etc/chrony/chrony.conf 0644 0:0\n" in told
    assert "+server 10.77.0.1 iburst\n" in told
    assert head.said("node", "render", "n1", "/etc/hosts", "--diff", "compute@2") == ""


def test_secrets_are_in_no_diff(head: Head) -> None:
    hashed = "$6$salty$" + "a" * 86
    head.edit(
        "  peer_files: [genders]",
        "  accounts:\n    users: [{name: ada, uid: 2000, gid: 100, home: /home/ada, password: "
        f'"{hashed}"}}]\n    groups: [{{name: people, gid: 100}}]',
    )
    told = head.said("config", "preview", "--diff", code=4)
    assert "/etc/shadow" in told
    assert "+ada:x:2000:100::/home/ada:/bin/bash" in told
    assert "its content is not shown" in told
    head.applied()
    for words in (["node", "show", "n1", "-o", "json"], ["config", "preview", "-o", "json"]):
        told += head.said(*words)
    assert hashed not in told
    assert hashed in head.said("node", "render", "n1", "/etc/shadow")


def test_preview_of_one_key_is_folded(head: Head) -> None:
    assert head.said("config", "preview").splitlines() == [f"{head.file}: nothing would change on 4 nodes"]
    head.edit("timezone: Europe/Madrid", "timezone: Asia/Tokyo")
    told = head.said("config", "preview", "--diff", code=4)
    assert told.splitlines() == [
        "n[1-4] (4 nodes): 2 files",
        "    timezone: Europe/Madrid → Asia/Tokyo",
        "  ~ /etc/localtime",
        "  ~ /etc/timezone",
        "    --- /etc/localtime -> /usr/share/zoneinfo/Europe/Madrid",
        "    +++ /etc/localtime -> /usr/share/zoneinfo/Asia/Tokyo",
        "    --- /etc/timezone 0644 0:0",
        "    +++ /etc/timezone 0644 0:0",
        "    @@ -1 +1 @@",
        "    -Europe/Madrid",
        "    +Asia/Tokyo",
        f"{head.file}: 4 of 4 nodes would change",
    ]
    [row] = json.loads(head.said("config", "preview", "-o", "json", code=4))
    assert (row["nodes"], row["count"], row["new"]) == ("n[1-4]", 4, False)
    assert row["files"] == [
        {"path": "/etc/localtime", "action": "update"},
        {"path": "/etc/timezone", "action": "update"},
    ]
    assert head.said("node", "render", "n1", "/etc/timezone") == "Europe/Madrid\n", "a preview changes nothing"


def test_preview_tells_what_is_no_file(head: Head) -> None:
    head.edit("kernel_cmdline: -quiet iommu=on", "kernel_cmdline: -quiet")
    told = head.said("config", "preview", code=4)
    assert "n[3-4] (2 nodes): 1 file" in told
    assert "kernel command line: console=ttyS0,115200 iommu=on → console=ttyS0,115200\n" in told
    assert "~ /boot/extlinux/extlinux.conf" in told


def test_preview_of_a_new_node_changes_its_peers(head: Head) -> None:
    head.edit('"n[1-4]":', '"n[1-5]":')
    told = head.said("config", "preview", code=4).splitlines()
    assert told[0] == "n[1-4] (4 nodes): 2 files"
    assert told[1:3] == ["  ~ /etc/genders", "  ~ /etc/hosts"]
    assert told[3] == "n5 (1 node): new"
    assert told[-1] == f"{head.file}: 5 of 5 nodes would change"
    assert head.said("node", "list", "-o", "name").split() == ["n1", "n2", "n3", "n4"]


def test_site_files_count_when_they_are_applied(head: Head) -> None:
    head.site("all/etc/motd.d/site", "hello\n")
    head.site("profile/gpu/etc/gpu.conf.j2", "cards={{ vars.cards }} of {{ record.name }}\n")
    told = head.said("config", "preview", code=4)
    assert told.splitlines() == [
        "n[1-2] (2 nodes): 1 file",
        "  + /etc/motd.d/site",
        "n[3-4] (2 nodes): 2 files",
        "  + /etc/gpu.conf",
        "  + /etc/motd.d/site",
        f"{head.file} and changed site files: 4 of 4 nodes would change",
    ]
    assert "/etc/gpu.conf" not in head.said("node", "render", "n3")
    assert "site files: 2 files, were changed" in head.said("cluster", "apply", str(head.file))
    assert head.said("node", "render", "n3", "/etc/gpu.conf") == "cards=4 of n3\n"
    head.site("profile/gpu/etc/gpu.conf.j2", "cards={{ vars.crads }}\n")
    assert head.said("node", "render", "n3", "/etc/gpu.conf") == "cards=4 of n3\n", "half an edit reaches no node"
    assert head.said("config", "lint", code=1).splitlines()[0] == (
        "fault: n[3-4]: profile/gpu/etc/gpu.conf.j2:1: 'dict object' has no attribute 'crads'"
    )
    explained = head.said("node", "explain", "n3:/etc/gpu.conf")
    assert explained.splitlines()[0] == "/etc/gpu.conf on n3 is made by the site file profile/gpu/etc/gpu.conf.j2"
    line = head.file.read_text().splitlines().index('    vars: {cards: "4"}') + 1
    assert f"{head.file}:{line}" in next(row for row in explained.splitlines() if row.startswith("vars.cards"))


def test_a_broken_site_tree_is_refused_whole(head: Head) -> None:
    head.site("all/etc/x.conf.j2", "{% if %}\n")
    head.site("everywhere/etc/y", "")
    done = head.types("cluster", "apply", str(head.file))
    assert done.exit_code == 1
    assert "the site files have 2 faults" in done.stderr
    assert "all/etc/x.conf.j2:1:" in done.stderr
    assert "everywhere: no such layer" in done.stderr


def test_explain_names_the_line_of_each_value(head: Head) -> None:
    lines = head.file.read_text().splitlines()

    def place(text: str) -> str:
        return f"{head.file}:{next(at for at, line in enumerate(lines, 1) if text in line)}"

    told = head.said("node", "explain", "n1:/etc/systemd/network/10-sis-eth0.network")
    rows = {row.split()[0]: row for row in told.splitlines()[2:]}
    assert told.splitlines()[0].endswith("is made by the renderer network_networkd")
    assert rows["interfaces[0].mac"].split()[1:] == ["52:54:00:12:34:56", place("n1:")]
    assert rows["interfaces[0].address"].split()[1:] == ["10.77.0.11/24", place("interfaces: {eth0: {network")]
    assert rows["interfaces[0].gateway"].split()[1:] == ["10.77.0.254", place("mgmt:")]
    assert rows["footprint.network"].endswith("the image compute@stable")
    told = head.said("node", "explain", "n1:/etc/timezone", "-o", "json")
    assert json.loads(told)["keys"][-1] == {
        "key": "timezone", "value": "Europe/Madrid", "from": place("timezone: Europe/Madrid"),
    }  # fmt: skip


def test_explain_knows_who_set_a_value_by_command(head: Head) -> None:
    head.said("cluster", "forget")
    head.said("node", "set", "n2", "timezone=Asia/Tokyo")
    told = head.said("node", "explain", "n2:/etc/timezone")
    assert "Asia/Tokyo" in told
    assert "(command)" in told


def test_explain_of_what_is_not_ours(head: Head) -> None:
    done = head.types("node", "explain", "n1:/etc/host")
    assert done.exit_code == 1
    assert done.stderr == (
        "sis: nothing of ours makes /etc/host on n1: it is the image's, or not there\nhint: did you mean /etc/hosts?\n"
    )
    done = head.types("node", "explain", "n1")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (2, "sis: 'n1' is no NODE:PATH")


def test_lint_finds_every_fault_with_its_line(head: Head) -> None:
    assert head.said("config", "lint").splitlines()[-1] == "4 nodes: 0 faults, 0 notices"
    head.edit("timezone: Europe/Madrid", "timezone: Europe/Paris")
    head.edit("iommu=on", "iommu=on;reboot")
    told = head.said("config", "lint", code=1)
    lines = head.file.read_text().splitlines()
    zone = next(at for at, line in enumerate(lines, 1) if "timezone" in line)
    words = next(at for at, line in enumerate(lines, 1) if "iommu" in line)
    assert f"fault: {head.file}:{zone}: n[1-2]: timezone: the image has no time zone Europe/Paris\n" in told
    assert f"fault: {head.file}:{words}: n[3-4]: boot.parameters[" in told
    assert "hint: did you mean Europe/Madrid?" in told
    assert told.splitlines()[-1] == "4 nodes: 2 faults, 0 notices"
    assert head.said("config", "lint", "--nodes", "n3", code=1).splitlines()[-1] == "1 node: 1 fault, 0 notices"


def test_a_node_that_cannot_be_rendered_is_told_in_the_preview(head: Head) -> None:
    head.edit("timezone: Europe/Madrid", "timezone: Mars/Olympus")
    told = head.said("config", "preview", code=1)
    assert "cannot be rendered: record.timezone: the image has no time zone Mars/Olympus" in told


@pytest.mark.parametrize(
    ("case", "name"), [("systemconfig", "input.conf"), ("hardware", "input.lst"), ("cluster", "input.xml")]
)
def test_import_writes_a_cluster_file_and_a_report(head: Head, case: str, name: str) -> None:
    folder = FIXTURES / "import" / case
    done = head.types("config", "import", str(folder / name))
    assert done.exit_code == 0
    assert done.stdout == (folder / "expected.yaml").read_text()
    assert set((folder / "report.txt").read_text().splitlines()) <= set(done.stderr.splitlines())


def test_facts_are_shown_with_what_changed(head: Head) -> None:
    import msgspec

    done = head.types("node", "facts", "n1")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (1, "sis: n1 has told no facts yet")
    facts = msgspec.to_builtins(read_facts())
    with db.open(head.state / "state.db") as inventory:
        node = inventory.nodes.get("n1")
        inventory.history.record_facts(node.id, {**facts, "memory_bytes": 64 << 30})
        inventory.history.record_facts(node.id, {**facts, "memory_bytes": 32 << 30})
        inventory.history.record_facts(node.id, {**facts, "memory_bytes": 32 << 30})
    told = head.said("node", "facts", "n1")
    assert "memory:" in told
    assert f"memory_bytes: {64 << 30} → {32 << 30}" in told
    assert len(json.loads(head.said("node", "facts", "n1", "-o", "json"))["changes"]) == 1


def test_values_no_file_could_hold_are_refused_at_once(head: Head) -> None:
    head.edit("  peer_files: [genders]", '  peer_files: [genders]\n  time_servers: [bad;server]\n  motd: ["a\\tb"]')
    head.edit("iommu=on", "on;off")
    done = head.types("cluster", "apply", str(head.file))
    lines = head.file.read_text().splitlines()
    place = {word: next(at for at, line in enumerate(lines, 1) if word in line) for word in ("bad;", "motd", "on;")}
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"sis: {head.file}: 3 faults",
        f"  {head.file}:{place['motd']}: motd[0]: not one line of text: 'a\\tb'",
        f"  {head.file}:{place['bad;']}: time_servers[0]: not an IP address nor a host's name: 'bad;server'",
        f"  {head.file}:{place['on;']}: boot.parameters[1]: not one word of a kernel's command line: 'on;off'",
    ]
    assert head.said("node", "render", "n1", "/etc/timezone") == "Europe/Madrid\n"
