"""Templates: templates/<concern>/*.j2, sandboxed Jinja2 where a name that is not defined is an error.

The rule: a file with sections is a template; a file of rows, or of one value, is a plain function in its renderer.
Values are data, never templates: what they hold is not looked at again.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configurator.rendered import RenderedFile, header

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def from_template(path: str, origin: str, template: str, values: dict[str, Any], *, mode: int = 0o644) -> RenderedFile:
    """The file `path` from templates/<template>, which sees `values` and `header`."""
    text = _environment().get_template(template).render(values, header=header(origin))
    return RenderedFile(path=path, mode=mode, content=text.encode(), origin=origin)


@functools.cache
def _environment() -> Environment:
    from jinja2 import FileSystemLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
