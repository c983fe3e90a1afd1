"""The admin's hands in a browser: from an empty head to machines being installed, by the wizard alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.vm.browser import Browser, browser
from tests.vm.gateway import proxy
from tests.vm.hands import NODES
from tests.vm.lab import inside

if TYPE_CHECKING:
    from tests.vm.story import Story

SEARCH_TIMEOUT_S = 300.0
BUILD_TIMEOUT_S = 2400.0
NETBOOT_TIMEOUT_S = 900.0


class ByBrowser:
    """Works the wizard of the head in the lab, from inside the lab's network. Every step is kept as a picture."""

    def __init__(self, page: Browser, namespace: str, screens: Path) -> None:
        self._page = page
        self._namespace = namespace
        self._screens = screens
        self._taken = 0

    def set_up_head(self, story: Story) -> None:
        story.sis("head", "init")
        story.lay_out_files()
        story.start_head()
        page = self._page
        page.home = f"http://{story.the_lab().address}:8700"
        login = story.sis("web", "login", "--role", "admin", show=False).strip()
        with inside(self._namespace):
            page.open(login)
            page.open("/wizard")
            self._keep("way")
            page.follow("main a[href^='/wizard/preflight']", "0. Preflight")
            self._expect("Nothing is missing")
            self._keep("preflight")
            self._onward("Packages")
            self._packages(story)
            self._configure()
            self._network(story)

    def build(self, story: Story) -> None:
        page = self._page
        with inside(self._namespace):
            page.open("/wizard/build")
            page.fill("note", "first edition, by the wizard")
            page.press("Build compute")
            page.until(lambda: "is running" in page.text, "the build is running")
            self._watch(story, lambda: "is running" not in page.text, BUILD_TIMEOUT_S, "the build has ended")
            self._keep("built")
            self._expect("compute@1:")
            self._expect("nodes can boot from the network into it")

    def publish(self, story: Story) -> None:
        page = self._page
        with inside(self._namespace):
            page.open("/wizard/build")
            page.fill("channel", "stable")
            page.press("Publish")
            self._expect("published as stable")
            self._keep("published")

    def define(self, story: Story, macs: Sequence[str]) -> None:
        page = self._page
        with inside(self._namespace):
            page.open("/wizard/nodes")
            page.fill("nodeset", NODES)
            page.fill("groups", "rack1")
            page.fill("layout", "single")
            page.press("Preview")
            self._expect("n001 10.77.0.11 to be collected compute@stable single rack1")
            self._keep("preview")
            page.press("Define 2 nodes")
            self._expect(f"2 nodes defined: {NODES}")
            self._onward("Network boot")
            for machine in story.machines():
                machine.power_on()
            self._watch(story, lambda: all(mac in page.text for mac in macs), NETBOOT_TIMEOUT_S, "both machines asked")
            for machine in story.machines():
                machine.power_cut()
            for name, mac in zip(("n001", "n002"), macs, strict=True):
                page.fill(f"node-{mac}", name)
            self._keep("collected")
            page.press("Accept all 2 with a name")
            self._expect("every node has its MAC")

    def deploy(self, story: Story) -> None:
        page = self._page
        with inside(self._namespace):
            page.open("/wizard/deploy")
            self._expect("compute@1")
            page.fill("typed", "2")
            self._keep("deploy")
            page.press("Install 2 nodes")
            self._expect("at work 2")
            self._keep("armed")

    def watch(self, story: Story) -> None:
        """The page that was there when the head was stopped follows the one that came after it."""
        page = self._page
        with inside(self._namespace):
            page.live()
            self._expect("at work 2")
            self._keep("installing")

    def look(self, story: Story) -> None:
        page = self._page
        with inside(self._namespace):
            page.complaints()
            page.open("/wizard/deploy")
            self._expect("installed 2")
            self._keep("installed")
            page.open("/wizard/test")
            self._expect("2 of 2 in-sync")
            page.press("Check 2 nodes")
            self._keep("test")
            page.open("/wizard")
            self._expect("Everything is done")
            page.open("/")
            self._keep("cluster")
            assert page.complaints() == []

    def head_words(self, story: Story) -> list[str]:
        """No more than that: where DHCP and TFTP are served was said in the wizard."""
        return []

    # -- the first steps -------------------------------------------------------------------------------------------

    def _packages(self, story: Story) -> None:
        page = self._page
        page.fill("name", "compute")
        page.press("Make my own spec")
        page.click("details[data-key=text] summary")
        page.fill("text", story.spec(packages=[], motd="golden, first edition"))
        page.press("Save the text")
        page.fill("find", "tree")
        page.press("Find")
        self._watch(story, lambda: page.there("button[name=add][value=tree]"), SEARCH_TIMEOUT_S, "the package is found")
        self._keep("packages")
        page.follow("button[name=add][value=tree]")
        page.until(lambda: page.there("button[name=remove][value=tree]"), "the package is in the spec")
        self._onward("Configure")

    def _configure(self) -> None:
        page = self._page
        self._keep("configure")
        page.press("Save settings")
        self._expect("Saved.")
        self._onward("Head")

    def _network(self, story: Story) -> None:
        page = self._page
        page.fill("cluster", "demo")
        page.fill("cidr", "10.77.0.0/24")
        page.fill("head", story.the_lab().address)
        page.fill("domain", "demo.cluster")
        page.fill("dhcp.range", "10.77.0.200-10.77.0.250")
        page.press("Save the network")
        self._expect("a network is defined")
        page.fill("interface", story.the_lab().bridge)
        page.press("Start DHCP and TFTP")
        self._watch(story, lambda: "On: full DHCP and TFTP" in page.text, 120, "DHCP and TFTP are on")
        self._keep("head")

    # -- tools -----------------------------------------------------------------------------------------------------

    def _onward(self, step: str) -> None:
        """By the button at the end of the page to the next step."""
        page = self._page
        page.follow(".onward a.main", step)

    def _expect(self, words: str) -> None:
        page = self._page
        page.until(lambda: words in " ".join(page.text.split()), repr(words))

    def _watch(self, story: Story, holds: Callable[[], object], timeout_s: float, what: str) -> None:
        """Wait while the page follows by itself; it is not loaded anew."""
        started = time.monotonic()
        self._page.until(holds, what, timeout_s)
        story.tell(f"    {what} ({time.monotonic() - started:.0f} s)")

    def _keep(self, name: str) -> None:
        self._taken += 1
        self._page.screenshot(self._screens / f"wizard-{self._taken:02}-{name}.png")
        assert self._page.overflow() == []


def by_browser(screens: Path) -> Callable[[Story], AbstractContextManager[ByBrowser]]:
    """Hands that work the wizard; the head gets a way out of the lab for the packages it builds from."""

    @contextlib.contextmanager
    def taken_up(story: Story) -> Iterator[ByBrowser]:
        namespace = story.the_lab().namespace
        with proxy(namespace) as url, _opened(namespace) as page:
            story.environment = {"http_proxy": url, "https_proxy": url}
            yield ByBrowser(page, namespace, screens)

    return taken_up


@contextlib.contextmanager
def _opened(namespace: str) -> Iterator[Browser]:
    """A browser that lives in the namespace. It is spoken to from inside, and ended from inside."""
    with contextlib.ExitStack() as stack:
        with inside(namespace):
            page = stack.enter_context(browser())
        try:
            yield page
        finally:
            with inside(namespace):
                stack.close()
