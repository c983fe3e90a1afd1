"""sudoers drop-ins: one file a rule, readable by root alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from configurator.rendered import RenderedFile, text_file
from configurator.renderers import Context, renderer

NAME = "sudo"
_TO_ESCAPE = re.compile(r"([,:=\\])")


@renderer(NAME, reads="accounts", speaks=lambda footprint: footprint.sudo, owns=("/etc/sudoers.d/sis-*",))
def sudo(context: Context) -> Iterator[RenderedFile]:
    for rule in context.record.accounts.sudo:
        commands = ", ".join(_TO_ESCAPE.sub(r"\\\1", command) for command in rule.commands) or "ALL"
        tag = "" if rule.password else "NOPASSWD: "
        line = f"{rule.who} ALL=({rule.run_as}) {tag}{commands}"
        yield text_file(f"/etc/sudoers.d/sis-{rule.name}", NAME, [line], mode=0o440)
