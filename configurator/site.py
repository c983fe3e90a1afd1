"""The site's own files: a tree of plain files and templates in layers, laid over what the renderers make.

    SITE/all/etc/motd                     every node
    SITE/profile/compute/etc/x.conf.j2    a template (Jinja2); the others are taken as they are
    SITE/group/gpu/etc/x.conf.sis.toml    beside it, or alone: mode, owner, group, symlink, absent, directory, append
    SITE/group/gpu/etc/y.sis.d/10-gpus    a fragment: those of all layers, by name, make one /etc/y
    SITE/node/n001/…                      one node

The one rule: renderers, then `all`, then the node's profiles in their order, then its groups in theirs, then `node`;
what comes later wins, path by path (fragments: name by name), but for `append`, which adds to what is there.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from configurator.errors import SiteInvalid
from configurator.footprint import Footprint
from configurator.record import Accounts, Record
from configurator.rendered import RenderedFile
from configurator.renderers import Context
from configurator.tree import Lookup, Read, resolved

SIDECAR, FRAGMENTS, TEMPLATE = ".sis.toml", ".sis.d", ".j2"
_LARGEST_FILE = 16 << 20
_MOST_FILES = 20_000
_FORBIDDEN = ("/proc", "/sys", "/dev", "/run", "/tmp", "/etc/sis", "/var/lib/sis-node", "/usr/lib/sis")  # noqa: S108
_MERGED = re.compile(r"^/(bin|sbin|lib|lib32|lib64|libx32)(?=/)")
_MODE = re.compile(r"[0-7]{3,4}")


class Meta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sidecar. `owner` and `group` are names in the image or the record, or numbers; `append` adds the file as a
    block, between comment lines that begin with `comment`."""

    mode: str | None = None
    owner: str | int = 0
    group: str | int = 0
    symlink: str | None = None
    absent: bool = False
    directory: bool = False
    append: bool = False
    comment: str = "#"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the site tree. `source` is its path there, `layer` such as "group/gpu", `path` where it goes.

    `fragment` is its name among the fragments of `path`, "" when it is the file itself.
    """

    source: str
    layer: str
    path: str
    kind: Literal["file", "symlink", "dir", "absent"] = "file"
    content: bytes = b""
    target: str = ""
    template: bool = False
    executable: bool = False
    fragment: str = ""
    meta: Meta = Meta()


class Site(msgspec.Struct, frozen=True):
    """All sources, by layer."""

    layers: dict[str, tuple[Source, ...]] = {}

    @property
    def count(self) -> int:
        """How many sources there are."""
        return sum(map(len, self.layers.values()))

    def of(self, record: Record) -> tuple[Source, ...]:
        """The sources for one node, those that win last."""
        names = [
            "all",
            *(f"profile/{name}" for name in record.profiles),
            *(f"group/{name}" for name in record.groups),
            f"node/{record.name}",
        ]
        return tuple(source for name in dict.fromkeys(names) for source in self.layers.get(name, ()))


class Values(NamedTuple):
    """What templates see: `record` (no secret in it), its `vars`, `facts` and `footprint`."""

    record: Any
    facts: Any
    footprint: Any

    @staticmethod
    def of(context: Context) -> Values:
        return Values(without_secrets(context.record), context.facts, without_accounts(context.footprint))


class Tree(NamedTuple):
    """The image as site files need it: `read` for files that blocks are added to, `lookup` for links on a path's way.

    Without `lookup` only the links of a merged /usr are known.
    """

    read: Read = lambda _path: None
    lookup: Lookup | None = None


def without_secrets(record: Record) -> Record:
    """The record as templates may see it: no host keys, no accounts."""
    return msgspec.structs.replace(record, host_keys=(), accounts=Accounts())


def without_accounts(footprint: Footprint) -> Footprint:
    """The footprint as templates may see it: the image's shadow is not theirs."""
    return msgspec.structs.replace(footprint, accounts=None)


def load(root: Path) -> Site:
    """The site tree below `root`; an absent one is empty. Raises SiteInvalid with every fault, each with its file."""
    faults: list[str] = []
    layers: dict[str, tuple[Source, ...]] = {}
    for layer, folder in _layers(root, faults):
        layers[layer] = tuple(sorted(_sources(root, layer, folder, faults), key=lambda source: source.source))
    if sum(map(len, layers.values())) > _MOST_FILES:
        faults.append(f"{root}: more than {_MOST_FILES} files")
    if faults:
        plural = "s" if len(faults) > 1 else ""
        raise SiteInvalid(f"the site files have {len(faults)} fault{plural}", details=faults)
    return Site(layers)


def lay_over(
    files: Sequence[RenderedFile], site: Site, context: Context, tree: Tree | None = None, values: Values | None = None
) -> tuple[RenderedFile, ...]:
    """The rendered files with the site's over them, sorted by path. Raises SiteInvalid naming file and line."""
    image = tree or Tree()
    shown = values or Values.of(context)
    laid = {file.path: file for file in files}
    fragments: dict[str, dict[str, Source]] = {}
    for source in site.of(context.record):
        path = placed(source, context.footprint, image)
        if source.fragment:
            fragments.setdefault(path, {})[source.fragment] = source
        else:
            laid[path] = _made(source, path, laid.get(path), context, shown, image)
    for path, named in fragments.items():
        laid[path] = _merged([named[name] for name in sorted(named)], path, context, shown)
    return tuple(laid[path] for path in sorted(laid))


def placed(source: Source, footprint: Footprint, tree: Tree) -> str:
    """Where a source goes in this image: links on the way followed, as nothing is written through one.

    Raises SiteInvalid when they lead nowhere, or where the site has no business.
    """
    path = source.path
    if tree.lookup is not None:
        real = resolved(tree.lookup, posixpath.dirname(path))
        if real is None:
            raise SiteInvalid(f"{source.source}: the way to {path} leads over a link that leads nowhere in the image")
        path = posixpath.join(real, posixpath.basename(path))
    elif footprint.merged_usr:
        path = _MERGED.sub(r"/usr/\1", path)
    if any(path == place or path.startswith(f"{place}/") for place in _FORBIDDEN):
        raise SiteInvalid(f"{source.source}: nothing of the site's belongs below {path.rpartition('/')[0] or path}")
    return path


def _layers(root: Path, faults: list[str]) -> Iterator[tuple[str, Path]]:
    for top in sorted(root.iterdir()) if root.is_dir() else ():
        if top.name.startswith(".") or not top.is_dir():
            continue
        if top.name == "all":
            yield "all", top
        elif top.name in ("profile", "group", "node"):
            yield from ((f"{top.name}/{each.name}", each) for each in sorted(top.iterdir()) if each.is_dir())
        else:
            faults.append(f"{top.name}: no such layer, only all, profile/NAME, group/NAME and node/NAME")


def _sources(root: Path, layer: str, folder: Path, faults: list[str]) -> Iterator[Source]:
    sidecars: dict[str, tuple[str, Meta]] = {}
    found: dict[str, list[Source]] = {}
    for here, names, leaves in os.walk(folder):
        names.sort()
        for name in sorted([*leaves, *(each for each in names if os.path.islink(f"{here}/{each}"))]):
            file = Path(here, name)
            source = str(file.relative_to(root))
            path = "/" + str(file.relative_to(folder))
            if not path.isprintable() or "\\" in path:
                faults.append(f"{source!a}: not a path a site file can have")
            elif name.endswith(SIDECAR):
                meta = _sidecar(file, source, faults)
                sidecars[path.removesuffix(SIDECAR)] = (source, meta)
            else:
                one = _source(file, source, layer, path, faults)
                found.setdefault(f"{one.path}\0{one.fragment}", []).append(one)
    twice = [each for each in found.values() if len(each) > 1]
    faults.extend(f"{each[1].source}: makes {each[1].path}, as {each[0].source} does" for each in twice)
    for path, (source, meta) in sidecars.items():
        beside = found.pop(f"{path}\0", None)
        yield from _with_sidecar(path, source, layer, meta, beside, faults)
    yield from (one for each in found.values() for one in each)


def _source(file: Path, source: str, layer: str, path: str, faults: list[str]) -> Source:
    parts = path.split("/")
    at = next((number for number, part in enumerate(parts[:-1]) if part.endswith(FRAGMENTS)), None)
    fragment = ""
    if at is not None:
        fragment = "/".join(parts[at + 1 :]).removesuffix(TEMPLATE)
        template = path.endswith(TEMPLATE)
        path = "/".join([*parts[:at], parts[at].removesuffix(FRAGMENTS)])
    else:
        template = path.endswith(TEMPLATE)
        path = path.removesuffix(TEMPLATE)
    status = file.lstat()
    if stat.S_ISLNK(status.st_mode):
        return Source(source=source, layer=layer, path=path, kind="symlink", target=os.readlink(file))
    content = b""
    if not stat.S_ISREG(status.st_mode):
        faults.append(f"{source}: neither a file nor a link")
    elif status.st_size > _LARGEST_FILE:
        faults.append(f"{source}: larger than {_LARGEST_FILE} bytes")
    else:
        content = file.read_bytes()
        if template:
            _check_template(source, content, faults)
    executable = bool(status.st_mode & 0o100)
    return Source(
        source=source,
        layer=layer,
        path=path,
        content=content,
        template=template,
        executable=executable,
        fragment=fragment,
    )


def _check_template(source: str, content: bytes, faults: list[str]) -> None:
    from configurator.sandbox import compiled

    try:
        compiled(source, content.decode())
    except UnicodeDecodeError:
        faults.append(f"{source}: a template must be UTF-8")
    except SiteInvalid as error:
        faults.append(error.message)


def _sidecar(file: Path, source: str, faults: list[str]) -> Meta:
    try:
        meta = msgspec.convert(tomllib.loads(file.read_text()), Meta)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, OSError) as error:
        faults.append(f"{source}: {error}")
        return Meta()
    said = [word for word in ("symlink", "absent", "directory", "append") if getattr(meta, word)]
    if len(said) > 1:
        faults.append(f"{source}: says {said[0]} and {said[1]}")
    if meta.mode is not None and not _MODE.fullmatch(meta.mode):
        faults.append(f'{source}: mode must be octal such as "0640", not {meta.mode!r}')
    if not meta.comment.isprintable() or len(meta.comment) > 8 or not meta.comment:
        faults.append(f"{source}: comment must be what a comment begins with")
    return meta


def _with_sidecar(
    path: str, source: str, layer: str, meta: Meta, beside: list[Source] | None, faults: list[str]
) -> Iterator[Source]:
    if meta.symlink is not None or meta.absent or meta.directory:
        if beside:
            faults.append(f"{source}: {path} has a file beside it, {beside[0].source}")
        kind: Literal["symlink", "absent", "dir"] = (
            "symlink" if meta.symlink is not None else "absent" if meta.absent else "dir"
        )
        yield Source(source=source, layer=layer, path=path, kind=kind, target=meta.symlink or "", meta=meta)
    elif not beside:
        faults.append(f"{source}: no {path.rpartition('/')[2]} beside it")
    else:
        yield from (msgspec.structs.replace(one, meta=meta) for one in beside)


def _made(
    source: Source, path: str, below: RenderedFile | None, context: Context, values: Values, tree: Tree
) -> RenderedFile:
    meta, origin = source.meta, f"site:{source.source}"
    uid, gid = (_id(source, what, context) for what in ("owner", "group"))
    if source.kind != "file":
        default = {"dir": 0o755, "symlink": 0o777, "absent": 0o644}[source.kind]
        mode = int(meta.mode, 8) if meta.mode is not None and source.kind == "dir" else default
        return RenderedFile(
            path=path, kind=source.kind, mode=mode, uid=uid, gid=gid, target=source.target, origin=origin
        )
    content = _content(source, context, values)
    mode = int(meta.mode, 8) if meta.mode is not None else 0o755 if source.executable else 0o644
    if not meta.append:
        return RenderedFile(path=path, mode=mode, uid=uid, gid=gid, content=content, origin=origin)
    base = below or RenderedFile(path=path, mode=mode, uid=uid, gid=gid, content=tree.read(path) or b"")
    if base.kind != "file":
        raise SiteInvalid(f"{source.source}: cannot add to {path}, which is a {base.kind} of {base.origin}")
    if meta.mode is None and below is not None:
        mode, uid, gid = base.mode, base.uid, base.gid
    mark = f"{meta.comment} sis: {source.source}"
    block = f"{mark}: begin\n".encode() + _ended(content) + f"{mark}: end\n".encode()
    return RenderedFile(path=path, mode=mode, uid=uid, gid=gid, content=_ended(base.content) + block, origin=origin)


def _merged(sources: Sequence[Source], path: str, context: Context, values: Values) -> RenderedFile:
    content = b"".join(_ended(_content(source, context, values)) for source in sources)
    mode = 0o755 if any(source.executable for source in sources) else 0o644
    origin = f"site:{','.join(source.source for source in sources)}"
    return RenderedFile(path=path, mode=mode, content=content, origin=origin)


def _ended(content: bytes) -> bytes:
    return content if not content or content.endswith(b"\n") else content + b"\n"


def _content(source: Source, context: Context, values: Values) -> bytes:
    if not source.template:
        return source.content
    from configurator.sandbox import render_template

    names = {
        "record": values.record,
        "vars": context.record.vars,
        "facts": values.facts,
        "footprint": values.footprint,
    }
    return render_template(source.source, source.content.decode(), names).encode()


def _id(source: Source, what: Literal["owner", "group"], context: Context) -> int:
    """The number of an owner or group: the image's, else the record's."""
    wanted = source.meta.owner if what == "owner" else source.meta.group
    if isinstance(wanted, int) or wanted.isdigit():
        return int(wanted)
    if wanted == "root":
        return 0
    own, site = context.footprint.accounts, context.record.accounts
    text = "" if own is None else own.passwd if what == "owner" else own.group
    for line in text.splitlines():
        fields = line.split(":")
        if fields[0] == wanted and len(fields) > 2 and fields[2].isdigit():
            return int(fields[2])
    of_record = (
        {user.name: user.uid for user in site.users}
        if what == "owner"
        else {group.name: group.gid for group in site.groups}
    )
    if wanted in of_record:
        return of_record[wanted]
    raise SiteInvalid(f"{source.source}: no {what} {wanted} in the image or the record")
