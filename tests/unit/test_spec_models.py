"""What the specs offer beyond their values: places, search, the shipped specs, schemas, and speed that scales."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sis.errors import NotFound, SpecInvalid
from sis.spec import cluster, imagespec, layout, schema, search


def _write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path = path.with_name(path.name + (".list" if "lists__" in name else ".yaml"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_every_shipped_spec_is_sound() -> None:
    names = imagespec.names([search.shipped()])
    assert {"minimal", "compute", "thin", "ssi", "installer"} <= set(names)
    for name in names:
        spec = imagespec.load(name, search=[search.shipped()])
        assert spec.image == name
        if spec.disk is not None:
            layout.load(spec.disk, search=spec.folders)
    for name in search.names([search.shipped() / "disks"]):
        assert layout.load(name, search=[search.shipped()]).layout == name


def test_a_package_knows_its_line_through_lists_and_extends(tmp_path: Path) -> None:
    _write(
        tmp_path,
        child="image: child\nextends: parent\npackages:\n  - zsh\n",
        parent="image: parent\ndistribution: debian\nrelease: bookworm\nlists: [core]\npackages: [less]\n",
        lists__core="# core\nbash\n",
    )
    spec = imagespec.load("child", search=[tmp_path])
    assert spec.packages == ("bash", "less", "zsh")
    shown = [str(spec.place("packages", at)).removeprefix(f"{tmp_path}/") for at in range(3)]
    assert shown == ["lists/core.list:2", "parent.yaml:5", "child.yaml:4"]


def test_sources_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "site" / "files").mkdir(parents=True)
    (tmp_path / "site" / "files" / "motd").write_text("hello")
    _write(
        tmp_path,
        site__parent="image: p\ndistribution: debian\nrelease: x\nfiles: [{target: /etc/motd, source: files/motd}]\n",
        child="image: child\nextends: site/parent.yaml\n",
    )
    spec = imagespec.load(tmp_path / "child.yaml", search=[])
    assert spec.files[0].source == str(tmp_path / "site" / "files" / "motd")
    assert str(tmp_path) not in spec.canonical()


def test_policy_written_again_goes_last(tmp_path: Path) -> None:
    _write(
        tmp_path,
        parent="image: p\ndistribution: debian\nrelease: x\npolicy: {/a: ignore, /b: report}\n",
        child="image: child\nextends: parent\npolicy: {/a: node}\n",
    )
    assert list(imagespec.load("child", search=[tmp_path]).policy.items()) == [("/b", "report"), ("/a", "node")]


def test_unknown_names_offer_near_ones(tmp_path: Path) -> None:
    _write(tmp_path, compute="image: compute\n", disks__single="layout: single\n")
    with pytest.raises(NotFound) as caught:
        imagespec.load("compte", search=[tmp_path])
    assert str(caught.value) == "no such image spec: compte\nhint: did you mean compute?"
    with pytest.raises(NotFound) as caught:
        layout.load("singel", search=[tmp_path])
    assert str(caught.value) == "no such disk layout: singel\nhint: did you mean single?"
    with pytest.raises(NotFound, match=r"no such image spec: \./nosuch\.yaml"):
        imagespec.load("./nosuch.yaml", search=[tmp_path])


def test_an_empty_file_lacks_everything(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("")
    with pytest.raises(SpecInvalid) as caught:
        cluster.load(tmp_path / "cluster.yaml")
    assert caught.value.details == (f"{tmp_path}/cluster.yaml:1: 'cluster' is missing",)
    assert str(caught.value).startswith(f"{tmp_path}/cluster.yaml: 1 fault\n")


def test_five_thousand_nodes_share_the_work(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(
        "cluster: big\nnetworks: {m: {cidr: 10.0.0.0/16}}\n"
        'nodes: {"n[0001-5000]": {interfaces: {eth0: {network: m, ip: "+{index+9}"}}}}\n'
        'groups: {half: "n[0001-2500]"}\n'
    )
    nodes = cluster.load(tmp_path / "cluster.yaml").expand()
    assert len(nodes) == 5000
    assert nodes[-1].interfaces[0].address == "10.0.19.145/16"
    assert nodes[0].settings is nodes[-1].settings
    assert nodes[0].groups == ("half",)


@pytest.mark.parametrize("kind", sorted(schema.MODELS))
def test_schemas_are_json(kind: str) -> None:
    made = schema.schema(kind)
    assert json.loads(json.dumps(made)) == made
    assert made["additionalProperties"] is False


def test_schema_of_the_cluster_knows_short_forms() -> None:
    settings = schema.schema("cluster")["$defs"]["Settings"]["properties"]
    for name, short in (("keyboard", settings["keyboard"]), ("modules", settings["modules"]["items"])):
        assert {"type": "string"} in short["anyOf"], name
    assert {"type": "string"} in settings["motd"]["anyOf"]
    assert settings["accounts"]["$ref"] == "#/$defs/AccountsSpec"


def test_schema_says_what_need_not_be_written() -> None:
    assert schema.schema("imagespec")["required"] == ["image"]
    assert schema.schema("layout")["$defs"]["PartitionSpec"]["required"] == ["role", "size"]
    with pytest.raises(NotFound, match="no such schema: cluser"):
        schema.schema("cluser")


LISTS = {
    # setting: what the layer below says, what an entry takes away, what is left as text
    "mounts": (
        "[{source: 'h:/a', path: /a, filesystem: nfs}, {source: 'h:/b', path: /b, filesystem: nfs}]", "-/a", "h:/b"
    ),
    "exports": ("[{path: /a, clients: ['*']}, {path: /b, clients: ['*']}]", "-/a", "/b"),
    "peer_files": ("[slurm, {format: genders, path: /x}]", "-slurm", "genders"),
    "modules": ("[nvme, {name: e1000, load: false}]", "-nvme", "e1000"),
    "nameservers": ("[10.0.0.1, 10.0.0.2]", "-10.0.0.1", "10.0.0.2"),
    "windows": ("['Sun 01:00-05:00', 'Mon 01:00-04:00']", "-Sun 01:00-05:00", "Mon 01:00-04:00"),
    "hosts_groups": ("[g1, g2]", "-g1", "g2"),
    "root_authorized_keys": ("[ssh-ed25519 AAAA a, ssh-ed25519 BBBB b]", "-ssh-ed25519 AAAA a", "BBBB"),
    "accounts.users": (
        "[{name: al, uid: 2000, gid: 2000, home: /a}, {name: bo, uid: 2001, gid: 2000, home: /b}]", "-al", "bo"
    ),
    "accounts.groups": ("[{name: al, gid: 2000}, {name: bo, gid: 2001}]", "-al", "bo"),
    "accounts.sudo": ("[{name: al, who: al}, {name: bo, who: bo}]", "-al", "bo"),
    "environment.load": ("[gcc, mpi]", "-gcc", "mpi"),
    "health.commands": ("['test -e /x', {run: 'test -e /y'}, /bin/true]", "-test -e /y", "/x"),
    "health.ports": ("[22, 80]", "-22", "80"),
    "health.units": ("[sshd, slurmd]", "-sshd", "slurmd"),
}  # fmt: skip


@pytest.mark.parametrize("setting", LISTS)
def test_what_a_layer_says_can_be_taken_away_from_every_list(setting: str) -> None:
    below, gone, left = LISTS[setting]
    name, _, part = setting.partition(".")

    def read(entry: str) -> str:
        lower, upper = (f"{{{part}: {value}}}" if part else value for value in (below, f"[{entry}]"))
        text = (
            f"cluster: c\ngroups: {{g1: n1, g2: n1}}\ndefaults: {{{name}: {lower}}}\nnodes: {{n1: {{{name}: {upper}}}}}"
        )
        value = getattr(cluster.parse(text.encode(), "c.yaml").expand()[0].settings, name)
        return repr(getattr(value, part) if part else value)

    kept = read(gone if setting == "health.ports" else f"'{gone}'")
    assert left in kept
    assert gone[1:].rpartition(" ")[2] not in kept
    with pytest.raises(SpecInvalid, match=rf"c\.yaml:4: {setting}: nothing to remove: 'x{gone[1:3]}.*' is not there"):
        read(f"'-x{gone[1:]}'")


INTERFACES = """cluster: c
defaults: {interfaces: {eth0: {addresses: [10.0.0.5/24, 10.0.1.5/24], routes: [
  {to: default, via: 10.0.0.1}, {to: default, via: 10.0.0.2}, {to: 10.9.0.0/16, via: 10.0.0.3}]}}}
nodes:
  n1: {interfaces: {eth0: {addresses: [GONE], routes: [-default]}}}
"""


def test_interfaces_lose_addresses_and_routes_and_a_near_name_is_offered() -> None:
    with pytest.raises(SpecInvalid) as caught:
        cluster.parse(INTERFACES.replace("GONE", "-10.0.0.6/24").encode(), "c.yaml")
    assert (
        "c.yaml:5: interfaces.eth0.addresses: nothing to remove: '10.0.0.6/24' is not there before it; "
        "did you mean '10.0.0.5/24'?"
    ) in str(caught.value)
    eth0 = cluster.parse(INTERFACES.replace("GONE", "-10.0.0.5/24").encode(), "c.yaml").expand()[0].interfaces[0]
    assert eth0.addresses == ("10.0.1.5/24",)
    assert [str(route.to) for route in eth0.routes] == ["10.9.0.0/16"]
