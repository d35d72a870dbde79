"""Figures for print: all there, as text, and traceable."""

import csv
import shutil

import matplotlib
import pyarrow.parquet as pq
import pytest

from rnnatlas.report import page
from rnnatlas.report.checks import KIND
from rnnatlas.report.page import write_report

pytestmark = pytest.mark.slow

NAMES = {"emulation-loss", "task-prediction", "published", "emulated-performance", "properties", "maps",
         "neighbours", "learning-curves", "stability", "costs"}  # fmt: skip


@pytest.fixture(scope="module")
def printed(experiment, tmp_path_factory):
    """The folder of an experiment with a report and figures, made under settings of the user's own."""
    folder = tmp_path_factory.mktemp("printed") / "experiment"
    shutil.copytree(experiment, folder)
    with matplotlib.rc_context({"font.size": 40, "pdf.fonttype": 3}):
        write_report(folder)
        assert matplotlib.rcParams["font.size"] == 40
    return folder


def test_every_figure_is_there_as_pdf_and_png_and_says_what_it_shows(printed):
    readme, report = ((printed / name).read_text() for name in ("figures/README.md", "report.html"))
    files = {path.name for path in (printed / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in NAMES for kind in ("pdf", "png")} | {
        "README.md", "table-2.csv", "table-2.tex"}  # fmt: skip
    for name in NAMES:
        assert f"## {name}\n" in readme
        assert f'href="figures/{name}.pdf"' in report
    assert readme.count("Numbers: ") == len(NAMES)
    assert "rnnatlas demo" in readme


def test_letters_of_figures_are_text(printed):
    for name in NAMES:
        content = (printed / "figures" / f"{name}.pdf").read_bytes()
        assert b"/FontFile2" in content, name
        assert b"/Type3" not in content, name


def test_numbers_of_figures_are_rows_of_the_results(printed):
    table = pq.read_table(printed / "results.parquet")
    checks = [row for row in table.to_pylist() if row["kind"] == KIND]
    assert {row["of"] for row in checks} >= {"embedding", "conditioned", "zero", "raw weights", "chance"}
    assert all(row["seeds"] and row["definition"] for row in checks)


def test_the_table_holds_our_numbers_and_the_published_ones(printed):
    with (printed / "figures" / "table-2.csv").open(newline="") as file:
        rows = {row["encoder"]: row for row in csv.DictReader(file)}
    assert rows["interactive probing"]["frozen, published"] == "0.180"
    value = next(row["value"] for row in pq.read_table(printed / "results.parquet").to_pylist()
                 if (row["kind"], row["name"], row["split"], row["encoder"], row["of"])
                 == ("figure", "task calibrated loss", "ood", "interactive", "embedding"))  # fmt: skip
    assert rows["interactive probing"]["frozen"].startswith(f"{value:.3f}")


def test_figures_can_be_left_out(experiment, monkeypatch):
    monkeypatch.setattr(page.plates, "write", lambda *_: pytest.fail("drew figures"))
    assert "Figures for print" not in write_report(experiment, prints=False).read_text()
