"""What every page of the wizard has around it: the way, where one is on it, and the steps before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import Query

from sis.head.pages.frame import Console
from sis.head.wizard.survey import Survey, Surveyor

if TYPE_CHECKING:
    from sis.head.app import Head

SpecName = Annotated[str, Query(max_length=63)]


class Wizard:
    """The wizard's pages of one head."""

    def __init__(self, head: Head, console: Console) -> None:
        self.head = head
        self.console = console
        self.surveyor = Surveyor(head)

    def around(self, key: str, spec: str = "", *, afresh: bool = False) -> dict[str, Any]:
        """Values every page of the wizard needs, for the step `key`. Raises NotFound for an unknown spec."""
        since = self.head.inventory.stream.newest()
        survey = self.surveyor.look(spec, afresh=afresh)
        before, after = survey.beside(key)
        return {
            "survey": survey,
            "key": key,
            "before": before,
            "after": after,
            "spec": survey.spec,
            "since": since,
            "note": "",
            "faults": (),
        }

    @staticmethod
    def where(key: str, **query: str) -> str:
        """The address of a step's page."""
        said = {name: value for name, value in query.items() if value}
        return f"/wizard/{key}" + (f"?{urlencode(said)}" if said else "")


def selected(survey: Survey) -> str:
    """The image reference nodes get by default: the spec's first channel, else its newest generation."""
    image = survey.image
    if image is None:
        return ""
    channel = next(iter(image.channels), "")
    return f"{image.name}@{channel}" if channel else image.name
