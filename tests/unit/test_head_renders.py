"""The head's one way from record to files: the image is read, equal inputs are rendered once, keys are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from configurator.facts import Facts
from configurator.rendered import RenderedFile
from sis.errors import SpecInvalid
from sis.head import preview, renders, worlds
from sis.head.renders import Renders
from sis.inventory import db
from sis.inventory.db import Inventory
from sis.inventory.nodes import Change
from sis.sync.model import LayerFile
from tests.config_states import Head


@pytest.fixture
def head(tmp_path: Path) -> Head:
    return Head(tmp_path).applied()


@pytest.fixture
def inventory(head: Head) -> Iterator[Inventory]:
    with db.open(head.state / "state.db") as inventory:
        yield inventory


def files_of(head: Head, inventory: Inventory, name: str = "n1") -> dict[str, LayerFile]:
    found = Renders(head.state, inventory).desired(inventory.nodes.get(name))
    return {file.path: file for file in found.layer}


def test_the_images_accounts_and_modules_are_read(head: Head, inventory: Inventory) -> None:
    shown = Renders(head.state, inventory)
    image = shown.image(inventory.nodes.get("n1"))
    tree = shown.tree(image.version, image.version_id)
    told = tree.footprint.summary()
    assert told["accounts"] is True
    assert [kernel["release"] for kernel in told["kernels"]] == ["6.1.0-9-amd64", "6.1.0-37-amd64"]  # type: ignore[attr-defined]
    assert tree.footprint.kernels[-1].modules is not None
    assert tree.read("/etc/passwd") is not None
    assert tree.read("/etc") is tree.read("/no/such") is None


def test_a_module_the_kernel_lacks_is_refused_with_its_name(head: Head, inventory: Inventory) -> None:
    inventory.nodes.change(["n1"], Change(profile={"modules": [{"name": "nonesuch"}]}))
    with pytest.raises(SpecInvalid) as caught:
        files_of(head, inventory)
    assert caught.value.message.startswith("the files of node n1 cannot be rendered: record.modules[0].name:")
    assert "has no module nonesuch" in caught.value.message


def test_equal_inputs_are_rendered_once(head: Head, inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []

    def counted(record: renders.Record, facts: Facts, footprint: object, **more: object) -> tuple[RenderedFile, ...]:
        rendered.append(record.name)
        return real(record, facts, footprint, **more)  # type: ignore[arg-type]

    real = renders.render.render
    monkeypatch.setattr(renders.render, "render", counted)
    shown = Renders(head.state, inventory)
    first = shown.desired(inventory.nodes.get("n1"))
    inventory.settings.set(url="http://10.77.0.1:8700")
    assert shown.desired(inventory.nodes.get("n1")).layer == first.layer
    assert rendered == ["n1"], "another revision of the inventory with the same record costs no render"
    node = inventory.nodes.get("n1")
    inventory.history.record_facts(node.id, msgspec.to_builtins(Facts(serial="other")))
    shown.desired(inventory.nodes.get("n1"))
    inventory.nodes.change(["n2"], Change(interfaces={"n2": ()}))
    shown.desired(inventory.nodes.get("n1"))
    assert rendered == ["n1", "n1", "n1"]


def test_host_keys_are_made_for_all_and_kept(head: Head, inventory: Inventory) -> None:
    first = files_of(head, inventory)
    known = first["/etc/ssh/ssh_known_hosts"].content.decode().splitlines()
    assert [line.split(",")[0] for line in known[1:]] == ["n1", "n2", "n3", "n4"]
    assert files_of(head, inventory)["/etc/ssh/ssh_host_ed25519_key"] == first["/etc/ssh/ssh_host_ed25519_key"]
    public = files_of(head, inventory, "n2")["/etc/ssh/ssh_host_ed25519_key.pub"].content.decode()
    assert public.split()[1] in known[2]


def test_a_preview_makes_no_keys(head: Head, inventory: Inventory) -> None:
    shown = Renders(head.state, inventory)
    before = worlds.now(shown)
    head.edit('"n[1-4]":', '"n[1-5]":')
    after = worlds.wanted(shown, before, worlds.cluster_spec.load(head.file), before.site)
    assert [change.node for change in preview.changes(shown, before, after)] == ["n1", "n2", "n3", "n4", "n5"]
    assert inventory.host_keys.known() == {}


def test_words_of_the_kernel_are_joined_from_all_layers(head: Head, inventory: Inventory) -> None:
    desired = Renders(head.state, inventory).desired(inventory.nodes.get("n3"))
    assert desired.kernel_cmdline == "console=ttyS0,115200 iommu=on"
    assert desired.layout is not None
    assert desired.layout.kernel_cmdline == "", "the layout's words are among the node's"
    entry = files_of(head, inventory, "n3")["/boot/extlinux/extlinux.conf"].content.decode()
    assert "root=PARTLABEL=sis-root ro console=ttyS0,115200 iommu=on" in entry


def test_the_kernel_to_start_reaches_the_node(head: Head, inventory: Inventory) -> None:
    inventory.nodes.change(["n1"], Change(profile={"boot_kernel": "6.1.0-9-amd64", "boot_timeout_s": 9}))
    desired = Renders(head.state, inventory).desired(inventory.nodes.get("n1"))
    assert (desired.boot_kernel, desired.boot_timeout_s) == ("6.1.0-9-amd64", 9)
    entry = files_of(head, inventory)["/boot/extlinux/extlinux.conf"].content.decode()
    assert "default 6.1.0-9-amd64" in entry


def test_kerrighed_members_get_their_words(head: Head, inventory: Inventory) -> None:
    inventory.nodes.change(["n1", "n2"], Change(profile={"kerrighed": {"session": 3, "min_nodes": 2}}))
    desired = Renders(head.state, inventory).desired(inventory.nodes.get("n2"))
    assert desired.kernel_cmdline.endswith("session_id=3 node_id=2 nb_nodes_min=2")
    nodes = files_of(head, inventory, "n2")["/etc/kerrighed_nodes"].content.decode()
    assert nodes.splitlines()[1:] == ["session=3", "nbmin=2", "n1:1:eth0", "n2:2:eth0"]


def test_ids_are_never_used_again(inventory: Inventory) -> None:
    from sis.inventory.model import NewNode

    inventory.nodes.delete(["n4"])
    [made] = inventory.nodes.add([NewNode("n4")])
    assert made.id == 5


def test_a_file_that_names_unknown_nodes_is_previewed_by_the_database(head: Head, inventory: Inventory) -> None:
    """Addresses that move are judged where all of them are known."""
    shown = Renders(head.state, inventory)
    before = worlds.now(shown)
    head.edit("+{index+10}", "+{index+11}")
    after = worlds.wanted(shown, before, worlds.cluster_spec.load(head.file), before.site)
    found = preview.folded([*preview.changes(shown, before, after)])
    assert [group.nodes for group in found] == ["n[1-4]"]
    assert "interfaces" in found[0].change.because
    assert {each.path for each in found[0].change.files} >= {"/etc/hosts", "/etc/systemd/network/10-sis-eth0.network"}


def test_files_that_list_the_cluster_know_the_machines(head: Head, inventory: Inventory) -> None:
    node = inventory.nodes.get("n2")
    facts = {"cpu": {"threads": 64}, "memory_bytes": 128 << 30}
    inventory.history.record_facts(node.id, facts)
    inventory.nodes.change(["n1"], Change(profile={"peer_files": [{"format": "slurm"}]}))
    lines = files_of(head, inventory)["/etc/slurm/nodes.conf"].content.decode().splitlines()
    assert lines[1:] == ["NodeName=n[1,3-4] State=UNKNOWN", "NodeName=n2 CPUs=64 RealMemory=131072 State=UNKNOWN"]
