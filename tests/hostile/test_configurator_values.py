"""Hostile values in every text of a record: refused with the field named, or one harmless word of one line."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from configurator.errors import ConfiguratorError, RecordInvalid
from configurator.evidence import of_tree
from configurator.facts import Facts, decode_facts
from configurator.footprint import AccountFiles, Footprint
from configurator.peers import FORMATS
from configurator.record import Record, decode
from configurator.render import render
from configurator.rendered import RenderedFile
from tests.trees import FIXTURES, found, read_listing, reader

HOSTILE = (
    "\n", "\r", "\r\n", "\0", "\x1b[31m", "\x85", "\u2028", "\u202e", "\ufeff", "\ud800", "\t", " ", "  x", ";",
    ";reboot", "|", "&", "&&reboot", "$x", "${x}", "$(reboot)", "`reboot`", "{{ 7*7 }}", "{{", "#", "#!ipxe",
    "{% include '/etc/shadow' %}", "\\", "\\\n", "'", '"', '""', "'\"", "..", "/../../etc/shadow", "//", "%n", "%s",
    "<script>", "=", ",", ":", "[Match]", "\n[Match]\nName=*", "\n6.6.6.6 head", "\nup reboot", "\nnameserver 6.6.6.6",
    "\ninstall x /bin/sh", "\n- to: x", "A" * 10_000, "-", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "é", "１",
)  # fmt: skip

TREES = (
    "debian12-networkd", "debian12-resolved", "debian12-ifupdown", "debian12-ifupdown-resolved", "ubuntu-netplan",
    "fedora-networkmanager", "rhel7-ifcfg", "kernel-2.4", "kerrighed-3.0", "kerrighed-2.4",
    "debian12-compute", "rhel9-compute",
)  # fmt: skip

SAFE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
WORD = r"[A-Za-z0-9._-]+"
ADDRESS = r"[0-9a-fA-F:.]+"
ADDRESS_OR_NAME = r"[0-9a-zA-Z:.-]+"
PARAMETERS = r"[^\x00-\x1f\x7f-\uffff\"'`$\\;|&<>(){}#]+"
HEADER = r"# managed by sis \([a-z_]+\): do not edit, changes are undone at the next resync"
KEY = r"(?:ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/]+=*"
INI = rf"\[[A-Za-z0-9]+\]|[A-Za-z0-9-]+=[A-Za-z0-9:./;, _-]*|{HEADER}|"
SHELL = rf'{HEADER}|[A-Z0-9_]+=([A-Za-z0-9_+:./-]*|"[A-Za-z0-9_+:=./ -]*")'

GRAMMAR = {
    r"/etc/(hostname|mailname|timezone)": r"[A-Za-z0-9/._+-]+",
    r"/etc/machine-id": r"[0-9a-f]{32}",
    r"/etc/hosts": rf"{HEADER}||{ADDRESS}\t{WORD}( {WORD}){{0,2}}",
    r"/etc/resolv\.conf": rf"{HEADER}|nameserver {ADDRESS}|search {WORD}( {WORD})*",
    r"/etc/fstab": rf"{HEADER}|[^ #]{SAFE}*?(?:  +[^ ]+){{3}}  +[0-9]  [0-9]",
    r"/etc/(modules|modules-load\.d/sis(-hardware)?\.conf|initramfs-tools/modules)": rf"{HEADER}|{WORD}",
    r"/etc/dracut\.conf\.d/sis\.conf": rf'{HEADER}|add_drivers\+=" {WORD}( {WORD})* "',
    r"/etc/hostid": r"[\x00-\xff]{0,4}",
    r"/etc/motd": rf"{SAFE}*",
    r"/etc/(chrony/)?chrony\.conf": rf"{HEADER}|server {ADDRESS_OR_NAME} iburst|[a-z]+( [A-Za-z0-9/]+)*",
    r"/etc/systemd/timesyncd\.conf\.d/sis\.conf": INI,
    r"/etc/(default/locale|locale\.conf)": rf"{HEADER}|LANG=[A-Za-z0-9_.@-]+",
    r"/etc/(default/keyboard|vconsole\.conf)": rf'{HEADER}|[A-Z]+="[A-Za-z0-9_,:+().-]*"',
    r"/etc/udev/rules\.d/80-sis-ipoib\.rules": (
        rf'{HEADER}|ACTION=="add", SUBSYSTEM=="net", (ATTR{{address}}|KERNEL)=="[A-Za-z0-9_.:-]+", '
        r'ATTR{mode}="connected"'
    ),
    r"/etc/ssh/ssh_known_hosts": rf"{HEADER}|[A-Za-z0-9,.:-]+ {KEY}",
    r"/etc/(ssh/s)?hosts\.equiv": rf"{HEADER}|{WORD}",
    r"/etc/slurm/nodes\.conf": rf"{HEADER}|NodeName=[A-Za-z0-9.,\[\]-]+( [A-Za-z]+=[A-Z0-9]+)+",
    r"/etc/(openmpi/openmpi-default-hostfile|mpich/hosts|lists/[A-Za-z0-9._+@/-]+)": (
        rf"{HEADER}|{WORD}(:[0-9]+| slots=[0-9]+)?"
    ),
    r"/etc/genders": rf"{HEADER}|{WORD} [A-Za-z0-9._,=-]+",
    r"/etc/clustershell/groups\.d/cluster\.yaml": rf'{HEADER}|cluster:|  ("{WORD}"|all): "[A-Za-z0-9.,\[\]-]*"',
    r"/etc/c3\.conf": rf"{HEADER}|cluster {WORD} {{|    (dead )?{WORD}|}}",
    r"/etc/exports\.d/sis\.exports": rf"{HEADER}|/[A-Za-z0-9/._+@-]*( [A-Za-z0-9@*?./:-]+\([A-Za-z0-9,=:./_-]+\))+",
    r"/etc/passwd": r"[a-z_][a-z0-9_-]*:x:[0-9]+:[0-9]+:[^:\n]*:[A-Za-z0-9/._+@-]+:[A-Za-z0-9/._+@-]+",
    r"/etc/group": r"[a-z_][a-z0-9_-]*:x:[0-9]+:[a-z0-9_,-]*",
    r"/etc/shadow": r"[a-z_][a-z0-9_-]*:[A-Za-z0-9!*$./,=+-]+(:[0-9]*){7}",
    r"/etc/gshadow": r"[a-z_][a-z0-9_-]*:[!*]:[a-z0-9_,-]*:[a-z0-9_,-]*",
    r"/etc/sudoers\.d/sis-[A-Za-z0-9_-]+": (
        rf"{HEADER}|%?[a-z_][a-z0-9_-]* ALL=\([A-Za-z0-9_-]+\) (NOPASSWD: )?(ALL|/([A-Za-z0-9._+@/ %-]|\\[,:=]|, )+)"
    ),
    r"(/[A-Za-z0-9._+@-]+)+/\.version": rf'#%Module1\.0|{HEADER}|set ModulesVersion "[A-Za-z0-9._+-]+"',
    r"(/[A-Za-z0-9._+@-]+)+/\.modulerc\.lua": (
        rf'-- {HEADER}|module_version\("[A-Za-z0-9._+/-]+/[A-Za-z0-9._+-]+", "default"\)'
    ),
    r"/etc/profile\.d/zz-sis-modules\.c?sh": (
        rf"{HEADER}|if .* then|    (export SIS_MODULES_LOADED=1|setenv SIS_MODULES_LOADED 1)|fi|endif"
        r"|    module load [A-Za-z0-9._+/-]+( [A-Za-z0-9._+/-]+)*"
    ),
    r"/boot/loader/(entries/sis-[A-Za-z0-9._+~-]+|loader)\.conf": rf"{HEADER}|[a-z-]+ {PARAMETERS}",
    r"/boot/extlinux/extlinux\.conf": rf"{HEADER}|| *[a-z]+ {PARAMETERS}",
    r"/etc/modprobe\.d/zz-sis\.conf": rf"{HEADER}|alias \S+ {WORD}|blacklist {WORD}|options {WORD} [^\\$`']+",
    r"/etc/modules\.conf": rf"{HEADER}|alias \S+ {WORD}|options {WORD} [A-Za-z0-9_=,.:/\" +-]+",
    r"/etc/kerrighed_nodes": rf"{HEADER}|session=[0-9]{{1,4}}|nbmin=[0-9]{{1,3}}|[A-Za-z0-9.-]+:[0-9]{{1,3}}:{WORD}",
    r"/etc/default/kerrighed(-host)?": SHELL,
    r"/etc/sysconfig/network-scripts/ifcfg-[A-Za-z0-9._-]{1,15}": SHELL,
    r"/etc/sysconfig/network-scripts/route6?-[A-Za-z0-9._-]{1,15}": (
        rf"{HEADER}|{ADDRESS}/[0-9]+ via {ADDRESS} dev {WORD}"
    ),
    r"/etc/systemd/network/10-sis-[A-Za-z0-9._-]{1,15}\.(network|link|netdev)": INI,
    r"/etc/systemd/resolved\.conf\.d/sis\.conf": INI,
    r"/etc/systemd/system/sis-resync\.timer\.d/sis\.conf": rf"{INI}|OnCalendar=[A-Za-z0-9*:., -]+",
    r"/etc/NetworkManager/system-connections/sis-[A-Za-z0-9._-]{1,15}\.nmconnection": INI,
    r"/etc/NetworkManager/conf\.d/sis\.conf": INI,
    r"/etc/netplan/10-sis\.yaml": (
        rf'{HEADER}|[ -]*[a-z0-9-]+:|[ -]*"{WORD}":|[ -]*[a-z0-9-]+: [\[\]A-Za-z0-9":./, _-]+'
    ),
    r"/etc/network/interfaces": rf"{HEADER}|| *[a-z0-9-]+ [A-Za-z0-9:./ _-]+( \|\| true)?"
    rf'|    pre-up sh -c "echo connected >/sys/class/net/{WORD}/mode"',
    r"/etc/dhcp/dhclient-enter-hooks\.d/sis": rf"{HEADER}|make_resolv_conf\(\) {{ :; }}",
    r"/etc/ssh/ssh_host_(rsa|ecdsa|ed25519)_key": r"-----(BEGIN|END) OPENSSH PRIVATE KEY-----|[A-Za-z0-9+/=]{1,76}",
    r"/etc/ssh/ssh_host_(rsa|ecdsa|ed25519)_key\.pub": rf"{KEY}( {SAFE}*)?",
    r"/root/\.ssh/authorized_keys": rf"{HEADER}|([^ #]{SAFE}* )?{KEY}( {SAFE}*)?",
}  # fmt: skip
COMPILED = [(re.compile(path, re.ASCII), re.compile(line, re.ASCII)) for path, line in GRAMMAR.items()]


def full_record() -> dict[str, Any]:
    """A record in which every text field holds something."""
    keys = json.loads((FIXTURES / "render/ssh-keys/record.json").read_text())
    return {
        "name": "n001",
        "id": 1,
        "domain": "cluster.lan",
        "cluster": "c1",
        "head": "10.77.0.1",
        "head_name": "head",
        "mail_name": "mail.lan",
        "interfaces": [
            {
                "name": "eth0",
                "mac": "52:54:00:77:00:0b",
                "address": "10.77.0.11/24",
                "gateway": "10.77.0.1",
                "mtu": 9000,
                "routes": [{"to": "10.80.0.0/16", "via": "10.77.0.2"}],
            },
            {"name": "eth1", "mac": "52:54:00:78:00:0b", "dhcp": True},
            {"name": "lan0", "mac": "52:54:00:79:00:0b"},
            {"name": "lan1", "mac": "52:54:00:79:00:0c"},
            {"name": "bond0", "bond": {"members": ["lan0"], "mode": "802.3ad"}, "addresses": ["2001:db8::11/64"]},
            {"name": "vlan7", "vlan": {"id": 7, "parent": "bond0"}},
            {"name": "br0", "bridge": {"members": ["lan1"]}},
            {"name": "ib0", "infiniband": "connected"},
        ],
        "nameservers": ["10.77.0.1"],
        "search": ["lan"],
        "mounts": [{"source": "LABEL=root", "path": "/srv", "filesystem": "ext4", "options": "noatime"}],
        "modules": [{"name": "e1000", "alias": "eth", "options": "Speed=100"}, {"name": "loop"}],
        "blacklist": ["pcspkr"],
        "peers": [
            {
                "name": "n002",
                "address": "10.77.0.12",
                "id": 2,
                "interface": "eth0",
                "groups": ["gpu"],
                "cpus": 8,
                "memory_mib": 1024,
                "host_keys": [keys["host_keys"][0]["public"].strip()],
            }
        ],
        "kerrighed": {"session": 1, "min_nodes": 2},
        "host_keys": keys["host_keys"][:1],
        "root_authorized_keys": keys["root_authorized_keys"],
        "machine_id": "0123456789abcdef0123456789abcdef",
        "timezone": "Europe/Berlin",
        "resync": "nightly",
        "windows": ["Sun 01:00-05:00"],
        "profiles": ["compute"],
        "groups": ["rack1"],
        "vars": {"rack": "one"},
        "hostid": "0a4d000b",
        "hosts_groups": ["gpu"],
        "motd": ["Welcome"],
        "time_servers": ["ntp.lan"],
        "locale": "en_US.UTF-8",
        "keyboard": {"layout": "us", "variant": "intl", "model": "pc104", "options": "ctrl:nocaps", "keymap": "us"},
        "peer_files": [
            *({"format": name} for name in FORMATS),
            {"format": "openmpi", "path": "/etc/lists/gpus", "groups": ["gpu"]},
        ],
        "boot": {"parameters": ["root=LABEL=root", "console=ttyS0"], "kernel": None},
        "exports": [{"path": "/srv", "clients": ["10.77.0.0/24", "group:gpu"], "options": "rw,sync"}],
        "accounts": {
            "users": [
                {
                    "name": "alice",
                    "uid": 2001,
                    "gid": 2000,
                    "gecos": "Alice",
                    "home": "/home/alice",
                    "shell": "/bin/sh",
                    "password": "$6$abcdefgh$0123456789",
                }
            ],
            "groups": [{"name": "science", "gid": 2000, "members": ["alice"]}],
            "sudo": [{"name": "science", "who": "%science", "run_as": "root", "commands": ["/usr/bin/id -u"]}],
        },
        "environment": {
            "defaults": [{"name": "mpi/openmpi", "version": "5.0"}],
            "load": ["gcc"],
            "path": "/opt/modulefiles",
        },
    }


Place = tuple[str | int, ...]


def texts(value: Any, place: Place = ()) -> Iterator[Place]:
    """The place of every text in a record or in facts."""
    if isinstance(value, str):
        yield place
    elif isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from texts(below, (*place, key))


def value_at(tree: Any, place: Place) -> str:
    for key in place:
        tree = tree[key]
    return str(tree)


def replaced(tree: Any, place: Place, value: str) -> Any:
    if not place:
        return value
    copy = tree.copy()
    copy[place[0]] = replaced(tree[place[0]], place[1:], value)
    return copy


def spelled(place: Place, start: str = "record") -> str:
    """A place as faults spell it."""
    return start + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)


FULL = full_record()
PLACES = list(texts(FULL))
REFERRED: dict[Place, tuple[Place, ...]] = {
    ("interfaces", 2, "name"): (("interfaces", 4, "bond", "members", 0),),
    ("interfaces", 3, "name"): (("interfaces", 6, "bridge", "members", 0),),
    ("interfaces", 4, "name"): (("interfaces", 5, "vlan", "parent"),),
    ("interfaces", 4, "bond", "members", 0): (("interfaces", 6, "bridge", "members", 0),),
    ("peers", 0, "groups", 0): (("exports", 0, "clients", 1),),
}
"""Texts that others refer to: when such a one is good but another, the fault is where it is not found."""
ACCOUNTS = AccountFiles(passwd="root:x:0:0:root:/root:/bin/sh\n", group="root:x:0:\n", shadow="root:*:1::::::\n")


def footprint_of(name: str) -> Footprint:
    """A tree's footprint; one that has no accounts gets some."""
    listing = read_listing(FIXTURES / "render/trees" / f"{name}.json")
    footprint = of_tree(found(listing), reader(listing))
    return footprint if footprint.accounts else msgspec.structs.replace(footprint, accounts=ACCOUNTS)


FOOTPRINTS = {name: footprint_of(name) for name in TREES}
FACTS = decode_facts((FIXTURES / "facts/two-four-era.json").read_bytes())


def lines_of(files: tuple[RenderedFile, ...]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for file in files:
        counts[file.origin] += file.content.count(b"\n") + 1
    return counts


def assert_harmless(files: tuple[RenderedFile, ...], baseline: Counter[str], moved: tuple[str, str] = ("", "")) -> None:
    """Every line is one its reader would take for what it is, and there are no more of them than there were.

    A record says itself where some files go: what is at the first path of `moved` was at the second.
    """
    for file in files:
        assert re.fullmatch(r"/[A-Za-z0-9._/+@-]+", file.path)
        assert ".." not in file.path.split("/")
        if file.kind == "symlink":
            assert re.fullmatch(r"(/usr/share/zoneinfo/|\.\./run/|/(usr/)?lib/systemd/)[A-Za-z0-9/._+-]+", file.target)
        if file.kind != "file":
            continue
        known = moved[1] if file.path == moved[0] else file.path
        (grammar,) = [line for path, line in COMPILED if path.fullmatch(known)]
        encoding = "latin-1" if file.path == "/etc/hostid" else "utf-8"
        for line in file.content.decode(encoding).removesuffix("\n").split("\n"):
            assert grammar.fullmatch(line), (file.path, line)
    # A driver under another name is no longer the one that was detected: it has alias lines of its own.
    slack = {"modules": len(FACTS.interfaces) + len(FACTS.disks)}
    for origin, count in lines_of(files).items():
        assert count <= baseline[origin] + slack.get(origin, 0), origin


@functools.cache
def baseline(tree: str) -> Counter[str]:
    return lines_of(render(msgspec.convert(FULL, Record), FACTS, FOOTPRINTS[tree]))


def refusal(place: Place, value: str, tree: str) -> ConfiguratorError | None:
    """Render with one text replaced: the refusal, or None when it was let through and did no harm."""
    changed = replaced(FULL, place, value)
    try:
        # JSON cannot say a lone surrogate, a record made in code can.
        record = msgspec.convert(changed, Record) if "\ud800" in value else decode(json.dumps(changed))
        files = render(record, FACTS, FOOTPRINTS[tree])
    except ConfiguratorError as error:
        return error
    except UnicodeEncodeError as error:
        return ConfiguratorError(f"{spelled(place)}: {error}")
    assert_harmless(files, baseline(tree), (value, value_at(FULL, place)))
    return None


def attack(place: Place, value: str, tree: str) -> bool:
    """True when the value was let through; a refusal must name the field and be fit to print."""
    error = refusal(place, value, tree)
    if error is None:
        return True
    faults = error.details if isinstance(error, RecordInvalid) else (error.message,)
    assert any(spelled(named) in fault for fault in faults for named in (place, *REFERRED.get(place, ()))), (
        place,
        faults,
    )
    assert all(fault.isprintable() and len(fault) < 250 for fault in faults), [fault[:300] for fault in faults]
    return False


@pytest.mark.parametrize("tree", TREES)
def test_every_text_with_every_hostile_value(tree: str) -> None:
    passed = 0
    for at, place in enumerate(PLACES):
        before = value_at(FULL, place)
        for turn, hostile in enumerate(HOSTILE, at + len(tree)):
            passed += attack(place, (hostile, before + hostile, hostile + before)[turn % 3], tree)
    assert passed > 0


@example(place=("peer_files", len(FORMATS), "path"), parts=["/0"], cut=0, tree=TREES[0])
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    place=st.sampled_from(PLACES),
    parts=st.lists(
        st.sampled_from(HOSTILE) | st.text(max_size=8) | st.from_regex(r"[!-~]{1,6}", fullmatch=True), max_size=4
    ),
    cut=st.integers(0, 40),
    tree=st.sampled_from(TREES),
)
def test_generated_values(place: Place, parts: list[str], cut: int, tree: str) -> None:
    before = value_at(FULL, place)
    attack(place, before[:cut] + "".join(parts) + before[cut:], tree)


def test_every_struct_field_of_text_is_attacked() -> None:
    """A field added to the record must be added to the full record here."""
    attacked = {
        "vars" if place[0] == "vars" else [key for key in place if isinstance(key, str)][-1] for place in PLACES
    }
    attacked.add("kernel")  # any release but one of the tree's is refused: the cases show it
    known: set[str] = set()

    def walk(kind: Any) -> None:
        for field in kind.fields:
            inner = field.type
            options = inner.types if isinstance(inner, msgspec.inspect.UnionType) else (inner,)
            for option in options:
                if isinstance(option, msgspec.inspect.DictType):
                    known.add(field.name)
                element = option.item_type if isinstance(option, msgspec.inspect.VarTupleType) else option
                if isinstance(element, msgspec.inspect.StructType):
                    walk(element)
                elif isinstance(element, msgspec.inspect.StrType | msgspec.inspect.LiteralType):
                    known.add(field.name)

    walk(msgspec.inspect.type_info(Record))
    assert known == attacked


def made_up(place: Place, value: str, tree: str) -> tuple[str, ...] | None:
    """The faults of facts with one text replaced, or None when they did no harm."""
    facts = msgspec.convert(replaced(json.loads(msgspec.json.encode(FACTS)), place, value), Facts)
    try:
        files = render(msgspec.convert(FULL, Record), facts, FOOTPRINTS[tree])
    except RecordInvalid as error:
        return error.details
    assert_harmless(files, baseline(tree))
    return None


@pytest.mark.parametrize("tree", ["kernel-2.4", "debian12-compute"])
def test_hostile_facts(tree: str) -> None:
    facts = json.loads(msgspec.json.encode(FACTS))
    refused = 0
    for place in texts(facts):
        if place[-1] in ("boot_mode", "kind", "type", "bus"):
            continue
        for hostile in HOSTILE:
            if hostile == "\ud800":
                continue
            faults = made_up(place, value_at(facts, place) + hostile, tree)
            if faults is not None:
                assert faults[0].startswith(f"{spelled(place, 'facts')}: ")
                refused += 1
    assert refused > 100


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_json_of_a_record(hostile: str) -> None:
    """The same through the JSON decoder, lone surrogates in escapes among them."""
    with pytest.raises(RecordInvalid):
        decode(json.dumps({"name": f"n001{hostile}!", "id": 1}))
