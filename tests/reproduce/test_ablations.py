"""Ablations are jobs that differ from the experiment's own runs in one setting, each made once."""

import dataclasses
import json

import pytest

from rnnatlas.errors import OutputExists, SettingsError
from rnnatlas.executors.local import Local
from rnnatlas.report.experiment import Experiment
from rnnatlas.reproduce import jobs
from rnnatlas.reproduce.ablations import of_ablations
from rnnatlas.reproduce.folder import begin, describe
from rnnatlas.reproduce.jobs import of_encoders
from rnnatlas.reproduce.settings import resolve
from rnnatlas.settings import as_dict, leaves

CHANGES = {
    "experiment": {
        "seeds": 1,
        "supervised": True,
        "slow_baselines": True,
        "learning_rates": {"interactive": 0.5},
    },
    "encoders": {"interactive": {"sequences": 2, "steps": 7}, "noninteractive": {"sequences": 4, "steps": 7}},
}
ASKED = {"sequences": [2, 4], "steps": [7, 9], "divergences": ["total-variation", "l2"]}


def resolved(ablations, **emulation):
    experiment = {**CHANGES["experiment"], "ablations": ablations}
    return resolve("demo", {**CHANGES, "experiment": experiment, "emulation": emulation})


def test_they_need_the_experiments_controls_and_repeat_none_of_its_runs(tmp_path):
    settings = resolved(ASKED, first_steps=0)
    found = of_ablations(tmp_path, settings, 3, "cpu")
    assert {job.name: job.needs for job in found if job.name.startswith("train")} == {
        "train ablations/sequences-4/interactive-3": ("train zero-3",),
        "train ablations/steps-9/interactive-3": ("train zero-3",),
        "train ablations/divergence-l2/zero-3": (),
        "train ablations/divergence-l2/interactive-3": ("train ablations/divergence-l2/zero-3",),
        "train ablations/sequences-2/noninteractive-3": ("train zero-3",),
        "train ablations/steps-9/noninteractive-3": ("train zero-3",),
        "train ablations/divergence-l2/noninteractive-3": ("train ablations/divergence-l2/zero-3",),
    }
    evaluated = [job for job in found if job.name.startswith("evaluate")]
    assert len(evaluated) == 6
    assert all(job.needs == (job.name.replace("evaluate", "train"),) for job in evaluated)
    assert all(job.work.supervised is None and not job.work.slow_baselines for job in evaluated)
    own = of_encoders(tmp_path, settings, 3, "cpu")
    assert not {job.output for job in found} & {job.output for job in own}
    folders = {
        run
        for values in describe(tmp_path, "demo", "formal-languages", 3, {}, settings).ablations.values()
        for encoders in values.values()
        for runs in encoders.values()
        for run in runs.values()
    }
    assert {tmp_path / run for run in folders} == {job.work.folder for job in evaluated}


def test_they_differ_from_the_experiments_run_in_one_setting(tmp_path):
    settings = resolved(ASKED)
    own = {job.name: job.work for job in of_encoders(tmp_path, settings, 0, "cpu")}["train interactive-0"]
    works = {job.name: job.work for job in of_ablations(tmp_path, settings, 0, "cpu")}

    def differs(where):
        one = works[f"train ablations/{where}/interactive-0"]
        before, after = (
            leaves({"encoder": work.encoder_settings, "emulation": as_dict(work.emulation)})
            for work in (own, one)
        )
        assert one.control_learning_rate == own.control_learning_rate
        return {name: value for name, value in after.items() if value != before[name]}

    assert own.emulation.learning_rate == 0.5
    assert differs("sequences-4") == {"encoder.sequences": 4}
    assert differs("steps-9") == {"encoder.steps": 9}
    alone = {"emulation.first_divergence": None, "emulation.first_steps": 0}
    assert differs("divergence-l2") == alone | {"emulation.divergence": "l2"}
    assert differs("divergence-total-variation") == alone | {"emulation.divergence": "total-variation"}


def test_all_divergences_are_those_of_the_outputs_but_the_experiments_own():
    steps = {"first_steps": 0}
    others = {"kl", "reverse-kl", "jensen-shannon", "cosine", "l2"}
    found = resolved(True, **steps)["experiment"]["ablations"]
    assert (found["sequences"], found["steps"]) == ([1, 2, 4, 8], [7, 12, 22, 42])
    assert set(found["divergences"]) == others
    assert set(resolved(True)["experiment"]["ablations"]["divergences"]) == others | {"total-variation"}
    numbers = resolve("demo", {"experiment": {"ablations": True}}, "integrator")
    assert numbers["experiment"]["ablations"]["divergences"] == ["l1", "cosine"]


def test_what_is_there_is_not_made_again(tmp_path, monkeypatch):
    made = []

    def write(work, beat):
        made.append(work)
        work.folder.mkdir(parents=True, exist_ok=True)
        (work.folder / ("model" if isinstance(work, jobs.Train) else "predictors")).with_suffix(
            ".safetensors"
        ).touch()

    monkeypatch.setattr(jobs.Train, "__call__", write)
    monkeypatch.setattr(jobs.Evaluate, "__call__", write)
    settings = resolved(ASKED)
    found = [*of_encoders(tmp_path, settings, 0, "cpu"), *of_ablations(tmp_path, settings, 0, "cpu")]
    (tmp_path / "ablations/steps-9/interactive-0").mkdir(parents=True)
    (tmp_path / "ablations/steps-9/interactive-0/model.safetensors").touch()
    Local(1).run(found, tmp_path)
    assert len(made) == len(found) - 1
    Local(1).run(found, tmp_path)
    assert len(made) == len(found) - 1


def test_experiments_without_may_have_them_added(tmp_path):
    def described(settings):
        return describe(tmp_path / "out", "demo", "formal-languages", 0, {}, settings)

    without = resolved(False)
    assert of_ablations(tmp_path, without, 0, "cpu") == []
    before = described(without)
    assert before.ablations == {}
    older = json.loads(json.dumps(without))
    del older["experiment"]["ablations"]
    begin(tmp_path / "out", dataclasses.replace(before, settings=older))
    begin(tmp_path / "out", described(resolved(True)))
    assert Experiment.load(tmp_path / "out").ablations["steps"]["42"]["interactive"] == {
        0: "ablations/steps-42/interactive-0"
    }
    with pytest.raises(OutputExists, match=r"another emulation\.first_steps"):
        begin(tmp_path / "out", described(resolved(True, first_steps=1)))


@pytest.mark.parametrize(
    ("ablations", "message"),
    [
        ("yes", r"^experiment\.ablations should be .*, found 'yes'$"),
        ({"step": [7]}, r"unknown setting experiment\.ablations\.step; did you mean 'steps'"),
        ({"steps": [0]}, r"^experiment\.ablations: sequences and steps should be 1 or more, found 0$"),
        (
            {"divergences": ["mse"]},
            r"^experiment\.ablations\.divergences should be among total-variation, .* 'mse'",
        ),
    ],
)
def test_bad_settings_are_one_sentence(ablations, message):
    with pytest.raises(SettingsError, match=message):
        resolved(ablations)


def test_an_experiment_without_probing_has_none(monkeypatch):
    monkeypatch.setattr(
        "rnnatlas.reproduce.settings.preset",
        lambda *_: {"task": {}, "zoo": {}, "emulation": {}, "encoders": {}},
    )
    with pytest.raises(SettingsError, match="train interactive and noninteractive again, found neither"):
        resolve("demo", {"experiment": {"ablations": True}, "encoders": {"statistics": {}}})
