"""The viewer in a real browser: it loads, selects, exports, moves and reconstructs."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from export.runs import assert_same_particles
from headless import Page, artefacts, chromium, served
from solvar.analysis.selection import points_in_polygon
from solvar.particles import read_particles
from written import written_analysis

pytest.importorskip("dash", reason="solvar[view] is not installed")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def run(tiny_stack, tmp_path_factory):
    """A small finished run with an analysis."""
    from solvar.analysis.analyze import analyze
    from solvar.analysis.settings import AnalysisSettings
    from solvar.fitting.settings import FitSettings
    from solvar.job import run_job

    folder = tmp_path_factory.mktemp("viewed") / "run"
    settings = FitSettings(rank=2, mask=str(tiny_stack / "mask.mrc"))
    found = run_job(read_particles(tiny_stack / "particles.star"), settings, folder)
    written_analysis(found, analyze(found, AnalysisSettings(clusters=3)))
    return found


@pytest.fixture(scope="module")
def driver():
    opened = chromium()
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def page(run, driver, tmp_path_factory):
    """The page of the run, opened once with the printed address."""
    with served(run.folder) as server:
        opened = Page(driver, artefacts(tmp_path_factory.mktemp("pictures")))
        opened.server = server
        opened.open(server.address)
        yield opened


def whitened(run):
    return run.posterior.z / np.sqrt(run.model.eigenvalues)


def wait_for_selection(page, before):
    return page.until(lambda: (t := page.text("selected")) != before and "particles" in t and t)


def test_page_loads_without_complaints_and_hides_the_token(page):
    page.picture("loaded")
    assert page.complaints() == []
    assert "token" not in page.driver.current_url
    assert "400 particles" in page.driver.page_source


def test_lasso_selects_and_the_exported_star_holds_exactly_these_rows(page, run, tiny_stack):
    points = whitened(run)
    centre, reach = np.median(points, axis=0), points.std(axis=0)
    corners = [centre + reach * np.array(c) for c in [(0, -1), (1.1, 0), (0.4, 1), (-0.3, 0.2)]]
    page.choose("mode", "Lasso")
    page.settle()
    before = page.text("selected")
    outline = page.drag([(float(x), float(y)) for x, y in [*corners, corners[0]]])
    wait_for_selection(page, before)
    page.settle()
    page.picture("lasso")
    inside = np.flatnonzero(points_in_polygon(points, outline))
    assert 10 < len(inside) < 200
    assert page.text("selected").startswith(f"{len(inside)} particles")
    page.type("name", "half-open")
    page.click("save")
    page.until(lambda: "Saved" in page.text("message"))
    page.press("Export .star")
    page.until(lambda: "Exported" in page.text("message"))
    page.picture("exported")
    exported = run.folder / "selections" / "half-open.star"
    rows = run.particles["row"][inside]
    expected = read_particles(run.source, ind=np.sort(rows))
    # elsewhere than beside their stack, images have names that are found from anywhere
    assert_same_particles(read_particles(exported), expected, uid=False)
    assert page.complaints() == []


def test_name_that_is_a_path_is_refused_on_the_page(page, run):
    before = sorted((run.folder / "selections").iterdir())
    page.type("name", "/../../x")
    page.click("save")
    page.until(lambda: "is not a name" in page.text("message"))
    assert sorted((run.folder / "selections").iterdir()) == before
    assert page.complaints() == []


def test_colours_and_axes_come_from_lists(page):
    page.pick("colour", "Contrast")
    page.until(
        lambda: page.js(
            "return document.querySelector('#latents .js-plotly-plot')._fullData"
            ".some(t => t.marker.colorbar && t.marker.colorbar.title.text === 'Contrast')"
        )
    )
    page.pick("y-axis", "Component 1")
    page.until(
        lambda: page.js(
            "const l = document.querySelector('#latents .js-plotly-plot')._fullLayout;"
            "return l.yaxis.title.text === l.xaxis.title.text"
        )
    )
    page.pick("y-axis", "Component 2")
    page.pick("colour", "Cluster")
    page.settle()
    assert page.complaints() == []


def test_box_selects_the_particles_between_its_edges(page, run):
    page.click("unselect")
    page.until(lambda: page.text("selected") == "Nothing is selected")
    page.choose("mode", "Box")
    page.settle()
    corners = page.drag([(0.0, -0.5), (0.3, 0.1), (1.0, 1.0)])
    told = wait_for_selection(page, "Nothing is selected")
    (x0, y0), (x1, y1) = corners[0], corners[-1]
    x, y = whitened(run).T
    inside = (x >= min(x0, x1)) & (x <= max(x0, x1)) & (y >= min(y0, y1)) & (y <= max(y0, y1))
    assert told.startswith(f"{inside.sum()} particles")


def test_click_anywhere_and_slider_change_the_molecule(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    page.choose("mode", "Look")
    page.settle()
    before = page.shape()
    page.tap(1.3, 0.9)
    page.until(lambda: page.shape() != before)
    before = page.shape()
    name = json.dumps({"index": 0, "type": "component"}, separators=(",", ":"))
    thumb = page.driver.find_element(By.CSS_SELECTOR, f"[id='{name}'] [role=slider]")
    value = float(thumb.get_attribute("aria-valuenow"))
    assert value == pytest.approx(1.3, abs=0.1)
    thumb.send_keys(Keys.ARROW_LEFT * 10)
    page.until(lambda: page.shape() != before)
    assert float(thumb.get_attribute("aria-valuenow")) == pytest.approx(value - 0.5, abs=0.06)
    assert page.complaints() == []


def test_arrow_keys_move_the_point(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    plane = page.driver.find_element(By.ID, "plane")
    before = page.shape()
    plane.send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: page.shape() != before)


def test_molecule_moves_along_a_path_that_was_drawn(page):
    page.choose("mode", "Path")
    page.settle()
    for x, y in ((-1.0, 0.0), (0.0, 0.8), (1.0, 0.0)):
        page.tap(x, y)
        page.settle()
    page.until(lambda: "3 places" in page.text("path-words"))
    page.click("play")
    page.until(lambda: "Pause" in page.text("play"))
    shapes = set()
    page.until(lambda: shapes.add(page.shape()) or len(shapes) >= 4)
    page.picture("path")
    page.click("play")
    page.until(lambda: "Play" in page.text("play"))
    page.choose("mode", "Look")
    assert page.complaints() == []


@pytest.mark.timeout(300)
def test_queued_reconstruction_appears_with_its_fsc(page, run):
    page.click("here")
    page.until(lambda: "point-001" in page.text("jobs"))
    page.picture("queued")
    page.until(lambda: "point-001_001" in page.text("shown"), seconds=150)
    assert (run.folder / "volumes" / "point-001" / "point-001_001.mrc").is_file()
    page.settle()
    before = page.shape()
    page.choose("shown", "point-001_001")
    page.until(lambda: page.shape() != before)
    curve = page.until(
        lambda: page.js(
            "const f = document.querySelector('#fsc .js-plotly-plot');"
            "return f && f._fullData.length ? Array.from(f._fullData[0].y) : null"
        )
    )
    record = json.loads((run.folder / "volumes" / "point-001" / "volumes.json").read_text())
    np.testing.assert_allclose(curve, record["volumes"][0]["fsc"]["corrected"], atol=1e-6)
    page.picture("reconstruction")
    assert page.complaints() == []


def test_dark_page(page):
    page.click("appearance-button")
    page.until(lambda: page.js("return document.documentElement.dataset.appearance") == "dark")
    page.settle()
    page.picture("dark")
    page.click("appearance-button")
    assert page.complaints() == []


def test_every_tab_of_two_viewers_stays_open(page, run, tmp_path):
    """Opened twice, in a new tab, from the file of --browser, beside another viewer, reloaded.

    Names are shown letter by letter.
    """
    folder = tmp_path / "{%scripts%}<b>a&lt;[b]"
    shutil.copytree(run.folder, folder)
    with served(folder) as other, page.tab() as theirs:
        page.open(other.redirect())
        with page.tab() as again:
            page.open(page.server.address)
            page.open(page.server.address)
            for tab, name in ((again, run.folder.name), (theirs, folder.name)):
                page.driver.switch_to.window(tab)
                page.driver.refresh()
                page.drawn()
                assert page.text("run") == name
                assert page.driver.title == f"{name} · solvar"
                assert page.complaints() == []
            page.picture("names")
    page.choose("mode", "Box")
    page.settle()
    assert page.text("latents-card-hint") == "Drag a box over particles"
    assert page.complaints() == []


def test_new_tab_without_the_token_is_told_what_to_open(page):
    with page.tab():
        page.driver.get(page.server.address.split("?")[0])
        page.until(lambda: "Open the address that solvar view printed" in page.driver.page_source)
        assert "400 particles" not in page.driver.page_source
        assert page.complaints() == []


def test_server_on_another_port_gets_nothing_out_of_the_cookie_it_sees(page):
    seen, mine = [], page.server.address.split("?")[0]

    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers["Cookie"])
            self.send_response(200)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other, page.tab():
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page.driver.get(f"http://127.0.0.1:{other.server_port}/")
        answered = page.driver.execute_async_script(
            "const [place, done] = arguments; const headers = {'X-Solvar-Page': 'x'};"
            "fetch(place, {credentials: 'include', headers}).then(() => done(true), () => done(false))",
            f"{mine}_dash-layout",
        )  # fmt: skip
        other.shutdown()
    page.complaints()
    assert page.server.viewer.guard.cookie_name in seen[0]
    assert not answered
    request = urllib.request.Request(f"{mine}_dash-layout", headers={"Cookie": seen[0]})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=20)


def test_page_without_the_cookie_is_refused(page):
    page.driver.delete_all_cookies()
    page.driver.get(page.server.address.split("?")[0])
    page.until(lambda: "printed" in page.driver.page_source)
    page.complaints()


def test_long_and_odd_names_moved_particles_and_a_viewer_that_ended(run, driver, tmp_path):
    folder = tmp_path / ("a-run-with-a-long-name-" * 5)
    shutil.copytree(run.folder, folder)
    record = folder / "run.json"
    record.write_text(record.read_text().replace("particles.star", "moved-elsewhere.star"))
    star, odd = folder / "particles.star", "rln<b>odd</b>&lt;"
    star.write_text(star.read_text().replace("rlnDefocusAngle", odd))
    width = "return document.querySelector(arguments[0]).getBoundingClientRect().width"
    with served(folder) as server:
        page = Page(driver, artefacts(tmp_path))
        page.open(server.address)
        assert page.js(width, "#message") >= 300 and page.js(width, ".run") < 500
        page.pick("colour", odd)
        bar = (
            "const t = document.querySelector('#latents .cbtitle text'); return t && t.textContent"
        )
        page.until(lambda: page.js(bar) == odd)
        page.click("here")
        page.until(lambda: "moved-elsewhere.star" in page.text("jobs"))
        assert page.js(width, ".job.failed .hint") <= page.js(width, "#jobs")
        page.picture("failed")
    page.tap(0.2, 0.1)
    page.until(lambda: "The viewer has ended" in page.text("message"))
    page.complaints()
