"""The report in headless Chromium: quiet, alone, and readable on a phone, in the dark, on paper."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from hf_stabilizer.studies.report import write_report
from tests.studies.test_report import HOSTILE, PLAIN, STEADY, make_study

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
    ),
]

SCORES = {
    "plain": [*PLAIN, None],
    "steady": [*STEADY, 0.86],
    "a-recipe-with-quite-a-long-name-indeed-and-no-break": [*STEADY, None],
    HOSTILE: [*PLAIN, 0.1],
}


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def study():
    return make_study(SCORES, configuration={"train_file": "a" * 300})


@pytest.fixture(scope="module")
def address(study, tmp_path_factory):
    return write_report(study, tmp_path_factory.mktemp("report") / "report.html").as_uri()


def show(browser, address, *, width=1200, scheme="light", media="screen"):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    browser.get(address)


def ask(browser, expression):
    return browser.execute_script(f"return {expression}")


def colour(browser, selector, name):
    found = ask(browser, f"getComputedStyle(document.querySelector('{selector}'))['{name}']")
    return tuple(int(x) for x in re.findall(r"\d+", found)[:3])


def contrast(first, second):
    """The ratio of WCAG 2.2, section 1.4.3."""

    def luminance(rgb):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_the_page_is_quiet_and_asks_the_network_for_nothing(browser, address):
    for log in ("performance", "browser"):
        browser.get_log(log)  # forgets what came before
    show(browser, address)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert browser.get_log("browser") == []


def test_each_run_is_a_visible_mark_that_names_it(browser, address, study):
    show(browser, address)
    boxes = ask(
        browser,
        "[...document.querySelectorAll('.strip .run')].map(g => [g.getBoundingClientRect().width,"
        " g.querySelector('title').textContent])",
    )
    assert len(boxes) == len(study.runs)
    assert all(width > 2 for width, _ in boxes)
    assert len({name for _, name in boxes}) == len(study.runs)


@pytest.mark.parametrize(
    ("width", "media"),
    [(360, "screen"), (412, "screen"), (768, "screen"), (1200, "screen"), (672, "print")],
)
def test_nothing_sticks_out_at_any_width(browser, address, width, media):
    show(browser, address, width=width, media=media)
    assert ask(browser, "innerWidth") == width
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    page = "document.documentElement"
    assert ask(browser, f"{page}.scrollWidth") <= ask(browser, f"{page}.clientWidth")


def test_drawings_keep_readable_letters_on_a_phone(browser, address):
    show(browser, address, width=360)
    heights = ask(
        browser,
        "[...document.querySelectorAll('.chart text')].map(t => t.getBoundingClientRect().height)",
    )
    assert min(heights) >= 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_and_marks_stand_out_from_the_paper(browser, address, scheme):
    show(browser, address, scheme=scheme)
    paper = colour(browser, "body", "backgroundColor")
    assert (sum(paper) > 600) == (scheme == "light")
    for selector in ("h1", "h1 span", ".facts dt", "summary", "figcaption"):
        assert contrast(colour(browser, selector, "color"), paper) >= 4.5, selector
    for selector in (".strip .c0 circle", ".strip .c1 circle", ".strip .c2 circle"):
        assert contrast(colour(browser, selector, "fill"), paper) >= 3, selector
    assert contrast(colour(browser, ".run.failed path", "stroke"), paper) >= 3


def test_paper_is_white_also_for_those_who_like_it_dark(browser, address):
    show(browser, address, scheme="dark", media="print")
    assert colour(browser, "body", "backgroundColor") == (255, 255, 255)
    assert contrast(colour(browser, "h1", "color"), (255, 255, 255)) > 12
    assert (
        ask(browser, "document.querySelector('details table').getBoundingClientRect().height") > 0
    )


def test_details_open_by_keyboard_and_drawings_have_names(browser, address):
    show(browser, address)
    assert ask(
        browser,
        "[...document.querySelectorAll('svg.chart')].every(s => s.getAttribute('aria-labelledby')"
        ".split(' ').every(id => document.getElementById(id).textContent))",
    )
    assert ask(browser, "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == (
        ask(browser, "document.querySelectorAll('[id]').length")
    )
    browser.execute_script("document.querySelector('summary').focus()")
    browser.switch_to.active_element.send_keys(" ")
    assert ask(browser, "document.querySelector('details').open")
