import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from tests.made import different_leaks, tokens
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from rnnatlas.encoders.dws import DWS, DWSSettings, features
from rnnatlas.encoders.equivariant import Equivariant, parts
from rnnatlas.rnn import Population, RNNSpec, permute_hidden, random_permutations

ELMAN = RNNSpec(cell="elman-tanh", input=2, hidden=4, layers=2, output=2)
LSTM = RNNSpec(cell="lstm", input=2, hidden=4, layers=2, output=2)
GRU = RNNSpec(cell="gru", input=2, hidden=4, layers=2, output=2)
LEAKY = RNNSpec(cell="leaky-tanh", input=2, hidden=4, layers=2, output=2, initial_state=True)
SPECS = [
    RNNSpec(cell="lstm", input=5, hidden=6, layers=2, output=4),
    RNNSpec(cell="gru", input=3, hidden=4, layers=4, output=3),
    RNNSpec(cell="elman-tanh", input=3, hidden=5, layers=3, bias=False),
    RNNSpec(cell="lstm", input=3, hidden=5, layers=2, output=3, bidirectional=True),
    RNNSpec(cell="gru", input=3, hidden=4, layers=2, bidirectional=True, head_bias=False),
    RNNSpec(cell="leaky-tanh", input=3, hidden=4, layers=2, output=3, initial_state=True),
]


def some(spec, count=5, seed=0):
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    return different_leaks(Population.initialise(spec, generators))


def shallower(spec):
    return RNNSpec(**(spec.as_dict() | {"layers": 1}))


# --- completeness ----------------------------------------------------------------------------------


def moves(spec):
    """Generators of the group: swaps and rotations of each layer's units, of inputs and of outputs."""
    for turn in ([1, 0, *range(2, spec.hidden)], [*range(1, spec.hidden), 0]):
        for layer in range(spec.layers):
            order = torch.arange(spec.hidden).repeat(1, spec.layers, 1)
            order[:, layer] = torch.tensor(turn)
            yield lambda population, order=order: permute_hidden(population, order)
    yield lambda population: reordered(population, {"weight_ih_l0": 2})
    yield lambda population: reordered(population, {"head.weight": 1, "head.bias": 1})


def reordered(population, axes):
    weights = {name: w.flip(axes[name]) if name in axes else w for name, w in population.weights.items()}
    return Population(population.spec, weights)


def equivariant_maps(spec):
    """(from, to) → dimension of the space of equivariant linear maps, gates as channels.

    A map L commutes with a permutation g of coordinates if L[g b, g a] = L[b, a]: the constraints set
    entries equal, so their null space has one dimension for each class of entries set equal.
    """
    numbers = torch.arange(1.0, spec.parameters + 1, dtype=torch.float64)
    numbered = Population.unflatten(spec, numbers[None])
    added = (len(spec.gates) - (spec.cell == "gru")) * spec.hidden  # biases that count as their sum alone
    for suffix in spec.suffixes:
        numbered.weights[f"bias_hh_{suffix}"][:, :added] = 0
    plain = {part: entries.flatten() for part, entries in features(numbered).items()}
    moved = [{p: e.flatten() for p, e in features(move(numbered)).items()} for move in moves(spec)]
    goes = {p: [e.argsort()[m[p].argsort().argsort()] for m in moved] for p, e in plain.items()}
    found = {}
    for source, a in goes.items():
        for to, b in goes.items():
            size = len(a[0]) * len(b[0])
            ends = [(y[:, None] * len(x) + x).flatten().numpy() for x, y in zip(a, b)]
            starts = np.tile(np.arange(size), len(ends))
            graph = coo_matrix((np.ones(len(starts)), (starts, np.concatenate(ends))), (size, size))
            found[source, to] = connected_components(graph, directed=False)[0]
    return found


@torch.no_grad()
def spanned_maps(spec, without=""):
    """(from, to) → dimension of the space of maps that the layer can be, by its weights one at a time."""
    gates = {part: entries.shape[-1] for part, entries in features(some(spec, 1)).items()}
    layer = Equivariant(parts(spec), (channels := max(gates.values()),) * 2).double()
    weights = [p for name, p in layer.named_parameters() if not name.startswith("constants")]
    used = [torch.full_like(p, name != without) for name, p in layer.named_parameters()][: len(weights)]
    assert [p.shape for p in used] == [p.shape for p in weights]
    shown = inputs(spec, gates, channels, count=8)
    maps = []
    for index in parameters_to_vector(used).nonzero().flatten():
        vector = torch.zeros(sum(p.numel() for p in weights), dtype=torch.float64)
        vector[index] = 1
        vector_to_parameters(vector, weights)
        maps.append({part: entries[..., : gates[part]] for part, entries in layer(shown).items()})
    found = {}
    for number, source in enumerate(gates):
        for to in gates:
            span = torch.stack([m[to][8 * number : 8 * number + 8].flatten() for m in maps])
            span = span[span.any(1)]
            found[source, to] = int(torch.linalg.matrix_rank(span))
    return found


def inputs(spec, gates, channels, count):
    """Random features where all tensors are zero but one: `count` for the first, for the second, …"""
    shown = {}
    for number, (part, entries) in enumerate(features(some(spec, 1)).items()):
        shape = (*entries.shape[1:-1], channels)
        shown[part] = torch.zeros(count * len(gates), *shape, dtype=torch.float64)
        generator = torch.Generator().manual_seed(number)
        own = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
        own[..., gates[part] :] = 0
        shown[part][count * number : count * (number + 1)] = own
    return shown


@pytest.mark.parametrize(
    "spec",
    [ELMAN, *map(shallower, (ELMAN, LSTM, GRU, LEAKY)), pytest.param(LSTM, marks=pytest.mark.slow)],
    ids=str,
)
def test_the_layer_is_complete_between_any_two_tensors(spec):
    expected = equivariant_maps(spec)
    assert spanned_maps(spec) == expected
    recurrent = next(part for part in parts(spec) if part.kind == "recurrent")
    assert expected[recurrent, recurrent] == 15 * len(spec.gates) ** 2


@pytest.mark.parametrize(("layers", "terms"), [(1, 81), (2, 184)])
def test_number_of_terms(layers, terms):
    spec = RNNSpec(**(ELMAN.as_dict() | {"layers": layers}))
    assert sum(equivariant_maps(spec).values()) == terms


def test_a_layer_without_the_transpose_is_found_incomplete():
    recurrent = parts(ELMAN)[0]
    assert spanned_maps(ELMAN, without="entries.transposed")[recurrent, recurrent] == 14


# --- equivariance ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_what_is_reordered_along_any_axis_comes_out_in_that_order(spec):
    torch.manual_seed(0)
    layer = Equivariant(parts(spec), (2, 3))
    sizes = {part: entries.shape[1:-1] for part, entries in features(some(spec, 1)).items()}
    given = {part: torch.randn(5, *size, 2) for part, size in sizes.items()}
    axes = {axis: size for part in sizes for axis, size in zip(part.axes, sizes[part])}
    orders = {axis: torch.rand(5, size).argsort(1) for axis, size in axes.items()}

    def reorder(tensors):
        for axis, order in orders.items():
            for part, entries in tensors.items():
                for dim in [dim for dim, name in enumerate(part.axes) if name == axis]:
                    entries = torch.stack([e.index_select(dim, o) for e, o in zip(entries, order)])
                tensors = tensors | {part: entries}
        return tensors

    expected = reorder(layer(given))
    for part, entries in layer(reorder(given)).items():
        torch.testing.assert_close(entries, expected[part], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.output], ids=str)
def test_embeddings_in_single_precision_do_not_mind_the_order_of_hidden_units(spec):
    torch.manual_seed(0)
    encoder = DWS(tokens(spec), spec, DWSSettings(channels=16))
    population = some(spec, 64)
    order = random_permutations(spec, 64, torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        encoder(permute_hidden(population, order)), encoder(population), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("axes", [{"weight_ih_l0": 2}, {"head.weight": 1, "head.bias": 1}])
def test_inputs_and_outputs_are_told_apart(axes):
    torch.manual_seed(0)
    encoder, population = DWS(tokens(LSTM), LSTM, DWSSettings(channels=8)), some(LSTM)
    encoder.calibrate(population)
    assert (encoder(reordered(population, axes)) - encoder(population)).abs().max() > 0.01


# --- the encoder -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_takes_any_depth_direction_and_head(spec):
    encoder = DWS(tokens(spec), spec, DWSSettings(channels=4, layers=2))
    encoder.calibrate(some(spec, 20))
    assert encoder(some(spec)).isfinite().all()


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    spec = RNNSpec(cell="elman-tanh", input=2, hidden=3, output=2)
    layer = Equivariant(parts(spec), (1, 2)).double()
    shown = [entries.double() for entries in features(some(spec, 2)).values()]
    given = [tensor.requires_grad_() for tensor in (*layer.parameters(), *shown)]

    def outcome(*tensors):
        return tuple(layer(dict(zip(layer.parts, tensors[-len(shown) :]))).values())

    assert torch.autograd.gradcheck(outcome, given)


def test_layers_deeper_down_share_their_weights():
    sizes = []
    for layers in (4, 5, 6):
        layer = Equivariant(parts(RNNSpec(**(LSTM.as_dict() | {"layers": layers}))), (2, 2))
        sizes.append(sum(p.numel() for p in layer.parameters()))
    assert sizes[0] == sizes[1] == sizes[2]


def test_layers_far_above_and_far_below_are_told_apart():
    stack = parts(RNNSpec(**(LSTM.as_dict() | {"layers": 4})))
    layer = Equivariant(stack, (2, 2)).double()
    features = {part: torch.zeros(1, *(3 for _ in part.axes), 2, dtype=torch.float64) for part in stack}
    biases = [part for part in stack if part.kind == "bias"]

    def reached(source, to):
        changed = {**features, biases[source]: torch.ones_like(features[biases[source]])}
        return layer(changed)[biases[to]]

    assert torch.allclose(reached(0, 2), reached(1, 3))
    assert torch.allclose(reached(0, 2), reached(0, 3))
    assert not torch.allclose(reached(0, 2), reached(2, 0))


def test_each_tensor_is_standardised_by_one_mean_and_standard_deviation():
    population = some(SPECS[1], 200)
    encoder = DWS(tokens(SPECS[1]), SPECS[1], DWSSettings(channels=4))
    encoder.calibrate(population)
    assert encoder.mean.shape == encoder.sd.shape == (len(parts(SPECS[1])),)
    for mean, sd, entries in zip(encoder.mean, encoder.sd, features(population).values()):
        standard = (entries - mean) / sd
        assert standard.mean().abs() < 1e-4
        assert abs(standard.std(correction=0) - 1) < 1e-4


def test_activations_keep_their_size():
    torch.manual_seed(0)
    spec = RNNSpec.from_slug("lstm-6-32x2-6")
    encoder, population = DWS(tokens(spec), spec, DWSSettings()), some(spec, 16)
    encoder.calibrate(population)
    sizes = []
    for layer in encoder.layers:
        layer.register_forward_hook(
            lambda module, given, out: sizes.append([e.square().mean().sqrt().item() for e in out.values()])
        )
    encoder(population)
    assert all(0.3 < size < 3 for size in np.ravel(sizes)), sizes
