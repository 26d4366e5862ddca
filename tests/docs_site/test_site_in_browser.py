"""The site in a real browser, served as any folder is."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.browser import PHONE_WIDTH, watched_page

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    """Where it is."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, capture_output=True)
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (PHONE_WIDTH, True)])
def test_pages_ask_nobody_else_and_fit(browser, site, width, dark):
    """No error, no other host, nothing wider than the window, every picture shown."""
    with watched_page(browser, width=width, dark=dark) as watched:
        for name in ("index", "how-it-works", "configuration", "http-api", "cache"):
            watched.page.goto(f"http://{site}/{name}.html")
            assert not watched.scrolls_sideways(), name
            broken = "[...document.images].filter(image => !image.naturalWidth).length"
            assert watched.page.evaluate(broken) == 0, name
        assert watched.errors == []
        assert watched.hosts == {site}


def test_search_finds_a_key(browser, site):
    """And leads to the page that explains it."""
    with watched_page(browser) as watched:
        page = watched.page
        page.goto(f"http://{site}/index.html")
        page.get_by_role("textbox", name="Search").fill("compression_relaxation_tokens")
        page.get_by_role("link", name="Configuration").first.wait_for()
        assert watched.errors == []
