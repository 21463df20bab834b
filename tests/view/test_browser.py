"""Pages in a real browser: they fit a phone, run no script, ask for nothing, and are not empty."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ferrule.view.charts import write_charts
from ferrule.view.report import write_report
from ferrule.worlds.charts.columns import plotted
from ferrule.worlds.charts.grammar import Chart
from ferrule.worlds.charts.making import draw_table

from .conftest import HOSTILE, make_run

pytestmark = pytest.mark.integration

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)
# Asks the page itself how wide it is; the report allows no scripts, so the question is put to a copy without that rule.
QUESTION = """<script>
const wide = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1
  && !e.closest(".scroll") && !e.closest("svg")).map(e => e.className || e.tagName);
document.title = JSON.stringify([innerWidth, document.documentElement.scrollWidth, wide.slice(0, 5)]);
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    """Path of Chromium."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "these tests look at the page with Chromium: make system (or: apt-get install chromium)"
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the complete synthetic run."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "first-run", steps=25))


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of charts whose columns have hostile names."""
    planted = draw_table(random.Random("browser"), 4)
    renamed = {variable.name: variable.cells for variable in planted.table.variables}
    renamed[HOSTILE] = [HOSTILE, "other"] * (len(planted.table.variables[0].cells) // 2 + 1)
    renamed[HOSTILE] = renamed[HOSTILE][: len(planted.table.variables[0].cells)]
    table = plotted(HOSTILE, renamed)
    number = table.named("numerical")[0]
    drawn = [*planted.charts, Chart("bar", HOSTILE, number, True, "sum", HOSTILE)]
    hints = [("x", HOSTILE), ("mark", "bar"), ("bin", "auto")]
    path = tmp_path_factory.mktemp("charts") / "charts.html"
    return write_charts(table, [(chart, 1.0) for chart in drawn], hints, path, command="ferrule charts t.csv")


def run(browser: str, profile: Path, *arguments: str) -> str:
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def opened(html: str) -> str:
    """The page without its rule against scripts, with everything that can be unfolded unfolded."""
    return re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", html).replace("<details", "<details open")


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["report", "charts"])
def test_it_fits(browser: str, report: Path, charts: Path, tmp_path: Path, name: str, width: int) -> None:
    """Nothing reaches beyond the window, with everything unfolded."""
    page = {"report": report, "charts": charts}[name]
    (tmp_path / "page.html").write_text(opened(page.read_text("utf-8")) + QUESTION, encoding="utf-8")
    frame = f'<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe>'
    ask = "<script>onload = () => { document.title = frames[0].document.title }</script>"
    (tmp_path / "frame.html").write_text(frame + ask, encoding="utf-8")
    found = run(
        browser, tmp_path / "p", "--allow-file-access-from-files", "--window-size=1400,1000", "--dump-dom",
        (tmp_path / "frame.html").as_uri(),
    )  # fmt: skip
    title = re.search("<title>(.*?)</title>", found)
    assert title, "the page did not answer"
    assert title[1] == f"[{width},{width},[]]"


def test_no_script_runs(browser: str, report: Path, tmp_path: Path) -> None:
    """Hostile text in the episodes stays text even without the page's rule against scripts."""
    (tmp_path / "page.html").write_text(opened(report.read_text("utf-8")), encoding="utf-8")
    dom = run(browser, tmp_path / "p", "--dump-dom", (tmp_path / "page.html").as_uri())
    assert "<title>first-run · run report</title>" in dom
    assert "onerror" in dom


def test_the_rule_against_scripts_holds(browser: str, report: Path, tmp_path: Path) -> None:
    """A script that got into the page would not run either."""
    html = report.read_text("utf-8").replace("</body>", "<script>document.title = 'owned'</script></body>")
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    dom = run(browser, tmp_path / "p", "--dump-dom", (tmp_path / "page.html").as_uri())
    assert "<title>first-run · run report</title>" in dom


def test_charts_are_drawn_without_scripts_and_network(browser: str, charts: Path, tmp_path: Path) -> None:
    """Every picture is in the page and has a size; hostile names of columns stay text, and the page allows no script."""
    sizes = "JSON.stringify([...document.images].map(i => i.complete && i.naturalWidth > 100 && i.naturalHeight > 100))"
    ask = f"<script>onload = () => {{ document.title = {sizes} }}</script></body>"
    (tmp_path / "page.html").write_text(opened(charts.read_text("utf-8")).replace("</body>", ask), encoding="utf-8")
    dom = run(browser, tmp_path / "p", "--dump-dom", (tmp_path / "page.html").as_uri())
    count = charts.read_text("utf-8").count("<figure>")
    assert count > 2
    assert f"<title>[{','.join(['true'] * count)}]</title>" in dom
    (tmp_path / "page.html").write_text(charts.read_text("utf-8").replace("</body>", ask), encoding="utf-8")
    dom = run(browser, tmp_path / "q", "--dump-dom", (tmp_path / "page.html").as_uri())
    assert " · charts</title>" in dom
    assert "onerror" in dom


@pytest.mark.parametrize(("dark", "brightness"), [(False, (0.8, 1.0)), (True, (0.0, 0.3))])
def test_light_and_dark(
    browser: str, report: Path, tmp_path: Path, dark: bool, brightness: tuple[float, float]
) -> None:
    """Paper is light or dark as the reader's system asks for, and there is ink on it."""
    picture = tmp_path / "page.png"
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    run(browser, tmp_path / "p", *scheme, f"--screenshot={picture}", "--window-size=1280,1400", report.as_uri())
    pixels = imread(picture)[..., :3].mean(axis=-1)
    assert brightness[0] <= np.median(pixels) <= brightness[1]
    assert 0.02 < (np.abs(pixels - np.median(pixels)) > 0.3).mean() < 0.5
