"""`make demo`: tells the whole story once, prints a table, and leaves nothing behind."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.vm.lab import leftovers
from tests.vm.story import HOUSE, Story, StoryFailed, root_needed, table

FOLDER = HOUSE / ".demo"


def main() -> int:
    root_needed()
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else FOLDER
    start_anew(folder)
    story = Story(folder, tell=lambda line: print(line, flush=True))
    outcome = 1
    try:
        story.look_round()
        story.whole()
        outcome = 0
    except StoryFailed as error:
        print(f"\nthe story broke off: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ninterrupted; cleaning up", file=sys.stderr)
        outcome = 130
    print("\n" + table(story.rows))
    left = leftovers()
    if left:
        print("left behind:", *left, sep="\n  ", file=sys.stderr)
        outcome = outcome or 1
    return outcome


def start_anew(folder: Path) -> None:
    """Remove what an earlier telling left, but for what it downloaded."""
    state = folder / "state"
    for path in [folder / "lab", folder / "tree-1", *(state.iterdir() if state.is_dir() else ())]:
        if path.name == "cache":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
