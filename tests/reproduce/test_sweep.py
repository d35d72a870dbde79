"""A sweep does what its plan says once, tries again what failed, and goes on with the rest."""

import csv

import pytest

from rnnatlas.emulation.model import RESUME, read_metrics
from rnnatlas.errors import RNNAtlasError, SettingsError, TrainingDiverged, UnknownName
from rnnatlas.reproduce import jobs
from rnnatlas.reproduce.sweep import COLUMNS, Plan, Run, check_all_done, sweep
from rnnatlas.settings import build

SMALL = {
    "steps": 4,
    "rnns": 4,
    "validate_every": 2,
    "validation_rollouts": 2,
    "emulator": {"width": 8, "layers": 1},
}
WIDE = {**SMALL, "emulator": {"width": 12, "layers": 1}}


def plan(zoo, **changes):
    values = {
        "zoos": [str(zoo)],
        "encoders": ["statistics"],
        "seeds": 2,
        "settings": {"base": {"emulation": SMALL}, "wide": {"emulation": WIDE}},
        "evaluate": False,
    }
    return build(Plan, {**values, **changes}, "plan")


@pytest.fixture(scope="module")
def zoo(experiment):
    return experiment / "zoo"


def test_every_combination_is_one_run_and_is_made_once(zoo, tmp_path):
    told = []
    rows = sweep(plan(zoo), tmp_path, workers=1, progress=False, told=told.append)
    assert [(row["settings"], row["seed"]) for row in rows] == [
        (name, seed) for name in ("base", "wide") for seed in (0, 1)
    ]
    assert sorted(map(str, told)) == sorted(map(str, rows))
    check_all_done(rows, tmp_path)
    for row in rows:
        run = tmp_path / str(Run(row["zoo"], row["settings"], row["encoder"], row["seed"]))
        assert row["loss"] == read_metrics(run)[0]["value"]
        assert row["control"] == read_metrics(run / "zero")[0]["value"]
    with (tmp_path / "sweep.tsv").open() as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    assert list(table[0]) == list(COLUMNS)
    assert [line["outcome"] for line in table] == ["done"] * 4
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    more = sweep(plan(zoo, seeds=3), tmp_path, workers=1, progress=False)
    assert len(more) == 6
    assert [row for row in more if row["seed"] < 2] == rows
    assert {path: path.stat().st_mtime_ns for path in written} == written
    leftover = tmp_path / str(Run(**{name: rows[0][name] for name in ("zoo", "settings", "encoder", "seed")}))
    leftover /= RESUME  # of a training that was killed at its very end
    leftover.write_bytes(b"x")
    assert sweep(plan(zoo, seeds=3), tmp_path, workers=1, progress=False) == more
    assert not leftover.exists()
    weights = leftover.with_name("model.safetensors")
    assert weights.stat().st_mtime_ns == written[weights]


class Wrong:
    """In place of a training: loses the loss where it is told to."""

    def __init__(self, monkeypatch, fails):
        self.original, self.fails, self.tried = jobs.Train.__call__, fails, []
        monkeypatch.setattr(jobs.Train, "__call__", lambda work, beat: self.train(work, beat))

    def train(self, work, beat):
        self.tried.append(f"{work.encoder}-{work.seed}")
        if self.tried.count(self.tried[-1]) <= self.fails.get(self.tried[-1], 0):
            raise TrainingDiverged("the loss was lost")
        self.original(work, beat)


def test_what_fails_is_tried_again_then_reported_while_others_go_on(zoo, tmp_path, monkeypatch):
    one = plan(zoo, settings={"base": {"emulation": SMALL}}, seeds=3, retries=2)
    wrong = Wrong(monkeypatch, {"statistics-0": 1, "statistics-1": 3, "zero-2": 3})
    rows = sweep(one, tmp_path, workers=1, progress=False)
    assert [row["outcome"] for row in rows] == ["done", *["failed: the loss was lost"] * 2]
    assert wrong.tried.count("statistics-1") == wrong.tried.count("zero-2") == 3
    assert "statistics-2" not in wrong.tried
    with pytest.raises(RNNAtlasError, match=r"2 of 3 runs failed, see .*sweep.tsv"):
        check_all_done(rows, tmp_path)
    again = sweep(one, tmp_path, workers=1, progress=False)
    assert [row["outcome"] for row in again] == ["done"] * 3
    assert again[0] == rows[0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"encoder": "flat"}, SettingsError, "did you mean 'encoders'"),
        ({"encoders": ["statistic"]}, UnknownName, "did you mean 'statistics'"),
        ({"encoders": []}, SettingsError, "encoders should name at least one"),
        ({"seeds": 0}, SettingsError, "seeds should be 1 or more"),
        ({"settings": {"a/b": {}}}, SettingsError, "names of settings become folders, found 'a/b'"),
        ({"settings": {"base": {"emulation": {"step": 3}}}}, SettingsError, "did you mean 'steps'"),
        ({"zoos": ["a/zoo", "b/zoo"]}, SettingsError, "two zoos should not have one name"),
        ({"preset": "tiny"}, UnknownName, "no preset is called 'tiny'"),
    ],
)
def test_a_plan_is_checked_before_anything_is_made(changes, error, message, zoo, tmp_path):
    with pytest.raises(error, match=message):
        sweep(plan(zoo, **changes), tmp_path / "out", workers=1, progress=False)
    assert not (tmp_path / "out").exists()
