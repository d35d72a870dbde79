import pytest
import torch
from torch import nn

from rnnatlas.errors import CheckpointError, RNNSpecMismatch
from rnnatlas.rnn import (
    GATES,
    Interface,
    Population,
    RNNSpec,
    Tokens,
    Values,
    find_rnn,
    find_rnns,
    run,
    sample,
    step,
)

LSTM = RNNSpec(cell="lstm", input=6, hidden=32, layers=2, output=6)


def initialised(spec, *seeds):
    return Population.initialise(spec, [torch.Generator().manual_seed(seed) for seed in seeds])


def test_parameter_count_of_the_papers_networks():
    assert LSTM.parameters == 13_766
    assert RNNSpec(cell="lstm", input=16, hidden=32, layers=2, output=10).parameters == 15_178


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bidirectional": True},
        {"bias": False},
        {"output": 3, "head_bias": False},
        {"initial_state": True},
    ],
)
def test_spec_survives_its_slug_and_its_dict(cell, options):
    spec = RNNSpec(cell=cell, input=4, hidden=7, layers=2, **options)
    assert RNNSpec.from_slug(spec.slug) == spec
    assert RNNSpec(**spec.as_dict()) == spec


@pytest.mark.parametrize("wrong", [{"cell": "lstn"}, {"hidden": 0}, {"layers": -1}, {"output": 0}])
def test_spec_refuses_what_is_no_architecture(wrong):
    with pytest.raises(RNNSpecMismatch):
        RNNSpec(**{"cell": "lstm", "input": 3, "hidden": 4} | wrong)
    with pytest.raises(RNNSpecMismatch, match="lstm-6-32x2-6"):
        RNNSpec.from_slug("lstm_6_32")


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("output", [None, 3])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"initial_state": True}])
def test_modules_and_state_dicts_round_trip_without_loss(cell, output, options):
    spec = RNNSpec(cell=cell, input=4, hidden=5, layers=2, output=output, **options)
    population = initialised(spec, 1, 2, 3)
    for again in (
        Population.from_modules(population.to_modules()),
        Population.from_state_dicts(population.state_dicts(), spec),
        Population.from_state_dicts([module.state_dict() for module in population.to_modules()], spec),
        Population.unflatten(spec, population.flatten()),
        Population.concat([population.select([0]), population.select([1, 2])]),
    ):
        assert again.spec == spec
        assert torch.equal(again.flatten(), population.flatten())


def test_initialisation_is_torchs_and_depends_on_the_own_generator_only():
    alone, among = initialised(LSTM, 7), initialised(LSTM, 3, 7)
    assert torch.equal(alone.flatten()[0], among.flatten()[1])
    bound = 32**-0.5
    for name, weight in initialised(LSTM, *range(50)).weights.items():
        assert weight.abs().max() <= bound
        # a uniform distribution's standard deviation is its half-width over √3
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name


def test_from_modules_finds_rnn_and_head_and_keeps_gradients():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(9, 4)
            self.core = nn.GRU(4, 5, batch_first=True)
            self.out = nn.Linear(5, 2)

    models = [Model(), Model()]
    population = Population.from_modules(models)
    assert str(population.spec) == "GRU 4→5→2"
    outputs, _ = run(population, torch.randn(2, 3, 4, 4))
    outputs.sum().backward()
    assert models[1].core.weight_hh_l0.grad is not None
    pair = Population.from_modules([(nn.RNN(2, 3, nonlinearity="relu"), nn.Linear(3, 1))])
    assert pair.spec.cell == "elman-relu"


@pytest.mark.parametrize(
    ("modules", "sentence"),
    [
        ([], "at least one"),
        ([nn.LSTM(2, 3), nn.LSTM(2, 4)], "one architecture"),
        ([nn.Linear(2, 3)], "found 0"),
        ([nn.Sequential(nn.LSTM(2, 3), nn.LSTM(3, 3))], "found 2"),
        ([nn.LSTM(2, 3, proj_size=2)], "projection"),
        ([nn.ModuleList([nn.LSTM(2, 3), nn.Linear(3, 1), nn.Linear(3, 2)])], "2 linear layers"),
    ],
)
def test_from_modules_says_what_it_cannot_use(modules, sentence):
    with pytest.raises(RNNSpecMismatch, match=sentence):
        Population.from_modules(modules)


def test_population_refuses_weights_of_another_spec():
    weights = initialised(LSTM, 0).weights
    with pytest.raises(RNNSpecMismatch, match="shape"):
        Population(RNNSpec(cell="lstm", input=5, hidden=32, layers=2, output=6), weights)
    with pytest.raises(RNNSpecMismatch, match="parameters"):
        Population(RNNSpec(cell="lstm", input=6, hidden=32, output=6), weights)
    with pytest.raises(RNNSpecMismatch, match="13766"):
        Population.unflatten(LSTM, torch.zeros(2, 10))


def test_weights_may_come_in_any_order_and_count_by_name():
    population = initialised(LSTM, 0, 1)
    backwards = dict(reversed(population.weights.items()))
    again = Population(LSTM, backwards)
    assert list(again.weights) == list(LSTM.shapes)
    assert torch.equal(again.flatten(), population.flatten())
    inputs = torch.randn(2, 3, 4, 6)
    assert torch.equal(run(again, inputs)[0], run(population, inputs)[0])


def test_inputs_of_another_precision_are_refused_with_advice():
    for function, shape in ((run, (2, 3, 4, 6)), (step, (2, 3, 6))):
        with pytest.raises(
            RNNSpecMismatch, match=r"torch\.float32 on cpu.*found torch\.float64.*inputs\.to\("
        ):
            function(initialised(LSTM, 0, 1), torch.zeros(shape, dtype=torch.float64))


def test_an_interface_has_the_sizes_of_the_architecture():
    weights = initialised(LSTM, 0).weights
    tokens = Interface(Tokens(6), Tokens(6))
    population = Population(LSTM, weights, tokens)
    assert initialised(LSTM, 0).interface == Interface(Values(6), Values(6))
    moved = (population.select([0]), population.to(dtype=torch.float64), population.detach().clone())
    assert all(one.interface == tokens for one in moved)
    with pytest.raises(RNNSpecMismatch, match="reads 6 numbers a step and gives out 6, which does not fit"):
        Population(LSTM, weights, Interface(Tokens(5), Tokens(6)))


def test_state_dicts_are_recognised_under_any_prefix():
    module = nn.ModuleDict({"enc": nn.Embedding(7, 5), "body": nn.LSTM(5, 5, 2), "to_vocab": nn.Linear(5, 7)})
    found = find_rnn(module.state_dict())
    assert (found.prefix, found.head, str(found.spec)) == ("body.", "to_vocab.", "LSTM 5→5×2→7")
    cell = find_rnn({f"cell.{name}": tensor for name, tensor in nn.LSTMCell(3, 4).state_dict().items()})
    assert str(cell.spec) == "LSTM 3→4"
    assert find_rnn(nn.RNN(2, 3).state_dict(), cell="elman-relu").spec.cell == "elman-relu"
    assert find_rnn(nn.LSTM(2, 3).state_dict(), cell="elman-relu").spec.cell == "lstm"  # the file tells
    with pytest.raises(CheckpointError, match="not of cell 'lstm'; expected 'gru'"):
        find_rnn(nn.GRU(2, 3).state_dict(), cell="lstm")


def test_a_head_can_be_named_with_or_without_its_dot():
    module = nn.ModuleDict({"body": nn.GRU(2, 3), "fc": nn.Linear(3, 4), "value": nn.Linear(3, 1)})
    for head in ("fc", "fc."):
        found = find_rnn(module.state_dict(), head=head)
        assert (found.head, str(found.spec)) == ("fc.", "GRU 2→3→4")
    assert find_rnn(module.state_dict(), head="").head is None
    with pytest.raises(CheckpointError, match=r"head's weights at fd\.weight, found none"):
        find_rnn(module.state_dict(), head="fd")


def test_an_embedding_is_no_head():
    module = nn.ModuleDict({"word_embeddings": nn.Embedding(7, 5), "body": nn.LSTM(5, 5)})
    assert str(find_rnn(module.state_dict()).spec) == "LSTM 5→5"
    module["out"] = nn.Linear(5, 7, bias=False)
    assert find_rnn(module.state_dict()).head == "out."


def test_a_head_is_not_shared_by_guess():
    module = nn.ModuleDict({"encoder": nn.GRU(2, 3), "decoder": nn.GRU(2, 3), "fc": nn.Linear(3, 4)})
    rnns, _ = find_rnns(module.state_dict())
    assert [(rnn.prefix, rnn.head) for rnn in rnns] == [("encoder.", None), ("decoder.", None)]
    for rnn in rnns:
        assert f"'fc' fits behind 2 RNNs; name the head to use: --head '{rnn.place}=fc'" in rnn.remark
    assert [rnn.head for rnn in find_rnns(module.state_dict(), head="fc")[0]] == ["fc.", "fc."]


@pytest.mark.parametrize(
    ("state_dict", "sentence"),
    [
        ({}, "no tensors"),
        (nn.Linear(2, 3).state_dict(), "weight_hh_l0"),
        (nn.ModuleList([nn.GRU(2, 3), nn.GRU(2, 3)]).state_dict(), "found 2"),
        ({"weight_hh_l0": torch.zeros(10, 4), "weight_ih_l0": torch.zeros(10, 2)}, "10 rows"),
        ({"weight_hh_l0": torch.zeros(16, 4)}, "no weight_ih_l0"),
        ({"weight_hh_l0": torch.zeros(16, 4), "weight_ih_l0": torch.zeros(12, 2)}, r"\(16, 2\)"),
        (nn.LSTM(2, 3, proj_size=2).state_dict(), "projection"),
        (nn.ModuleList([nn.GRU(2, 3), nn.Linear(3, 1), nn.Linear(3, 2)]).state_dict(), "several linear"),
    ],
)
def test_recognition_says_what_it_cannot_use(state_dict, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        find_rnn(state_dict)


def test_nothing_changes_its_arguments():
    population = initialised(LSTM, 0, 1)
    before = {name: weight.clone() for name, weight in population.weights.items()}
    inputs = torch.randn(2, 3, 4, 6)
    kept = inputs.clone()
    _, state = run(population, inputs)
    held = [part.clone() for part in state]
    step(population, inputs[:, :, 0], state)
    sample(population, torch.rand(2, 3, 5), start=4)
    assert torch.equal(inputs, kept)
    assert all(torch.equal(part, copy) for part, copy in zip(state, held, strict=True))
    assert all(torch.equal(population.weights[name], copy) for name, copy in before.items())


@pytest.mark.parametrize(
    ("inputs", "state"),
    [
        (torch.zeros(2, 3, 4, 5), None),
        (torch.zeros(3, 3, 4, 6), None),
        (torch.zeros(3, 0, 6), None),
        (torch.zeros(2, 3, 4, 6), (torch.zeros(2, 2, 3, 32),)),
        (torch.zeros(2, 3, 4, 6), (torch.zeros(2, 2, 1, 32), torch.zeros(2, 2, 1, 32))),
    ],
)
def test_run_refuses_what_does_not_fit(inputs, state):
    with pytest.raises(RNNSpecMismatch):
        run(initialised(LSTM, 0, 1), inputs, state)


def test_step_refuses_what_does_not_fit():
    population = initialised(LSTM, 0, 1)
    for inputs in (torch.zeros(3, 1, 6), torch.zeros(2, 1, 5)):
        with pytest.raises(RNNSpecMismatch):
            step(population, inputs)
    bidirectional = RNNSpec(cell="gru", input=2, hidden=3, bidirectional=True)
    with pytest.raises(RNNSpecMismatch, match="both ends"):
        step(initialised(bidirectional, 0), torch.zeros(1, 1, 2))


class TestSampling:
    def test_an_rnns_rollouts_depend_on_its_own_numbers_alone(self):
        population, uniforms = initialised(LSTM, 0, 1, 2), torch.rand(3, 5, 12)
        tokens, log_probs = sample(population, uniforms, start=4)
        alone, own = sample(population.select([2]), uniforms[2:], start=4)
        assert torch.equal(alone[0], tokens[2])
        torch.testing.assert_close(own[0], log_probs[2])

    def test_log_probabilities_are_those_of_reading_the_rollout(self):
        population = initialised(LSTM, 0, 1)
        tokens, log_probs = sample(population, torch.rand(2, 5, 12), start=4)
        read = torch.cat([torch.full((2, 5, 1), 4), tokens[..., :-1].long()], -1)
        outputs, _ = run(population, nn.functional.one_hot(read, 6).float())
        torch.testing.assert_close(outputs.log_softmax(-1), log_probs, rtol=1e-5, atol=1e-5)

    def test_tokens_come_with_their_probabilities(self):
        spec = RNNSpec(cell="elman-tanh", input=4, hidden=3, output=4)
        population = initialised(spec, 5)
        uniforms = torch.rand(1, 40_000, 1, generator=torch.Generator().manual_seed(0))
        tokens, log_probs = sample(population, uniforms, start=0)
        shares = torch.bincount(tokens.flatten().long(), minlength=4) / tokens.numel()
        torch.testing.assert_close(shares, log_probs[0, 0, 0].exp(), atol=0.01, rtol=0)

    def test_needs_outputs_that_can_be_inputs(self):
        with pytest.raises(RNNSpecMismatch, match="as many inputs as outputs"):
            sample(initialised(RNNSpec(cell="gru", input=2, hidden=3), 0), torch.rand(1, 1, 1), 0)


def test_rnns_are_taken_one_by_one():
    population = Population.from_modules([nn.GRU(3, 4) for _ in range(3)])
    each = list(population)
    assert [len(rnn) for rnn in each] == [1, 1, 1]
    for position, rnn in enumerate(each):
        assert torch.equal(rnn.flatten(), population[position].flatten())
    assert torch.equal(population[-1].flatten(), each[2].flatten())
    assert torch.equal(population[1:].flatten(), torch.cat([rnn.flatten() for rnn in each[1:]]))
