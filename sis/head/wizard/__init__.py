"""The wizard: the steps from an empty head to nodes in-sync, each a page over what is really there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

from sis.head.pages.frame import Console
from sis.head.wizard import booting, building, configuring, defining, deploying, heading, packaging, starting
from sis.head.wizard.frame import Wizard

if TYPE_CHECKING:
    from sis.head.app import Head

STEPS = (starting, packaging, configuring, heading, building, defining, booting, deploying)


def add_routes(app: FastAPI, head: Head, console: Console) -> None:
    wizard = Wizard(head, console)
    for each in STEPS:
        each.add_routes(app, wizard)
