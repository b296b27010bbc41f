"""The report in headless Chromium: quiet, alone, and readable on a phone, in the dark, on paper."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from hf_stabilizer.studies.page.charts import run_key, run_text
from hf_stabilizer.studies.page.report import write_report
from tests.studies.test_report import (
    HOSTILE,
    PLAIN,
    STEADY,
    big_study,
    make_study,
    one_run,
    stopped_study,
)

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
        " g.getAttribute('aria-label')])",
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
        "[...document.querySelectorAll('svg.chart')].every(s => s.getAttribute('aria-label') &&"
        " document.getElementById(s.getAttribute('aria-describedby')).textContent)",
    )
    assert ask(browser, "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == (
        ask(browser, "document.querySelectorAll('[id]').length")
    )
    browser.execute_script("document.querySelector('summary').focus()")
    browser.switch_to.active_element.send_keys(" ")
    assert ask(browser, "document.querySelector('details').open")


# --- what the script adds


@pytest.fixture(scope="module")
def early():
    """A study of two recipes that stopped early."""
    runs = tuple(
        dataclasses.replace(run, recipe=recipe, best_score=run.best_score and run.best_score - less)
        for recipe, less in (("plain", 0.05), ("swa", 0.0))
        for run in stopped_study().runs
    )
    return stopped_study(recipes=("plain", "swa"), runs=runs)


@pytest.fixture(scope="module")
def early_address(early, tmp_path_factory):
    return write_report(early, tmp_path_factory.mktemp("early") / "report.html").as_uri()


def point_at(browser, selector, *, right=0.0, kind="mouseMoved"):
    """Moves the pointer to the middle of the first such element, or so many pixels beside it."""
    x, y = browser.execute_async_script(
        "const [selector, answer] = arguments;"
        "const mark = document.querySelector(selector);"
        "mark.scrollIntoView({block: 'center'});"
        # The event of scrolling, which comes with a frame, is over after the next one.
        "requestAnimationFrame(() => requestAnimationFrame(() => {"
        "  const box = mark.getBoundingClientRect();"
        "  answer([box.x + box.width / 2, box.y + box.height / 2]);"
        "}))",
        selector,
    )
    where = {"x": x + right, "y": y}
    if kind == "tap":
        for event, points in (("touchStart", [where]), ("touchEnd", [])):
            browser.execute_cdp_cmd(
                "Input.dispatchTouchEvent", {"type": event, "touchPoints": points}
            )
    else:
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, **where})


def tooltip(browser):
    """What is to be read in the tooltip, None if it does not show."""
    tip = browser.find_element("css selector", ".tip")
    return tip.text if tip.is_displayed() else None


def lit(browser):
    return ask(
        browser,
        "[...document.querySelectorAll('.strip .lit, .pairs .lit, .curves .lit, #table .lit')]"
        ".map(m => m.dataset.run)",
    )


def test_pointing_at_a_run_names_it_and_lights_it_in_every_chart(browser, early, early_address):
    show(browser, early_address)
    assert tooltip(browser) is None
    run = early.of("swa")[1]
    point_at(browser, f".strip [data-run='{run_key(run)}']")
    assert tooltip(browser) == run_text(run, 3)
    assert tooltip(browser) == "swa, head seed 2, data seed 2, dropout seed 2: 0.800"
    pair = f"{run_key(early.of('plain')[1])} {run_key(run)}"
    assert lit(browser) == [run_key(run), pair, run_key(run), run_key(run)]  # and its row
    point_at(browser, "h1")
    assert tooltip(browser) is None
    assert lit(browser) == []


def test_a_run_that_was_cut_says_so_where_its_curve_ends(browser, early, early_address):
    show(browser, early_address)
    point_at(browser, "#curves .stopped .end-mark")
    assert tooltip(browser) == (
        "plain, head seed 1, data seed 1, dropout seed 1: 0.050, stopped early"
    )


def test_near_a_mark_is_near_enough(browser, early, early_address):
    show(browser, early_address)
    run = early.of("plain")[1]
    point_at(browser, f".strip [data-run='{run_key(run)}']", right=10)
    assert tooltip(browser) == run_text(run, 3)
    point_at(browser, f".strip [data-run='{run_key(run)}']", right=40)
    assert tooltip(browser) != run_text(run, 3)


def test_a_finger_names_a_run_and_lets_go_of_it(browser, early, early_address):
    show(browser, early_address, width=390)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        run = early.of("swa")[1]
        point_at(browser, f".strip [data-run='{run_key(run)}']", kind="tap")
        wait_until(lambda: tooltip(browser) == run_text(run, 3))
        box = browser.find_element("css selector", ".tip").rect
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        point_at(browser, ".strip .axis", kind="tap")
        wait_until(lambda: tooltip(browser) is None)
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_runs_are_reached_by_keyboard_one_stop_for_each_chart(browser, early, early_address):
    from selenium.webdriver.common.keys import Keys

    show(browser, early_address)
    stops = "[...document.querySelectorAll('svg.chart')].map(c => c.querySelectorAll('[tabindex"
    assert set(ask(browser, f'{stops}="0"]\').length)')) == {1}
    browser.execute_script("document.querySelector('#curves .chart [tabindex=\"0\"]').focus()")
    first = tooltip(browser)
    assert first.startswith("plain, head seed 1")
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert tooltip(browser).startswith("plain, head seed 3")  # those cut are drawn first
    assert len(lit(browser)) == 3
    browser.switch_to.active_element.send_keys(Keys.HOME)
    assert tooltip(browser) == first
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert tooltip(browser) is None
    assert lit(browser) == []


TABLE = "[...document.querySelectorAll('#table tbody tr')].map(r => r.cells[{0}].textContent)"


def test_the_table_sorts_by_any_column_with_what_is_missing_last(browser, tmp_path):
    scores = {1: 0.5, 2: -0.25, 3: None, 10: 0.125, 4: 0.125}
    runs = tuple(
        one_run("b" if seed == 2 else "a", seed, score, seconds=seed * 59.0)
        for seed, score in scores.items()
    )
    page = write_report(make_study({"a": [], "b": []}, runs=runs), tmp_path / "report.html")
    show(browser, page.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert ask(browser, TABLE.format(1)) == ["1", "2", "3", "10", "4"]  # the study's order

    def sort(column):
        browser.find_elements("css selector", "#table th button")[column].click()
        heads = "[...document.querySelectorAll('#table thead th')]"
        return ask(browser, f"{heads}.map(h => h.getAttribute('aria-sort'))"), ask(
            browser, TABLE.format(1)
        )

    assert sort(1)[1] == ["1", "2", "3", "4", "10"]  # as numbers, not as words
    sorted_by, order = sort(1)
    assert sorted_by == [None, "descending"] + 9 * [None]
    assert order == ["10", "4", "3", "2", "1"]
    sorted_by, order = sort(5)
    assert sorted_by == 5 * [None] + ["ascending"] + 5 * [None]
    assert order == ["2", "10", "4", "1", "3"]  # equal ones stay as they were
    assert sort(5)[1] == ["1", "10", "4", "2", "3"]
    assert sort(10)[1] == ["1", "2", "3", "4", "10"]  # 59 s before 1 min 58 s
    assert sort(0)[1] == ["1", "3", "4", "10", "2"]
    button = browser.find_elements("css selector", "#table th button")[1]
    button.send_keys("\n")
    assert ask(browser, TABLE.format(1)) == ["1", "2", "3", "4", "10"]


def test_two_hundred_runs_open_and_sort(browser, tmp_path):
    page = write_report(big_study(), tmp_path / "report.html")
    browser.get_log("browser")
    show(browser, page.as_uri())
    assert ask(browser, "document.readyState") == "complete"
    assert ask(browser, "document.querySelectorAll('.strip .run').length") == 200
    assert ask(browser, "document.querySelectorAll('.curve.stopped .end-mark').length") == 148
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.find_elements("css selector", "#table th button")[5].click()
    scores = [float(score) for score in ask(browser, TABLE.format(5))]
    assert len(scores) == 200
    assert scores == sorted(scores)
    point_at(browser, "#curves .curve.finished")
    assert "dropout seed" in tooltip(browser)
    assert browser.get_log("browser") == []


def wait_until(what):
    """Waits for the browser, which answers when it likes."""
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def saved(browser, folder: Path, selector, name):
    """Clicks and returns the text of the file that is then downloaded."""
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )
    browser.find_element("css selector", selector).click()
    wait_until((folder / name).exists)
    return (folder / name).read_text(encoding="utf-8")


SVG = "{http://www.w3.org/2000/svg}"


def test_a_saved_drawing_looks_the_same_alone_and_is_light(browser, early, early_address, tmp_path):
    show(browser, early_address, scheme="dark")
    text = saved(browser, tmp_path, "#curves figure button", "demo-curves-0.svg")
    root = ET.fromstring(text)  # our own
    assert root.tag == f"{SVG}svg"
    assert (root.get("width"), root.get("height")) == ("360", "240")
    assert not re.search(r"var\(|class=|<script| style=", text)
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert titles[0] == "f1 over steps: plain"
    assert run_text(early.runs[0], 3) in titles
    show(browser, early_address)
    selectors = (".mean-curve polyline", ".curve.finished polyline", ".tick", ".stop-line")
    styles = "['stroke', 'fill', 'strokeWidth', 'fontSize'].map(n => getComputedStyle(m)[n])"
    on_page = [
        ask(browser, f"(m => {styles})(document.querySelector('#curves {selector}'))")
        for selector in selectors
    ]
    places = [
        ask(browser, f"(l => l.indexOf(document.querySelector('#curves {selector}')))({MARKS})")
        for selector in selectors
    ]
    show(browser, (tmp_path / "demo-curves-0.svg").as_uri(), scheme="dark")
    shapes = "document.querySelectorAll('polyline, line, text')"
    assert on_page == [ask(browser, f"(m => {styles})({shapes}[{place}])") for place in places]
    assert colour(browser, "rect", "fill") == (255, 255, 255)


MARKS = "[...document.querySelector('#curves .chart').querySelectorAll('polyline, line, text')]"


def test_every_drawing_and_its_numbers_can_be_saved(browser, early, early_address, tmp_path):
    show(browser, early_address)
    labels = "f => [...f.querySelectorAll('.take > *')].map(t => t.textContent)"
    for part, figures in (("#runs", 1), ("#pairs", 1), ("#curves", 2)):
        found = ask(browser, f"[...document.querySelectorAll('{part} figure')].map({labels})")
        assert found == figures * [["SVG", "data (CSV)"]], part
    charts = ask(browser, "[...document.querySelectorAll('figure svg.chart')].length")
    assert ask(browser, "[...document.querySelectorAll('figure .take button')].length") == charts
    text = saved(browser, tmp_path, "#table .take a", "demo-runs.csv")
    assert len(text.splitlines()) == 1 + len(early.runs)


def test_without_the_script_the_page_is_whole(browser, early, early_address):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, early_address)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert ask(browser, "document.querySelectorAll('button, .tip').length") == 0
    assert ask(browser, "document.querySelectorAll('.strip .run > title').length") == len(
        early.runs
    )
    assert ask(browser, TABLE.format(1)) == [str(run.seeds["seed"]) for run in early.runs]
    links = "[...document.querySelectorAll('.take a')].every(a => a.href.startsWith('data:'))"
    assert ask(browser, links)


def nasty_study(kind):
    """Long names without a break, numbers of any size, or long seeds on a wide grid."""
    if kind == "names":
        scores = {"x" * 80: [*PLAIN, None], "y" * 80: [*STEADY, 0.9]}
        return make_study(scores, metric="f1")
    if kind == "grid":
        runs = [
            one_run(
                score=0.5 + h / 30 + d / 900,
                seeds={"head_seed": 2**31 + h, "data_seed": 2**31 + d, "seed": 1},
            )
            for h in range(3)
            for d in range(40)
        ]
        return make_study({"plain": []}, runs=tuple(runs))
    size = {"tiny": 1e-9, "huge": 1e9}[kind]
    return make_study({"plain": [s * size for s in PLAIN], "steady": [s * size for s in STEADY]})


@pytest.mark.parametrize("kind", ["names", "grid", "tiny", "huge"])
def test_names_and_numbers_of_any_length_fit(browser, tmp_path, kind):
    page = write_report(nasty_study(kind), tmp_path / "report.html").as_uri()
    show(browser, page, width=400)
    root = "document.documentElement"
    assert ask(browser, "innerWidth") == 400
    assert ask(browser, f"{root}.scrollWidth") <= ask(browser, f"{root}.clientWidth")
    show(browser, page, width=1200)
    beyond, over = browser.execute_script(
        """
        const beyond = [], over = [];
        for (const chart of document.querySelectorAll("svg.chart")) {
          const { left } = chart.getBoundingClientRect();
          const ticks = [...chart.querySelectorAll(".tick")].map((t) => t.getBoundingClientRect());
          beyond.push(...ticks.filter((t) => t.left < left - 12).map((t) => left - t.left));
          const covers = (a, b) => a.left < b.left && a.right > b.left + 1
            && Math.abs(a.top - b.top) < 4;
          for (const a of ticks) over.push(...ticks.filter((b) => covers(a, b)).map(() => a.x));
        }
        const answers = [...document.querySelectorAll(".facts > div")];
        over.push(...answers.filter((one) => one.scrollWidth > one.clientWidth + 1));
        return [beyond, over];
        """
    )
    assert (beyond, over) == ([], [])
