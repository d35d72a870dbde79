"""Measures the HTML map of made-up atlases in headless Chromium: size, first paint, and each answer.

    PYTHONPATH=. python benchmarks/map.py --rnns 10000 100000 200000

Milliseconds until the browser has drawn the answer (the second animation frame after it); medians of five.
Chromium draws WebGL in software here, so people with a GPU see the map sooner. --keep FOLDER keeps the maps.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from tests.report.browser import Page, browsing

from rnnatlas.atlas.index import Atlas, with_places
from rnnatlas.atlas.layouts import place

FRAMES = "await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
ACTIONS = {
    "hover": "{ const [x, y] = where(turn); point('pointermove', x, y); }",
    "click": "{ const [x, y] = where(turn); point('pointerdown', x, y); point('pointerup', x, y); }",
    "search": "{ $('find').value = `n+${turn % 3 + 1}cn`; suggest(); visit(0); }",
    "colour": "await recolor(data.columns[turn % 2 ? 1 : 0]);",
    "filter": "await setFilter('metrics.performance', [.1 * turn, .9]);",
    "clear": "await clearFilters();",
    "lasso": "{ const {clientWidth: w, clientHeight: h} = $('plot'); await encircle([[.2 * w, .2 * h], "
    "[.7 * w, .2 * h], [.7 * w, (.6 + .05 * turn) * h], [.2 * w, .7 * h]]); }",
    "zoom": "zoom(1.2);",
}
HELPERS = """
window.where = turn => {
  const at = pixels(), i = Math.floor(n * (turn + .5) / 7);
  return [at.x(place.x[i]), at.y(place.y[i])];
};
window.point = (type, x, y) => {
  const {left, top} = $('overlay').getBoundingClientRect();
  const event = {clientX: left + x, clientY: top + y, bubbles: true, pointerType: 'mouse', isPrimary: true};
  $('plot').dispatchEvent(new PointerEvent(type, event));
};
"""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rnns", type=int, nargs="+", default=[10_000, 100_000, 200_000])
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    table = Table("RNNs", "file, MB", "written, s", "first paint", *ACTIONS, title="milliseconds")
    with tempfile.TemporaryDirectory() as temporary, browsing(browser, Path(temporary) / "profile") as page:
        folder = chosen.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for count in chosen.rnns:
            out = folder / f"map-{count}.html"
            start = time.perf_counter()
            made_up(count).map(out, force=True)
            written = time.perf_counter() - start
            figures = measured(page, out)
            size = out.stat().st_size / 1e6
            table.add_row(
                f"{count:,}", f"{size:.1f}", f"{written:.1f}", *(f"{value:.0f}" for value in figures)
            )
    Console(width=140).print(table)


def measured(page: Page, path: Path) -> list[float]:
    """Milliseconds of the first paint, and of each action."""
    page.open(path, 1400)
    figures = [page.value(f"(async () => {{ {FRAMES}; return performance.now(); }})()")]
    page.value(HELPERS + "null")
    for action in ACTIONS.values():
        turns = [
            page.value(
                f"(async () => {{ const turn = {turn}, start = performance.now(); {action} {FRAMES}; "
                "return performance.now() - start; })()"
            )
            for turn in range(5)
        ]
        figures.append(statistics.median(turns))
    return figures


def made_up(count: int, snapshots: int = 10) -> Atlas:
    """An atlas of runs that move from one place to that of their task."""
    random = np.random.default_rng(0)
    runs = np.arange(count) // snapshots
    age = np.arange(count) % snapshots / (snapshots - 1)
    tasks = random.integers(-3, 3, (count // snapshots + 1, 3))[runs]
    basis = random.normal(size=(3, 6, 16))
    goals = sum(basis[i, tasks[:, i] + 3] for i in range(3))
    vectors = age[:, None] ** 0.5 * goals + random.normal(0, 0.3, (count, 16)) + 0.7
    table = pa.table(
        {
            "id": [f"run-{run:05d}-step-{step:05d}" for run, step in zip(runs, (age * 9000).astype(int))],
            "run": runs,
            "source": ["zoo"] * count,
            "spec": ["lstm-5-32x2-5"] * count,
            "embedding": pa.FixedSizeListArray.from_arrays(
                pa.array(vectors.astype(np.float32).reshape(-1)), 16
            ),
            "label": ["aⁿ" + "".join(map(_power, "bcd", task)) for task in tasks.tolist()],
            "task": pa.StructArray.from_arrays([pa.array(task) for task in tasks.T], names=["b", "c", "d"]),
            "step": (age * 9000).astype(int),
            "split": np.array(["train", "validation", "new-runs", "ood"])[runs % 4],
            "metrics": pa.StructArray.from_arrays(
                [pa.array(np.clip(age + random.normal(0, 0.1, count), 0, 1)), pa.array(random.random(count))],
                names=["performance", "loss"],
            ),
            "samples": [_written(int(k)) for k in random.integers(2, 9, count)],
        }
    )
    return Atlas({"encoder": "interactive", "layout": "pca"}, with_places(table, place("pca", vectors)))


def _power(letter: str, shift: int) -> str:
    return letter + "ⁿ" + (f"{shift:+d}".translate(str.maketrans("+-0123", "⁺⁻⁰¹²³")) if shift else "")


def _written(k: int) -> list[Any]:
    return ["a" * j + "b" * j + "c" * j + "d" * j + "⏎" for j in range(k, k + 5)]


if __name__ == "__main__":
    main()
