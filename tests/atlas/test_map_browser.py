"""The map in Chromium: pointing, choosing, searching, comparing, exporting; narrow, dark and on paper."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pyarrow as pa
import pytest
from tests.made import make_atlas
from tests.report.browser import browsing
from tests.report.test_browser import CHROMIUM

from rnnatlas.atlas.index import Atlas

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH")

HOSTILE = "<img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def other(atlas):
    """The same RNNs in another order, by another encoder."""
    table = atlas.table.take(np.random.default_rng(1).permutation(len(atlas)))
    vectors = np.random.default_rng(2).normal(size=(len(atlas), 4)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4)
    table = table.set_column(table.column_names.index("embedding"), "embedding", column)
    return Atlas({**atlas.card, "encoder": "transformer"}, table)


@pytest.fixture(scope="module")
def path(atlas, other, tmp_path_factory):
    """A map of two encoders and two layouts."""
    path = tmp_path_factory.mktemp("map") / "map.html"
    atlas.map(path, layout="tsne", others=[other])
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser's page."""
    with browsing(str(CHROMIUM), tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser, path):
    """The map, fresh."""
    browser.call("Emulation.setEmulatedMedia", media="")
    browser.open(path, 1200)
    return browser


def ids(page, rows):
    return page.value(f"Array.from({rows}, i => data.ids[i])")


def where(page, i):
    """An RNN's place in the window."""
    return page.value(
        f"(() => {{ const at = pixels(), box = $('overlay').getBoundingClientRect(); "
        f"return [box.left + at.x(place.x[{i}]), box.top + at.y(place.y[{i}])]; }})()"
    )


def box(page, selector):
    """Left and top edge, width and height of an element."""
    return page.value(
        f"(({{left, top, width, height}}) => [left, top, width, height])"
        f"(document.querySelector('{selector}').getBoundingClientRect())"
    )


def drag(page, points):
    for kind, (x, y) in [
        ("Pressed", points[0]),
        *(("Moved", point) for point in points),
        ("Released", points[-1]),
    ]:
        button = {"button": "left", "clickCount": 1, "buttons": int(kind != "Released")}
        page.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **button)


def click(page, x, y):
    drag(page, [(x, y)])


def press(page, key):
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key)


# --- pointing


def test_click_selects_and_an_empty_click_deselects(page):
    click(page, *where(page, 40))
    chosen = page.value("selected")
    assert np.allclose(where(page, chosen), where(page, 40), atol=5)
    assert page.value("$('panel').textContent.includes(data.ids[selected])")
    left, top, *_ = box(page, "#overlay")
    click(page, left + 12, top + 12)
    assert page.value("selected") is None


def test_clicks_and_hovering_do_not_send_the_points_again(page):
    page.value(
        "window.calls = 0; for (const name of ['react', 'restyle', 'relayout', 'newPlot']) { "
        "const own = Plotly[name]; Plotly[name] = (...all) => { calls++; return own(...all); }; }"
    )
    x, y = where(page, 3)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.value("new Promise(done => setTimeout(done, 100))")
    assert page.value("!$('tip').hidden")
    click(page, x, y)
    assert page.value("selected !== null")
    assert page.value("calls") == 0


def test_neighbours_are_those_of_search(page, atlas):
    found = atlas.search(atlas.ids[9], k=8)
    page.value("select(9)")
    assert ids(page, "closest.map(([i]) => i)") == found["id"].to_pylist()
    assert np.allclose(page.value("closest.map(([, one]) => one)"), found["similarity"], atol=1e-3)


# --- search


def test_search_reads_superscripts_and_enter_reaches_every_hit(page, atlas):
    labels = atlas.table["label"].to_pylist()
    wanted = next(label for label in labels if "⁺" in label)
    plain = wanted.translate(str.maketrans("ⁿ⁺⁻¹²³", "n+-123"))
    page.value(f"$('find').focus(); $('find').value = {json.dumps(plain.upper())}; suggest()")
    hits = [atlas.ids[i] for i, label in enumerate(labels) if label == wanted]
    assert len(hits) > 1
    for hit in hits:
        press(page, "Enter")
        assert ids(page, "[selected]") == [hit]
    press(page, "ArrowUp")
    assert ids(page, "[selected]") == [hits[-2]]


# --- choosing


def test_a_class_that_is_shown_alone_stays_bright_beside_a_selected_rnn(page):
    strong = page.value("$('plot').data[1].marker.opacity")
    page.value("select(5)")
    page.value("document.querySelector('#legend .classes button').click()")
    page.value("new Promise(done => setTimeout(done, 100))")
    shown, opacity, colour = page.value(
        "[$('plot').data[1].x.length, $('plot').data[1].marker.opacity, $('plot').data[1].marker.color[0]]"
    )
    assert shown == page.value("current.values.filter(code => code === 0).length")
    assert (opacity, colour) == (strong, page.value("colors[0]"))


def test_several_classes_and_ranges_choose_what_is_listed_and_exported(page, atlas):
    page.value("toggle(columns.get('split'), 0)")
    page.value("toggle(columns.get('split'), 1)")
    page.value("setFilter('metrics.performance', [.2, .9])")
    rows = atlas.table.to_pylist()
    splits = sorted({row["split"] for row in rows})[:2]
    wanted = [row for row in rows if row["split"] in splits and 0.2 <= row["metrics"]["performance"] <= 0.9]
    assert 0 < len(wanted) < len(rows)
    listed = page.value("[...document.querySelectorAll('.neighbours a')].map(a => a.textContent)")
    assert listed == [row["id"] for row in wanted]
    exported = list(csv.DictReader(io.StringIO(page.value("csv(group.members())"))))
    assert [row["id"] for row in exported] == listed
    assert [row["label"] for row in exported] == [row["label"] for row in wanted]
    assert [int(row["step"]) for row in exported] == [row["step"] for row in wanted]
    assert [row["samples"].split(" ") for row in exported] == [row["samples"] for row in wanted]
    page.value("clearFilters()")
    assert page.value("passing.count") == len(rows)


def test_both_ends_of_a_range_belong_to_it(page, atlas):
    values = sorted({round(row["loss"], 3) for row in atlas.table["metrics"].to_pylist()})
    low, high = values[1], values[-2]
    page.value(f"columns.get('metrics.loss').values.set([{low}, {high}])")
    page.value(f"setFilter('metrics.loss', [{low}, {high}])")
    assert page.value("[...passing.has].slice(0, 2)") == [1, 1]


def test_dragging_across_a_histogram_sets_a_range(page):
    page.value("recolor(columns.get('metrics.performance'))")
    left, top, width, _ = box(page, "#legend .histogram")
    drag(page, [(left + share * width, top + 9) for share in (0.25, 0.5, 0.75)])
    low, high = page.value("range(columns.get('metrics.performance'))")
    found = page.value("filters.get('metrics.performance')")
    assert np.allclose(
        found, [low + 0.25 * (high - low), low + 0.75 * (high - low)], atol=0.02 * (high - low)
    )
    bars = page.value("[...document.querySelectorAll('#legend rect')].map(bar => bar.height.baseVal.value)")
    assert max(bars) == 60


def test_lasso_chooses_what_lies_inside(page, atlas):
    left, top, width, height = box(page, "#overlay")
    middle, end = left + width / 2, top + height - 5
    page.value("$('lasso').click()")
    drag(page, [(left + 5, top + 50), (middle, top + 50), (middle, end), (left + 5, end)])
    places = [where(page, i) for i in range(len(atlas))]
    inside = [id for id, (x, y) in zip(atlas.ids, places, strict=True) if x < middle and 50 + top < y < end]
    assert 0 < len(inside) < len(atlas)
    assert ids(page, "group.members()") == inside
    assert page.value("$('lasso').getAttribute('aria-pressed')") == "false"
    page.value("document.querySelector('#chips button').click()")
    assert page.value("passing.count") == len(atlas)


# --- two RNNs, runs, layouts, encoders


def test_two_rnns_side_by_side(page):
    page.value("select(2)")
    page.value("[...document.querySelectorAll('.buttons button')].find(b => b.textContent.startsWith"
               "('Compare')).click(); select(7)")  # fmt: skip
    shown = page.value("document.querySelector('.pair').textContent")
    for part in page.value("[2, 7].flatMap(i => [data.ids[i], title(i), ...data.samples[i]])"):
        assert part in shown
    assert f"{page.value('cosine(2, 7)'):.3f}" in page.value("$('panel').textContent")


def test_paths_join_the_snapshots_of_a_run_by_step(page, atlas):
    rows = atlas.table.to_pylist()
    for i in (0, 50):
        run = sorted((row for row in rows if row["run"] == rows[i]["run"]), key=lambda row: row["step"])
        page.value(f"select({i})")
        assert ids(page, "marks().lines[0].points") == [row["id"] for row in run]
    assert page.value("[...runPaths()].length") == len({row["run"] for row in rows})


def test_layout_and_encoder_can_be_switched(page, atlas, other):
    names = "[...$('{}').options].map(option => option.textContent)"
    assert page.value(names.format("encoder")) == ["interactive probing", "parameter transformer"]
    assert page.value(names.format("layout")) == ["t-SNE", "PCA"]
    page.value("$('layout').value = 1; $('layout').onchange({})")
    assert np.allclose(page.value("[...place.x]"), atlas.table["x"], atol=1e-6)
    page.value("select(4); $('encoder').value = 1; $('encoder').onchange({})")
    assert page.value("$('subtitle').textContent") == "Embedded by parameter transformer, placed by PCA"
    found = other.search(atlas.ids[4], k=8)
    assert set(ids(page, "closest.map(([i]) => i)")) == set(found["id"].to_pylist())


def test_zoom_and_reset(page):
    width = "$('plot').layout.xaxis.range.reduce((low, high) => high - low)"
    before, place = page.value(width), [round(one) for one in where(page, 11)]
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=place[0], y=place[1], deltaX=0, deltaY=-300)
    page.value("draw()")
    assert page.value(width) < 0.7 * before
    assert where(page, 11) == pytest.approx(place, abs=1)
    x, y = place
    drag(page, [(x + 30, y), (x + 40, y + 20), (x + 80, y + 70)])
    assert where(page, 11) == pytest.approx((x + 50, y + 70), abs=1)
    assert page.value("selected") is None
    page.value("$('reset').click(); draw()")
    assert page.value(width) == pytest.approx(before)


def test_cyclic_is_offered_for_angles_alone(browser, tmp_path):
    angles = np.linspace(0, 359, 40, dtype=np.float32)
    table = pa.table(
        {
            "id": [str(angle) for angle in angles],
            "spec": ["lstm-5-16x1-5"] * 40,
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(angles.repeat(2)), 2),
            **{name: pa.array(angles) for name in ("angle", "loss", "x", "y")},
        }
    )
    Atlas({"layout": "own"}, table).map(tmp_path / "map.html")
    browser.open(tmp_path / "map.html", 1200)
    for key, offered in (("angle", True), ("loss", False)):
        browser.value(f"recolor(columns.get('{key}'))")
        assert browser.value("!$('cyclic-label').hidden") == offered


# --- taken away, narrow, dark, printed


def test_svg_and_png_show_every_point(page, atlas):
    page.value("select(null)")
    drawn = ElementTree.fromstring(page.value("svg().text"))
    inner = drawn.find("{*}svg")
    assert inner is not None
    assert len(inner.findall(".//{*}circle")) == len(atlas)
    assert set(page.value("current.categories")) <= {text.text for text in drawn.iter() if text.text}
    start = page.value("png().then(async blob => [...new Uint8Array(await blob.arrayBuffer())].slice(1, 4))")
    assert bytes(start) == b"PNG"


def test_every_point_is_in_view_on_a_phone(page, path, atlas):
    page.open(path, 390)
    assert page.value("document.documentElement.scrollWidth") == 390
    box, drawn = page.value("[$('map').clientHeight, $('plot').querySelector('.main-svg').clientHeight]")
    assert drawn == box
    top = page.value("$('map').getBoundingClientRect().top")
    assert all(top < where(page, i)[1] < top + box for i in range(len(atlas)))


def test_fingers_choose_and_zoom(page, path):
    page.open(path, 390)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)

    def touch(kind, *points):
        fingers = [{"x": x, "y": y, "id": id} for id, (x, y) in enumerate(points)]
        page.call("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=fingers)

    x, y = where(page, 20)
    touch("Start", (x, y))
    touch("End")
    assert page.value(
        "selected !== null && !$('tip').hidden && $('tip').textContent.includes(data.ids[selected])"
    )
    unit = page.value("view.unit")
    touch("Start", (150, 300), (250, 300))
    touch("Move", (100, 300), (300, 300))
    touch("End")
    page.call("Emulation.setTouchEmulationEnabled", enabled=False)
    assert page.value("view.unit") == pytest.approx(unit / 2, rel=0.02)
    assert page.value("selected !== null")


def test_every_point_is_on_paper_and_paper_is_light(page, path, atlas):
    page.open(path, 1200, dark=True)
    page.value("dispatchEvent(new Event('beforeprint'))")
    page.call("Emulation.setEmulatedMedia", media="print")
    page.resize(700)
    page.call("Emulation.setEmulatedMedia", media="print")
    left, _, width, _ = box(page, "#overlay")
    assert 0 <= left < left + width <= 700
    assert page.value("getComputedStyle($('overlay')).objectFit") == "contain"
    inked = page.value(
        "(() => { const at = pixels(), pen = $('overlay').getContext('2d'); "
        "const ink = i => pen.getImageData(2 * at.x(place.x[i]), 2 * at.y(place.y[i]), 1, 1).data[3]; "
        "return Array.from({length: n}, (_, i) => ink(i)); })()"
    )
    assert len(inked) == len(atlas)
    assert min(inked) > 100
    assert page.value("style('--paper')") == "#ffffff"


def test_texts_from_atlases_are_shown_as_text(browser, tmp_path):
    atlas = make_atlas(4)
    table = atlas.table
    for name in ("label", "split", "source"):
        table = table.set_column(table.column_names.index(name), name, pa.array([HOSTILE, "b"] * 8))
    samples = pa.array([[HOSTILE]] * len(table))
    table = table.set_column(table.column_names.index("samples"), "samples", samples)
    named = pa.array([HOSTILE + str(i) for i in range(len(table))])
    Atlas(
        {**atlas.card, "encoder": HOSTILE}, table.set_column(table.column_names.index("id"), "id", named)
    ).map(tmp_path / "map.html")
    browser.open(tmp_path / "map.html", 1200)
    browser.value("opened.add('split'); pin(0); select(1)")
    browser.value("toggle(columns.get('split'), 1)")
    browser.value("$('find').value = 'img'; suggest(); tip(1, {clientX: 0, clientY: 0})")
    browser.value("pin(null); png()")
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert HOSTILE in browser.value("$('legend').textContent")
    assert HOSTILE in browser.value("$('panel').textContent")
    assert browser.value("document.title").endswith("RNN atlas")
