"""`sis node render|explain|facts`: a node's own files before any node sees them, why they are so, its hardware."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit, emit_one, human_bytes, printable
from sis.errors import NotFound, SisError, UsageFault

if TYPE_CHECKING:
    from configurator.explain import Explanation
    from configurator.rendered import RenderedFile
    from sis.head.renders import Renders

DIFFERENT = 4


@click.command(epilog="Example: sis node render n001 /etc/hosts --diff compute@stable")
@click.argument("name")
@click.argument("path", required=False)
@click.option("--diff", "other", metavar="IMAGE[@…]", help="Show what differs from what this image would give.")
@click.pass_obj
def render(context: Context, name: str, path: str | None, other: str | None) -> int:
    """Render NAME's own files for its image: list them, or print the bytes of the one at PATH.

    With --diff the files are compared with those the node would get with another version or channel; exit code 4 if
    they differ.
    """
    from sis.head.renders import Renders

    with context.open_inventory() as inventory:
        renders = Renders(context.state, inventory)
        files = _files(renders, name, None)
        others = _files(renders, name, other) if other is not None else {}
    if other is not None:
        return _diff(others, files, path)
    if path is None:
        _list(files, context.output)
        return 0
    if path not in files:
        raise NotFound.of(f"file in the layer of {name}", path, files)
    file = files[path]
    if file.kind == "file":
        sys.stdout.flush()
        sys.stdout.buffer.write(file.content)
    else:
        click.echo(f"{file.path} -> {file.target}" if file.kind == "symlink" else f"{file.path}: {file.kind}")
    return 0


@click.command(epilog="Example: sis node explain n001:/etc/hosts")
@click.argument("what", metavar="NODE:PATH")
@click.pass_obj
def explain(context: Context, what: str) -> None:
    """Say which renderer or site file makes PATH on NODE, of which values, and where each of these is written."""
    from configurator.errors import ConfiguratorError
    from configurator.explain import explain as explained
    from sis.head import worlds
    from sis.head.origins import Origins, key_rows
    from sis.head.renders import Renders
    from sis.inventory.blame import blame

    name, colon, path = what.partition(":")
    if not colon or not path.startswith("/"):
        raise UsageFault(f"{what!r} is no NODE:PATH", hint="write it as in: sis node explain n001:/etc/hosts")
    with context.open_inventory() as inventory:
        renders = Renders(context.state, inventory)
        node = inventory.nodes.get(name)
        inputs = renders.inputs(node)
        try:
            found = explained(
                inputs.record, inputs.facts, inputs.tree.footprint, path, site=inputs.site, tree=inputs.tree.tree
            )
        except ConfiguratorError as fault:
            raise SisError(fault.message, hint=fault.hint, details=fault.details) from fault
        spec = worlds.applied_spec(renders)
        own = next((each for each in spec.expand() if each.name == name), None) if spec is not None else None
        said = {each.setting: each.origin for each in blame(inventory, node, own)}
    origins = Origins(node, inputs.record, inputs.layout, spec=own, cluster=spec, blamed=lambda key: said.get(key, ""))
    rows = [
        {"key": each.key, "value": each.value, "from": each.origin}
        for each in key_rows(inputs.record, origins, found.keys)
    ]
    _show_explanation(context, name, found, rows)


@click.command(epilog="Example: sis node facts n001 -o json")
@click.argument("name")
@click.pass_obj
def facts(context: Context, name: str) -> None:
    """Show what NAME reported of its hardware at its first boot, and when that changed."""
    with context.open_inventory() as inventory:
        node = inventory.nodes.get(name)
        told = inventory.history.facts(node.id)
        changes = inventory.history.facts_changes(node.id)
    if told is None:
        raise NotFound(
            f"{name} has told no facts yet", hint="nodes tell them at their first boot, and again when they change"
        )
    if context.output != "table":
        changed = [{"received": each.received, "lines": list(each.lines)} for each in changes]
        emit_one({"name": name, "facts": told, "changes": changed}, context.output)
        return
    for line in _facts_lines(told):
        click.echo(printable(line))
    for each in changes:
        click.echo(f"changed {each.received[:19].replace('T', ' ')}:")
        for line in each.lines:
            click.echo(f"    {printable(line)}")


def _files(renders: Renders, name: str, image: str | None) -> dict[str, RenderedFile]:
    """The node's files by path: for its own image, or as they would be with another. Raises SisError."""
    from dataclasses import replace

    from configurator.errors import ConfiguratorError
    from sis.image.store import reference
    from sis.inventory.model import Assignment

    node = renders.inventory.nodes.get(name)
    if image is not None:
        asked, _, selector = str(reference.parse(image)).partition("@")
        layout = node.assignment.layout if node.assignment is not None else None
        node = replace(node, assignment=Assignment(asked, selector, layout))
    try:
        return {file.path: file for file in renders.inputs(node).files()}
    except ConfiguratorError as fault:
        raise SisError(fault.message, hint=fault.hint, details=fault.details) from fault


def _diff(others: Mapping[str, RenderedFile], files: Mapping[str, RenderedFile], path: str | None) -> int:
    from sis.head.preview import diff_lines

    paths = sorted({*others, *files})
    if path is not None and path not in paths:
        raise NotFound.of("rendered file", path, paths)
    differing = [each for each in paths if path in (None, each) and others.get(each) != files.get(each)]
    for each in differing:
        for line in diff_lines(each, others.get(each), files.get(each)):
            click.echo(printable(line))
    return DIFFERENT if differing else 0


def _list(files: Mapping[str, RenderedFile], output: str) -> None:
    rows = [
        {
            "path": file.path,
            "kind": file.kind,
            "mode": f"{file.mode:04o}",
            "size": len(file.content) if file.kind == "file" else None,
            "target": file.target or None,
            "origin": file.origin,
        }
        for file in files.values()
    ]
    emit(rows, ["path", "kind", "mode", Column("size", right=True), "target", "origin"], output)


def _show_explanation(context: Context, name: str, found: Explanation, rows: list[dict[str, str]]) -> None:
    if context.output != "table":
        told = {
            "name": f"{name}:{found.path}",
            "origin": found.origin,
            "sources": list(found.sources),
            "beneath": list(found.beneath),
            "mode": f"{found.file.mode:04o}",
            "keys": rows,
        }
        emit_one(told, context.output)
        return
    maker = f"the site file{'s' if len(found.sources) > 1 else ''} {', '.join(found.sources)}"
    click.echo(f"{found.path} on {name} is made by {maker if found.sources else f'the renderer {found.origin}'}")
    if found.beneath:
        click.echo(f"laid over: {', '.join(found.beneath)}")
    if rows:
        emit(rows, ["key", "value", "from"])


def _facts_lines(told: Mapping[str, Any]) -> list[str]:
    cpu = told.get("cpu") or {}
    lines = [
        ("machine", " ".join(filter(None, (str(told.get("manufacturer", "")), str(told.get("product", "")))))),
        ("serial", str(told.get("serial") or "-")),
        ("firmware", str(told.get("boot_mode") or "-")),
        ("virtual", str(told.get("virtualisation") or "no")),
        ("kernel", str(told.get("kernel") or "-")),
        ("cpu", f"{cpu.get('model', '')} ({cpu.get('sockets', 0)} sockets, {cpu.get('threads', 0)} threads)"),
        ("memory", human_bytes(int(told.get("memory_bytes") or 0))),
        ("ipmi", "yes" if told.get("ipmi") else "no"),
    ]
    lines += [
        (
            "network",
            f"{each.get('name')} {each.get('mac')} {each.get('driver') or '-'} {each.get('bus') or ''}".rstrip(),
        )
        for each in told.get("interfaces") or ()
    ]
    lines += [
        (
            "disk",
            f"{each.get('name')} {human_bytes(int(each.get('size_bytes') or 0))} {each.get('type')} "
            f"{each.get('model') or '-'} {each.get('serial') or ''}".rstrip(),
        )
        for each in told.get("disks") or ()
    ]
    lines.append(("devices", f"{len(told.get('devices') or ())} on PCI and USB (-o json lists them)"))
    return [f"{key + ':':<10}{value}" for key, value in lines]
