"""The main job as a story on real parts: build, netboot, install, drift, heal, upgrade, roll back, proved by rsync.

`make demo` tells it, `tests/vm/test_story.py` holds it to its promises with faults thrown in. Every step types what a
user would type; `sis` runs as a program, nodes are QEMU machines with empty disks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sis.system import process
from tests.vm.hands import NODES, Hands, by_command
from tests.vm.lab import Lab, Node, inside

HOUSE = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
HEAD_PORT = 8700
DISK_BYTES = 4 << 30
BIG = "/opt/data/big.bin"
BIG_BYTES = 100_000_000
INSTALL_TIMEOUT_S = 1500.0
HEALTH = '{"units": ["ssh"], "ports": ["22"], "commands": [{"run": ["test", "-d", "/opt/data"]}]}'
LOOK_EVERY_S = 3.0
"""Each look is a `sis status`, on the same two cores as the machines."""


class StoryFailed(AssertionError):
    """A promise of the story was not kept."""


@dataclass
class Row:
    """One step of the story: what the closing table shows."""

    title: str
    seconds: float = 0.0
    bytes_moved: int | None = None
    outcome: str = ""


@dataclass
class Story:
    """One telling. `folder` holds everything it makes; `tell` gets a line at a time; `take_up`: the admin's hands."""

    folder: Path
    tell: Callable[[str], None] = print
    rows: list[Row] = field(default_factory=list)
    lab: Lab | None = None
    take_up: Callable[[Story], AbstractContextManager[Hands]] = by_command
    environment: dict[str, str] = field(default_factory=dict)
    """Of the head's service, and with it of the jobs it runs."""

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def specs(self) -> Path:
        return self.state / "imagespecs"

    # -- telling ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Row]:
        row = Row(title)
        self.rows.append(row)
        self.tell(f"\n▸ {title}")
        started = time.monotonic()
        try:
            yield row
        except BaseException as error:
            row.outcome = f"FAILED: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            raise
        finally:
            row.seconds = time.monotonic() - started
        row.outcome = row.outcome or "ok"
        self.tell(f"  {row.outcome} ({row.seconds:.1f} s)")

    def expect(self, kept: bool, promise: str, evidence: str = "") -> None:
        if not kept:
            raise StoryFailed(promise + (f"\n{evidence}" if evidence else ""))
        self.tell(f"  ✓ {promise}")

    def sis(self, *words: str, accept: Sequence[int] = (0,), timeout_s: float = 1500, show: bool = True) -> str:
        """Type a `sis` command; its standard output."""
        done = self._type(
            [str(BIN / "sis"), "--state", str(self.state), *words], ["sis", *words], accept, timeout_s, show
        )
        return done.stdout

    def sis_data(self, *words: str, accept: Sequence[int] = (0,)) -> Any:
        return json.loads(self.sis("-o", "json", *words, accept=accept, show=False))

    def _type(
        self, argv: list[str], shown: Sequence[str], accept: Sequence[int], timeout_s: float, show: bool
    ) -> process.Completed:
        if show:
            self.tell(f"  $ {' '.join(shown)}")
        done = process.run(argv, cwd=HOUSE, timeout_s=timeout_s, check=False)
        if show:
            for line in done.stdout.rstrip().splitlines()[-30:]:
                self.tell(f"    {line}")
        if done.returncode not in accept:
            raise StoryFailed(
                f"'{' '.join(shown)}' ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )
        return done

    def whole(self, during: Callable[[Story], None] | None = None) -> None:
        """All chapters in order; `during` makes trouble while the nodes install."""
        with Lab(folder=self.folder / "lab") as self.lab, self.take_up(self) as self.hands:
            self.set_up_head()
            self.build_first()
            self.publish_first()
            self.define_both()
            self.install_both(during)
            self.drift()
            self.find_out()
            self.heal()
            self.build_second()
            self.upgrade()
            self.roll_back()
            self.prove()

    # -- chapter 1: the head and the image -------------------------------------------------------------------------

    def look_round(self) -> None:
        with self.step("sis doctor: is everything here?"):
            self.sis("doctor")

    def set_up_head(self) -> None:
        with self.step("the head: keys, cluster file, specs"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.state.mkdir(exist_ok=True)
            self.hands.set_up_head(self)

    def lay_out_files(self) -> None:
        """What the spec's files and scripts come from."""
        self.specs.mkdir(parents=True, exist_ok=True)
        make_big_file(self.folder / "big.bin")
        (self.specs / "names.sh").write_text(NAMES)
        (self.specs / "names.sh").chmod(0o755)

    def spec(self, *, packages: Sequence[str], motd: str) -> str:
        """The demo's compute image: the shipped one, with files to play with laid over."""
        return f"""\
image: compute
extends: {HOUSE}/imagespecs/compute.yaml
packages: [{", ".join(packages)}]
files:
  - {{target: /etc/motd, content: "{motd}\\n"}}
  - {{target: {BIG}, source: {self.folder}/big.bin}}
  - {{target: /opt/data/one, content: "a file with two names\\n"}}
scripts:
  finalize: [names.sh]
"""

    def build_first(self) -> None:
        with self.step("build the golden image: imagespecs/compute.yaml → tree → compute@1"):
            self.hands.build(self)
            shown = self.sis_data("image", "show", "compute@1")
            self.expect(shown["name"] == "compute@1", "compute@1 is committed")
            shutil.rmtree(self.folder / "tree-1", ignore_errors=True)
            process.run(["cp", "-a", "--sparse=always", str(self.state / "trees/compute"), str(self.folder / "tree-1")])
            self.sis("image", "verify")

    def publish_first(self) -> None:
        with self.step("publish it: compute@stable"):
            self.hands.publish(self)
            self.sis("image", "list")

    # -- chapter 2: two machines -----------------------------------------------------------------------------------

    def define_both(self) -> None:
        """Two machines with empty disks, one BIOS, one UEFI, on a network of their own with the head's service."""
        with self.step("two machines with empty disks; the head's service, DHCP and TFTP on their network"):
            bios = self.the_lab().node("n001", firmware="bios", disks=[DISK_BYTES])
            uefi = self.the_lab().node("n002", firmware="uefi", disks=[DISK_BYTES])
            self.hands.define(self, (bios.mac, uefi.mac))
            self.sis("node", "list")

    def start_head(self) -> None:
        lab = self.the_lab()
        self.head = lab.start(
            [
                str(BIN / "sis"), "--state", str(self.state), "head", "run",
                "--listen", f"{lab.address}:{HEAD_PORT}", *self.hands.head_words(self),
            ],
            output=self.folder / "head.log",
            env=self.environment,
        )  # fmt: skip
        self._until(self._head_answers, 120, "the head answers")

    def stop_head(self) -> None:
        process.stop(self.head)

    def install_both(self, during: Callable[[Story], None] | None = None) -> None:
        with self.step("deploy: netboot → partition → pull → render → boot loader → boot from disk") as row:
            self.hands.deploy(self)
            for node in self.machines():
                node.power_on()
            if during is not None:
                during(self)
            self.hands.watch(self)
            self.follow(lambda states: all(s["state"] == "in-sync" for s in states.values()), INSTALL_TIMEOUT_S)
            self.hands.look(self)
            reports = self.sis_data("node", "list")
            row.bytes_moved = sum(self.last_report(n["name"], "install")["totals"]["bytes_fetched"] for n in reports)
            for name in ("n001", "n002"):
                self.expect(
                    self.on_node(name, "hostname").strip() == name, f"{name} booted from its own disk, as itself"
                )

    # -- chapter 3: drift ------------------------------------------------------------------------------------------

    def drift(self) -> None:
        with self.step(
            "n001 drifts: content, a deletion, an addition, mode, owner, capability, link, hard link, 20 edits"
        ):
            self.on_node("n001", DRIFT)

    def find_out(self) -> None:
        with self.step("sis sync n001 -n: what would change, itemised"):
            said = self.sis("sync", "n001", "-n", accept=(4,))
            for path, what in DRIFTED.items():
                lines = [line for line in said.splitlines() if re.search(re.escape(path) + r"(?![\w/.-])", line)]
                self.expect(any(re.search(what, line) for line in lines), f"{path} is listed ({what})", said)
            states = self.states()
            self.expect(states["n001"]["state"] == "drifted", "the head shows n001 as drifted")

    def heal(self) -> None:
        with self.step("sis sync n001: heal") as row:
            self.sis("sync", "n001")
            report = self.last_report("n001", "sync")
            row.bytes_moved = report["totals"]["bytes_fetched"]
            self.expect(
                row.bytes_moved < BIG_BYTES // 10,
                f"only {row.bytes_moved / 1e6:.2f} MB moved, of which 20 edits in a 100 MB file",
            )
            self.on_node("n001", "sis-node check --full")
            self.expect(True, "sis-node check --full on n001 agrees: every byte")
            self.expect(
                self.on_node("n001", "cat /opt/data/two").strip() == "a file with two names",
                "the hard link is one file again",
            )

    # -- chapter 4: the next version and back ----------------------------------------------------------------------

    def build_second(self) -> None:
        with self.step("compute@2: a package more, a package less, a config edit"):
            (self.specs / "compute.yaml").write_text(self.spec(packages=["bc"], motd="golden, second edition"))
            self.sis("image", "build", "compute", timeout_s=2400)
            self.sis("image", "diff", "compute@1", "compute@2", accept=(4,))

    def upgrade(self) -> None:
        with self.step("publish compute@2; both nodes follow in a rollout, which counts them good once healthy") as row:
            self.sis("image", "publish", "compute@2", "stable")
            self.sis("node", "set", NODES, f"health={HEALTH}")
            self.sis("deploy", NODES, "--resync", "--max-fail", "0", "-y")
            self.sis("rollout", "status", "--watch")
            rollout = self.sis_data("rollout", "status")["rollout"]
            self.expect(
                (rollout["state"], rollout["good"]) == ("done", 2), "the rollout is done, both are good", str(rollout)
            )
            for name in ("n001", "n002"):
                checks = self.last_report(name, "sync")["health"]
                self.expect(
                    [check["ok"] for check in checks] == [True] * 3,
                    f"{name} proved it: {', '.join(check['check'] for check in checks)}",
                    json.dumps(checks),
                )
            row.bytes_moved = sum(
                self.last_report(name, "sync")["totals"]["bytes_fetched"] for name in ("n001", "n002")
            )
            for name in ("n001", "n002"):
                self.expect("second edition" in self.on_node(name, "cat /etc/motd"), f"{name} has the config edit")
                self.on_node(name, "test -x /usr/bin/bc && ! test -e /usr/bin/tree")
                self.expect(True, f"{name} has the package more and lacks the package less")
            self.expect_generation(2)

    def roll_back(self) -> None:
        with self.step("sis image rollback compute stable; both nodes go back") as row:
            self.sis("image", "rollback", "compute", "stable")
            self.sis("sync", NODES)
            row.bytes_moved = sum(
                self.last_report(name, "sync")["totals"]["bytes_fetched"] for name in ("n001", "n002")
            )
            for name in ("n001", "n002"):
                self.expect(
                    "first edition" in self.on_node(name, "cat /etc/motd"), f"{name} is at the first edition again"
                )
            self.expect_generation(1)

    # -- chapter 5: proof ------------------------------------------------------------------------------------------

    def prove(self) -> None:
        with self.step(
            "independent proof: the nodes off, their disks against the image tree, by rsync -aHAXnic --delete"
        ):
            for node in self.machines():
                node.power_off(400)
                strangers = compare_by_rsync(self.folder / "tree-1", node.disks[0], self.layer_paths(node.name))
                self.expect(
                    not strangers,
                    f"{node.name}: rsync finds only paths of the node's layer and of the policy list",
                    "\n".join(strangers[:40]),
                )

    # -- tools -----------------------------------------------------------------------------------------------------

    def machines(self) -> list[Node]:
        return list(self.the_lab().nodes.values())

    def on_node(self, name: str, script: str, timeout_s: float = 600) -> str:
        """Run a shell script on an installed node over ssh, as root."""
        address = next(row["address"] for row in self.sis_data("node", "list") if row["name"] == name)
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=120", "LogLevel=ERROR")
        argv = [
            "ssh",
            "-i",
            str(self.state / "keys/ssh"),
            *(f"-o{each}" for each in options),
            f"root@{address}",
            script,
        ]
        return self.the_lab().run(argv, timeout_s=timeout_s).stdout

    def states(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.sis_data("status")}

    def follow(self, until: Callable[[dict[str, dict[str, Any]]], bool], timeout_s: float) -> None:
        """Watch states go by, telling each change, until `until` holds. A failed node ends the story with its log."""
        seen: dict[str, str] = {}
        deadline = time.monotonic() + timeout_s
        while True:
            states = self.states()
            for name, row in states.items():
                line = f"{row['state']}" + (f": {row['reason']}" if row.get("reason") else "")
                if seen.get(name) != line:
                    seen[name] = line
                    self.tell(f"    {name} {line}")
                if row["state"] == "failed":
                    raise StoryFailed(
                        f"{name} failed: {row.get('reason')}\n{self.sis('node', 'log', name, show=False)}"
                    )
            if until(states):
                return
            if time.monotonic() > deadline:
                consoles = "\n".join("\n".join([f"--- {m.name}", *m.tail(20)]) for m in self.machines())
                raise StoryFailed(f"not there after {timeout_s:.0f} s: {seen}\n{consoles}")
            time.sleep(LOOK_EVERY_S)

    def last_report(self, name: str, kind: str) -> dict[str, Any]:
        reports = [r for r in self.sis_data("node", "show", name)["reports"] if r["kind"] == kind]
        if not reports:
            raise StoryFailed(f"{name} sent no {kind} report")
        return max(reports, key=lambda r: r["id"])

    def layer_paths(self, name: str) -> set[str]:
        return {row["path"] for row in self.sis_data("node", "render", name)}

    def expect_generation(self, generation: int) -> None:
        states = self.states()
        self.expect(
            all(s["state"] == "in-sync" and s["has"] == f"compute@{generation}" for s in states.values()),
            f"both nodes are in-sync at compute@{generation}",
            json.dumps(states),
        )

    def _head_answers(self) -> bool:
        with (
            inside(self.the_lab().namespace),
            contextlib.suppress(OSError),
            socket.create_connection((self.the_lab().address, HEAD_PORT), timeout=10),
        ):
            return True
        return False

    def the_lab(self) -> Lab:
        assert self.lab is not None
        return self.lab

    def _until(self, holds: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                log = (self.folder / "head.log").read_text(errors="replace")[-3000:]
                raise StoryFailed(f"not within {timeout_s:.0f} s: {what}\n{log}")
            time.sleep(0.2)


def make_big_file(path: Path) -> None:
    """100 MB that do not compress and are the same at each telling."""
    if path.exists() and path.stat().st_size == BIG_BYTES:
        return
    from blake3 import blake3

    path.write_bytes(blake3(b"big").digest(BIG_BYTES))


def compare_by_rsync(tree: Path, disk: Path, layer: set[str]) -> list[str]:
    """rsync's itemised differences between a node's disk and the image tree that neither layer nor policy explains."""
    table = json.loads(process.run(["sfdisk", "--json", str(disk)]).stdout)["partitiontable"]
    sector = table.get("sectorsize", 512)
    root = next(p for p in table["partitions"] if p.get("name") == "sis-root")
    mount = disk.with_suffix(".mnt")
    mount.mkdir(exist_ok=True)
    loop = process.run(
        [
            "losetup",
            "-f",
            "--show",
            "-r",
            "-o",
            str(root["start"] * sector),
            "--sizelimit",
            str(root["size"] * sector),
            str(disk),
        ]
    ).stdout.strip()
    try:
        process.run(["mount", "-o", "ro,noload", loop, str(mount)])
        try:
            said = process.run(
                ["rsync", "-aHAXnic", "--delete", "--out-format=%i /%n%L", f"{tree}/", f"{mount}/"], timeout_s=900
            ).stdout
        finally:
            process.run(["umount", str(mount)])
    finally:
        process.run(["losetup", "-d", loop])
        with contextlib.suppress(OSError):
            mount.rmdir()
    return [line for line in said.splitlines() if line.strip() and not explained(line, layer)]


def explained(line: str, layer: set[str]) -> bool:
    """Whether a line of rsync is about a path of the layer or the policy list, or only the time of a folder of one."""
    from sis.image.policy import OS_DEFAULTS, Policy

    policy = Policy(OS_DEFAULTS)
    code, _, path = line.partition(" /")
    path = "/" + path.partition(" -> ")[0].strip()
    bare = path.rstrip("/") or "/"
    relative = bare.strip("/").encode() or b"."
    folder_of_layer = any(known.startswith(bare + "/") for known in layer)
    if bare in layer or (folder_of_layer and "d" in code):
        return True
    if policy.verb(relative) != "enforce":
        return True
    only_time = re.fullmatch(r"\.d\.\.t\.*", code) is not None
    return only_time and not policy.holds_mtime(relative)


NAMES = """\
#!/bin/sh -e
ln -f /opt/data/one /opt/data/two
ln -s one /opt/data/link
"""

DRIFT = rf"""
set -e
python3 - <<'END'
import os
path = "/etc/login.defs"
stat = os.stat(path)
with open(path, "r+b") as file:
    file.seek(200); file.write(b"drift")
os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
with open("{BIG}", "r+b") as file:
    for number in range(20):
        file.seek(number * 4_900_000 + 12_345); file.write(b"edit %d" % number)
END
rm /etc/issue.net
echo intruder > /usr/local/bin/intruder
chmod 0600 /etc/debconf.conf
chown 1234:5678 /etc/debian_version
setcap cap_net_raw+ep /usr/bin/tail
ln -sfn /tmp /opt/data/link
cp -p /opt/data/two /opt/data/two.new && mv /opt/data/two.new /opt/data/two
sync
"""

DRIFTED = {
    "/etc/login.defs": "content",
    "/etc/issue.net": "create|missing",
    "/usr/local/bin/intruder": "remove",
    "/etc/debconf.conf": "mode",
    "/etc/debian_version": "owner",
    "/usr/bin/tail": "capability",
    "/opt/data/link": "target",
    "/opt/data/two": "link",
    BIG: "content",
}


def table(rows: Sequence[Row]) -> str:
    """The closing table: step, seconds, bytes moved, outcome."""
    lines = [f"{'step':<78} {'seconds':>8} {'MB moved':>10}  outcome", "-" * 112]
    for row in rows:
        moved = "" if row.bytes_moved is None else f"{row.bytes_moved / 1e6:.2f}"
        lines.append(f"{row.title[:78]:<78} {row.seconds:>8.1f} {moved:>10}  {row.outcome[:60]}")
    lines.append(f"{'in all':<78} {sum(row.seconds for row in rows):>8.1f}")
    return "\n".join(lines)


def root_needed() -> None:
    if os.geteuid() != 0:
        raise SystemExit("this needs root: it makes network namespaces, loop devices and virtual machines")
