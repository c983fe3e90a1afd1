"""A head's state with a small image that has something for every renderer, and a cluster file for four nodes."""

from __future__ import annotations

import shutil
from pathlib import Path

from click.testing import CliRunner, Result

from sis.cli import main
from sis.image import commit
from sis.image.store.local import LocalStore
from tests.trees import FIXTURES, make_tree, read_listing

TREE = FIXTURES / "render" / "trees" / "debian12-compute.json"
CLUSTER = """\
cluster: demo
networks:
  mgmt: {cidr: 10.77.0.0/24, head: 10.77.0.1, gateway: 10.77.0.254, domain: demo.lan, nameservers: [10.77.0.1]}
defaults:
  image: compute@stable
  disk: single
  timezone: Europe/Madrid
  locale: en_US.UTF-8
  kernel_cmdline: quiet console=ttyS0,115200
  peer_files: [genders]
profiles:
  gpu:
    kernel_cmdline: -quiet iommu=on
    vars: {cards: "4"}
nodes:
  "n[1-4]":
    interfaces: {eth0: {network: mgmt, ip: "+{index+10}"}}
    groups: [rack1]
  "n[3-4]": {profiles: [gpu]}
  n1: {interfaces: {eth0: {mac: 52:54:00:12:34:56}}}
"""


class Head:
    """An admin at a prompt with that state; `file` is the cluster file, not applied yet."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.file = state / "cluster.yaml"
        tree = make_tree(read_listing(TREE), state / "tree")
        store = LocalStore(state / "store")
        store.prepare()
        commit.commit(store, "compute", tree)
        shutil.rmtree(tree)
        self.file.write_text(CLUSTER)
        self.said("image", "publish", "compute@1", "stable")

    def types(self, *words: str) -> Result:
        done = CliRunner().invoke(main, ["--state", str(self.state), *words])
        assert not done.exception or isinstance(done.exception, SystemExit), done.exception
        return done

    def said(self, *words: str, code: int = 0) -> str:
        done = self.types(*words)
        assert done.exit_code == code, done.output
        return done.stdout

    def applied(self) -> Head:
        self.said("cluster", "apply", str(self.file))
        return self

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def site(self, path: str, text: str) -> None:
        """A site file as the admin edits it."""
        file = self.state / "site" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
