"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REQUIRED = os.environ.get("TACO_REQUIRE_BROWSER") == "1"
"""Whether tests fail, instead of being skipped, where there is no browser."""

PHONE_WIDTH = 375
"""CSS pixels: a small phone of today."""

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Watched:
    """A page, and what went on in it."""

    page: "Page"
    errors: list[str] = field(default_factory=list)
    """Uncaught errors, and what the console shows as one; a violated policy among them."""
    hosts: set[str] = field(default_factory=set)
    """Whom it asked for anything, as host:port; a local file and a data URL are nobody."""

    def barriers(self) -> list[str]:
        """What axe-core finds on the page that keeps people out: contrast, labels, roles."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]

    def scrolls_sideways(self) -> bool:
        """Whether something is wider than the window."""
        root = "document.documentElement"
        return bool(self.page.evaluate(f"{root}.scrollWidth > {root}.clientWidth"))


@contextmanager
def running_browser() -> Iterator["Browser"]:
    """A browser; where there is none the test is skipped, unless it is required."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        message = f"NO BROWSER: none of {', '.join(_NAMES)} is installed (apt install chromium)"
        if REQUIRED:
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            # Root, as in a container, has no sandbox to be in.
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        yield browser
        browser.close()


@contextmanager
def watched_page(
    browser: "Browser", *, width: int = 1280, height: int = 800, dark: bool = False
) -> Iterator[Watched]:
    """A page of its own: no cookie, key or cache of another test.

    Args:
        browser: from `running_browser`.
        width: of the window in CSS pixels.
        height: likewise.
        dark: what the system asks pages for.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    watched = Watched(context.new_page())
    page = watched.page
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.on("console", lambda said: _note_error(watched, said.type, said.text))
    page.on("request", lambda request: _note_host(watched, request.url))
    try:
        yield watched
    finally:
        context.close()


def _note_error(watched: Watched, kind: str, text: str) -> None:
    if kind == "error":
        watched.errors.append(text)


def _note_host(watched: Watched, url: str) -> None:
    if host := urlsplit(url).netloc:
        watched.hosts.add(host)
