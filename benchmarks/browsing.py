"""How soon Chromium has a page before a person, beside a page of one word."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BARE = "<!doctype html><title>bare</title><p>bare"
_TURNS = 10
_TIMES = """() => {
  const { loadEventEnd } = performance.getEntriesByType("navigation")[0];
  const painted = performance.getEntriesByName("first-contentful-paint")[0]?.startTime;
  return painted && loadEventEnd ? [painted, loadEventEnd] : null;
}"""


@dataclass(frozen=True, slots=True)
class Opening:
    """Milliseconds from asking for a page; None where there is no Chromium to ask."""

    paint: float | None = None  # Until it has painted some of it.
    whole: float | None = None  # Until all of it is there and its scripts have run.
    cpu: float | None = None  # That the page's thread computed by then, whatever else ran here.


def openings(addresses: Mapping[str, str], turns: int = _TURNS) -> dict[str, Opening]:
    """The median times of each address, in turns; each window is new, the first ones are left out.

    Args:
        addresses: by name; of servers, or of files.
        turns: that count.
    """
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return dict.fromkeys(addresses, Opening())
    from playwright.sync_api import sync_playwright

    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in addresses}
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
        for _ in range(turns + 1):
            for name, address in addresses.items():
                seen[name].append(open_page(browser, address))
        browser.close()
    columns = {name: zip(*times[1:], strict=True) for name, times in seen.items()}
    return {
        name: Opening(*(round(median(each), 1) for each in column))
        for name, column in columns.items()
    }


def open_page(browser: "Browser", address: str) -> tuple[float, float, float]:
    """What `Opening` has of a page, in a window of its own."""
    page = browser.new_page()
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(address)
    while (times := page.evaluate(_TIMES)) is None:
        page.wait_for_timeout(5)
    metrics = tools.send("Performance.getMetrics")["metrics"]
    [seconds] = [each["value"] for each in metrics if each["name"] == "TaskDuration"]
    page.close()
    painted, whole = times
    return float(painted), float(whole), 1000 * seconds


@contextmanager
def bare_page() -> Iterator[str]:
    """A server on loopback that answers everything with the page of one word; gives its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Bare) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class _Bare(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(BARE)))
        self.end_headers()
        self.wfile.write(BARE.encode())

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass
