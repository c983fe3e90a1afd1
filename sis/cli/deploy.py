"""`sis deploy`: nodes are installed, or made equal to their image; all at once, or in waves that stop on failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sis.cli.context import Context
from sis.cli.nodesets import named, takes_nodes
from sis.cli.output import emit
from sis.cli.shown import confirm, counted, held_image

if TYPE_CHECKING:
    from sis.head.installs import Install
    from sis.head.rollouts_act import Planned
    from sis.inventory.db import Inventory


@click.command(epilog="Example: sis deploy @compute --canary 1 --then 10% --max-fail 5%")
@takes_nodes
@click.option("--canary", default="", metavar="N|N%", help="Bring so many nodes first; if one fails, nothing follows.")
@click.option("--then", multiple=True, metavar="N|N%", help="Size of the waves after it; the last one is repeated.")
@click.option("--max-fail", metavar="N|N%", help="Stop when more fail. Default: any number at once, none in waves.")
@click.option("--reinstall", "method", flag_value="install", help="Install anew at the network boot, also in waves.")
@click.option("--resync", "method", flag_value="sync", help="Make installed nodes equal to their image: as in waves.")
@click.option("--image", default="", metavar="IMAGE[@…]", help="What the nodes are to be from then on.")
@click.option(
    "--reboot",
    type=click.Choice(["when-needed", "never", "now"]),
    default="when-needed",
    show_default=True,
    help="Whether resynced nodes are rebooted.",
)
@click.option("--at-boot", is_flag=True, help="Fetch now, apply early in the next boot.")
@click.option("--ignore-windows", is_flag=True, help="Outside maintenance windows too.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), default=3600, show_default=True, help="Seconds for a node."
)
@click.option("-n", "--dry-run", is_flag=True, help="Show the waves and what would be wiped; do nothing.")
@click.option("--allow-foreign-disk", is_flag=True, help="Wipe disks even when they hold what sis did not make.")
@click.option("--cancel", is_flag=True, help="Take arming back: their next network boot starts their disk.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def deploy(
    context: Context,
    nodeset: str | None,
    where: tuple[str, ...],
    canary: str,
    then: tuple[str, ...],
    max_fail: str | None,
    method: str | None,
    image: str,
    reboot: str,
    at_boot: bool,
    ignore_windows: bool,
    timeout_s: float,
    dry_run: bool,
    allow_foreign_disk: bool,
    cancel: bool,
    yes: bool,
) -> None:
    """Bring the nodes of NODESET to their image.

    Alone it arms them: their next network boot installs them, once; an interrupted install goes on at the next network
    boot. With --canary or --then installed nodes are resynced in waves (--reinstall: installed in waves): a wave begins
    when all nodes of the one before are in-sync and healthy, and it all stops when too many fail; these go back to the
    version they were last good at. The head drives it: see sis rollout status.
    """
    from sis.head import rollouts_act
    from sis.head.renders import Renders

    with context.open_inventory() as inventory:
        names = named(inventory, nodeset, where)
        if cancel:
            _cancel(inventory, names)
            return
        wanted = rollouts_act.wanted(
            method,  # type: ignore[arg-type]
            canary=canary,
            then=then,
            max_fail=max_fail,
            image=image,
            reboot=reboot,  # type: ignore[arg-type]
            at_boot=at_boot,
            allow_foreign_disk=allow_foreign_disk,
            ignore_windows=ignore_windows,
            timeout_s=timeout_s,
        )
        planned = rollouts_act.plan(context.state, inventory, Renders(context.state, inventory), names, wanted)
        _show(planned, context.output)
        if dry_run:
            return
        confirm(_question(planned), yes=yes)
        made = rollouts_act.make(inventory, planned)
    if context.output == "table":
        _say_made(planned, made.id)


def _cancel(inventory: Inventory, nodeset: str) -> None:
    from sis.inventory.names import fold

    armed = [node for node in inventory.nodes.select(nodeset) if node.arming is not None]
    inventory.access.disarm([node.id for node in armed])
    click.echo(f"{counted(len(armed), 'node')} disarmed" + (f": {fold(n.name for n in armed)}" if armed else ""))


def _question(planned: Planned) -> str:
    from sis.inventory.names import fold

    what = f"{counted(len(planned.nodes), 'node')} ({fold(node.name for node in planned.nodes)})"
    if planned.plan.method == "install":
        return f"Install {what} and wipe the disks named above?"
    return f"Roll out to {what}?"


def _say_made(planned: Planned, rollout_id: int) -> None:
    from sis.inventory.names import fold

    if planned.plan.method == "install":
        armed = [node.name for node in planned.members if node.wave == 0]
        click.echo(f"{counted(len(armed), 'node')} armed: {fold(armed)}")
        if not planned.plan.in_waves:
            click.echo("boot them from the network now; watch with: sis status --watch")
            return
    click.echo(f"rollout {rollout_id} begun; the head drives it: sis rollout status {rollout_id} --watch")


def _show(planned: Planned, output: str) -> None:
    if output != "table":
        emit(_rows(planned), ["name"], output)
        return
    from sis.inventory.names import fold

    if planned.installs:
        _show_installs(planned.installs, allow_foreign_disk=planned.plan.allow_foreign_disk)
    else:
        moves: dict[tuple[str, str], list[str]] = {}
        for member in planned.members:
            moves.setdefault((member.before, member.target), []).append(member.name)
        for (before, target), names in moves.items():
            click.echo(f"{fold(names)}: {before or 'no version known to be good'} → {target}")
    if planned.plan.in_waves:
        from sis.head.rollouts import in_words, waves_planned

        for wave in waves_planned(planned.members, planned.plan):
            click.echo(f"wave {wave.number}: {counted(wave.total, 'node')} {wave.nodes} ({wave.why})")
        click.echo("; ".join(in_words(planned.plan)))
    for rollout_id, leaving in planned.taken_over.items():
        click.echo(f"{fold(leaving)} leave rollout {rollout_id}, which has not brought them to an end")


def _rows(planned: Planned) -> list[dict[str, object]]:
    from sis.head.installs import describe_layout
    from sis.inventory.names import natural_key

    installs = {each.node.name: each for each in planned.installs}
    rows = []
    for member in sorted(planned.members, key=lambda each: natural_key(each.name)):
        install = installs.get(member.name)
        row: dict[str, object] = {
            "name": member.name,
            "wave": member.wave + 1,
            "method": planned.plan.method,
            "image": member.target,
            "version": member.target_version,
            "before": member.before or None,
        }
        if install is not None:
            row |= {
                "has": held_image(install.node.state) or None,
                "layout": install.layout.name,
                "disks": describe_layout(install.layout),
                "allow_foreign_disk": planned.plan.allow_foreign_disk,
            }
        rows.append(row)
    return rows


def _show_installs(planned: tuple[Install, ...], *, allow_foreign_disk: bool) -> None:
    from sis.head.installs import describe_layout
    from sis.inventory.names import fold

    folded: dict[tuple[str, str, str], list[Install]] = {}
    for each in planned:
        folded.setdefault((each.image, each.version, each.layout.name), []).append(each)
    for (image, version, name), group in folded.items():
        click.echo(f"{fold(each.node.name for each in group)}: install {image} (b3:{version[:12]}), disk layout {name}")
        for line in describe_layout(group[0].layout):
            click.echo(f"  {line}")
        if allow_foreign_disk:
            click.echo("  whatever these disks hold is lost, also what sis did not make")
        else:
            click.echo("  a disk that holds what sis did not make is refused (--allow-foreign-disk)")
