"""A headless Chromium, a served viewer, and what a user does in it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WAIT_SECONDS = 30.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> Any:
    """A headless Chromium of the system; the test is skipped where there is none."""
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("chromium and chromium-driver are not installed (make browser-tests)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1440,1040",
        "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
        "--ignore-gpu-blocklist", "--hide-scrollbars", "--force-prefers-reduced-motion",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    opened.set_page_load_timeout(WAIT_SECONDS)
    opened.set_script_timeout(WAIT_SECONDS)
    return opened


@contextmanager
def served(run: Path) -> Iterator[Any]:
    """A `ViewerServer` on a free port, in a thread."""
    from solvar.viewer import ViewerServer

    server = ViewerServer(run)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(timeout=10)
        server.close()


class Page:
    """What a user does and sees; every wait ends.

    Parameters
    ----------
    driver : selenium WebDriver
    artefacts : Path
        Folder of the pictures.
    """

    def __init__(self, driver: Any, artefacts: Path) -> None:
        self.driver, self._artefacts = driver, artefacts

    def open(self, address: str) -> None:
        """Visit and wait until both figures are drawn."""
        self.driver.get(address)
        self.drawn()

    def drawn(self) -> None:
        """Wait until both figures are drawn."""
        self.until(lambda: self.js("return !!document.querySelector('#latents .nsewdrag')"))
        self.until(lambda: self.corners() > 0)
        self.settle()

    @contextmanager
    def tab(self) -> Iterator[str]:
        """Another tab of the same browser, closed in the end; yields its handle."""
        before = self.driver.current_window_handle
        self.driver.switch_to.new_window("tab")
        mine = self.driver.current_window_handle
        try:
            yield mine
        finally:
            self.driver.switch_to.window(mine)
            self.driver.close()
            self.driver.switch_to.window(before)

    def js(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
        """Wait for a condition; its value.

        A script that fails asks about what is only half drawn, so it is asked again; the last
        failure is told when time is up.
        """
        from selenium.common.exceptions import JavascriptException

        deadline, failure = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            try:
                if found := condition():
                    return found
                failure = None
            except JavascriptException as error:
                failure = error
            time.sleep(0.05)
        self.picture("timeout")
        raise AssertionError("the page did not get there in time; see timeout.png") from failure

    def settle(self) -> None:
        """Wait until no callback is under way, twice in a row."""
        quiet = 0
        while quiet < 3:
            self.until(lambda: "Updating" not in self.driver.title and not self.loading())
            quiet += 1
            time.sleep(0.1)

    def loading(self) -> bool:
        """Whether a figure waits for its callback."""
        return bool(self.js("return !!document.querySelector('[data-dash-is-loading=true]')"))

    def corners(self) -> int:
        """Corners of the inner contour."""
        return int(self.js(
            "const p = document.querySelector('#molecule .js-plotly-plot');"
            "return p && p._fullData && p._fullData[0] ? p._fullData[0].x.length : 0"
        ))  # fmt: skip

    def shape(self) -> float:
        """A number that changes with the surface."""
        return float(self.js(
            "const d = document.querySelector('#molecule .js-plotly-plot')._fullData[0];"
            "let s = d.x.length; for (let i = 0; i < d.x.length; i++)"
            " s += (i % 7) * d.x[i] + (i % 5) * d.y[i] + (i % 3) * d.z[i]; return s"
        ))  # fmt: skip

    def text(self, name: str) -> str:
        """What an element says."""
        return str(self.js("return document.getElementById(arguments[0]).innerText", name))

    def click(self, name: str) -> None:
        """Press a button by its id."""
        from selenium.webdriver.common.by import By

        element = self.driver.find_element(By.ID, name)
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def press(self, label: str) -> None:
        """Press the button with this label."""
        from selenium.webdriver.common.by import By

        element = self.driver.find_element(By.XPATH, f"//button[normalize-space()='{label}']")
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def choose(self, name: str, label: str) -> None:
        """Take one of the options side by side or in a list."""
        from selenium.webdriver.common.by import By

        path = f"//*[@id='{name}']//label[contains(., '{label}')]"
        element = self.driver.find_element(By.XPATH, path)
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def pick(self, name: str, label: str) -> None:
        """Open a list and take the entry with this label."""
        from selenium.webdriver.common.by import By

        self.click(name)
        path = f"//label[@role='option'][contains(., '{label}')]"
        self.until(lambda: self.driver.find_elements(By.XPATH, path))
        time.sleep(0.5)  # the list grows while it opens
        self.driver.find_element(By.XPATH, path).click()

    def type(self, name: str, text: str) -> None:
        """Type into a field."""
        from selenium.webdriver.common.by import By

        field = self.driver.find_element(By.ID, name)
        field.click()
        field.send_keys(text)

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Place on the screen of a point of the plane."""
        self.js("document.getElementById('plane').scrollIntoView({block: 'center'})")
        found = self.js(
            "const p = document.querySelector('#latents .js-plotly-plot');"
            "const b = p.querySelector('.nsewdrag').getBoundingClientRect();"
            "const l = p._fullLayout;"
            "return [b.left + l.xaxis.d2p(arguments[0]), b.top + l.yaxis.d2p(arguments[1])]",
            x, y,
        )  # fmt: skip
        return float(found[0]), float(found[1])

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Point of the plane at a place on the screen."""
        found = self.js(
            "const p = document.querySelector('#latents .js-plotly-plot');"
            "const b = p.querySelector('.nsewdrag').getBoundingClientRect();"
            "const l = p._fullLayout;"
            "return [l.xaxis.p2d(arguments[0] - b.left), l.yaxis.p2d(arguments[1] - b.top)]",
            x, y,
        )  # fmt: skip
        return float(found[0]), float(found[1])

    def drag(self, places: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """Press at the first place of the plane, move over the others, let go at the last.

        Returns where the pixels of the mouse are in the plane.
        """
        pixels = [tuple(map(round, self.pixel(*place))) for place in places]
        self.press_at(pixels)
        return [self.place(*pixel) for pixel in pixels]

    def press_at(self, pixels: list[tuple[int, int]]) -> None:
        """Press at the first place of the screen, move over the others, let go at the last."""
        from selenium.webdriver.common.action_chains import ActionChains

        builder = ActionChains(self.driver, duration=20).w3c_actions
        pointer = builder.pointer_action
        pointer.move_to_location(*pixels[0]).pointer_down()
        for x, y in pixels[1:]:
            pointer.move_to_location(x, y)
        pointer.pointer_up()
        builder.perform()

    def tap(self, x: float, y: float) -> None:
        """Click a place of the plane."""
        self.drag([(x, y)])

    def picture(self, name: str) -> Path:
        """Keep a picture of the page."""
        path = self._artefacts / f"{name}.png"
        self.driver.save_screenshot(str(path))
        return path

    def complaints(self) -> list[str]:
        """Errors of the browser's console since the last call."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]


def artefacts(default: Path) -> Path:
    """Where pictures are kept: $SOLVAR_ARTEFACTS, or a temporary folder."""
    folder = Path(os.environ.get("SOLVAR_ARTEFACTS", default)) / "viewer"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
