"""The report in a real browser: it draws everything, complains of nothing, and answers to mouse and keys."""

import time

import pytest

from headless import chromium
from report.reports import make_run
from written import written_report

pytestmark = pytest.mark.browser

_SECONDS = 60


@pytest.fixture(scope="module")
def browser():
    chrome = chromium()
    yield chrome
    chrome.quit()


def opened(browser, path):
    """Open a report and wait until it has drawn itself; returns what the console said."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(path.as_uri())
    ready = "return document.documentElement.dataset.ready || document.querySelector('#trouble').innerText"
    assert WebDriverWait(browser, _SECONDS).until(lambda b: b.execute_script(ready)) == "yes"
    # remarks of the graphics driver are about this machine, not about the page
    return [
        entry for entry in browser.get_log("browser") if "GL Driver Message" not in entry["message"]
    ]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / "<img src=x onerror=document.title=1>"
    run = make_run(folder, rank=3, count=120, refined=True, analysed=True)
    return written_report(run)


@pytest.mark.parametrize(
    "kind",
    [
        {"rank": 3, "refined": True, "analysed": True, "count": 120},
        {"rank": 1, "halfsets": False},
        {"rank": 2, "nothing_reliable": True, "count": 2500},
    ],
)
def test_every_kind_of_report_is_drawn_without_a_complaint(browser, tmp_path, kind):
    report = written_report(make_run(tmp_path / "run", **kind))
    assert opened(browser, report) == []
    drawn = "return [...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('.main-svg').length)"
    counts = browser.execute_script(drawn)
    assert counts and all(counts)
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    # nothing is wider than the window
    width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(width) <= 0


def test_a_name_that_looks_like_markup_is_only_shown(browser, report):
    opened(browser, report)
    assert browser.title.startswith("<img src=x onerror")
    assert browser.find_element("tag name", "h1").text == report.parent.name


def test_axes_and_colours_can_be_chosen(browser, report):
    from selenium.webdriver.support.ui import Select

    opened(browser, report)
    data = "return document.querySelector('#explorer').data"
    traces = f"{data}.map(t => [t.type, t.name, t.x ? t.x.length : 0])"
    Select(browser.find_element("id", "colour")).select_by_visible_text("Cluster")
    assert {name for _, name, _ in browser.execute_script(traces)} == {"1", "2", "3"}
    assert sum(count for *_, count in browser.execute_script(traces)) == 120
    Select(browser.find_element("id", "axis-x")).select_by_value("2")
    title = "return document.querySelector('#explorer').layout.xaxis.title.text"
    assert browser.execute_script(title).startswith("Component 3")
    Select(browser.find_element("id", "colour")).select_by_visible_text("Density")
    assert [kind for kind, *_ in browser.execute_script(traces)] == ["heatmap"]
    taken = browser.find_element("css selector", "#axis-y option[value='2']")
    assert not taken.is_enabled()


def test_motion_follows_the_arrow_keys(browser, report):
    from selenium.webdriver.common.keys import Keys

    opened(browser, report)
    picture = "return document.querySelector('canvas[data-of=\"0\"]').toDataURL()"
    before = browser.execute_script(picture)
    slider = browser.find_element("css selector", 'input[data-of="0"]')
    slider.send_keys(Keys.HOME)
    assert browser.find_element("css selector", 'output[data-of="0"]').text == "−2.00 σ"
    assert browser.execute_script(picture) != before


def test_playing_moves_the_slider_until_it_is_stopped(browser, report):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    opened(browser, report)
    value = "return Number(document.querySelector('input[data-of=\"1\"]').value)"
    button = browser.find_element("css selector", 'button[data-of="1"]')
    button.send_keys(Keys.SPACE)
    assert button.text == "Pause"
    WebDriverWait(browser, _SECONDS).until(lambda b: b.execute_script(value) < 1.5)
    button.send_keys(Keys.SPACE)
    assert button.text == "Play"
    stopped = browser.execute_script(value)
    time.sleep(0.3)
    assert browser.execute_script(value) == stopped


def test_dark_readers_get_a_dark_page(browser, report):
    colour = "return getComputedStyle(document.body).backgroundColor"
    font = "return document.querySelector('#chart-spectrum')._fullLayout.font.color"
    seen = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        opened(browser, report)
        seen[scheme] = (browser.execute_script(colour), browser.execute_script(font))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert seen["light"][0] == "rgb(255, 255, 255)" != seen["dark"][0]
    assert seen["light"][1] != seen["dark"][1]
