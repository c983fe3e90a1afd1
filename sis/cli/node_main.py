"""The sis-node command: what runs on a node. Starts fast; everything else is imported by the verb that needs it."""

from __future__ import annotations

import click

from sis import __version__
from sis.cli.program import LazyCommand, Program

COMMANDS = (
    LazyCommand("sync", "sis.cli.node_sync:sync", "Make a tree equal to an image version."),
    LazyCommand("check", "sis.cli.node_sync:check", "Say what differs from an image version; exit 4 if anything does."),
    LazyCommand("resync", "sis.cli.node_life:resync", "Make this node equal to what its head wants, and report."),
    LazyCommand("install", "sis.cli.node_life:install", "Install this machine as its head says."),
    LazyCommand("apply-staged", "sis.cli.node_life:apply_staged", "Put in place what 'resync --stage' fetched."),
    LazyCommand("agent", "sis.cli.node_life:agent", "Wait for the head's orders and carry them out."),
)


@click.group(
    "sis-node",
    cls=Program,
    commands={command.name: command for command in COMMANDS if command.name},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="sis-node", message="%(prog)s %(version)s")
def main() -> None:
    """sis-node: makes this machine, or any tree, equal to an image version."""
