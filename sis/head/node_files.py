"""One path of a node as it is to be: what the image has there, what the node has of its own, and why."""

from __future__ import annotations

import stat
from dataclasses import dataclass

from configurator.errors import ConfiguratorError
from configurator.explain import explain
from configurator.rendered import RenderedFile
from sis.errors import NotFound, SisError
from sis.head import worlds
from sis.head.origins import KeyRow, Origins, key_rows
from sis.head.preview import diff_lines, is_secret
from sis.head.renders import Inputs, Renders
from sis.image.model import Entry, Kind
from sis.inventory.blame import blame
from sis.inventory.model import Node

LARGEST_SHOWN_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class FileView:
    """A path as the node is to have it. `own`: it is laid over the image, made by `maker` of what `keys` say.

    `text` is its content where that may be shown, else `why_not` says why; `diff` leads from the image's file to it.
    """

    path: str
    own: bool
    maker: str
    kind: str
    mode: int
    size_bytes: int
    target: str
    text: str
    why_not: str
    diff: str
    keys: tuple[KeyRow, ...] = ()


def of_path(renders: Renders, node: Node, path: str) -> FileView:
    """Raises NotFound for a path the node is not to have, SisError when its files cannot be rendered."""
    inputs = renders.inputs(node)
    entry = inputs.tree.entry(path)
    beneath = _of_image(inputs, path, entry)
    try:
        files = {file.path: file for file in inputs.files()}
    except ConfiguratorError as fault:
        raise SisError(fault.message, hint=fault.hint, details=fault.details) from fault
    own = files.get(path)
    if own is None and beneath is None:
        raise NotFound(f"{node.name} is to have no {path}", hint=f"see: sis node render {node.name}")
    shown = own or beneath
    assert shown is not None
    text, why_not = _text(shown)
    size_bytes = len(shown.content) if own is not None else (entry.size if entry is not None else 0)
    return FileView(
        path=path,
        own=own is not None,
        maker=own.origin if own is not None else "the image",
        kind=shown.kind,
        mode=shown.mode,
        size_bytes=size_bytes,
        target=shown.target,
        text=text,
        why_not=why_not,
        diff="\n".join(diff_lines(path, beneath, own)) if own is not None else "",
        keys=_keys(renders, node, inputs, path) if own is not None else (),
    )


def _of_image(inputs: Inputs, path: str, entry: Entry | None) -> RenderedFile | None:
    """The image's own entry at a path, as a file of the layer would be written."""
    if entry is None or entry.kind not in (Kind.FILE, Kind.SYMLINK, Kind.DIR):
        return None
    content = b""
    if entry.kind is Kind.FILE and entry.size <= LARGEST_SHOWN_BYTES:
        content = inputs.tree.read(path) or b""
    elif entry.kind is Kind.FILE:
        content = b"\0"
    kinds = {Kind.FILE: "file", Kind.SYMLINK: "symlink", Kind.DIR: "dir"}
    return RenderedFile(
        path=path,
        kind=kinds[entry.kind],  # type: ignore[arg-type]  # three of its words
        mode=stat.S_IMODE(entry.mode),
        content=content,
        target=entry.target.decode("utf-8", "surrogateescape"),
        origin="the image",
    )


def _text(file: RenderedFile) -> tuple[str, str]:
    """Its content as text, or why it is not shown."""
    if file.kind != "file":
        return "", ""
    if is_secret(file):
        return "", "Others than its owner may not read it: its content is not shown."
    if b"\0" in file.content[:8192]:
        return "", "It is no text, or too large to be shown."
    return file.content.decode("utf-8", "replace"), ""


def _keys(renders: Renders, node: Node, inputs: Inputs, path: str) -> tuple[KeyRow, ...]:
    try:
        found = explain(
            inputs.record, inputs.facts, inputs.tree.footprint, path, site=inputs.site, tree=inputs.tree.tree
        )
        spec = worlds.applied_spec(renders)
    except (ConfiguratorError, SisError):
        return ()
    own = next((each for each in spec.expand() if each.name == node.name), None) if spec is not None else None
    said = {each.setting: each.origin for each in blame(renders.inventory, node, own)}
    origins = Origins(node, inputs.record, inputs.layout, spec=own, cluster=spec, blamed=lambda key: said.get(key, ""))
    return tuple(key_rows(inputs.record, origins, found.keys))
