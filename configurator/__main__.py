"""`python -m configurator facts|footprint|render|apply|explain|import`: alone on a node or in a chroot.

Exit codes: 0 ok · 1 error · 2 usage · 4 differences found (`render -o diff`, `apply -n`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from configurator.errors import ConfiguratorError
from configurator.evidence import of_root
from configurator.facts import Facts, decode_facts, read_facts
from configurator.footprint import Footprint
from configurator.record import Record, decode
from configurator.rendered import RenderedFile
from configurator.tree import lookup_of, reader_of

if TYPE_CHECKING:
    from configurator.site import Site, Tree

DIFFERENCES_FOUND = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ConfiguratorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m configurator", description="A node's own files from its record.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    facts = commands.add_parser("facts", help="print what this machine is made of, as JSON")
    facts.add_argument("--root-sys", type=Path, default=Path("/"), metavar="DIR", help="read DIR/sys and DIR/proc")
    facts.set_defaults(command=_facts)

    footprint = commands.add_parser("footprint", help="print what a tree holds, as JSON")
    footprint.add_argument("--root", type=Path, required=True, metavar="DIR")
    footprint.set_defaults(command=_footprint)

    render = commands.add_parser("render", help="print the node's files, change nothing")
    _add_inputs(render)
    render.add_argument("-o", "--output", choices=("list", "json", "diff"), default="list")
    render.set_defaults(command=_render)

    apply = commands.add_parser("apply", help="write the node's files beneath the root")
    _add_inputs(apply)
    apply.add_argument("-n", "--dry-run", action="store_true", help="only say what would be written")
    apply.set_defaults(command=_apply)

    explain = commands.add_parser("explain", help="say which renderer or site file makes a path, of which keys")
    _add_inputs(explain)
    explain.add_argument("path", metavar="PATH")
    explain.set_defaults(command=_explain)

    importing = commands.add_parser("import", help="turn a file of an older suite into a cluster file")
    importing.add_argument(
        "file", metavar="FILE", help="systemconfig.conf, hardware.lst, network-config or cluster XML"
    )
    importing.set_defaults(command=_import)
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--record", required=True, metavar="FILE", help="the node's record in JSON; - reads it from stdin"
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="the tree the files are for")
    parser.add_argument("--facts", metavar="FILE", help="facts in JSON; without, nothing is known of the hardware")
    parser.add_argument("--site", type=Path, metavar="DIR", help="the site's own files, laid over what is rendered")


def _facts(arguments: argparse.Namespace) -> int:
    _print_json(read_facts(arguments.root_sys))
    return 0


def _footprint(arguments: argparse.Namespace) -> int:
    _print_json(of_root(arguments.root).summary())
    return 0


def _render(arguments: argparse.Namespace) -> int:
    from configurator import apply
    from configurator.render import owned_patterns

    files = _rendered(arguments)
    if arguments.output == "json":
        _print_json(files)
    elif arguments.output == "list":
        for file in files:
            print(_listed(file))
    else:
        differences = apply.plan(arguments.root, files, owned_patterns())
        sys.stdout.write(apply.diff(differences))
        return DIFFERENCES_FOUND if differences else 0
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    from configurator import apply
    from configurator.render import owned_patterns

    differences = apply.plan(arguments.root, _rendered(arguments), owned_patterns())
    if not arguments.dry_run:
        apply.apply(arguments.root, differences)
    for difference in differences:
        print(f"{difference.action:9}{difference.want.path}")
    return DIFFERENCES_FOUND if differences and arguments.dry_run else 0


def _explain(arguments: argparse.Namespace) -> int:
    from configurator.explain import explain

    record, facts, footprint = _inputs(arguments)
    site, tree = _site(arguments)
    told = explain(record, facts, footprint, arguments.path, site=site, tree=tree)
    print(f"{told.path} is made by {told.origin}")
    for origin in reversed(told.beneath):
        print(f"  over {origin}")
    for key in told.keys:
        print(f"  from {key}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from configurator.importing import read

    imported = read(arguments.file, _read(arguments.file))
    sys.stdout.write(imported.yaml)
    for line in imported.report:
        print(line, file=sys.stderr)
    return 0


def _rendered(arguments: argparse.Namespace) -> tuple[RenderedFile, ...]:
    """The files, and a word on stderr for what the tree has no use for."""
    from configurator.render import notices, render
    from configurator.renderers import Context
    from configurator.site import lay_over

    record, facts, footprint = _inputs(arguments)
    site, tree = _site(arguments)
    for notice in notices(record, footprint):
        print(f"notice: {notice}", file=sys.stderr)
    files = render(record, facts, footprint)
    return lay_over(files, site, Context(record, facts, footprint), tree)


def _inputs(arguments: argparse.Namespace) -> tuple[Record, Facts, Footprint]:
    record = decode(_read(arguments.record), "stdin" if arguments.record == "-" else arguments.record)
    facts = decode_facts(_read(arguments.facts), arguments.facts) if arguments.facts else Facts()
    return record, facts, of_root(arguments.root)


def _site(arguments: argparse.Namespace) -> tuple[Site, Tree]:
    from configurator.site import Site, Tree, load

    site = load(arguments.site) if arguments.site is not None else Site()
    return site, Tree(reader_of(arguments.root), lookup_of(arguments.root))


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfiguratorError(f"cannot read {path}: {error.strerror}") from error


def _listed(file: RenderedFile) -> str:
    what = f" -> {file.target}" if file.kind == "symlink" else ""
    return f"{file.kind:8}{file.mode:04o} {file.uid}:{file.gid} {len(file.content):7} {file.path}{what} ({file.origin})"


def _print_json(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
