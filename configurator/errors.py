"""What can go wrong here: a message, an optional hint, further detail lines, an exit code."""

from __future__ import annotations

from collections.abc import Sequence


class ConfiguratorError(Exception):
    """A fault the user can understand and act on."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)

    def __str__(self) -> str:
        lines = [self.message, *self.details]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class RecordInvalid(ConfiguratorError):
    """One or more values of a record (or of the facts) are not what they mean; `details` has one line for each."""


class NotRenderable(ConfiguratorError):
    """Every value is good, but not for what this tree holds."""


class SiteInvalid(ConfiguratorError):
    """A site file is not what it should be; the message or each of `details` begins with FILE: or FILE:LINE:."""


class ApplyRefused(ConfiguratorError):
    """A rendered file cannot be written where it belongs without following a link or destroying a directory."""
