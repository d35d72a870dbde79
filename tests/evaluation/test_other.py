"""Another zoo is judged by what was fitted on the run's own one, grouped as that splits tasks."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.made import PROBING, SMALL

from rnnatlas.emulation.training import train
from rnnatlas.errors import RunFormatError, SettingsError, ZooFormatError
from rnnatlas.evaluation import evaluate as module
from rnnatlas.evaluation import other
from rnnatlas.evaluation.evaluate import evaluate, other_folder
from rnnatlas.evaluation.model import load
from rnnatlas.evaluation.supervised import SupervisedSettings
from rnnatlas.properties.predictors import PredictorSettings
from rnnatlas.report.other import table
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.tasks.tiled_mnist import TiledDigits
from rnnatlas.zoo.build import build
from rnnatlas.zoo.splits import SplitSettings
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.train import Architecture, ZooSettings

QUICK = PredictorSettings(steps=20, width=8)
SETTINGS = ZooSettings(
    runs=18,
    layers=1,
    architectures=(Architecture(cell="gru", hidden=5), Architecture(cell="lstm", hidden=4)),
    batch=4,
    snapshots=(0, 20),
    rollouts=4,
    split=SplitSettings(train=0.2, validation=0.6, ood=0.2),
)


@pytest.fixture(autouse=True)
def few_trials(monkeypatch):
    monkeypatch.setattr(module, "TRIALS", 8)


@pytest.fixture(scope="module")
def another(zoo, tmp_path_factory):
    """RNNs of two architectures, split in another way."""
    return build(zoo.task, SETTINGS, tmp_path_factory.mktemp("other") / "zoo", seed=5, workers=1)


@pytest.fixture(scope="module")
def evaluated(zoo, tmp_path_factory):
    """A run that reads responses, evaluated on its own zoo."""
    run = tmp_path_factory.mktemp("run") / "run"
    train(zoo, "noninteractive", run, encoder_settings=PROBING, settings=SMALL, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRIALS", 8)
        evaluate(run, zoo, QUICK)
    return run


@pytest.fixture(scope="module")
def records(evaluated, another):
    """Figures of the other zoo."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRIALS", 8)
        return evaluate(evaluated, another, QUICK)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_groups_are_those_of_the_runs_own_zoo(zoo, another, evaluated):
    snapshots = other.grouped(load(evaluated), zoo, another)
    own = {str(task): split for task, split in zip(*zoo.table.select(["task", "split"]).to_pydict().values())}
    for row in snapshots.to_pylist():
        split = own[str(row["task"])]
        assert row["split"] == ("known" if split in ("train", "new-runs") else split)
    assert snapshots["split"].to_pylist() != another.snapshots()["split"].to_pylist()


@pytest.mark.parametrize(
    ("task", "share", "known", "others"),
    [
        (
            TiledDigits(),
            0.1,
            {10.0: "train", 20.0: "validation", 350.0: "ood"},
            {15.0: "test", 320.0: "ood"},
        ),
        (FormalLanguages(), 0.34, {(2, 2, 2): "train", (0, 0, 0): "ood"}, {(2, 2, 1): "test"}),
    ],
)
def test_tasks_that_the_runs_own_zoo_lacks_are_placed_by_the_tasks_rule(task, share, known, others):
    def instance(key):
        if isinstance(key, float):
            return {"angle": key, "weight_decay": 0.0}
        return dict(zip("bcd", key, strict=True))

    own = object.__new__(Zoo)
    own.card = {"settings": {"split": {"ood": share}}}
    own.__dict__["task"] = task
    own.table = pa.table({"task": [instance(key) for key in known], "split": list(known.values())})
    snapshots = pa.table({"task": [instance(key) for key in (*known, *others)]})
    expected = ["known" if split == "train" else split for split in (*known.values(), *others.values())]
    assert other.splits_by_task(own, snapshots) == expected


def test_embeddings_are_read_by_the_runs_own_predictors(evaluated, another, records):
    rows = pq.read_table(other_folder(evaluated, another) / "predictions.parquet").to_pylist()
    model = load(evaluated)
    where = {id: row for row, id in enumerate(another.table["id"].to_pylist())}
    for name, (_, predictor) in model.predictors.items():
        own = [row for row in rows if (row["property"], row["predictor"]) == (name, "embedding")]
        assert own or name == "step"
        z = model.embed(another.population([where[row["id"]] for row in own]))
        np.testing.assert_allclose([row["prediction"] for row in own], predictor(z), atol=1e-4)


def test_nothing_is_fitted_to_the_other_zoo(evaluated, zoo, another):
    """What is said of some RNNs does not depend on which others are there."""
    model = load(evaluated)
    snapshots = other.grouped(model, zoo, another)
    said = []
    for some in (snapshots, snapshots.take(pa.array(np.arange(1, len(snapshots), 2)))):
        found = other.predictions(model, zoo, another, some, model.predictors, QUICK).to_pylist()
        said.append({(row["id"], row["property"], row["predictor"]): row["prediction"] for row in found})
    assert {key[2] for key in said[1]} >= {"embedding", "untrained", "fixed-rollouts", "invariants"}
    for key, prediction in said[1].items():
        np.testing.assert_allclose(prediction, said[0][key], atol=2e-3)


def test_tasks_that_joined_the_predictors_training_are_not_predicted(evaluated, zoo, another, records):
    rows = pq.read_table(other_folder(evaluated, another) / "predictions.parquet")
    own = pq.read_table(evaluated / "predictions.parquet")
    tested, before = (
        {row["task"] for row in rows_.to_pylist() if row["split"] == "ood"} for rows_ in (rows, own)
    )
    assert tested <= before


def test_the_runs_own_figures_stay_and_those_of_each_architecture_are_beside(evaluated, another, records):
    before = contents(evaluated)
    assert evaluate(evaluated, another, QUICK) == records
    assert contents(evaluated) == before
    files = {"losses.parquet", "predictions.parquet", "emulated.parquet", "metrics.json", "figures.tsv"}
    assert set(contents(other_folder(evaluated, another))) == files
    assert {one["architecture"] for one in records} == {"all", "GRU 4→5→4", "LSTM 4→4→4"}
    assert "over tasks and of one seed" in records[0]["definition"]
    read = {one["of"] for one in records if one["name"] == "task accuracy"}
    assert read >= {"embedding", "fixed-rollouts", "invariants", "constant"}
    assert not read & set(other.OF_ONE)


def test_intervals_are_over_tasks(another, zoo, evaluated, records):
    snapshots = other.grouped(load(evaluated), zoo, another)
    for split in ("known", "validation", "ood"):
        rows = [row for row in snapshots.to_pylist() if row["split"] == split]
        [one] = [
            one
            for one in records
            if (one["architecture"], one["split"], one["of"]) == ("all", split, "conditioned")
            and one["name"] == "emulation loss, total-variation"
        ]
        assert one["n_drawn"] == len({str(row["task"]) for row in rows})
        assert one["n_runs"] == len({row["run"] for row in rows})


def test_the_table_has_a_row_for_each_architecture_and_kind_of_task(records):
    columns, rows = table(records, "language")
    assert [*columns[:3], columns[-1]] == ["architecture", "languages", "RNNs", "unconditional (z = 0)"]
    assert len({tuple(row[:2]) for row in rows}) == len(rows)
    assert {row[1] for row in rows} == {"known", "validation", "ood"}
    assert all(len(row) == len(columns) for row in rows)


def test_an_encoder_that_reads_one_architecture_names_the_others(zoo, another, trained, tmp_path, caplog):
    run = shutil.copytree(trained, tmp_path / "run")
    evaluate(run, zoo, QUICK)
    found = evaluate(run, another, QUICK)
    [said] = [message for message in caplog.messages if "snapshots of GRU 4→5→4" in message]
    assert said.startswith("left out: ")
    assert {one["architecture"] for one in found} == {"all", "LSTM 4→4→4"}
    assert {"pca", "nearest", "norms"} <= {one["of"] for one in found}


def test_rnns_of_the_runs_own_zoo_are_refused(evaluated, zoo, tmp_path):
    """As of a zoo of the same seed with more runs, trained side by side in other groups."""
    settings = ZooSettings(runs=6, hidden=4, layers=1, batch=4, snapshots=(20,), rollouts=2, runs_per_shard=3)
    copies = build(zoo.task, settings, tmp_path / "zoo", workers=1)
    with pytest.raises(ZooFormatError, match="but 6 of its snapshots are in the run's own zoo, too"):
        evaluate(evaluated, copies, QUICK)


def test_zoos_whose_tasks_cannot_be_told_are_refused(evaluated, zoo, another, tmp_path):
    task = FormalLanguages.from_settings({**zoo.card["task"]["settings"], "largest_n": 5})
    wider = build(task, SETTINGS, tmp_path / "zoo", seed=5, workers=1)
    with pytest.raises(ZooFormatError, match="should have settings of the task of the run's own zoo"):
        evaluate(evaluated, wider, QUICK)
    with pytest.raises(ZooFormatError, match=r"is another one .* give the zoo that it was trained on"):
        evaluate(evaluated, another, QUICK, own=wider)
    with pytest.raises(SettingsError, match="is another one; leave out supervised"):
        evaluate(evaluated, another, QUICK, supervised=SupervisedSettings())


def test_networks_that_were_imported_have_no_tasks_to_share(evaluated, zoo, tmp_path):
    modules = zoo.population([0, 1, 2]).to_modules()
    inputs = np.random.default_rng(0).integers(4, size=(6, 5))
    imported = Zoo.from_modules(modules, tmp_path / "zoo", inputs=inputs)
    with pytest.raises(ZooFormatError, match=r"networks were imported.*use: rnnatlas predict"):
        evaluate(evaluated, imported, QUICK)


def test_a_run_is_evaluated_on_its_own_zoo_first(trained, another):
    with pytest.raises(RunFormatError, match=r"on its own zoo before .*: rnnatlas evaluate "):
        evaluate(trained, another)
