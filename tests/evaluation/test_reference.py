"""RNNs that respond otherwise than those of the zoo are flagged; of RNNs like these about 5 % are."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from rnnatlas.errors import RunFormatError
from rnnatlas.evaluation import reference
from rnnatlas.evaluation.model import load
from rnnatlas.evaluation.reference import Reference
from rnnatlas.rnn import BlackBox, Mixed, Population, RNNSpec
from rnnatlas.zoo.store import Zoo


@pytest.fixture(scope="module")
def zoo(experiment):
    return Zoo.open(experiment / "zoo")


@pytest.fixture(scope="module", params=["interactive-0", "statistics-0"])
def model(request, experiment):
    return load(experiment / request.param)


def drawn(spec, count, scale):
    population = Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(count)])
    return Population(spec, {name: scale * weight for name, weight in population.weights.items()})


def test_training_rnns_are_as_near_as_can_be(model, zoo):
    train = zoo.population(zoo.snapshots(split="train"))
    found = model.likeness(train)
    assert all(row["in_distribution"] for row in found)
    assert np.median([row["ood_score"] for row in found]) < 0.5


def test_rnns_that_respond_otherwise_are_flagged_whatever_the_encoder(model):
    wild = drawn(model.specs[0], 8, 30.0)
    assert not any(row["in_distribution"] for row in model.likeness(wild))
    assert not any(row["in_distribution"] for row in model.predict(wild))


def test_any_system_is_judged_each_rnn_by_itself(experiment, model):
    model = load(experiment / "interactive-0")
    lstms = drawn(model.specs[0], 3, 1.0)
    grus = drawn(RNNSpec(cell="gru", input=4, hidden=5, layers=2, output=4), 2, 1.0)
    mixed = Mixed([([0, 2, 4], lstms), ([1, 3], grus)])
    found = [row["ood_score"] for row in model.likeness(mixed)]
    assert found[::2] == [row["ood_score"] for row in model.likeness(lstms)]
    assert found[1::2] == [row["ood_score"] for row in model.likeness(grus)]
    [only] = grus.select([0]).to_modules()

    def step(inputs, state):
        outputs, state = only(inputs.unsqueeze(1), state)
        return outputs.squeeze(1), state

    box = BlackBox(step, None, model.task.interface)
    assert [row["ood_score"] for row in model.likeness(box)] == [pytest.approx(found[1])]


def test_scores_are_conformal():
    """Of RNNs exchangeable with those held out no more than 5 % are flagged, and nearly as many."""
    known = torch.zeros(1, 1)
    random = torch.Generator().manual_seed(0)
    held_out, others = torch.rand(200, generator=random), torch.rand(20_000, generator=random)
    made = Reference(
        inputs=torch.zeros(1, 1, 1),
        shown=torch.zeros(1, dtype=torch.long),
        mean=torch.zeros(1),
        sd=torch.ones(1),
        known=known,
        distances=held_out.sort().values,
    )
    scores = made.share(others)
    assert abs(np.mean(scores >= reference.FLAGGED) - 0.05) < 0.02
    assert made.share(torch.tensor([torch.inf]))[0] == 200 / 201


def test_a_reference_comes_back_from_disk(model, tmp_path):
    model.reference.save(tmp_path / "a")
    again = Reference.load(tmp_path / "a")
    for field in dataclasses.fields(Reference):
        before, after = (getattr(one, field.name) for one in (model.reference, again))
        assert torch.equal(before.float(), after.float())
    (tmp_path / "b").write_bytes(b"no")
    with pytest.raises(RunFormatError, match="should hold responses of training RNNs"):
        Reference.load(tmp_path / "b")


def test_runs_without_one_do_not_know(model, zoo, monkeypatch):
    monkeypatch.setattr(model, "reference", None)
    rnns = zoo.population([0])
    assert model.likeness(rnns) == [{"ood_score": None, "in_distribution": None}]
    assert model.predict(rnns)[0]["in_distribution"] is None


def test_few_rnns_are_judged_by_training_rnns_of_other_runs_or_not_at_all(model, zoo, monkeypatch):
    snapshots = zoo.snapshots()
    counts = Counter(snapshots["split"].to_pylist())
    held_out = ["new-runs", "validation"]
    for fewest, used in ((1, held_out), (19, [*held_out, "train"])):
        monkeypatch.setattr(reference, "FEWEST", fewest)
        found = reference.fit(model, zoo, snapshots)
        assert len(found.distances) == sum(counts[split] for split in used)
        assert found.distances.isfinite().all()
    assert len(found.known) == counts["train"]
    monkeypatch.setattr(reference, "FEWEST", 10_000)
    assert reference.fit(model, zoo, snapshots) is None


def test_the_sentence_counts_those_that_are_flagged():
    assert reference.remark([True, None]) is None
    assert reference.remark([True, False, None]).startswith("1 of 3 RNNs respond otherwise than the RNNs")


def test_rnns_of_other_sizes_cannot_be_judged(model):
    wider = drawn(RNNSpec(cell="gru", input=7, hidden=5, output=3), 2, 1.0)
    assert model.likeness(wider) == [{"ood_score": None, "in_distribution": None}] * 2
