"""An image spec becomes a committed version: the whole build, as a table of contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from sis.build import apt, bases, bundle, clean, kernel, lay, lint, sources, trees
from sis.build.aptroot import AptRoot
from sis.build.steps import Progress, Steps, quiet
from sis.image.commit import commit
from sis.image.model import Version
from sis.image.policy import OS_DEFAULTS
from sis.image.store.local import LocalStore
from sis.spec.imagespec import ImageSpec


@dataclass(frozen=True)
class Built:
    """A build's outcome. `unchanged`: the tree is that of the latest version, and no new one was made."""

    image: str
    tree: Path
    version_id: str
    version: Version
    unchanged: bool
    notices: tuple[str, ...]
    seconds: Mapping[str, float]
    log: Path


def build(
    spec: ImageSpec,
    state: Path,
    *,
    progress: Progress = quiet,
    afterwards: Callable[[Built], None] | None = None,
    note: str = "",
    anew: bool = False,
) -> Built:
    """Build `spec` below `state` (the head's state directory) and commit it.

    `afterwards` is called with the outcome once the tree is in place: boot files are made there. With `anew` packages
    are installed though a tree of the very same is kept. All or nothing:
    interrupted or failed anywhere, the old tree and the old versions are as before and nothing stays mounted.
    Raises SpecInvalid for unknown packages, Refused for a tree unfit to be an image, Locked during another build.
    """
    with trees.fresh(state, spec.image) as tree:
        steps = Steps(spec.image, state / "logs", progress)
        archive, text = archive_of(spec, state)
        with steps.step("package lists"):
            archive.update(text, log_to=steps.log)
            apt.check_names(spec, archive)
        with steps.step("packages"):
            kept = state / "cache" / "trees"
            bases.packages(spec, tree, archive, kept, anew=anew, log_to=steps.log, on_line=steps.line)
            epoch = apt.build_epoch(tree)
        with steps.step("files and users"):
            lay.users(spec, tree, log_to=steps.log)
            lay.files(spec, tree)
        with steps.step("scripts"):
            lay.scripts(spec, tree, "postinst", log_to=steps.log)
            apt.remove(spec, tree, log_to=steps.log)
        if spec.agent:
            with steps.step("agent"):
                bundle.lay(spec, tree, state / "cache" / "wheels", log_to=steps.log)
        with steps.step("kernel"):
            kernel.prepare(spec, tree, epoch=epoch, log_to=steps.log)
        with steps.step("cleaning"):
            lay.scripts(spec, tree, "finalize", log_to=steps.log)
            lock = apt.installed(tree)
            clean.clean(tree, epoch=epoch, keep=[file.target for file in spec.files])
            lint.refuse_unfit(spec, tree)
        with steps.step("commit"):
            committed = commit(
                LocalStore(state / "store"),
                spec.image,
                tree,
                policy=(*OS_DEFAULTS, *spec.policy.items()),
                lock=lock,
                os=_facts(spec, tree),
                spec=spec.canonical(),
                note=note,
                wait_s=600.0,
            )
            trees.put_in_place(tree, final := trees.place(state, spec.image))
        built = Built(
            image=spec.image,
            tree=final,
            version_id=committed.version_id,
            version=committed.version,
            unchanged=committed.unchanged,
            notices=committed.notices,
            seconds=steps.seconds,
            log=steps.log,
        )
        if afterwards is not None:
            with steps.step("boot files"):
                afterwards(built)
        return built


def archive_of(spec: ImageSpec, state: Path) -> tuple[AptRoot, str]:
    """The package lists and packages kept for a spec's sources, and the sources as text. Raises NotFound."""
    text = sources.render(apt.sources_of(spec))
    return AptRoot(state / "cache" / "apt" / _archive_name(spec, text), spec.architecture), text


def _archive_name(spec: ImageSpec, text: str) -> str:
    """Lists and packages are kept apart for each release, and for each set of sources a spec names."""
    own = f"-{blake3(text.encode()).hexdigest()[:8]}" if spec.sources else ""
    return f"{spec.distribution}-{spec.release}-{spec.architecture}{own}"


def _facts(spec: ImageSpec, tree: Path) -> dict[str, str]:
    """What a node and the head must know of the system without its manifest."""
    python = bundle.python_of(tree)
    releases = kernel.releases(tree) if spec.kernel is not None else []
    facts = {
        "distribution": spec.distribution,
        "release": spec.release,
        "architecture": spec.architecture,
        "kernel": releases[-1] if releases else "",
        "kernel_command_line": spec.kernel.command_line if spec.kernel is not None else "",
        "python": ".".join(map(str, python)) if python else "",
        "disk": spec.disk or "",
    }
    return {name: text for name, text in facts.items() if text}
