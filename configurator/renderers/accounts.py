"""passwd, group, shadow and gshadow: the image's own with the site's accounts laid over them."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.accounts import merge
from configurator.errors import NotRenderable
from configurator.rendered import RenderedFile
from configurator.renderers import Context, renderer

NAME = "accounts"


@renderer(NAME, reads="accounts")
def accounts(context: Context) -> Iterator[RenderedFile]:
    wanted, own = context.record.accounts, context.footprint.accounts
    if not wanted.users and not wanted.groups:
        return
    if own is None:
        raise NotRenderable(
            "record.accounts: the tree's /etc/passwd and /etc/group cannot be read",
            hint="accounts are laid over those of an image, which must have some",
        )
    merged = merge(own, wanted)
    gid = merged.shadow_gid or 0
    secret = 0o640 if merged.shadow_gid is not None else 0o600
    yield _file("/etc/passwd", merged.passwd)
    yield _file("/etc/group", merged.group)
    yield _file("/etc/shadow", merged.shadow, mode=secret, gid=gid)
    if merged.gshadow is not None:
        yield _file("/etc/gshadow", merged.gshadow, mode=secret, gid=gid)


def _file(path: str, text: str, *, mode: int = 0o644, gid: int = 0) -> RenderedFile:
    return RenderedFile(path=path, mode=mode, gid=gid, content=text.encode("utf-8", "surrogateescape"), origin=NAME)
