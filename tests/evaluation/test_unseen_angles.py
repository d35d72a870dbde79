"""Angles that no predictor has seen: baselines, and figures of snapshots trained for long."""

import numpy as np
import pyarrow as pa
import pytest

from rnnatlas.emulation.emulator import EmulatorSettings
from rnnatlas.emulation.model import EmulationSettings
from rnnatlas.emulation.training import train
from rnnatlas.evaluation import predictions as module
from rnnatlas.evaluation.figures import property_figures
from rnnatlas.evaluation.predictions import predictions
from rnnatlas.properties.predictors import PredictorSettings
from rnnatlas.tasks.tiled_mnist import TiledDigits
from rnnatlas.zoo.build import build
from rnnatlas.zoo.train import ZooSettings


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Predictions of a tiny run of orbit probing, and which splits each predictor learned from."""
    folder = tmp_path_factory.mktemp("digits")
    settings = ZooSettings(runs=24, hidden=4, layers=1, batch=4, snapshots=(0, 10, 20), rollouts=4)
    zoo = build(
        TiledDigits.from_settings({"metric_images": 20, "ood_from": 200.0}),
        settings,
        folder / "zoo",
        workers=1,
    )
    emulation = EmulationSettings(
        steps=2, rnns=4, validate_every=2, validation_rollouts=2, emulator=EmulatorSettings(width=8, layers=1)
    )
    chosen = {"sequences": 2, "turns": 4, "hidden": 8}
    run = train(zoo, "orbit", folder / "run", 0, encoder_settings=chosen, settings=emulation, progress=False)
    snapshots = zoo.snapshots()
    split, learned, fit = np.array(snapshots["split"].to_pylist()), {}, module.predictors.fit

    def watched(prop, features, target, roles, *rest):
        used = roles.train | roles.stopping | roles.calibration
        learned[prop.name] = set(split[used])
        return fit(prop, features, target, roles, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.predictors, "fit", watched)
        table, fitted = predictions(run, zoo, snapshots, PredictorSettings(width=4, steps=2))
    return table, fitted, learned, split


def test_no_predictor_of_unseen_angles_learns_from_ood_rnns(found):
    table, fitted, learned, split = found
    assert "ood" in learned["direction"]
    assert learned["unseen_direction"] == {"train", "validation"}
    assert "direction" in fitted
    assert "unseen_direction" not in fitted
    rows = dict.fromkeys(learned, 0)
    for name, reads, own in zip(*(table[key].to_pylist() for key in ("property", "predictor", "split"))):
        rows[name] += reads == "embedding" and own == "ood"
    assert rows["unseen_direction"] == (split == "ood").sum() > rows["direction"] > 0


def test_images_in_all_turns_and_the_scan_stand_beside_the_embedding(found):
    table = found[0].to_pandas()
    for name in ("direction", "unseen_direction"):
        reads = set(table[table["property"] == name]["predictor"])
        assert {
            "embedding",
            "fixed-turned",
            "fixed-task",
            "scan",
            "direction",
            "untrained-direction",
        } <= reads
    for reads in ("scan", "direction"):
        assert reads not in set(table[table["property"] == "step"]["predictor"])


@pytest.mark.parametrize("last", [20, 2000])
def test_figures_of_long_trained_snapshots_are_of_these_alone(found, last):
    table = found[0]
    rows = zip(table["property"].to_pylist(), table["predictor"].to_pylist(), strict=True)
    table = table.filter(pa.array([own == ("unseen_direction", "embedding") for own in rows]))
    steps = [{0: 0, 10: last // 2, 20: last}[step] for step in table["step"].to_pylist()]
    table = table.set_column(table.column_names.index("step"), "step", pa.array(steps))
    figures = property_figures([table])
    by_name = {figure.name: figure for figure in figures if figure.split == "ood"}
    table = table.select(["split", "step", "degrees"]).to_pandas()
    ood = table[table["split"] == "ood"]
    whole, late = (by_name[f"unseen_direction degrees{when}"] for when in ("", ", at the last step"))
    assert whole.interval.mean == pytest.approx(ood["degrees"].mean())
    assert late.interval.mean == pytest.approx(ood[ood["step"] == last]["degrees"].mean())
    assert (late.snapshots, whole.snapshots) == (len(ood) // 3, len(ood))
    assert "of snapshots at the last step, of a predictor" in late.definition
    assert ("unseen_direction degrees, from step 1000 on" in by_name) == (last == 2000)
    if last == 2000:
        expected = ood[ood["step"] >= 1000]["degrees"].mean()
        assert by_name["unseen_direction degrees, from step 1000 on"].interval.mean == pytest.approx(expected)
