"""Headless Chromium from the system, a fresh profile for every test, and no way out to any network."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from servers import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Playwright, Request, Route

SCREENS = Path(__file__).parents[2] / "build" / "screens"
"""Screenshots, kept for people to look at."""

_QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
)
_HERE = ("file:", "http://127.0.0.1", "http://localhost", "http://[::1]")


@dataclass
class Opened:
    """A page in the browser, with what it asked for and what it complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    """Everything that was asked for besides the page itself and what is inside it."""
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console, uncaught exceptions, dialogs."""

    def violations(self, but: Sequence[str] = ()) -> list[str]:
        """Let axe-core look at the page, and give what it found against WCAG and its own best practice.

        *but* are rules that it is not asked about.
        """
        from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(Axe().axe_script)
        options = {
            "iframes": False,  # it is not in them, and would wait for them to answer
            "resultTypes": ["violations"],
            "rules": {name: {"enabled": False} for name in but},
        }
        found: list[dict[str, Any]] = self.page.evaluate("options => axe.run(options)", options)["violations"]
        return [f"{entry['id']}: {node['html'][:160]}" for entry in found for node in entry["nodes"]]

    def screenshot(self, name: str, *, whole: bool = True) -> Path:
        """Keep a picture as ``build/screens/NAME.png``."""
        path = SCREENS / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=whole)
        return path

    @property
    def overflow(self) -> int:
        """How many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """What drives browsers."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # a busy machine is slow, not wrong
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """One browser for all tests; each page gets a profile of its own.

    Where it is installed it is the one without windows, which takes a third of the time for a page.
    """
    with _launched(playwright, programs.find("chromium-headless-shell")) as browser:
        yield browser


@pytest.fixture(scope="session")
def whole_chromium(playwright: Playwright) -> Iterator[Browser]:
    """The browser with all of its parts, as its viewer of PDF."""
    with _launched(playwright, None) as browser:
        yield browser


@contextlib.contextmanager
def _launched(playwright: Playwright, program: str | None) -> Iterator[Browser]:
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    browser = playwright.chromium.launch(
        executable_path=program or programs.require("chromium"),
        args=[*_QUIET, *(["--no-sandbox"] if root else [])],
    )
    yield browser
    browser.close()


@pytest.fixture
def open_page(request: pytest.FixtureRequest) -> Iterator[Callable[..., Opened]]:
    """Open a file, or a URL of this machine: ``open_page(path, width=390, whole=True)``."""
    contexts = []

    def start(
        target: Path | str,
        *,
        width: int = 1280,
        height: int = 900,
        scheme: str = "light",
        scripts: bool = True,
        whole: bool = False,
    ) -> Opened:
        url = target.as_uri() if isinstance(target, Path) else target
        browser: Browser = request.getfixturevalue("whole_chromium" if whole else "chromium")
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            java_script_enabled=scripts,
        )
        contexts.append(context)
        opened = Opened(context.new_page())
        home = url.partition("#")[0]

        def ask(wanted: Request) -> None:
            inside = wanted.url.startswith(("data:", "blob:", "about:"))
            if not inside and wanted.url.partition("#")[0] != home:
                opened.requests.append(wanted.url)

        def stop(route: Route) -> None:
            if route.request.url.startswith(_HERE):
                route.continue_()
            else:
                route.abort()

        def dismiss(dialog: Dialog) -> None:
            opened.complaints.append(dialog.message)
            dialog.dismiss()

        def heard(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                opened.complaints.append(message.text)

        context.on("request", ask)
        context.route("**/*", stop)
        page = opened.page
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("dialog", dismiss)
        page.on("console", heard)
        page.goto(url)
        return opened

    yield start
    for context in contexts:
        context.close()
