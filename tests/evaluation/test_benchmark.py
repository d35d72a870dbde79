"""Training end to end and nearest neighbours: what weights hold is found, and nothing else is touched."""

import numpy as np
import pytest
import torch

from rnnatlas import properties
from rnnatlas.emulation.data import Snapshots
from rnnatlas.emulation.model import TrainedRun, make_parts
from rnnatlas.errors import SettingsError, UnknownName
from rnnatlas.evaluation import nearest, supervised
from rnnatlas.evaluation.roles import assign
from rnnatlas.evaluation.supervised import SupervisedSettings
from rnnatlas.properties.calibration import half_width
from rnnatlas.properties.predictors import PredictorSettings
from rnnatlas.properties.scalar import Performance
from rnnatlas.rnn import Mixed, Population, RNNSpec

HEAD = PredictorSettings(width=16)


@pytest.fixture(scope="module")
def given(zoo, trained):
    """A number that the weights give away, their standard deviation, with what fitting needs."""
    table = zoo.snapshots()
    rnns = zoo.population(table)
    sd = rnns.weights["weight_hh_l0"].flatten(1).std(1)
    target = ((sd - sd.mean()) / sd.std())[:, None]
    examples = Snapshots.of(zoo, table).examples
    return TrainedRun.load(trained), rnns, target, assign(zoo, table, 0), examples


def test_end_to_end_finds_what_weights_hold_and_changes_no_model(given):
    model, rnns, target, roles, examples = given
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    steps: list[int] = []
    settings = SupervisedSettings(steps=150, rnns=16, every=25, learning_rates=(1e-3,), warmup=0, decay=False)
    whole = supervised.fit(model, Performance(), rnns, target, roles, settings, examples, HEAD, steps.append)
    held_out = np.flatnonzero(roles.held_out)
    error = (whole(held_out) - target[held_out]).square().mean()
    constant = (target[roles.train].mean() - target[held_out]).square().mean()
    assert error < 0.5 * constant
    assert sum(steps) == settings.steps
    kept = np.flatnonzero(roles.calibration)
    assert whole.predictor.calibration.half_width == pytest.approx(half_width(whole(kept) - target[kept]))
    assert all(torch.equal(before[name], value) for name, value in model.encoder.state_dict().items())


def test_end_to_end_starts_where_the_run_started_and_repeats(given):
    model, rnns, target, roles, examples = given
    start, _ = make_parts(model.specs, model.task, model.settings)
    begun = dict(
        supervised.Supervised(model, Performance(), rnns, roles, HEAD, examples).encoder.named_parameters()
    )
    changed = {name for name, own in start.named_parameters() if not torch.equal(own, begun[name])}
    assert len(changed) == 2  # of the last layer, which whitens z
    assert {begun[name].shape[0] for name in changed} == {16}
    settings = SupervisedSettings(steps=3, rnns=4)
    rows = np.arange(len(target))
    state = torch.random.get_rng_state()
    first, second = (
        supervised.fit(model, Performance(), rnns, target, roles, settings, examples, HEAD)(rows)
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_the_last_steps_learned_counts(given):
    model, rnns, target, roles, examples = given
    settings = SupervisedSettings(steps=100, rnns=16, learning_rates=(1e-3,), every=200)
    untrained = supervised.Supervised(model, Performance(), rnns, roles, HEAD, examples)
    whole = supervised.fit(model, Performance(), rnns, target, roles, settings, examples, HEAD)
    assert not torch.equal(whole.encoder.last.weight, untrained.encoder.last.weight)


def test_it_takes_as_many_updates_as_emulation_unless_set_otherwise(given):
    model, *_ = given
    assert supervised.updates(SupervisedSettings(), model) == 2 * model.settings.emulation.steps
    assert supervised.updates(SupervisedSettings(steps=7, learning_rates=(1e-3,)), model) == 7


def test_of_several_learning_rates_the_better_one_is_kept(given):
    model, rnns, target, roles, examples = given
    losses = {}
    stopping = np.flatnonzero(roles.stopping)
    for rates in ((1e-5,), (3e-3,), (1e-5, 3e-3)):
        settings = SupervisedSettings(steps=40, rnns=16, every=20, learning_rates=rates, warmup=0)
        whole = supervised.fit(model, Performance(), rnns, target, roles, settings, examples, HEAD)
        losses[rates] = Performance().loss(whole(stopping), target[stopping]).mean().item()
    alone = losses[(1e-5,)], losses[(3e-3,)]
    assert alone[0] != alone[1]
    assert losses[(1e-5, 3e-3)] == min(alone)


def test_impossible_settings_are_refused():
    with pytest.raises(SettingsError, match="steps should be 1 or more, found 0"):
        SupervisedSettings(steps=0)
    with pytest.raises(SettingsError, match="learning_rates should be finite and above 0, found 0"):
        SupervisedSettings(learning_rates=(1e-3, 0.0))
    with pytest.raises(SettingsError, match="learning_rates should be one or more, found none"):
        SupervisedSettings(learning_rates=())
    with pytest.raises(SettingsError, match="warmup should be 0 or more, found -1"):
        SupervisedSettings(warmup=-1)
    with pytest.raises(UnknownName, match="tsak"):
        SupervisedSettings(properties=("tsak",))


def test_nearest_of_a_training_rnn_is_itself(given):
    _, rnns, target, roles, _ = given
    near = nearest.find(rnns, roles.train)
    rows = np.flatnonzero(roles.train)
    assert near.rows[rows, 0].tolist() == rows.tolist()
    assert set(near.rows.flatten().tolist()) <= set(rows.tolist())
    # stopping on the training RNNs themselves makes one neighbour the best choice
    outputs = nearest.predict(Performance(), near, target, roles.train)
    assert torch.equal(outputs[rows], target[rows])


def test_nearest_responses_are_those_of_training_rnns_by_distance():
    responses = torch.tensor([[0.0], [9.0], [1.0], [4.0], [8.5]])
    near = nearest.by_responses(responses, np.array([True, True, False, True, False]))
    assert near.rows.tolist() == [[0, 3, 1], [1, 3, 0], [0, 3, 1], [3, 0, 1], [1, 3, 0]]


@pytest.mark.parametrize("name", ["task", "step"])
def test_shares_of_neighbours_are_smoothed_and_keep_the_own_class(zoo, given, name):
    _, rnns, _, roles, _ = given
    table = zoo.snapshots()
    prop = properties.registry[name].fit(zoo.task, table)
    target = prop.target(zoo.task, table)
    outputs = nearest.predict(prop, nearest.find(rnns, roles.train), target, roles.train)
    rows = np.flatnonzero(roles.train)
    score = prop.score(outputs[rows], target[rows])
    assert outputs.isfinite().all()
    assert score["accuracy"].mean() == 1
    shares = prop.probabilities(outputs)
    assert torch.allclose(shares.sum(2), torch.ones(()))
    assert shares.max() < 1


def test_neighbours_are_training_rnns_of_the_same_architecture_however_rare_it_is():
    specs = [RNNSpec(cell=cell, input=2, hidden=3, output=2) for cell in ("lstm", "gru", "elman-tanh")]
    places = ([0, 2, 3, 5, 6, 9], [8, 1, 4], [7])
    members = [
        Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(len(own))])
        for spec, own in zip(specs, places, strict=True)
    ]
    train = np.isin(np.arange(10), [0, 3, 5, 9, 4])  # one GRU, and no Elman network
    near = nearest.find(Mixed(list(zip(places, members, strict=True))), train)
    assert near.rows.shape == (10, 5)
    lstms, grus, elman = (near.rows[own] for own in places)
    assert all(set(row) == {0, 3, 5, 9} for row in lstms.tolist())  # the nearest of them a second time
    assert torch.equal(lstms[:, 4], lstms[:, 0])
    assert (grus == 4).all()
    assert elman.tolist() == [[0, 3, 4, 5, 9]]
    alone = nearest.find(members[0], train[places[0]])
    assert torch.equal(torch.tensor(places[0])[alone.rows], lstms[:, :4])
