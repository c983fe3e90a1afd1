"""Record + facts + footprint → that node's own files. Pure: the same values give the same bytes everywhere."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from configurator.checks import check
from configurator.errors import NotRenderable
from configurator.facts import Facts
from configurator.footprint import Footprint
from configurator.record import Record
from configurator.rendered import RenderedFile
from configurator.renderers import Context, Renderer, all_renderers
from configurator.shared import Shared


def render(
    record: Record, facts: Facts, footprint: Footprint, *, shared: Shared | None = None
) -> tuple[RenderedFile, ...]:
    """The node's own files, sorted by path, each path once. Records of one tree may share what is the same for them.

    Raises RecordInvalid for values that are not what they mean (all of them), NotRenderable for good values that
    this tree's files cannot hold.
    """
    check(record)
    return _files(Context(record, facts, footprint), all_renderers(), shared or Shared())


def render_again(
    record: Record, facts: Facts, footprint: Footprint, *, of: frozenset[str], shared: Shared | None = None
) -> tuple[RenderedFile, ...]:
    """Only the files that are made of the record's keys in `of`: what may differ between two records that differ there.

    Raises as `render` does, for what those keys have a part in.
    """
    known = shared or Shared()
    known.check(record, of)
    return _files(Context(record, facts, footprint), renderers_of(of), known)


@functools.lru_cache(maxsize=256)
def renderers_of(keys: frozenset[str]) -> tuple[Renderer, ...]:
    """The renderers that look at any of the record's keys."""
    return tuple(each for each in all_renderers() if not each.reads.isdisjoint(keys))


def _files(context: Context, renderers: Iterable[Renderer], shared: Shared) -> tuple[RenderedFile, ...]:
    files: dict[str, RenderedFile] = {}
    for renderer in renderers:
        if not renderer.speaks(context.footprint):
            continue
        for file in shared.files(renderer, context):
            other = files.setdefault(file.path, file)
            if other is not file:
                raise NotRenderable(f"two renderers make {file.path}: {other.origin} and {file.origin}")
    return tuple(files[path] for path in sorted(files))


def owned_patterns() -> tuple[str, ...]:
    """Path patterns (fnmatch in the last part) whose files are all ours: what matches and is not rendered is stale."""
    return tuple(pattern for renderer in all_renderers() for pattern in renderer.owns)


def notices(record: Record, footprint: Footprint) -> tuple[str, ...]:
    """What the record asks for and this tree has no use for: worth a word, not an error."""
    return tuple(_notices(record, footprint))


def _notices(record: Record, footprint: Footprint) -> Iterator[str]:
    if record.interfaces and footprint.network == "none":
        yield "the record has interfaces, but the tree holds no network stack we know: none is configured"
    if record.host_keys and not footprint.sshd:
        yield "the record has ssh host keys, but the tree holds no sshd"
    if record.kerrighed is not None and footprint.kerrighed == "none":
        yield "the record has a Kerrighed session, but the tree holds no Kerrighed tools: only the node list is made"
    if (record.modules or record.blacklist) and not footprint.modules:
        yield "the record has kernel modules, but the tree holds no place to list them"
    environment = record.environment
    for wanted, there, words in (
        (
            record.time_servers,
            footprint.time != "none",
            "time servers, but the tree holds neither chrony nor timesyncd",
        ),
        (record.locale, footprint.locale_file, "a locale, but the tree holds no file for it"),
        (record.keyboard, footprint.keyboard != "none", "a keyboard, but the tree holds nothing that sets one up"),
        (record.exports, footprint.nfs_server, "exports, but the tree holds no NFS server"),
        (record.accounts.sudo, footprint.sudo, "sudo rules, but the tree holds no /etc/sudoers.d"),
        (environment.load or environment.defaults, footprint.module_tools, "modulefiles, but the tree holds no tool"),
    ):
        if wanted and not there:
            yield f"the record has {words}"
