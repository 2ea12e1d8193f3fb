"""The report in a real browser: nothing on its console, everything can be used, and by everybody.

Needs Chromium with its driver, selenium, and axe-core from npm; `.ci/run` installs them. Screenshots
are kept in `build/screenshots`.
"""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import HOSTILE, binary_run, multiclass_run, pictures_run, write_run

import ptmetrics as pm

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
By = pytest.importorskip("selenium.webdriver.common.by").By

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
AXE = ROOT / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--hide-scrollbars",
)
RUN_AXE = """
const done = arguments[0];
axe.run(document, {resultTypes: ["violations"]}).then(
  (found) => done(found.violations.map((each) => [each.impact, each.id, each.nodes[0].html])));
"""
HIDDEN_COLUMNS = """
const tables = [...document.querySelectorAll(".scroll")];
return tables.filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.ariaLabel);
"""
KINDS = ("binary", "classes", "arms", "hostile", "many", "pictures")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="Chromium and chromedriver are not installed"
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.chrome.service.Service(DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of each kind."""
    folder = tmp_path_factory.mktemp("reports")
    runs: dict[str, Any] = {
        "binary": binary_run(folder / "binary"),
        "classes": multiclass_run(folder / "classes"),
        "arms": [
            write_run(folder / "tuned"),
            write_run(folder / "scratch", (0.5, 0.7, 0.8, 0.91), step_s=2.0),
        ],
        "hostile": multiclass_run(folder / "hostile", HOSTILE),
        "pictures": pictures_run(folder / "pictures"),
        "many": multiclass_run(folder / "many", [f"class {i}" for i in range(200)], epochs=2),
    }
    return {kind: pm.report(run, folder / f"{kind}.html") for kind, run in runs.items()}


def opened(browser: Any, file: Path, width: int = 1280, theme: str = "light") -> Any:
    preferred = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preferred})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(file.as_uri())
    return browser


def clicked(browser: Any, selector: str) -> None:
    element = browser.find_element(By.CSS_SELECTOR, selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def column(browser: Any, table: str, place: int) -> list[str]:
    cells = browser.find_elements(By.CSS_SELECTOR, f"{table} tbody tr > :nth-child({place})")
    return [cell.text.split()[0] for cell in cells]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_opens_without_a_word_on_the_console_and_fits(
    browser: Any, files: dict[str, Path], kind: str, theme: str, width: int
) -> None:
    opened(browser, files[kind], width, theme)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_script(
        "for (const one of document.querySelectorAll('details')) one.open = true"
    )
    hidden = browser.execute_script(HIDDEN_COLUMNS)
    assert kind == "hostile" or hidden == [], "a table whose last column is out of sight"
    height = browser.execute_script("return document.documentElement.scrollHeight")
    area = {"x": 0, "y": 0, "width": width, "height": min(height, 12_000), "scale": 1}
    wanted = {"format": "png", "captureBeyondViewport": True, "clip": area}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", wanted)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = base64.b64decode(taken["data"])
    (SCREENSHOTS / f"report-{kind}-{width}-{theme}.png").write_bytes(picture)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing_serious(
    browser: Any, files: dict[str, Path], kind: str, theme: str
) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: npm install --prefix build/axe axe-core")
    opened(browser, files[kind], theme=theme)
    browser.execute_script(
        "for (const one of document.querySelectorAll('details')) one.open = true"
    )
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script(RUN_AXE)
    assert [one for one in found if one[0] in {"serious", "critical"}] == []


def test_a_heading_sorts_its_table_up_and_down(browser: Any, files: dict[str, Path]) -> None:
    opened(browser, files["classes"])
    table = "#classes ~ div table.sorts"
    before = column(browser, table, 3)
    head = f"{table} th:nth-child(3)"
    clicked(browser, f"{head} button")
    assert column(browser, table, 3) == sorted(before, key=float) != before
    assert browser.find_element(By.CSS_SELECTOR, head).get_attribute("aria-sort") == "ascending"
    clicked(browser, f"{head} button")
    assert column(browser, table, 3) == sorted(before, key=float, reverse=True)
    clicked(browser, f"{table} th:nth-child(1) button")
    assert column(browser, table, 1) == list("abcdefghij")


def test_a_run_that_is_not_ticked_leaves_the_charts(browser: Any, files: dict[str, Path]) -> None:
    opened(browser, files["arms"])

    def visible(run: int) -> list[bool]:
        drawn = browser.find_elements(By.CSS_SELECTOR, f"svg .run-{run}")
        return [part.is_displayed() for part in drawn]

    assert all(visible(1))
    assert all(visible(2))
    clicked(browser, "#show-1")
    assert not any(visible(1))
    assert all(visible(2))
    clicked(browser, "#show-1")
    assert all(visible(1))
    assert len(visible(1)) == 3, "lines of accuracy and loss, and a band where there are intervals"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_contents_lead_to_their_sections(
    browser: Any, files: dict[str, Path], width: int
) -> None:
    opened(browser, files["binary"], width)
    links = browser.find_elements(By.CSS_SELECTOR, "nav a")
    assert len(links) > 5
    for link in links:
        goal = link.get_attribute("href").partition("#")[2]
        browser.execute_script("arguments[0].scrollIntoView()", link)
        link.click()
        assert browser.execute_script("return location.hash") == f"#{goal}"
        top = browser.execute_script(
            "return document.getElementById(arguments[0]).getBoundingClientRect().top", goal
        )
        assert -1 <= top < 900, goal


def test_it_prints(browser: Any, files: dict[str, Path]) -> None:
    opened(browser, files["classes"], theme="dark")
    printed = base64.b64decode(browser.print_page())
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 2
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS / "report-classes.pdf").write_bytes(printed)


@pytest.mark.fault(45)
def test_the_policy_stops_any_other_script(browser: Any, files: dict[str, Path]) -> None:
    opened(browser, files["hostile"])
    browser.execute_script(
        "const script = document.createElement('script');"
        "script.textContent = 'window.obeyed = 1'; document.body.append(script)"
    )
    assert browser.execute_script("return window.obeyed") is None
    assert "Content Security Policy" in browser.get_log("browser")[0]["message"]
