"""The whole story of a sync that has something to look into: survey, plan, make ready, put in place, remember."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from sis.image.names import show_path
from sis.sync.apply import apply
from sis.sync.desired import DesiredTree
from sis.sync.faults import explained
from sis.sync.model import Observer, Outcome, Totals
from sis.sync.near import survey_near
from sis.sync.planning.compare import compare
from sis.sync.planning.locate import locate
from sis.sync.planning.plan import files_to_make, make_plan, needed_by
from sis.sync.planning.planned import LocalContent, Plan
from sis.sync.remember import Remembering, Survey, remember_what_was_verified
from sis.sync.rules import Conditions, Rules
from sis.sync.staging.deltas import DeltaUse
from sis.sync.staging.ready import make_ready
from sis.sync.staging.source import ChunkSource
from sis.sync.staging.space import must_fit
from sis.sync.staging.stage import Stage
from sis.sync.walk import index
from sis.sync.walk.observe import observe
from sis.sync.walk.still import Walked
from sis.system import memory
from sis.system.beneath import Beneath


def look(
    tree: Beneath,
    want: DesiredTree,
    given: Conditions,
    walked: Walked,
    *,
    source: ChunkSource | None = None,
    full: bool = False,
) -> Outcome:
    """Say what differs; see `engine.check`."""
    memory.keep_little()
    task = _task(tree, want, given, walked, full, source)
    plan = _plan(tree, task, source)
    remember_what_was_verified(task.want, task.survey)
    if source is not None and task.survey.comparison.in_sync:
        source.settle(given.state)
    return _told(plan, task.survey, _expected(plan, task), _notices(plan, task, source))


def make_equal(
    tree: Beneath,
    want: DesiredTree,
    given: Conditions,
    walked: Walked,
    *,
    source: ChunkSource,
    full: bool = False,
    observe: Observer | None = None,
    only_stage: bool = False,
) -> Outcome:
    """Mend what differs; see `engine.sync`. The caller sees to it that nobody else does at the same time."""
    memory.keep_little()
    _allow_many_open_files()
    with explained("looking at the tree"):
        task = _task(tree, want, given, walked, full, source)
        plan = _plan(tree, task, source)
    want, survey = task.want, task.survey
    with Stage(tree, survey.observed, _progress(plan, observe)) as stage:
        with explained("preparing the staging directory"):
            stage.keep_only(plan.files, plan.trees)
            must_fit(tree, plan.needs, stage)
        if plan.is_empty:
            stage.discard()
            remember_what_was_verified(want, survey)
            source.settle(given.state)
            return _told(plan, survey, _expected(plan, task), _notices(plan, task, source))
        fetched = make_ready(stage, plan, want, source, task.by_delta)
        totals, notices = _final_totals(plan, task, stage, fetched), _notices(plan, task, source)
        if only_stage:
            source.keep_documents()
            return _told(plan, survey, totals, notices)
        plan = plan.only_steps()
        source.forget_chunks()
        index.intend(given.state, (want.entries[path] for path in survey.comparison.node_paths))
        remembering = Remembering(want, survey)
        with explained("putting the new files in place"):
            applied = apply(tree, plan, stage, survey.observed, _meanwhile(plan, remembering, stage))
        source.keep_documents()
        index.wait_until_settled(applied.at)
        with explained("looking at what was placed"):
            changed_meanwhile = remembering.finish(tree, applied)
    source.settle(given.state)
    return _done(_told(plan, survey, totals, notices), survey, (*changed_meanwhile, *applied.not_empty))


def _meanwhile(plan: Plan, remembering: Remembering, stage: Stage) -> Iterator[None]:
    """What can be done, a part after the other, while the disk is waited for."""
    yield from remembering.begin(stage.take_made())
    _ = plan.changes
    yield


@dataclass(frozen=True)
class _Task:
    """What was found, and what it is to become: of the whole tree, or of what a step changes."""

    want: DesiredTree
    survey: Survey
    by_delta: DeltaUse | None = None


def _task(
    tree: Beneath,
    want: DesiredTree,
    given: Conditions,
    walked: Walked,
    full: bool,
    source: ChunkSource | None,
) -> _Task:
    step = source.step() if source is not None and walked.known is not None and not full else None
    survey = survey_near(tree, want, given, walked, step) if step is not None else None
    if step is not None and survey is not None and survey.amended is not None:
        return _Task(survey.amended.part, survey, DeltaUse(step.delta, tree, survey.observed, step.cost))
    survey = _survey(tree, want, given, walked, full, source)
    if source is None or source.delta is None or not survey.comparison.to_do:
        return _Task(want, survey)
    return _Task(want, survey, DeltaUse(source.delta, tree, survey.observed, source.stored_bytes))


def _survey(
    tree: Beneath, want: DesiredTree, given: Conditions, walked: Walked, full: bool, source: ChunkSource | None
) -> Survey:
    found = walked.remembered
    if source is not None and found is not None and found.tree != want.digest:
        _ = source.content  # the delta's older manifest is done with before the tree applied takes its place in memory
    remembered = index.load(given.state, found, want.digest, want.entries)
    placed = (remembered.applied, remembered.intended)
    rules = Rules(given, want.entries, placed=placed)
    observed = observe(
        tree,
        candidates=(want.entries, *placed),
        applied=remembered.applied,
        listings={} if full else remembered.listings,
        calm=walked.calm if remembered.applied else frozenset(),
        passes=rules.passes,
        mounts=given.mounts,
        mounted=given.mounted,
    )
    comparison = compare(want.entries, observed, rules, remembered, retain=given.retain, live=given.live)
    return Survey(given, rules, remembered, observed, comparison)


def _plan(tree: Beneath, task: _Task, source: ChunkSource | None) -> Plan:
    want, survey, by_delta = task.want, task.survey, task.by_delta
    comparison = survey.comparison
    making = files_to_make(comparison)
    needed = needed_by(making, want.blobs)
    local = locate(tree, survey.observed, comparison, making, needed.digests.keys()) if source else _NOWHERE
    if source is not None:
        source.wanted = needed.digests
    stored_bytes = by_delta.cost if by_delta else source.stored_bytes if source else _unknown
    return make_plan(want.entries, survey.observed, comparison, survey.rules, making, needed, local, stored_bytes)


def _expected(plan: Plan, task: _Task) -> Totals:
    """The totals of a run that changes nothing: what another would come to."""
    totals = _of_the_whole(plan.totals, task)
    if task.by_delta is None:
        return totals
    delta_bytes, chunk_bytes = task.by_delta.estimate(plan.to_fetch)
    return msgspec.structs.replace(totals, bytes_fetched=delta_bytes + chunk_bytes, bytes_delta=delta_bytes)


def _of_the_whole(totals: Totals, task: _Task) -> Totals:
    amended = task.survey.amended
    return totals if amended is None else msgspec.structs.replace(totals, entries=amended.entries)


def _progress(plan: Plan, observer: Observer | None) -> Callable[[int], None]:
    if observer is None:
        return lambda _: None
    done, total = 0, plan.bytes_written

    def moved(size: int) -> None:
        nonlocal done
        done += size
        observer(min(done, total), total)

    return moved


def _final_totals(plan: Plan, task: _Task, stage: Stage, fetched: int) -> Totals:
    counts = stage.counts
    delta_bytes = task.by_delta.bytes_fetched if task.by_delta else 0
    return msgspec.structs.replace(
        _of_the_whole(plan.counts, task),
        bytes_fetched=fetched + delta_bytes,
        bytes_delta=delta_bytes,
        bytes_local=counts.local + counts.resumed,
        bytes_written=counts.written,
    )


def _notices(plan: Plan, task: _Task, source: ChunkSource | None) -> tuple[str, ...]:
    of_source = source.notices if source and plan.to_fetch else ()
    of_delta = task.by_delta.notices(task.want.overlaid.covers) if task.by_delta else ()
    return (*task.survey.comparison.notices, *of_source, *of_delta)


def _told(plan: Plan, survey: Survey, totals: Totals, notices: tuple[str, ...]) -> Outcome:
    return Outcome(
        changes=plan.changes,
        totals=totals,
        in_sync=survey.comparison.in_sync,
        boot_changed=plan.boot_changed,
        reboot_needed=survey.given.live and plan.reboot_worthy,
        notices=notices,
    )


def _done(told: Outcome, survey: Survey, changed_meanwhile: tuple[bytes, ...]) -> Outcome:
    notices = [f"{show_path(path)} was changed by someone else meanwhile: run it again" for path in changed_meanwhile]
    unmended = any(difference.action == "keep" for difference in survey.comparison.told)
    return msgspec.structs.replace(
        told, in_sync=not changed_meanwhile and not unmended, notices=(*told.notices, *notices)
    )


def _allow_many_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 8192:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard) if hard >= 0 else 8192, hard))


def _unknown(_digest: bytes) -> int:
    return 0


_NOWHERE = LocalContent({}, {})
