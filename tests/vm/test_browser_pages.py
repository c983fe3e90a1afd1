"""Every page of the console in Chromium: wide and narrow, light and dark, by keyboard, and without scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from sis.head import app as head_app
from sis.inventory.clock import now
from sis.inventory.db import Inventory
from sis.wire import Event
from tests.vm.browser import Browser, Focused, Scheme, browser
from tests.vm.console_world import World, furnish, head

PAGES = {
    "map": "/",
    "map-by-state": "/?by=state",
    "node-in-sync": "/nodes/n001",
    "node-drifted": "/nodes/n013",
    "node-failed": "/nodes/n019",
    "images": "/images",
    "image": "/images/compute",
    "image-diff": "/images/compute?before=1&after=3",
    "drift": "/drift",
    "events": "/events",
    "events-of-node": "/events?kind=state&node=n019",
    "ask-sync": "/ask?do=sync&nodeset=@rack1",
    "ask-deploy-hindered": "/ask?do=deploy&nodeset=n[001-008]",
    "audit": "/audit",
    "rollouts": "/rollouts",
    "rollout": "/rollouts/1",
    "figures": "/figures",
    "settings": "/settings",
    "edit": "/edit?nodeset=@rack1",
    "node-file": "/nodes/n001/file?path=/etc/hostname",
    "jobs": "/jobs",
    "job": "/jobs/1",
    "job-failed": "/jobs/2",
    "wizard": "/wizard",
    "wizard-preflight": "/wizard/preflight",
    "wizard-packages": "/wizard/packages",
    "wizard-configure": "/wizard/configure",
    "wizard-head": "/wizard/head",
    "wizard-build": "/wizard/build",
    "wizard-nodes": "/wizard/nodes",
    "wizard-boot": "/wizard/boot",
    "wizard-deploy": "/wizard/deploy",
    "wizard-test": "/wizard/test",
    "no-such-node": "/nodes/n999",
}
"""Each page, in the states that look different; a name is the screenshot's."""

SIZES = {1440: 900, 390: 844}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
NO_PAGES = {"/login", "/static/{name}", "/jobs/{number}/log"}
EXPECTED = {"no-such-node": "404", "ask-deploy-hindered": "409"}
"""Pages that are faults on purpose; the browser puts their status on its console."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    state = tmp_path_factory.mktemp("console")
    furnish(state)
    with head(state) as running:
        running.sis("deploy", "n[001-010]", "--canary", "2", "--then", "4", "--max-fail", "20%", "-y")
        yield running


@pytest.fixture(scope="module")
def chromium(world: World) -> Iterator[Browser]:
    with browser(world.url) as opened:
        opened.open(world.login("admin"))
        yield opened


@pytest.fixture
def page(chromium: Browser) -> Iterator[Browser]:
    """The browser as every test finds it: wide, light, scripts running, an empty console."""
    chromium.scripts(True)
    chromium.size(1440, 900)
    chromium.scheme("light")
    chromium.complaints()
    yield chromium
    chromium.scripts(True)


def test_every_page_of_the_head_is_among_those_looked_at(tmp_path: Path, world: World) -> None:
    missing = [
        path
        for path in served_pages(tmp_path, world.inventory)
        if not any(re.fullmatch(re.sub(r"\{\w+\}", "[^/?]+", path), each.partition("?")[0]) for each in PAGES.values())
    ]
    assert missing == []


def served_pages(state: Path, inventory: Inventory) -> list[str]:
    """The paths of the head that give pages."""
    routes = head_app.create(state, inventory).routes
    return sorted(
        route.path  # type: ignore[attr-defined]
        for route in routes
        if "GET" in (getattr(route, "methods", None) or ())
        and not getattr(route, "include_in_schema", True)
        and route.path not in NO_PAGES  # type: ignore[attr-defined]
        and not route.path.startswith("/api/")  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_at_each_size_and_in_both_modes(page: Browser, screens: Path, name: str, width: int) -> None:
    page.size(width, SIZES[width])
    for scheme in SCHEMES:
        page.scheme(scheme)
        page.open(PAGES[name])
        page.screenshot(screens / f"{name}-{width}-{scheme}.png")
        assert page.overflow() == []
        assert page.axe() == []
    assert [each for each in page.complaints() if EXPECTED.get(name, "no") not in each] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_the_same_without_scripts(page: Browser, name: str) -> None:
    page.open(PAGES[name])
    if page.there("#live:not([hidden])"):
        page.live()
    with_scripts = page.text.replace("live\n", "")
    page.scripts(False)
    page.open(PAGES[name])
    assert not page.there("#live:not([hidden])")
    assert ageless(page.text) == ageless(with_scripts)


def ageless(text: str) -> str:
    """Without how long ago something was: it goes on between two looks."""
    return re.sub(r"\d+ (seconds?|s|min|minutes?|h|hours?|d|days?)( ago)?", "…", text)


def test_what_is_asked_for_without_scripts_is_done(page: Browser, world: World) -> None:
    page.scripts(False)
    page.open("/nodes/n002")
    page.press("Check")
    assert "Asked: Check." in page.text
    (newest, *_) = world.inventory.audit.last()
    assert (newest.who, newest.action, newest.target, newest.outcome) == ("ada", "console check", "n002", "ok")


@pytest.mark.parametrize("name", [name for name in PAGES if name != "events"])
def test_the_keyboard_reaches_whatever_can_be_done_and_is_seen_there(page: Browser, name: str) -> None:
    page.open(PAGES[name])
    actionable = page.run(
        "return [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, textarea')]"
        ".filter(e => e.checkVisibility() && !e.matches(':disabled') && e.tabIndex >= 0).length"
    )
    reached = page.tabs()
    assert unseen(reached) == []
    assert len([each for each in reached if each.tag in ACTIONABLE]) == actionable
    assert (reached[0].tag, reached[0].name) == ("a", "Skip to content")


ACTIONABLE = ("a", "button", "input", "select", "summary", "textarea")


def unseen(reached: list[Focused]) -> list[Focused]:
    return [each for each in reached if not each.shown]


def test_a_node_is_found_checked_and_left_by_keyboard_alone(page: Browser) -> None:
    page.open("/")
    reach(page, "a", "n003")
    page.leave(lambda: page.type(Keys.ENTER))
    assert page.path.startswith("/nodes/n003")
    reach(page, "button", "Check")
    page.leave(lambda: page.type(Keys.ENTER))
    assert "Asked: Check." in page.text


def reach(page: Browser, tag: str, name: str) -> None:
    """Press Tab until the thing of this name has the keyboard."""
    for _ in range(120):
        focused = page.tab()
        if focused.tag == tag and name in focused.name:
            return
    raise AssertionError(f"the Tab key does not lead to {tag} {name!r}")


def test_the_map_follows_what_happens(page: Browser, world: World) -> None:
    page.open("/")
    page.live()
    node = world.inventory.nodes.get("n024")
    assert page.attribute("#n-n024", "data-at") == "defined"
    world.inventory.access.arm([node.id])
    page.until(lambda: page.attribute("#n-n024", "data-at") == "armed", "n024 is armed on the map")
    world.inventory.access.issue_token(node.id)
    failed = Event(time=now(), stage="pulling", outcome="failed", message="disk full")
    world.inventory.history.record_events(node.id, [failed])
    page.until(lambda: page.texts("#n-n024 b") == ["F"], "n024 is red on the map")
    assert "disk full" in page.attribute("#n-n024", "title")
    world.inventory.access.disarm([node.id])
