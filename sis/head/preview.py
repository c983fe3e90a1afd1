"""What would change on which nodes: two worlds compared node by node, file by file, and folded by node set."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from configurator.errors import ConfiguratorError
from configurator.rendered import RenderedFile
from configurator.shared import differing
from sis.errors import SisError
from sis.head.renders import Inputs, Renders
from sis.head.worlds import World
from sis.inventory import records
from sis.inventory.changes import shown
from sis.inventory.model import Node
from sis.inventory.names import fold
from sis.inventory.profile import shown_profile

Action = Literal["create", "update", "remove"]
_OTHERS_READ = 0o004


@dataclass(frozen=True, slots=True)
class FileChange:
    path: str
    action: Action


@dataclass(frozen=True, slots=True)
class NodeChange:
    """What becomes of one node. `because` are the settings that differ, with their values where they are few;
    `beside` what changes but its files: its image, the kernel's command line; `fault` why it cannot be rendered.
    """

    node: str
    is_new: bool
    because: tuple[str, ...]
    beside: tuple[str, ...]
    files: tuple[FileChange, ...]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Folded:
    """Nodes to which the same happens."""

    nodes: str
    names: tuple[str, ...]
    change: NodeChange
    """That of the first of them."""


def changes(renders: Renders, before: World, after: World) -> Iterator[NodeChange]:
    """Every node to which something happens, in natural order."""
    around = _around_differs(before, after)
    for name, new in after.nodes.items():
        old = before.nodes.get(name)
        if old is None:
            yield _of_new(renders, after, new)
        elif around or old != new or before.site.digest != after.site.digest:
            change = _of_known(renders, before, after, old, new)
            if change is not None:
                yield change


def folded(found: Sequence[NodeChange]) -> tuple[Folded, ...]:
    """Nodes with the same change together, in the order of the first of each."""
    alike: dict[tuple[object, ...], list[NodeChange]] = {}
    for change in found:
        key = (change.is_new, change.because, change.beside, change.files, change.fault)
        alike.setdefault(key, []).append(change)
    return tuple(
        Folded(fold([each.node for each in group]), tuple(each.node for each in group), group[0])
        for group in alike.values()
    )


def file_diffs(renders: Renders, before: World, after: World, name: str) -> Iterator[str]:
    """The lines of a unified diff of one node's files between the worlds."""
    old, new = before.nodes.get(name), after.nodes[name]
    inputs = _inputs(renders, before, old) if old is not None else None
    wanted = after.inputs(renders, new)
    had, has = (_whole(each) if each is not None else {} for each in (inputs, wanted))
    if inputs is not None and (had is None or has is None):
        had, has = _sides(inputs, wanted)
    had, has = had or {}, has or {}
    for path in sorted({*had, *has}):
        if had.get(path) != has.get(path):
            yield from diff_lines(path, had.get(path), has.get(path))


def diff_lines(path: str, old: RenderedFile | None, new: RenderedFile | None) -> Iterator[str]:
    """A file's change as a unified diff. Of what others may not read, and of what is no text, it says only that."""
    sides = [each for each in (old, new) if each is not None]
    before, after = (_said(each) for each in (old, new))
    yield f"--- {path}{before[0]}"
    yield f"+++ {path}{after[0]}"
    if any(is_secret(each) for each in sides):
        yield "  (others may not read it: its content is not shown)"
        return
    texts = [_text(each) for each in (old, new)]
    if any(text is None for text in texts):
        yield "  (binary: " + " → ".join(f"{len(each.content)} bytes" if each else "none" for each in (old, new)) + ")"
        return
    one, other = (text.splitlines() if text is not None else [] for text in texts)
    yield from list(difflib.unified_diff(one, other, lineterm="", n=2))[2:]


def is_secret(file: RenderedFile) -> bool:
    """Whether others than its owner and group may not read it."""
    return file.kind == "file" and not file.mode & _OTHERS_READ


def _around_differs(before: World, after: World) -> bool:
    one, other = before.around, after.around
    return (one.peers is not other.peers) or (
        (one.cluster, one.networks, one.authorized_keys) != (other.cluster, other.networks, other.authorized_keys)
    )


def _of_new(renders: Renders, after: World, new: Node) -> NodeChange:
    if new.assignment is None:
        return NodeChange(new.name, True, (), ("it has no image yet",), ())
    try:
        files = after.inputs(renders, new).files()
    except (ConfiguratorError, SisError) as fault:
        return NodeChange(new.name, True, (), (), (), _words(fault))
    beside = (f"image: - → {new.assignment.reference}",)
    return NodeChange(new.name, True, (), beside, tuple(FileChange(file.path, "create") for file in files))


def _of_known(renders: Renders, before: World, after: World, old: Node, new: Node) -> NodeChange | None:
    because = tuple(_because(old, new))
    had = _inputs(renders, before, old)
    if new.assignment is None:
        return NodeChange(new.name, False, because, ("it has no image",), ()) if old != new else None
    try:
        has = after.inputs(renders, new)
        files = tuple(_compared(had, has))
    except (ConfiguratorError, SisError) as fault:
        return NodeChange(new.name, False, because, (), (), _words(fault))
    beside = tuple(_beside(had, has, old, new))
    if not files and not beside and not because:
        return None
    return NodeChange(new.name, False, because, beside, files)


def _inputs(renders: Renders, world: World, node: Node) -> Inputs | None:
    try:
        return world.inputs(renders, node)
    except SisError:
        return None


def _compared(had: Inputs | None, has: Inputs) -> Iterator[FileChange]:
    one, other = _sides(had, has)
    for path in sorted({*one, *other}):
        if path not in one:
            yield FileChange(path, "create")
        elif path not in other:
            yield FileChange(path, "remove")
        elif one[path] != other[path]:
            yield FileChange(path, "update")


def _sides(had: Inputs | None, has: Inputs) -> tuple[dict[str, RenderedFile], dict[str, RenderedFile]]:
    """The files of both that may differ: only what is made of keys that do, where that can be told.

    Raises ConfiguratorError when those to be cannot be rendered; those there were are then none.
    """
    if had is None or had.tree is not has.tree:
        return (_whole(had) if had is not None else None) or {}, _by_path(has.files())
    keys = differing(had.record, has.record)
    if not keys and had.site is has.site:
        return {}, {}
    after = _by_path(has.files_of(keys))
    try:
        return _by_path(had.files_of(keys)), after
    except ConfiguratorError:
        return {}, _by_path(has.files())


def _whole(inputs: Inputs) -> dict[str, RenderedFile] | None:
    try:
        return _by_path(inputs.files())
    except ConfiguratorError:
        return None


def _by_path(files: Iterable[RenderedFile]) -> dict[str, RenderedFile]:
    return {file.path: file for file in files}


def _because(old: Node, new: Node) -> Iterator[str]:
    before, after = shown_profile(old.profile), shown_profile(new.profile)
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        if old.profile.get(name) != new.profile.get(name):
            few = all(isinstance(each, str | int | None) for each in (one, other))
            yield f"{name}: {shown(one)} → {shown(other)}" if few else name
    if old.interfaces != new.interfaces:
        yield "interfaces"
    if set(old.groups) != set(new.groups):
        yield f"groups: {shown(old.groups)} → {shown(new.groups)}"


def _beside(had: Inputs | None, has: Inputs, old: Node, new: Node) -> Iterator[str]:
    if old.assignment != new.assignment and new.assignment is not None:
        yield f"image: {old.assignment.reference if old.assignment else '-'} → {new.assignment.reference}"
    if had is not None and had.layout != has.layout:
        names = [each.name if each is not None else "-" for each in (had.layout, has.layout)]
        yield f"disk layout: {' → '.join(dict.fromkeys(names))} (at the next install)"
    if had is not None:
        words = [" ".join(records.kernel_words(node, each.layout)) for node, each in ((old, had), (new, has))]
        if words[0] != words[1]:
            yield f"kernel command line: {words[0] or '-'} → {words[1] or '-'}"


def _words(fault: ConfiguratorError | SisError) -> str:
    return "; ".join([fault.message, *fault.details])


def _said(file: RenderedFile | None) -> tuple[str, ...]:
    if file is None:
        return (" (none)",)
    if file.kind == "symlink":
        return (f" -> {file.target}",)
    what = "" if file.kind == "file" else f" ({file.kind})"
    return (f"{what} {file.mode:04o} {file.uid}:{file.gid}",)


def _text(file: RenderedFile | None) -> str | None:
    if file is None:
        return ""
    try:
        text = file.content.decode()
    except UnicodeDecodeError:
        return None
    return text if "\0" not in text else None
