"""What the tests of pages rely on: that a page's faults are seen."""

import pytest

from tests.browser import PHONE_WIDTH, watched_page


@pytest.mark.parametrize(
    "script",
    ["console.error('lost')", "throw new Error('lost')", "fetch('http://192.0.2.1:9/lost')"],
)
def test_a_fault_of_a_page_is_seen(browser, script):
    """An error on the console, one that nobody caught, a request that a policy forbids."""
    policy = '<meta http-equiv="Content-Security-Policy" content="connect-src \'none\'">'
    with watched_page(browser) as watched:
        watched.page.set_content(f"{policy}<script>{script}</script>")
        while not watched.errors:
            watched.page.wait_for_timeout(10)
        assert "lost" in watched.errors[0]


def test_a_request_to_another_host_is_seen(browser):
    """Whether or not anybody is there."""
    with watched_page(browser) as watched:
        watched.page.set_content("<img src='http://127.0.0.1:9/picture.png'>")
        assert watched.hosts == {"127.0.0.1:9"}


def test_a_page_that_keeps_people_out_is_seen(browser):
    """Grey on grey, and a field without a name."""
    with watched_page(browser) as watched:
        watched.page.set_content("<p style='color:#999;background:#888'>What?</p><input>")
        found = " ".join(watched.barriers())
        assert "color-contrast: <p" in found
        assert "label: <input" in found


@pytest.mark.parametrize(("wide", "scrolls"), [(PHONE_WIDTH + 1, True), (PHONE_WIDTH - 20, False)])
def test_a_page_that_is_too_wide_is_seen(browser, wide, scrolls):
    """By one pixel."""
    with watched_page(browser, width=PHONE_WIDTH) as watched:
        watched.page.set_content(f"<body style='margin:0'><div style='width:{wide}px'>.</div>")
        assert watched.scrolls_sideways() is scrolls
