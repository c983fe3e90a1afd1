"""A real headless Chromium for tests: pages as people get them, at any size, light or dark, with or without scripts.

Live pages replace their parts at any moment. So no element is ever held: what is read, or found and clicked, is so in
one script, between two such replacements; what the browser refuses while a page goes and the next comes is asked again.
"""

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

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

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
_WAIT_S = 90.0
_POLL_S = 0.05
"""Pages wait for a head and a browser that share two busy cores; a failing test may take its time."""

_READ = """
const [selector, name] = arguments;
return [...document.querySelectorAll(selector)].map(
    e => name === null ? e.innerText ?? e.textContent ?? "" : e.getAttribute(name) ?? "");
"""
_CLICK = """
const [selector, words, leaving] = arguments;
if (leaving && window.sisTestBefore !== "here") return null;
const says = e => (e.innerText || "").trim();
const seen = [...document.querySelectorAll(selector)].filter(e => e.checkVisibility());
const found = seen.filter(e => says(e).includes(words));
if (found.length !== 1) return `${found.length} say ${JSON.stringify(words)} of ${JSON.stringify(seen.map(says))}`;
const [element] = found;
element.scrollIntoView({block: "center", behavior: "instant"});
const at = element.getClientRects()[0];
const top = document.elementFromPoint(at.left + at.width / 2, at.top + at.height / 2);
if (!element.contains(top)) return `it lies below ${top && top.outerHTML.slice(0, 200)}`;
if (leaving) window.sisTestBefore = "left";
element.click();
return null;
"""
_TAKE = """
const [at, value] = arguments, field = document.querySelector(at);
if (!field) return "missing";
if (field.tagName !== "SELECT") {
    field.focus({preventScroll: false});
    field.select();
    return document.activeElement === field ? "type" : "not to be typed into";
}
if (![...field.options].some(option => option.value === value)) return "no such choice";
field.focus();
field.value = value;
for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, {bubbles: true}));
return "chosen";
"""
_NEXT_PAGE = """
return !("sisTestBefore" in window) && document.readyState === "complete" && location.href !== "about:blank";
"""

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
        return str(self._asked("return document.body ? document.body.innerText : ''"))

    def texts(self, selector: str) -> list[str]:
        """What each element there says, as it is seen."""
        return [str(each).strip() for each in self._asked(_READ, selector, None)]

    def attributes(self, selector: str, name: str) -> list[str]:
        """This attribute of each element there; empty where it has none."""
        return [str(each) for each in self._asked(_READ, selector, name)]

    def says(self, selector: str) -> str:
        """What the one element there says."""
        (only,) = self.texts(selector)
        return only

    def attribute(self, selector: str, name: str) -> str:
        """This attribute of the one element there."""
        (only,) = self.attributes(selector, name)
        return only

    def there(self, selector: str) -> bool:
        """Whether the page has such an element."""
        return bool(self._asked("return document.querySelector(arguments[0]) !== null", selector))

    def click(self, selector: str, words: str = "") -> None:
        """Click the one element seen there that says these words. Raises AssertionError with what else there is."""
        self._click(selector, words, leaving=False)

    def press(self, text: str) -> None:
        """Press the button that says this, and wait for the page it leads to."""
        self.follow("button", text)

    def follow(self, selector: str, words: str = "") -> None:
        """Click what leads to another page, and wait for that."""
        self.leave(lambda: self._click(selector, words, leaving=True))

    def leave(self, act: Callable[[], object]) -> None:
        """Do what leads to another page, and wait until that one is loaded."""
        self._asked("window.sisTestBefore = 'here'")
        act()
        self.until(lambda: self.run(_NEXT_PAGE), "the next page")

    def fill(self, name: str, value: str) -> None:
        """Write into the field of this name, or choose in it."""
        at = f"[name={json.dumps(name)}]:not([type=hidden])"

        def filled() -> bool:
            how = self.run(_TAKE, at, value)
            if how == "type":
                self._order("Input.insertText", {"text": value}) if value else self.type(Keys.DELETE)
            held = self.run("const e = document.querySelector(arguments[0]); return e && e.value", at)
            return how in ("type", "chosen") and held == value

        self.until(filled, f"the field {name} holds {value!r}")

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, holds: Callable[[], object], what: str, timeout_s: float = _WAIT_S) -> None:
        """Wait for it. Raises AssertionError with what the page says when it does not come.

        What the browser refuses meanwhile (an element or a whole page was just replaced) is "not yet".
        """
        deadline = time.monotonic() + timeout_s
        while True:
            refused: WebDriverException | None = None
            try:
                if holds():
                    return
            except WebDriverException as error:
                refused = error
            if time.monotonic() > deadline:
                said = f"\n{refused.msg}" if refused else f"\n{self.path}\n{self.text[:3000]}"
                raise AssertionError(f"not within {timeout_s:.0f} s: {what}{said}") from refused
            time.sleep(_POLL_S)

    def live(self) -> None:
        """Wait until the page follows what happens."""
        self.until(lambda: self.texts("#live") == ["live"], "the page is live")

    def _click(self, selector: str, words: str, *, leaving: bool) -> None:
        """Once, also when its answer is lost with the page it leads away from."""
        hindrance: list[str | None] = []

        def clicked() -> bool:
            hindrance[:] = [self.run(_CLICK, selector, words, leaving)]
            return hindrance == [None]

        try:
            self.until(clicked, f"a click on {selector} {words!r}")
        except AssertionError as error:
            raise AssertionError(f"{hindrance}\n{error}") from error

    def _asked(self, script: str, *arguments: object) -> Any:
        """What a script that changes nothing answers, asked again while one page makes room for the next."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                return self.run(script, *arguments)
            except WebDriverException:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_S)

    # -- what is wrong with it -------------------------------------------------------------------------------------

    def complaints(self) -> list[str]:
        """What the browser put on its console since the last time: refused contents, script errors, faults."""
        told = self.driver.execute("getLog", {"type": "browser"})["value"]
        return [f"{each['level']}: {each['message']}" for each in told]

    def axe(self) -> list[str]:
        """Serious and critical findings of axe on the page shown, a line each with the elements they are about."""
        found: list[dict[str, Any]] = []

        def looked() -> bool:
            self.run(AXE.read_text())
            said = self.driver.execute_async_script(
                "const done = arguments[arguments.length - 1];"
                "axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations), e => done(String(e)));"
            )
            found[:] = said if isinstance(said, list) else []
            return isinstance(said, list)

        self.until(looked, "axe has looked at a page that did not change meanwhile")
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
        ActionChains(self.driver).send_keys(keys).perform()

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
            driver.set_script_timeout(_WAIT_S)
            yield Browser(driver, home)
        finally:
            if driver is not None:
                with contextlib.suppress(WebDriverException):
                    driver.quit()
            _end(profile)


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
