"""The page as a person uses it: in a real browser, over a service with keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from teacher_service.keys import add_key
from tests.browser import PHONE_WIDTH, Watched, watched_page
from tests.teacher_service.conftest import Service, running

HOSTILE = "</pre><script>document.title = 'owned'</script> \u202egnp.exe \x1b[31m\x00 " * 3


@dataclass
class Known:
    """A service that has answered something, and a key that may read."""

    service: Service
    key: str
    cookies: list[tuple[str, str]]
    """Of a session."""
    hostile: str
    """The key of an entry whose request is hostile and a megabyte long."""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    """60 entries of a run, one of another, and a hostile one."""
    folder = tmp_path_factory.mktemp("page")
    secret = add_key(folder / "keys.json", "reader", ["use", "read"])
    settings = {"store": folder / "store.sqlite", "keys_file": str(folder / "keys.json")}
    with running(settings) as service:
        service.http.headers["Authorization"] = f"Bearer {secret}"
        items = [
            {"text": f"Anna leads project {number}.", "question": "Who?"} for number in range(60)
        ]
        service.batch(items, headers={"X-Taco-Run": "demo-1a2b", "X-Taco-Step": "7"})
        service.chat("What is the plan?", headers={"X-Taco-Run": "other"}, temperature=0)
        hostile = [{"text": HOSTILE + "y" * 1_000_000}]
        key = service.batch(hostile).json()["data"][0]["key"]
        cookies = service.http.post("/page/login", data={"key": secret}).cookies
        yield Known(service, secret, list(cookies.items()), key)


@contextmanager
def watching(browser, known: Known, **window) -> Iterator[Watched]:
    """A page in which, at the end, nothing may have gone wrong."""
    with watched_page(browser, **window) as watched:
        yield watched
        assert watched.errors == []
        assert watched.hosts == {known.service.url.removeprefix("http://")}


@contextmanager
def visiting(browser, known: Known, path: str = "/", **window) -> Iterator[Watched]:
    """The same, behind the log-in."""
    with watching(browser, known, **window) as watched:
        cookies = [{"name": n, "value": v, "url": known.service.url} for n, v in known.cookies]
        watched.page.context.add_cookies(cookies)
        watched.page.goto(known.service.url + path)
        yield watched


def test_logging_in_and_out(browser, known):
    """To where one wanted to go; afterwards the way back is closed."""
    with watching(browser, known) as watched:
        page = watched.page
        page.goto(known.service.url + "/page/runs")
        page.fill("#key", known.key)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/page/runs")
        assert page.get_by_role("heading", name="Runs").is_visible()
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/page/login")
        page.goto(known.service.url + "/page/entries")
        assert page.get_by_label("Key").is_visible()


def test_an_entry_leads_to_its_run_and_back(browser, known):
    """From the first page, by links alone."""
    with visiting(browser, known) as watched:
        page = watched.page
        page.get_by_role("link", name="Entries", exact=True).click()
        page.get_by_text("What is the plan?").click()
        assert "temperature" in page.inner_text("main")
        page.get_by_role("link", name="other").click()
        assert page.inner_text("h1") == "other"
        page.get_by_text("What is the plan?").click()
        assert page.inner_text("h1").startswith("Entry")


def test_a_search_finds_by_words(browser, known):
    """Of the request; what was looked for stays in the form."""
    with visiting(browser, known, "/page/entries") as watched:
        page = watched.page
        page.get_by_label("Text").fill("leads project 17")
        page.get_by_role("button", name="Search").click()
        assert page.locator("tbody tr").count() == 1
        assert "Anna leads project 17." in page.inner_text("tbody")
        assert "Question: Who?" in page.inner_text("tbody")
        assert page.get_by_label("Text").input_value() == "leads project 17"


def test_earlier_entries_are_a_link_away(browser, known):
    """Fifty on a page."""
    with visiting(browser, known, "/page/entries?run=demo-1a2b") as watched:
        assert watched.page.locator("tbody tr").count() == 50
        watched.page.get_by_role("link", name="Earlier").click()
        assert watched.page.locator("tbody tr").count() == 10


def test_chosen_entries_are_exported(browser, known):
    """As a file."""
    with visiting(browser, known, "/page/entries") as watched:
        page = watched.page
        page.locator("input[name=key]").nth(1).check()
        page.locator("input[name=key]").nth(2).check()
        with page.expect_download() as download:
            page.get_by_role("button", name="Export the chosen").click()
        lines = download.value.path().read_text(encoding="utf-8").splitlines()
        assert download.value.suggested_filename == "completions.ndjson"
        assert len(lines) == 4


def test_a_miss_is_explained(browser, known):
    """The field that differs, beside the stored value; the nearest entry is a link."""
    with visiting(browser, known, "/page/miss") as watched:
        page = watched.page
        page.get_by_label("Request").fill(
            '{"model": "builtin", "temperature": 1,\n'
            ' "messages": [{"role": "user", "content": "What is the plan?"}]}'
        )
        page.get_by_role("button", name="Explain").click()
        differing = page.locator(".differences tbody tr")
        differing.first.wait_for()
        assert differing.all_inner_texts() == ["request.temperature\t0\t1"]
        page.locator(".answer a").click()
        assert "What is the plan?" in page.inner_text("main")


def test_the_live_figures_are_live(browser, known):
    """The page does not have to be loaded again."""
    with visiting(browser, known) as watched:
        tile = watched.page.locator(".tile", has_text="Hits since the start")
        before = tile.inner_text()
        known.service.chat("What is the plan?", temperature=0)
        watched.page.wait_for_function(
            "before => !document.body.innerText.includes(before)", arg=before.splitlines()[-1]
        )


def test_a_hostile_entry_is_text(browser, known):
    """A script is not run, a mark turns nothing, a megabyte does not widen the page."""
    with visiting(browser, known, f"/page/entries/{known.hostile}") as watched:
        page = watched.page
        assert "owned" not in page.title()
        assert "document.title = 'owned'" in page.inner_text("pre.text >> nth=0")
        assert "U+202E" in page.inner_text("pre.text >> nth=0")
        assert not watched.scrolls_sideways()
        page.get_by_role("link", name="Show all").first.click()
        assert page.inner_text("pre.text >> nth=0").count("y" * 900_000) == 1
        assert not watched.scrolls_sideways()


@pytest.mark.parametrize("path", ["/", "/page/entries", "/page/run?name=demo-1a2b", "/page/miss"])
def test_a_phone_shows_all_of_it(browser, known, path):
    """Without scrolling sideways."""
    with visiting(browser, known, path, width=PHONE_WIDTH, height=700) as watched:
        assert not watched.scrolls_sideways()


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_both_colour_schemes(browser, known, dark):
    """WCAG's contrast of 4.5 for every text of the first page and of the list."""
    with visiting(browser, known, dark=dark) as watched:
        for path in ("/", "/page/entries", "/page/miss"):
            watched.page.goto(known.service.url + path)
            assert watched.page.evaluate(_LOW_CONTRAST) == []


_LOW_CONTRAST = """() => {
  const channels = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest('svg')) continue;
    const [one, other] = [channels(getComputedStyle(element).color), behind(element)].map(light);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) low.push(`${element.tagName}.${element.className}: ${ratio.toFixed(2)}`);
  }
  return low;
}"""


def test_without_scripts_it_works_and_loads_itself_again(browser, known):
    """Forms and links are the server's; the figures come by a refresh."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(known.service.url + "/")
    page.fill("#key", known.key)
    page.click("text=Log in >> nth=-1")
    assert page.locator("noscript meta").count() == 1 or 'http-equiv="refresh"' in page.content()
    page.click("text=Entries >> nth=0")
    assert page.locator("tbody tr").count() == 50
    context.close()
