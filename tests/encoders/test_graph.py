import pytest
import torch
from tests.made import different_leaks, tokens

from rnnatlas.encoders.graph import Graph, GraphSettings
from rnnatlas.encoders.nodes import NUMBERS, ROLES, SLOTS, Nodes, edges_of, numbers_of, slots_of
from rnnatlas.errors import RNNSpecMismatch, SettingsError
from rnnatlas.rnn import (
    GATES,
    SYMMETRIES,
    Mixed,
    Population,
    RNNSpec,
    canonical_bias,
    permute_hidden,
    random_permutations,
)

SMALL = GraphSettings(width=8, channels=4, rounds=2)
SPECS = [
    RNNSpec(cell=cell, input=3, hidden=4, layers=2, output=3, bidirectional=True, initial_state=True)
    for cell in GATES
] + [
    RNNSpec(cell="lstm", input=3, hidden=5, output=3),
    RNNSpec(cell="gru", input=3, hidden=6, layers=3, output=3, bias=False, head_bias=False),
]


def some(spec, count=4, seed=0):
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    return different_leaks(Population.initialise(spec, generators).to(dtype=torch.float64))


def make(settings=SMALL, spec=SPECS[0], system=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = Graph(tokens(spec), None, settings)
    encoder.double().eval().calibrate(system or mixed())
    return encoder


def mixed():
    """Of each architecture four RNNs, those of one not side by side."""
    return Mixed([(torch.arange(4) * len(SPECS) + place, some(spec)) for place, spec in enumerate(SPECS)])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_states_of_units_move_with_them(spec):
    encoder, population = make(), some(spec)
    order = random_permutations(spec, len(population), torch.Generator().manual_seed(1))
    before, after = encoder.states(population), encoder.states(permute_hidden(population, order))
    assert len(before) == 2 + spec.layers * spec.directions
    for nodes, state in before.items():
        if nodes.kind == "hidden":
            units = order[:, nodes.layer * spec.directions + nodes.direction]
            state = state.gather(1, units.unsqueeze(2).expand_as(state))
            assert not torch.allclose(state, before[nodes])
        torch.testing.assert_close(after[nodes], state)


@pytest.mark.parametrize("settings", [SMALL, GraphSettings(**vars(SMALL) | {"sequences": 2})])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_symmetries_hold_for_every_architecture(spec, settings):
    encoder, population = make(settings), some(spec)
    for name in encoder.symmetries:
        if SYMMETRIES[name].applies(spec):
            changed = SYMMETRIES[name].change(population, torch.Generator().manual_seed(2))
            torch.testing.assert_close(encoder(changed), encoder(population))


def test_architectures_side_by_side_are_embedded_as_one_by_one():
    encoder, system = make(), mixed()
    z = encoder(system)
    torch.testing.assert_close(z, torch.cat([encoder(rnn) for rnn in system]))
    assert (torch.cdist(z, z) + torch.eye(len(z)) > 1e-3).all()


def test_one_training_step_reaches_every_parameter():
    encoder = make(GraphSettings(**vars(SMALL) | {"sequences": 2})).train()
    encoder(mixed())[:, 0].sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_weights_of_zero_have_an_embedding_and_gradients(spec):
    encoder = make()
    population = Population.unflatten(spec, torch.zeros(2, spec.parameters, dtype=torch.float64))
    z = encoder(population.requires_grad_())
    assert z.isfinite().all()
    z[:, 0].sum().backward()
    assert all(weight.grad.isfinite().all() for weight in population.weights.values())


def test_calibrates_on_weights_of_zero():
    spec = SPECS[0]
    zeros = Population.unflatten(spec, torch.zeros(4, spec.parameters, dtype=torch.float64))
    encoder = make(system=zeros)
    assert encoder.edge_scale.eq(1).all()
    assert encoder.number_scale.eq(1).all()
    assert encoder(some(spec)).isfinite().all()


def test_every_gate_has_a_slot_of_its_own():
    for cell, gates in GATES.items():
        slots = slots_of(RNNSpec(cell=cell, input=2, hidden=3))
        assert len(set(slots)) == len(gates)
        assert all(gate in SLOTS[slot] for gate, slot in zip(gates, slots, strict=True))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_nodes_and_edges_hold_every_weight_once(spec):
    population = canonical_bias(some(spec))
    entries = sum(edges.weights[0].numel() for edges in edges_of(population))
    loops = [NUMBERS.index(f"loop {slot}") for slot in range(len(SLOTS))]
    for numbers in numbers_of(population).values():
        entries += sum(values[0].numel() for place, values in numbers.items() if place not in loops)
    zero = sum((weight[0] == 0).sum().item() for weight in population.weights.values())
    assert entries == spec.parameters - zero


@pytest.mark.parametrize("hidden", [8, 64])
def test_new_rnns_of_any_width_have_edges_of_one_size(hidden):
    spec = RNNSpec(cell="lstm", input=32, hidden=hidden, layers=2, output=32, bidirectional=True)
    for edges in edges_of(some(spec)):
        assert edges.weights.square().mean().item() == pytest.approx(1, abs=0.1), edges[:3]


def test_scales_are_root_mean_squares_over_all_architectures():
    encoder = make()
    weights = [each for spec in SPECS for each in some(spec).weights.items()]
    alpha = [weight.flatten() for name, weight in weights if "alpha" in name]
    candidates = [
        edges.weights[:, edges.slots.index(0)].flatten()
        for spec in SPECS
        for edges in edges_of(some(spec))
        if edges.role == ROLES.index("recurrent")
    ]
    expected = torch.cat(candidates).square().mean().sqrt()
    torch.testing.assert_close(encoder.edge_scale[ROLES.index("recurrent"), 0], expected)
    expected = torch.cat(alpha).square().mean().sqrt()
    torch.testing.assert_close(encoder.number_scale[NUMBERS.index("alpha")], expected)


def test_what_is_missing_is_like_what_is_zero():
    without = RNNSpec(cell="gru", input=3, hidden=4, layers=2, output=3, bias=False, head_bias=False)
    within = RNNSpec(cell="gru", input=3, hidden=4, layers=2, output=3, initial_state=True)
    population = some(without)
    zeros = {name: torch.zeros(4, *shape, dtype=torch.float64) for name, shape in within.shapes.items()}
    encoder = make()
    padded = Population(within, zeros | population.weights)
    torch.testing.assert_close(encoder(padded), encoder(population))


def test_without_a_head_outputs_are_hidden_states():
    bare = RNNSpec(cell="lstm", input=3, hidden=2, layers=2, bidirectional=True)
    headed = RNNSpec(cell="lstm", input=3, hidden=2, layers=2, output=4, bidirectional=True, head_bias=False)
    population = some(bare)
    eye = torch.eye(4, dtype=torch.float64).expand(4, 4, 4)
    encoder = make(spec=bare, system=population)
    copied = Population(headed, population.weights | {"head.weight": eye})
    torch.testing.assert_close(encoder(copied), encoder(population))
    order = random_permutations(bare, 4, torch.Generator().manual_seed(1))
    assert not torch.allclose(encoder(permute_hidden(population, order)), encoder(population), atol=1e-3)


@pytest.mark.parametrize("axes", [{"weight_ih_l0": 2}, {"head.weight": 1, "head.bias": 1}])
def test_inputs_and_outputs_are_told_apart(axes):
    encoder, population = make(), some(SPECS[6])
    weights = {name: w.flip(axes[name]) if name in axes else w for name, w in population.weights.items()}
    turned = Population(population.spec, weights)
    assert (encoder(turned) - encoder(population)).abs().max() > 0.01


def test_directions_are_told_apart():
    spec = RNNSpec(cell="gru", input=3, hidden=4, output=3, bidirectional=True)
    encoder, population = make(system=some(spec, 8)), some(spec)
    other = {name: f"{name}_reverse" for name in population.weights if name.endswith("_l0")}
    other |= {reverse: name for name, reverse in other.items()}
    weights = {name: population.weights[other.get(name, name)] for name in population.weights}
    weights["head.weight"] = weights["head.weight"].roll(4, 2)
    assert (encoder(Population(spec, weights)) - encoder(population)).abs().max() > 0.01


def test_trajectories_are_those_on_the_inputs_that_are_given():
    spec = SPECS[1]
    encoder = make(GraphSettings(**vars(SMALL) | {"sequences": 2, "steps": 5}))
    given = torch.eye(3)[torch.arange(35).view(7, 5) % 3]
    encoder.calibrate(mixed(), lambda kind, steps: given[:, :steps])
    assert torch.equal(encoder.probes.float(), given[[0, 6]])
    before, population = encoder(some(spec)), some(spec)
    encoder.probes.copy_(encoder.probes.flip(2))
    assert not torch.allclose(encoder(population), before, atol=1e-4)
    nodes = dict(encoder._traces(population))
    assert set(nodes) == set(encoder.states(population)) - {Nodes("input")}


def test_refuses_other_inputs_and_outputs_alone():
    encoder = make()
    assert encoder.accepts(tokens(SPECS[0]), RNNSpec(cell="gru", input=3, hidden=50, output=3)) is None
    with pytest.raises(RNNSpecMismatch, match="3 inputs and 3 outputs, found GRU 4→5→3"):
        encoder(some(RNNSpec(cell="gru", input=4, hidden=5, output=3)))
    assert "black box" in encoder.accepts(tokens(SPECS[0]), None)


@pytest.mark.parametrize("channels", [3, 6, 5])
def test_channels_that_do_not_fit_are_refused(channels):
    with pytest.raises(SettingsError, match=f"even and divide width, 8, found {channels}"):
        GraphSettings(width=8, channels=channels)
