"""Default modulefiles of Environment Modules and Lmod, and what every login loads."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.rendered import RenderedFile, header, plain_file, text_file
from configurator.renderers import Context, renderer

NAME = "environment"


@renderer(
    NAME,
    reads="environment",
    speaks=lambda footprint: bool(footprint.module_tools),
    owns=("/etc/profile.d/zz-sis-modules.sh", "/etc/profile.d/zz-sis-modules.csh"),
)
def environment(context: Context) -> Iterator[RenderedFile]:
    wanted, footprint = context.record.environment, context.footprint
    folder = wanted.path or footprint.modulefiles
    for software in wanted.defaults:
        here = f"{folder}/{software.name}"
        if "environment-modules" in footprint.module_tools:
            # Its first word must be the cookie, so the header comes second.
            lines = ["#%Module1.0", header(NAME), f'set ModulesVersion "{software.version}"']
            yield plain_file(f"{here}/.version", NAME, lines)
        if "lmod" in footprint.module_tools:
            lines = [f"-- {header(NAME)}", f'module_version("{software.name}/{software.version}", "default")']
            yield plain_file(f"{here}/.modulerc.lua", NAME, lines)
    if wanted.load:
        yield from _at_login(" ".join(wanted.load))


def _at_login(names: str) -> Iterator[RenderedFile]:
    """Once a login: what a user unloads stays away in the shells below."""
    shell = [
        'if [ -z "${SIS_MODULES_LOADED-}" ] && command -v module >/dev/null 2>&1; then',
        "    export SIS_MODULES_LOADED=1",
        f"    module load {names}",
        "fi",
    ]
    yield text_file("/etc/profile.d/zz-sis-modules.sh", NAME, shell)
    c_shell = [
        "if ( ! $?SIS_MODULES_LOADED && $?MODULESHOME ) then",
        "    setenv SIS_MODULES_LOADED 1",
        f"    module load {names}",
        "endif",
    ]
    yield text_file("/etc/profile.d/zz-sis-modules.csh", NAME, c_shell)
