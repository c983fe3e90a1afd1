"""A real headless Chromium for tests: pages as people get them, at any size, light or dark, with or without scripts."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from sis.system import process

AXE = Path(__file__).resolve().parents[2] / "fixtures/web/axe/axe.min.js"
GRAVE = ("serious", "critical")

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
)
_WAIT_S = 20.0
_POLL_S = 0.05

Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Focused:
    """What holds the keyboard: its tag, its text or name, and whether it is seen to hold it."""

    tag: str
    name: str
    shown: bool


class Browser:
    """One Chromium. Sizes are CSS pixels; `home` is put before paths that begin with a slash."""

    def __init__(self, driver: Chrome, home: str) -> None:
        self.driver = driver
        self.home = home.rstrip("/")
        self.size(1440, 900)

    # -- how it looks ----------------------------------------------------------------------------------------------

    def size(self, width: int, height: int) -> None:
        """The view port. Narrow ones are phones: touch, and no room beside the content."""
        self._order(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def scheme(self, scheme: Scheme) -> None:
        """The system's light or dark mode."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._order("Emulation.setEmulatedMedia", {"features": features})

    def scripts(self, allowed: bool) -> None:
        """Whether pages loaded from now on run their scripts."""
        self._order("Emulation.setScriptExecutionDisabled", {"value": not allowed})

    def screenshot(self, path: Path) -> None:
        """The whole page, also what lies below the view port, as PNG."""
        answer = self._order("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    # -- where it is -----------------------------------------------------------------------------------------------

    def open(self, where: str) -> None:
        """Load a page, up to its load event."""
        self.driver.get(self.home + where if where.startswith("/") else where)

    @property
    def path(self) -> str:
        """Path and query of the page shown."""
        return self.driver.current_url.removeprefix(self.home)

    @property
    def text(self) -> str:
        """What the page says, as it is seen."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def every(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def button(self, text: str) -> WebElement:
        """The one button that says this. Raises AssertionError with the buttons there are."""
        buttons = [each for each in self.every("button") if each.is_displayed()]
        found = [each for each in buttons if text in each.text]
        assert len(found) == 1, f"{len(found)} buttons say {text!r}; there are: {[each.text for each in buttons]}"
        return found[0]

    def press(self, text: str) -> None:
        """Press the button that says this, and wait for the page it leads to."""
        self.leave(self.button(text).click)

    def leave(self, act: Callable[[], object]) -> None:
        """Do what leads to another page, and wait until that one is loaded."""
        before = self.driver.find_element(By.TAG_NAME, "html")
        act()
        self.until(lambda: _gone(before) and self.run("return document.readyState") == "complete", "the next page")

    def fill(self, name: str, value: str) -> None:
        """Write into the field of this name, or choose in it."""
        at = f"[name={json.dumps(name)}]:not([type=hidden])"
        field = self.find(at)
        if field.tag_name == "select":
            next(each for each in self.every(f"{at} option") if each.get_property("value") == value).click()
        else:
            field.clear()
            field.send_keys(value)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, holds: Callable[[], object], what: str, timeout_s: float = _WAIT_S) -> None:
        """Wait for it. Raises AssertionError with what the page says when it does not come."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s:.0f} s: {what}\n{self.path}\n{self.text[:3000]}")
            time.sleep(_POLL_S)

    # -- what is wrong with it -------------------------------------------------------------------------------------

    def complaints(self) -> list[str]:
        """What the browser put on its console since the last time: refused contents, script errors, faults."""
        told = self.driver.execute("getLog", {"type": "browser"})["value"]
        return [f"{each['level']}: {each['message']}" for each in told]

    def axe(self) -> list[str]:
        """Serious and critical findings of axe on the page shown, a line each with the elements they are about."""
        self.run(AXE.read_text())
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations), e => done(String(e)));"
        )
        assert isinstance(found, list), found
        return [
            f"{each['impact']} {each['id']}: {each['help']}: "
            + "; ".join(f"{node['target']} {node['failureSummary']}" for node in each["nodes"][:5])
            for each in found
            if each["impact"] in GRAVE
        ]

    def overflow(self) -> list[str]:
        """Elements that stick out of the page to the right, so that it must be moved sideways to be read."""
        wide: list[str] = self.run(
            "const page = document.documentElement;"
            "if (page.scrollWidth <= page.clientWidth) return [];"
            "return [...document.querySelectorAll('body *')]"
            ".filter(e => e.getBoundingClientRect().right > page.clientWidth + 1)"
            ".map(e => e.tagName + '.' + e.className + ' ' + (e.textContent || '').trim().slice(0, 60)).slice(0, 8)"
            ".concat(`page: ${page.scrollWidth} of ${page.clientWidth}`);"
        )
        return wide

    # -- the keyboard ----------------------------------------------------------------------------------------------

    def type(self, keys: str) -> None:
        """Press keys where the keyboard is."""
        self.driver.switch_to.active_element.send_keys(keys)

    def tab(self) -> Focused:
        """Go on to what the Tab key leads to."""
        self.type(Keys.TAB)
        found = self.run(
            "const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();"
            "return [e.tagName.toLowerCase(), (e.innerText || e.name || e.title || e.id || '').trim(),"
            " s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1 && r.width > 1 && r.height > 1"
            " && r.right > 0 && r.bottom > 0 && r.left < innerWidth && r.top < innerHeight]"
        )
        return Focused(*found)

    def tabs(self, most: int = 400) -> list[Focused]:
        """Everything the Tab key leads to on this page, in order."""
        self.run("document.activeElement.blur(); window.scrollTo(0, 0)")
        found: list[Focused] = []
        while len(found) < most:
            focused = self.tab()
            if focused.tag in ("body", "html"):
                break
            found.append(focused)
        return found

    def _order(self, command: str, words: dict[str, Any]) -> dict[str, Any]:
        answer = self.driver.execute_cdp_cmd(command, words)
        return dict(answer or {})


@contextlib.contextmanager
def browser(home: str = "") -> Iterator[Browser]:
    """A Chromium with nothing remembered; it and all it started are gone at the end of the block."""
    program, driver_program = process.find("chromium"), process.find("chromedriver")
    assert program is not None, "chromium is missing; run 'sis doctor'"
    assert driver_program is not None, "chromedriver is missing; run 'sis doctor'"
    with tempfile.TemporaryDirectory(prefix="sis-chromium-", ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = str(program)
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = None
        try:
            driver = Chrome(options=options, service=Service(executable_path=str(driver_program)))
            yield Browser(driver, home)
        finally:
            if driver is not None:
                with contextlib.suppress(WebDriverException):
                    driver.quit()
            _end(profile)


def _gone(element: WebElement) -> bool:
    try:
        element.is_enabled()
    except StaleElementReferenceException:
        return True
    return False


def _end(profile: str) -> None:
    """End what still runs on this profile: a browser whose driver died stays otherwise."""
    for pid in _users(profile):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while _users(profile) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _users(profile: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"--user-data-dir={profile}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found
