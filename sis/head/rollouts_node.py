"""One node of a rollout as a pure state machine: what is known of it now decides its next step and what is asked.

waiting ─▶ draining ─▶ asked ─▶ (staged ─▶) rebooting ─▶ good
   │           │          └──────────┴─────────┴──▶ failed ─▶ returning ─▶ returned | lost
   └▶ put-off ─┘ (unreachable, in maintenance, quarantined: begun when it comes)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sis.inventory.model import StoredOrder, StoredReport
from sis.inventory.rollout import ENDED, NodeStep, Plan, RolloutNode
from sis.inventory.state import INSTALLING
from sis.wire import State

UNREACHABLE = "not reachable"
TAKEN_WITHIN_S = 90.0
"""How long an order may lie before a node that was reachable is taken for gone."""

Ask = Literal[
    "drain", "undrain", "hold-target", "hold-before", "let-go", "sync", "stage", "reboot", "arm", "disarm", "cancel"
]  # fmt: skip
"""What the driver is to do: hooks, holds, orders, arming, and taking back the order not yet taken."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a node now. `report` is the newest one after the last that counted.

    window  "" while the node may be changed, else when its next window opens, in words
    drained "" when no hook runs, "waiting", "done", or why the hook failed
    """

    state: State
    reachable: bool
    reason: str = ""
    armed: bool = False
    order: StoredOrder | None = None
    report: StoredReport | None = None
    newest_report_id: int | None = None
    window: str = ""
    drained: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all nodes of one step: the plan, the time, and whether nodes are drained first."""

    plan: Plan
    now: str
    drains: bool = False
    decided: bool = False
    """The rollout is done: its target is what every node of it gets."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The node after the step, and what is asked for it."""

    node: RolloutNode
    asks: tuple[Ask, ...] = ()


def begin(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    """A waiting or put-off node whose turn it is: begun, or put off and told why, or left to wait for its window."""
    if rules.plan.method == "install" and node.begun is not None:
        # Armed already: it goes on as soon as it boots from the network.
        waits = known.armed and known.state == "armed"
        return Moved(node if waits else _at(node, "asked", rules))
    hindrance = _hindrance(known, rules.plan)
    if hindrance:
        return Moved(_at(node, "put-off", rules, hindrance))
    if known.window and not rules.plan.ignore_windows:
        return Moved(_at(node, "waiting", rules, f"its window {known.window}"))
    begun = replace(node, begun=rules.now, ended=None, report_id=known.newest_report_id, boot_id="", order_id=None)
    if rules.drains:
        return Moved(_at(begun, "draining", rules), ("drain",))
    return _ask(begun, known, rules)


def advance(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    """A node under way, one step on; itself when nothing has happened."""
    match node.state:
        case "draining":
            return _drained(node, known, rules)
        case "asked":
            return _installing(node, known, rules) if rules.plan.method == "install" else _syncing(node, known, rules)
        case "staged":
            return _applied(node, known, rules)
        case "rebooting":
            return _booted(node, known, rules)
        case "returning":
            return _returned(node, known, rules)
    return Moved(node)


def give_back(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    """A failed node of a rollout that has stopped: back to the version it was last good at."""
    if not node.before_version:
        return Moved(_at(node, "lost", rules, f"{node.reason}; no version of it is known to be good"))
    if known.state == "quarantined":
        return Moved(_at(node, "lost", rules, f"{node.reason}; it stays quarantined"), ("hold-before",))
    if node.before_version == node.target_version:
        return Moved(_at(node, "lost", rules, f"{node.reason}; {node.before} is also what it was good at before"))
    back = replace(node, report_id=known.newest_report_id, order_id=None)
    return Moved(_at(back, "returning", rules, node.reason), ("disarm", "hold-before", "sync"))


def call_off(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    """A node of a rollout that has stopped: what has not begun on the node itself is taken back, the rest goes on."""
    began = node.state not in ("draining", "asked")
    if node.state == "asked":
        taken = known.order is not None and known.order.taken is not None
        began = known.state != "armed" if rules.plan.method == "install" else taken
    if began:
        return Moved(node)
    return Moved(_at(node, "waiting", rules, "taken back"), ("cancel", "disarm", "hold-before", "undrain"))


def leave(node: RolloutNode, rules: Rules) -> Moved:
    """A put-off node of a rollout that has ended: it gets the decision when it comes, unless it stays as it was."""
    if rules.decided:
        asks: tuple[Ask, ...] = ("sync",) if node.reason.startswith(UNREACHABLE) else ()
        return Moved(_at(node, "left", rules, f"{node.reason}; gets {node.target} when it comes"), asks)
    return Moved(_at(node, "left", rules, f"{node.reason}; stays at {node.before}"), ("cancel", "hold-before"))


def _hindrance(known: Known, plan: Plan) -> str:
    if known.state == "maintenance":
        return "in maintenance" + (f": {known.reason}" if known.reason else "")
    if known.state == "quarantined":
        return "quarantined"
    if plan.method == "install":
        return ""
    if known.armed or known.state in INSTALLING:
        return "is being installed"
    return "" if known.reachable else UNREACHABLE


def _ask(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    asked = _at(node, "asked", rules)
    if rules.plan.method == "sync":
        return Moved(asked, ("hold-target", "stage" if rules.plan.at_boot else "sync"))
    reboots = rules.plan.in_waves and rules.plan.reboot != "never" and known.reachable
    first: Ask = "hold-target" if rules.plan.holds else "let-go"
    asks: tuple[Ask, ...] = (first, "arm", "reboot") if reboots else (first, "arm")
    return Moved(asked, asks)


def _drained(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    if known.drained == "done":
        return _ask(node, known, rules)
    if known.drained not in ("", "waiting"):
        return Moved(_failed(node, rules, f"drain: {known.drained}"), ("undrain",))
    # A head that was started anew has forgotten its hooks: they run once more.
    return Moved(node, () if known.drained else ("drain",))


def _syncing(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    order = known.order
    if order is None:
        return Moved(_failed(node, rules, "its order is gone"))
    if order.done is None:
        if order.taken is None and not known.reachable and _seconds(node.since, rules.now) > TAKEN_WITHIN_S:
            return Moved(_at(node, "put-off", rules, f"{UNREACHABLE} any more"), ("cancel",))
        if order.taken is not None and _too_long(order.taken, rules.plan.timeout_s, rules.now):
            return Moved(_failed(node, rules, f"no report within {rules.plan.timeout_s:.0f} s"))
        return Moved(node)
    if order.report_id is None:
        return Moved(_failed(node, rules, order.failure or "its order was taken back"))
    report = known.report
    if report is None or report.id != order.report_id:
        return Moved(node)
    node = _counted(node, report)
    if report.outcome != "ok":
        return Moved(_failed(node, rules, report.error))
    if report.kind == "stage":
        staged = _at(node, "staged", rules, "applies it at its next boot")
        return Moved(staged, () if rules.plan.reboot == "never" else ("reboot",))
    if rules.plan.reboot == "now" or (rules.plan.reboot == "when-needed" and report.reboot_needed):
        wrong = _not_held(report, node.target_version, node.target)
        if not wrong:
            return Moved(_at(node, "rebooting", rules), ("reboot",))
        return Moved(_failed(node, rules, wrong))
    return _judged(node, report, rules)


def _installing(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    report = known.report
    if report is not None and report.kind == "install":
        node = _counted(node, report)
        if report.outcome == "ok":
            return Moved(_at(node, "rebooting", rules, "installed; boots from its disk"))
        if known.armed:
            return Moved(replace(node, reason=f"tries again: {report.error}"))
    if known.state == "quarantined":
        return Moved(_failed(node, rules, known.reason or "quarantined"))
    if not known.armed:
        # The report that ends an install disarms in the same breath; without one somebody else did.
        if report is None:
            return Moved(_at(node, "left", rules, "its arming was taken back"))
        return Moved(_failed(node, rules, report.error or "its install ended without an outcome"))
    if rules.plan.in_waves and _too_long(node.since, rules.plan.timeout_s, rules.now):
        if known.state == "armed":
            return Moved(_at(node, "put-off", rules, "has not booted from the network; it stays armed"))
        return Moved(_failed(node, rules, f"not installed within {rules.plan.timeout_s:.0f} s"))
    return Moved(node)


def _applied(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    """Staged: nothing is late but a reboot that was asked for."""
    if known.report is not None and _is_after_boot(known.report, node):
        return _after_boot(node, known.report, rules)
    if rules.plan.reboot != "never" and _too_long(node.since, rules.plan.boot_timeout_s, rules.now):
        return Moved(_failed(node, rules, f"did not come back within {rules.plan.boot_timeout_s:.0f} s"))
    return Moved(node)


def _booted(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    if known.report is not None and _is_after_boot(known.report, node):
        return _after_boot(node, known.report, rules)
    if _too_long(node.since, rules.plan.boot_timeout_s, rules.now):
        return Moved(_failed(node, rules, f"did not come back within {rules.plan.boot_timeout_s:.0f} s"))
    return Moved(node)


def _after_boot(node: RolloutNode, report: StoredReport, rules: Rules) -> Moved:
    again = report.outcome == "ok" and report.reboot_needed and rules.plan.reboot != "never"
    node = _counted(node, report)
    if again and node.state == "staged":
        return Moved(_at(node, "rebooting", rules, "once more: what was applied at boot needs it"), ("reboot",))
    return _judged(node, report, rules)


def _returned(node: RolloutNode, known: Known, rules: Rules) -> Moved:
    order = known.order
    if order is None or order.done is None:
        return Moved(node)
    report = known.report
    if order.report_id is None or report is None or report.id != order.report_id:
        if order.report_id is None:
            return Moved(_at(node, "lost", rules, f"{node.reason}; going back: {order.failure}"))
        return Moved(node)
    node = _counted(node, report)
    wrong = report.error if report.outcome != "ok" else _not_held(report, node.before_version, node.before)
    wrong = wrong or "; ".join(report.unhealthy)
    if wrong:
        return Moved(_at(node, "lost", rules, f"{node.reason}; going back: {wrong}"))
    return Moved(_at(node, "returned", rules, node.reason), ("undrain",))


def _judged(node: RolloutNode, report: StoredReport, rules: Rules) -> Moved:
    """Good only when it holds the version, differs in nothing, and every health check passed."""
    version = node.target_version if rules.plan.holds else report.version
    wrong = report.error if report.outcome != "ok" else _not_held(report, version, node.target)
    wrong = wrong or "; ".join(report.unhealthy)
    if wrong:
        return Moved(_failed(node, rules, wrong))
    told = "reboot needed" if report.reboot_needed else ""
    return Moved(_at(node, "good", rules, told), ("undrain",))


def _not_held(report: StoredReport, version: str, name: str) -> str:
    if report.version != version:
        return f"reported {report.image}@{report.generation}, not {name}"
    if not report.in_sync:
        found = len(report.changes) + report.changes_left_out
        return f"still differs in {found} paths" if found else "is not in-sync"
    return ""


def _is_after_boot(report: StoredReport, node: RolloutNode) -> bool:
    if report.kind not in ("check", "sync"):
        return False
    return not report.boot_id or report.boot_id != node.boot_id


def _counted(node: RolloutNode, report: StoredReport) -> RolloutNode:
    fetched = int(report.totals.get("bytes_fetched", 0)) if report.kind != "check" else 0
    return replace(node, report_id=report.id, boot_id=report.boot_id, bytes=node.bytes + fetched)


def _failed(node: RolloutNode, rules: Rules, reason: str) -> RolloutNode:
    return _at(node, "failed", rules, reason or "failed")


def _at(node: RolloutNode, state: NodeStep, rules: Rules, reason: str = "") -> RolloutNode:
    since = node.since if node.state == state else rules.now
    return replace(node, state=state, since=since, reason=reason, ended=rules.now if state in ENDED else None)


def _too_long(since: str, limit_s: float, now: str) -> bool:
    return limit_s > 0 and _seconds(since, now) > limit_s


def _seconds(since: str, now: str) -> float:
    return (datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds()
