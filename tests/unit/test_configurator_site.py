"""Site files: layers in one order, faults of templates placed, sidecars, blocks, fragments, links of the image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from configurator.errors import SiteInvalid
from configurator.facts import Facts
from configurator.footprint import AccountFiles, Footprint
from configurator.record import HostKey, Record
from configurator.rendered import RenderedFile
from configurator.renderers import Context
from configurator.site import Tree, lay_over, load
from configurator.tree import Found

RECORD = Record(
    name="n001",
    id=1,
    profiles=("base", "compute"),
    groups=("rack1", "gpu"),
    vars={"rack": "7"},
    timezone="Europe/Berlin",
)
CONTEXT = Context(RECORD, Facts(kernel="6.1"), Footprint(merged_usr=True))
MOTD = RenderedFile(path="/etc/motd", mode=0o640, gid=4, content=b"hello\n", origin="motd")


def site(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)
    return root


def laid(
    root: Path, files: Mapping[str, str], *below: RenderedFile, tree: Tree | None = None, context: Context = CONTEXT
) -> dict[str, RenderedFile]:
    return {file.path: file for file in lay_over(below, load(site(root, files)), context, tree)}


def test_the_more_specific_layer_wins(tmp_path: Path) -> None:
    layers = ["all", "profile/base", "profile/compute", "group/rack1", "group/gpu", "node/n001"]
    others = {f"{layer}/etc/other": "never" for layer in ("profile/login", "group/cpu", "node/n002")}
    for number, layer in enumerate(layers):
        root = tmp_path / str(number)
        files = laid(root, {f"{each}/etc/motd": each for each in layers[: number + 1]} | others, MOTD)
        assert [*files] == ["/etc/motd"]
        assert (files["/etc/motd"].content.decode(), files["/etc/motd"].mode) == (layer, 0o644)
        assert files["/etc/motd"].origin == f"site:{layer}/etc/motd"


def test_without_a_site_nothing_changes(tmp_path: Path) -> None:
    assert lay_over([MOTD], load(tmp_path / "none"), CONTEXT) == (MOTD,)


def test_a_template_sees_record_vars_and_facts(tmp_path: Path) -> None:
    first = "{{ record.name }} {{ record.fqdn }} {{ vars.rack }} {{ facts.kernel }}\n"
    text = f"{first}{{% for g in record.groups %}}\n- {{{{ g }}}}\n{{% endfor %}}\n"
    files = laid(tmp_path, {"all/etc/x.conf.j2": text})
    assert files["/etc/x.conf"].content == b"n001 n001 7 6.1\n- rack1\n- gpu\n"


def test_a_template_sees_no_secret(tmp_path: Path) -> None:
    key = HostKey(type="rsa", private="SECRET", public="x")
    record = Record(name="n001", id=1, host_keys=(key,))
    footprint = Footprint(accounts=AccountFiles(passwd="", group="", shadow="SECRET"))
    context = Context(record, Facts(), footprint)
    files = laid(tmp_path, {"all/etc/x.j2": "{{ record.host_keys }}{{ footprint.accounts }}"}, context=context)
    assert files["/etc/x"].content == b"()None"


def test_values_are_not_looked_at_as_templates(tmp_path: Path) -> None:
    context = Context(Record(name="n001", id=1, vars={"a": "{{ 7*7 }}"}), Facts(), Footprint())
    assert laid(tmp_path, {"all/etc/x.j2": "{{ vars.a }}"}, context=context)["/etc/x"].content == b"{{ 7*7 }}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a\n{{ nothing }}\n", "all/etc/x.j2:2: 'nothing' is undefined"),
        ("a\n\n{{ record.nmae }}\n", "all/etc/x.j2:3: 'configurator.record.Record object' has no attribute 'nmae'"),
        ("{{ vars.rock }}", "all/etc/x.j2:1: 'dict object' has no attribute 'rock'"),
        ("{{ 1 // 0 }}", "all/etc/x.j2:1: integer division or modulo by zero"),
        ("{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}", "all/etc/x.j2:1: maximum recursion depth exceeded"),
    ],
)
def test_a_fault_in_a_template_has_its_line(text: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(SiteInvalid) as caught:
        laid(tmp_path, {"all/etc/x.j2": text})
    assert str(caught.value).startswith(fault)


def test_all_faults_of_a_site_at_once(tmp_path: Path) -> None:
    files = {
        "all/etc/a.j2": "ok\n{% if %}\n",
        "all/etc/b.sis.toml": "mode = '0644'\n",
        "all/etc/c": "x",
        "all/etc/c.sis.toml": "mode = 'rw'\nabsent = true\nappend = true\n",
        "all/etc/d": "x",
        "all/etc/d.j2": "x",
        "all/etc/e": "x",
        "all/etc/e.sis.toml": "mdoe = '0644'\n",
        "all/etc/f": "x",
        "all/etc/f.sis.toml": "mode = \n",
        "groups/gpu/etc/x": "x",
    }
    with pytest.raises(SiteInvalid) as caught:
        load(site(tmp_path, files))
    assert str(caught.value).splitlines() == [
        "the site files have 9 faults",
        "all/etc/a.j2:2: Expected an expression, got 'end of statement block'",
        "all/etc/c.sis.toml: says absent and append",
        "all/etc/c.sis.toml: mode must be octal such as \"0640\", not 'rw'",
        "all/etc/e.sis.toml: Object contains unknown field `mdoe`",
        "all/etc/f.sis.toml: Invalid value (at line 1, column 8)",
        "all/etc/d.j2: makes /etc/d, as all/etc/d does",
        "all/etc/b.sis.toml: no b beside it",
        "all/etc/c.sis.toml: /etc/c has a file beside it, all/etc/c",
        "groups: no such layer, only all, profile/NAME, group/NAME and node/NAME",
    ]


def test_sidecars(tmp_path: Path) -> None:
    accounts = AccountFiles(passwd="munge:x:109:117::/:/bin/sh\n", group="munge:x:117:\n")
    context = Context(RECORD, Facts(), Footprint(accounts=accounts))
    files = laid(
        tmp_path,
        {
            "all/etc/munge/munge.key": "k",
            "all/etc/munge/munge.key.sis.toml": 'mode = "0400"\nowner = "munge"\ngroup = "munge"\n',
            "all/etc/mtab.sis.toml": 'symlink = "/proc/self/mounts"\n',
            "all/etc/motd.sis.toml": "absent = true\n",
            "all/srv/data.sis.toml": 'directory = true\nmode = "1777"\n',
            "all/etc/alternatives/vi": "-> /usr/bin/vim",
        },
        MOTD,
        context=context,
    )
    key = files["/etc/munge/munge.key"]
    assert (key.mode, key.uid, key.gid) == (0o400, 109, 117)
    assert (files["/etc/mtab"].kind, files["/etc/mtab"].target) == ("symlink", "/proc/self/mounts")
    assert files["/etc/motd"].kind == "absent"
    assert (files["/srv/data"].kind, files["/srv/data"].mode) == ("dir", 0o1777)
    assert (files["/etc/alternatives/vi"].kind, files["/etc/alternatives/vi"].target) == ("symlink", "/usr/bin/vim")


def test_an_owner_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SiteInvalid, match=r"^all/etc/x: no owner munge in the image or the record$"):
        laid(tmp_path, {"all/etc/x": "", "all/etc/x.sis.toml": 'owner = "munge"\n'})


def test_executables_stay_so(tmp_path: Path) -> None:
    root = site(tmp_path, {"all/usr/local/bin/x": "#!/bin/sh\n"})
    (root / "all/usr/local/bin/x").chmod(0o755)
    assert lay_over([], load(root), CONTEXT)[0].mode == 0o755


def test_a_block_is_added_to_what_is_there(tmp_path: Path) -> None:
    files = {
        "all/etc/motd": "line",
        "all/etc/motd.sis.toml": "append = true\n",
        "node/n001/etc/motd": "more\n",
        "node/n001/etc/motd.sis.toml": "append = true\n",
    }
    motd = laid(tmp_path, files, MOTD)["/etc/motd"]
    assert motd.content.decode().splitlines() == [
        "hello",
        "# sis: all/etc/motd: begin",
        "line",
        "# sis: all/etc/motd: end",
        "# sis: node/n001/etc/motd: begin",
        "more",
        "# sis: node/n001/etc/motd: end",
    ]
    assert (motd.mode, motd.gid) == (0o640, 4)


def test_a_block_is_added_to_the_image(tmp_path: Path) -> None:
    tree = Tree(read={"/etc/services": b"ssh 22/tcp"}.get)
    files = {"all/etc/services": "x 1/tcp", "all/etc/services.sis.toml": 'append = true\ncomment = ";"\n'}
    text = laid(tmp_path, files, tree=tree)["/etc/services"].content
    assert text == b"ssh 22/tcp\n; sis: all/etc/services: begin\nx 1/tcp\n; sis: all/etc/services: end\n"


def test_a_block_cannot_be_added_to_a_link(tmp_path: Path) -> None:
    link = RenderedFile(path="/etc/motd", kind="symlink", target="/x", origin="motd")
    with pytest.raises(SiteInvalid, match=r"^all/etc/motd: cannot add to /etc/motd, which is a symlink of motd$"):
        laid(tmp_path, {"all/etc/motd": "x", "all/etc/motd.sis.toml": "append = true\n"}, link)


def test_fragments_of_all_layers_make_one_file(tmp_path: Path) -> None:
    files = laid(
        tmp_path,
        {
            "all/etc/slurm.conf.sis.d/10-base": "base",
            "all/etc/slurm.conf.sis.d/20-nodes.j2": "node {{ record.name }}\n",
            "group/gpu/etc/slurm.conf.sis.d/15-gres": "gpu\n",
            "node/n001/etc/slurm.conf.sis.d/10-base": "own base\n",
        },
    )
    conf = files["/etc/slurm.conf"]
    assert conf.content == b"own base\ngpu\nnode n001\n"
    assert conf.origin == (
        "site:node/n001/etc/slurm.conf.sis.d/10-base,group/gpu/etc/slurm.conf.sis.d/15-gres,"
        "all/etc/slurm.conf.sis.d/20-nodes.j2"
    )


def test_merged_usr_is_corrected(tmp_path: Path) -> None:
    assert [*laid(tmp_path / "c", {"all/var/lib/x": ""})] == ["/var/lib/x"]
    assert [*laid(tmp_path / "a", {"all/lib/udev/rules.d/1.rules": ""})] == ["/usr/lib/udev/rules.d/1.rules"]
    unmerged = Context(RECORD, Facts(), Footprint())
    assert [*laid(tmp_path / "b", {"all/lib/x": "", "all/libx/y": ""}, context=unmerged)] == ["/lib/x", "/libx/y"]


def test_links_of_the_image_are_followed_inside_it(tmp_path: Path) -> None:
    listing = {"/lib": Found("symlink", "usr/lib"), "/usr": Found("dir"), "/usr/lib": Found("dir")}
    listing |= {"/var": Found("dir"), "/var/log": Found("symlink", "/srv/../srv/log")}
    listing |= {"/srv": Found("dir"), "/srv/log": Found("dir"), "/opt": Found("symlink", "nowhere")}
    tree = Tree(lookup=listing.get)
    files = laid(tmp_path / "a", {"all/lib/new/x": "", "all/var/log/y": "", "all/etc/z": ""}, tree=tree)
    assert [*files] == ["/etc/z", "/srv/log/y", "/usr/lib/new/x"]
    with pytest.raises(SiteInvalid, match=r"^all/opt/x: the way to /opt/x leads over a link that leads nowhere"):
        laid(tmp_path / "b", {"all/opt/x": ""}, tree=tree)


@pytest.mark.parametrize("path", ["proc/x", "run/a/b", "etc/sis/node.json", "var/lib/sis-node/index", "dev/sda"])
def test_places_that_are_not_the_sites(path: str, tmp_path: Path) -> None:
    with pytest.raises(SiteInvalid, match=rf"^all/{path}: nothing of the site's belongs below /"):
        laid(tmp_path, {f"all/{path}": ""})


@pytest.mark.parametrize("name", ["all/etc/a\nb", "all/etc/a\\b", "all/etc/\x1b[31m"])
def test_odd_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(SiteInvalid) as caught:
        load(site(tmp_path, {name: ""}))
    assert caught.value.details == (f"{name!a}: not a path a site file can have",)
