"""The tree of errors: what happened, what to do about it, and the exit code.

    SisError                  1   anything below
    ├── UsageFault            2   the command line is wrong
    ├── NotFound              1   unknown image, node, channel, file (near names offered)
    ├── SpecInvalid           1   one or more faults in text the admin wrote, each with file and line
    ├── SomeNodesFailed       3
    ├── DifferencesFound      4   `check` and `diff`
    ├── Refused               5   a guard said no (foreign disk, no space, unarmed node)
    │   └── NoSpace           5
    ├── Corrupt               1   bytes do not match their hash, or are malformed
    │   └── TooNew            1   whole, but written by a newer sis
    ├── Unreachable           1   the other side did not answer, or broke off
    ├── Locked                1   someone else is at work
    ├── Conflict              1   someone else changed it since it was read; nothing was overwritten
    └── ProgramFailed         1   a program ended with an error; carries the end of its output

Only `sis.cli` turns these into text and exit codes. Any other exception is a bug and shows its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class SisError(Exception):
    """A fault the user can understand and act on: `message`, an optional `hint`, and further `details` lines."""

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


class UsageFault(SisError):
    exit_code = 2


class NotFound(SisError):
    """A name that is not there. Build it with `NotFound.of` to offer near names."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> NotFound:
        """`kind` is the noun shown ("image", "node"); near names among `known` become the hint."""
        names = sorted(known)
        near = near_names(name, names)
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        elif names:
            shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            hint = f"there is: {shown}"
        else:
            hint = f"there is no {kind} yet"
        return cls(f"no such {kind}: {name}", hint=hint)


class SpecInvalid(SisError):
    """All faults of a text at once; `details` holds one `file:line: path: fault` each."""


class SomeNodesFailed(SisError):
    exit_code = 3


class DifferencesFound(SisError):
    exit_code = 4


class Refused(SisError):
    exit_code = 5


class NoSpace(Refused):
    pass


class Corrupt(SisError):
    pass


class TooNew(Corrupt):
    """What this program does not understand, and a newer one does."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="the store was written by a newer sis: upgrade sis here")


class Unreachable(SisError):
    pass


class Locked(SisError):
    pass


class Conflict(SisError):
    pass


class ProgramFailed(SisError):
    """A program exited with an error. `output` is the end of what it printed."""

    def __init__(self, argv: Sequence[str], returncode: int, output: str, *, hint: str | None = None) -> None:
        tail = output.strip().splitlines()[-30:]
        how = f"exit code {returncode}" if returncode >= 0 else f"signal {-returncode}"
        super().__init__(f"{argv[0]} failed ({how})", hint=hint, details=tail)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output


def near_names(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The names among `known` closest to `name`, best first."""
    import difflib

    return difflib.get_close_matches(name, list(known), n=limit, cutoff=0.6)
