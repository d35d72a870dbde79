"""The report as Chromium shows and prints it: readable on narrow and dark screens, and on paper."""

import dataclasses
import itertools
import re
import shutil

import pytest
from tests.report.browser import browsing

from rnnatlas.atlas.index import Atlas
from rnnatlas.atlas.map import write_map
from rnnatlas.report.experiment import Experiment
from rnnatlas.report.page import write_report
from rnnatlas.report.words import NO_INTERACTION

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH")

LABEL = "<b>mine</b><script>document.title = 'taken'</script>"
WIDTHS = (360, 700, 1200)


@pytest.fixture(scope="module")
def report(experiment, tmp_path_factory):
    """A report with encoders of long names, and with one whose label is HTML."""
    folder = tmp_path_factory.mktemp("shown") / "experiment"
    shutil.copytree(experiment, folder)
    made = Experiment.load(folder)
    runs = {**made.runs, NO_INTERACTION: made.runs["interactive"], LABEL: made.runs["statistics"]}
    dataclasses.replace(made, runs=runs).save(folder)
    write_map(Atlas.open(folder / "atlas"), folder / "map.html")
    return write_report(folder, prints=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A browser's page."""
    with browsing(str(CHROMIUM), tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(page, report, width):
    page.open(report, width)
    assert page.value("document.documentElement.scrollWidth") == width
    charts = page.value("[...document.querySelectorAll('.chart')].map(box => "
                        "[box.clientWidth, box.querySelector('.main-svg').clientWidth])")  # fmt: skip
    assert len(charts) >= 6
    assert all(drawn <= room for room, drawn in charts)


@pytest.mark.parametrize("width", WIDTHS)
def test_texts_of_charts_do_not_overlap(page, report, width):
    page.open(report, width)
    charts = page.value(
        "[...document.querySelectorAll('.chart')].map(chart => [...chart.querySelectorAll('.annotation-text, "
        ".xtick text, .ytick text')].map(text => { const {left, right, top, bottom} = "
        "text.getBoundingClientRect(); return [left, right, top, bottom, text.textContent]; }))"
    )
    assert all(charts)
    for a, b in itertools.chain.from_iterable(itertools.combinations(chart, 2) for chart in charts):
        beside = a[1] <= b[0] + 1 or b[1] <= a[0] + 1
        assert beside or a[3] <= b[2] + 3 or b[3] <= a[2] + 3, (a, b)


def brightness(page, expression):
    """From 0 to 1, of a colour that an expression gives."""
    return sum(map(int, re.findall(r"\d+", page.value(expression))[:3])) / (3 * 255)


def test_page_and_charts_follow_the_colours_that_are_preferred(page, report):
    page.open(report, 1200)
    background = "getComputedStyle(document.body).backgroundColor"
    text = "getComputedStyle(document.querySelector('#chart-losses .annotation-text')).fill"
    assert brightness(page, background) > 0.9
    assert brightness(page, text) < 0.3
    page.resize(1200, dark=True)
    page.value("draw().then(() => null)")
    assert brightness(page, background) < 0.2
    assert brightness(page, text) > 0.7
    assert page.value("[...document.querySelectorAll('.chart')].every(chart => "
                      "!chart.innerHTML.includes('var(--'))")  # fmt: skip


def test_links_lead_somewhere(page, report):
    page.open(report, 1200)
    links = page.value("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))")
    places = [link[1:] for link in links if link.startswith("#")]
    assert {"results", "emulation", "methods"} <= set(places)
    assert all(page.value(f"document.getElementById('{place}')?.tagName === 'SECTION'") for place in places)
    files = [link for link in links if not link.startswith("#")]
    assert {"map.html", "results.parquet", "results.json"} <= set(files)
    assert all((report.parent / file).is_file() for file in files)


def test_texts_from_files_are_shown_as_text(page, report):
    page.open(report, 1200)
    assert page.value("document.title") == "Embeddings of RNNs: an experiment"
    assert page.value("document.scripts.length") == 3
    assert page.value("document.querySelector('.byline code').textContent") == (
        "rnnatlas demo <script>alert(1)</script>"
    )
    for chart in ("losses", "curves"):
        shown = page.value(f"document.getElementById('chart-{chart}').textContent")
        assert LABEL in re.sub(r"\s+", " ", shown) or LABEL.replace(" ", "") in shown.replace(" ", "")


def test_print_is_short_and_light(page, report):
    page.open(report, 1200, dark=True)
    pages = re.findall(rb"/Type\s*/Page\b", page.pdf())
    assert 1 < len(pages) <= 10
    assert page.value("document.querySelector('#chart-losses .main-svg').clientWidth > 700")  # as it was
