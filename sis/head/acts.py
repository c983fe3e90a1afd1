"""What an admin can have done through the API or the console, each a plain function of the head's parts."""

from __future__ import annotations

from pathlib import Path

from sis.head import installs, rollouts, rollouts_act, views
from sis.head.renders import Renders
from sis.image.deltas import wanted
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.inventory.db import Inventory
from sis.inventory.model import OrderKind
from sis.inventory.names import fold
from sis.inventory.rollout import Plan


def deploy(
    state: Path, inventory: Inventory, renders: Renders, nodeset: str, *, allow_foreign_disk: bool, dry_run: bool
) -> views.Deployed:
    """Install all these nodes at their next network boot. Raises what `roll_out` raises."""
    wanted = rollouts_act.wanted("install", allow_foreign_disk=allow_foreign_disk)
    return roll_out(state, inventory, renders, nodeset, wanted, dry_run=dry_run)


def roll_out(
    state: Path, inventory: Inventory, renders: Renders, nodeset: str, wanted: Plan, *, dry_run: bool
) -> views.Deployed:
    """Make a rollout, or with `dry_run` say what it would be; without waves an install arms all nodes, or none.

    Raises Refused with every hindrance, NotFound, UsageFault.
    """
    planned = rollouts_act.plan(state, inventory, renders, nodeset, wanted)
    each_install = tuple(
        views.PlannedInstall(
            each.node.name,
            each.image,
            each.version,
            each.layout.name,
            tuple(installs.describe_layout(each.layout)),
        )
        for each in planned.installs
    )
    waves = rollouts.waves_planned(planned.members, planned.plan)
    if dry_run:
        return views.Deployed("", each_install, None, waves)
    made = rollouts_act.make(inventory, planned)
    armed = [node.name for node in planned.members if node.wave == 0] if wanted.method == "install" else []
    return views.Deployed(fold(armed) if armed else "", each_install, made.id, waves)


def cancel(inventory: Inventory, nodeset: str) -> views.Disarmed:
    """Take arming back from those of the nodes that are armed."""
    armed = [node for node in inventory.nodes.select(nodeset) if node.arming is not None]
    inventory.access.disarm([node.id for node in armed])
    return views.Disarmed(fold(node.name for node in armed) if armed else "")


def order(inventory: Inventory, nodeset: str, kind: OrderKind, *, full: bool) -> views.Asked:
    """One order for each node; its agent takes it within a second while it is up."""
    nodes = inventory.nodes.select(nodeset)
    orders = inventory.orders.create([node.id for node in nodes], kind, full=full)
    return views.Asked(orders, fold(node.name for node in nodes))


def publish(store: LocalStore, image: str, channel: str, generation: int | None) -> views.Published:
    """Point a channel at a generation, or (None) back at what it named before; the head then makes the deltas to it.

    Raises NotFound, Refused, UsageFault.
    """
    refs.check_image_name(image)
    store.ref(image)
    with store.changing_ref(image) as ref:
        assert ref is not None
        moved = refs.rollback(ref, channel) if generation is None else refs.publish(ref, generation, channel)
        if moved.before != moved.after:
            store.write_ref(moved.ref)
            wanted.want(store, moved, channel)
    return views.Published(f"{image}@{channel}", moved.before, moved.after)
