"""The commands: a module a noun, loaded when named; errors become exit codes only here."""

from __future__ import annotations

from pathlib import Path

import click

from sis import __version__
from sis.cli.audited import LazyCommand
from sis.cli.context import DEFAULT_STATE, OUTPUTS, Context, start_logging
from sis.cli.program import Program

COMMANDS = (
    LazyCommand(
        "image",
        "sis.cli.image:image",
        "Build, publish, compare and verify image versions.",
        members=(
            LazyCommand("build", "sis.cli.build:build", "Build an image spec into a committed version."),
            LazyCommand("diff", "sis.cli.image_diff:diff", "Compare two versions by path and by package."),
            LazyCommand("publish", "sis.cli.image_channel:publish", "Point a channel at a generation."),
            LazyCommand("rollback", "sis.cli.image_channel:rollback", "Point a channel back at what it named before."),
            LazyCommand("deltas", "sis.cli.image_channel:deltas", "Make the deltas to where a channel points."),
            LazyCommand("delta", "sis.cli.image_channel:delta", "Make the delta from one version to another."),
            LazyCommand("packages", "sis.cli.packages:packages", "Search packages by name in a spec's archives."),
        ),
    ),
    LazyCommand(
        "node",
        "sis.cli.node:node",
        "Define nodes, show them, and render their own files.",
        members=(
            LazyCommand("show", "sis.cli.node_show:show", "Show one node: requested beside observed; --blame."),
            LazyCommand("discover", "sis.cli.discover:discover", "Machines that booted and are no one's."),
            LazyCommand("render", "sis.cli.node_files:render", "List a node's own files, or print one of them."),
            LazyCommand("explain", "sis.cli.node_files:explain", "Say why a file of a node is as it is."),
            LazyCommand("maintenance", "sis.cli.node_aside:maintenance", "Set nodes aside, or take them back."),
            LazyCommand("reboot", "sis.cli.node_aside:reboot", "Reboot nodes."),
            LazyCommand("release", "sis.cli.node_aside:release", "Free nodes from quarantine and from holds."),
            LazyCommand("facts", "sis.cli.node_files:facts", "Show what a node reported of its hardware."),
        ),
    ),
    LazyCommand("inventory", "sis.cli.inventory:inventory", "The nodes in the forms of others, out and in; the past."),
    LazyCommand("group", "sis.cli.group:group", "Groups of nodes: list them, put nodes in, take nodes out."),
    LazyCommand("config", "sis.cli.config:config", "Preview and check nodes' own files; import older suites' files."),
    LazyCommand("cluster", "sis.cli.cluster:cluster", "Bring a cluster file into the inventory, or show it."),
    LazyCommand("deploy", "sis.cli.deploy:deploy", "Install nodes, or bring them to their image in waves."),
    LazyCommand("rollout", "sis.cli.rollout:rollout", "How far waves are; pause, resume, abort them."),
    LazyCommand("sync", "sis.cli.sync:sync", "Ask nodes to make themselves equal to their image now."),
    LazyCommand("status", "sis.cli.status:status", "One screen: every node's state, image and last event."),
    LazyCommand("figures", "sis.cli.figures:figures", "What was fetched and saved, and what differed, by day or hour."),
    LazyCommand("drift", "sis.cli.drift:drift", "What differs from the image on which nodes, folded."),
    LazyCommand("events", "sis.cli.events:events", "What happened, and with --follow what happens."),
    LazyCommand("disk", "sis.cli.disk:disk", "Show and check disk layouts."),
    LazyCommand("head", "sis.cli.head:head", "Prepare and run the head: API, boot answers, store, DHCP."),
    LazyCommand("web", "sis.cli.web:web", "A way into the web console: log in, log out."),
    LazyCommand("token", "sis.cli.token:token", "Keys to the admin API: make, list, revoke."),
    LazyCommand("audit", "sis.cli.audit:audit", "Who changed what: commands, API, console."),
    LazyCommand("doctor", "sis.cli.doctor:doctor", "Find everything missing on this machine, each with its remedy."),
)


@click.group(
    "sis",
    cls=Program,
    commands={command.name: command for command in COMMANDS if command.name},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Global options may also stand after the command. Example: sis node list -o json",
)
@click.version_option(__version__, prog_name="sis", message="%(prog)s %(version)s")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="SIS_STATE",
    default=DEFAULT_STATE,
    show_default=True,
    show_envvar=True,
    help="Directory that holds store, inventory, trees and keys.",
)
@click.option("-o", "--output", type=click.Choice(OUTPUTS), default="table", show_default=True, help="Form of lists.")
@click.option("-v", "--verbose", is_flag=True, help="Show the programs that are run, and their times.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colours and boxes; NO_COLOR and FORCE_COLOR are honoured.",
)
@click.pass_context
def main(ctx: click.Context, state: Path, output: str, verbose: bool, color: str) -> None:
    """sis: golden images, network installs, and nodes that stay equal to them."""
    ctx.obj = Context(state=state.absolute(), output=output, color=color, verbose=verbose)
    if verbose:
        start_logging()
