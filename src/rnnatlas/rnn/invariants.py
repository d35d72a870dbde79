"""A description of RNNs by their weights alone, of one length whatever their cell, size and task."""

import functools

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn import spectra
from rnnatlas.rnn.mixed import by_population, populations
from rnnatlas.rnn.population import Population
from rnnatlas.rnn.responses import RESPONSES, responses_of
from rnnatlas.rnn.spec import RNNSpec
from rnnatlas.rnn.symmetry import CANDIDATE, canonical_bias
from rnnatlas.rnn.system import System, check_system

RETENTION = {"lstm": "f", "gru": "z"}
"""The gate that says how much of a state is kept; other cells have none."""
SLOTS = ("candidate", "retention", "gates")
"""Roles of gates, which every cell has, but for the retention: the last is all gates together."""
BOUND = 1e30
"""Largest weight that is told from larger ones."""
NUMBERS = 2**25
"""Numbers that are held at a time, about."""

_AT = (0.1, 0.25, 0.5, 0.75, 0.9)
_MOMENTS = ("mean", "sd", *(f"{place:.0%}" for place in _AT))
_UNIT = (
    *(f"{slot} {what}" for slot in SLOTS for what in ("bias", "inputs", "row", "column", "self")),
    "outgoing",
    "leak",
    "start",
    "second bias",
)
"""What there is of a unit; `_units` says what each is."""
_PAIRS = [(i, j) for i in range(len(_UNIT)) for j in range(i)]
_LAYER = (
    *(f"{column}: {moment}" for column in _UNIT for moment in _MOMENTS),
    *(f"{_UNIT[j]} × {_UNIT[i]}" for i, j in _PAIRS),
    *(f"{slot} {kind}: {what}" for slot in SLOTS for kind in ("W_hh", "W_ih") for what in spectra.SINGULAR),
    "candidate W_hh: log spectral radius",
    *(f"at rest: {what}" for what in spectra.EIGEN),
)
_WHOLE = (
    *(f"size: {what}" for what in ("hidden units", "inputs", "layers", "directions")),
    *(f"has: {what}" for what in ("retention", "relu", "gates", "head")),
    *(f"head: {what}" for what in spectra.SINGULAR),
    "head: bias",
)


def invariant_names(responses: bool = False) -> list[str]:
    """Names of what `invariants` gives, in its order.

    Those that start with "size:" or "has:" are of the architecture alone.
    """
    layers = [f"{name}, {over} of layers" for over in ("mean", "largest") for name in _LAYER]
    return [*_WHOLE, *layers, *(RESPONSES if responses else ())]


def invariants(system: System, responses: bool = False) -> Float[Tensor, "rnn feature"]:
    """What the weights of RNNs say whatever the order of their hidden units, in double precision on the CPU.

    Gates are told by their roles: the candidate (g of LSTMs, n of GRUs, h elsewhere), the retention (f of
    LSTMs, z of GRUs; zeros elsewhere, see `invariants_known`), and all together. Weights are multiplied by
    √(3 × hidden units), which gives them variance 1 as torch draws them. There are, for each layer:

    - of each hidden unit the bias, the norms of its rows and column, its weight to itself, that to those who
      read it, and its α and initial state: quantiles over units, and how these are correlated;
    - singular values, ranks and power-law exponents of recurrent and input matrices;
    - eigenvalues of the Jacobian of one step at rest (state and inputs zero).

    Of several layers and directions there is the mean and the largest; then there are sizes, and the head
    (the identity, where there is none). Nothing is trained. All stay as they are when hidden units are
    reordered or, of tanh cells, change their sign, and when something is moved between the two biases of a
    gate. A weight that is not finite makes all numbers of its RNN NaN.

    Args:
        system: RNNs whose weights can be read, of any architectures.
        responses: Whether to run the RNNs, too, on noise, slow noise, an impulse and one-hot inputs, and to
            add moments of hidden states and outputs.

    Raises:
        RNNSpecMismatch: Some weights cannot be read.

    Example:
        >>> import rnnatlas as ra, torch
        >>> mixed = ra.Mixed.from_modules([torch.nn.GRU(3, 8), torch.nn.LSTM(3, 8, num_layers=2)])
        >>> found = ra.invariants(mixed)
        >>> names = ra.invariant_names()
        >>> found.shape == (2, len(names))
        True
        >>> found[:, names.index("size: layers")].exp().round().tolist()
        [1.0, 2.0]
    """
    if sum(len(population) for _, population in populations(check_system(system))) != len(system):
        raise RNNSpecMismatch("invariants are read off weights, which a black box does not show")
    return by_population(system, lambda population: _of_population(population, responses))


def invariants_known(spec: RNNSpec, responses: bool = False) -> Bool[Tensor, " feature"]:
    """Which of the invariants RNNs of an architecture have; the others are zero."""
    return _known(spec.cell in RETENTION, responses)


@functools.cache
def _known(retention: bool, responses: bool) -> Bool[Tensor, " feature"]:
    names = invariant_names(responses)
    known = [retention or name.startswith("has:") or "retention" not in name for name in names]
    return torch.tensor(known, device="cpu")


def _of_population(population: Population, responses: bool) -> Float[Tensor, "rnn feature"]:
    spec, count = population.spec, len(population)
    each = 8 * spec.parameters + 64 * (spectra.STARTS + spec.hidden) * spec.hidden
    size = max(1, NUMBERS // each)
    device = population.device if population.device.type == "meta" else "cpu"
    parts = []
    for start in range(0, max(count, 1), size):
        some = population.select(slice(start, start + size)).to(device, torch.float64)
        finite = some.flatten().isfinite().all(1)
        weights = {
            name: weight.where(finite.view(-1, *[1] * (weight.ndim - 1)), 0.0).clamp(-BOUND, BOUND)
            for name, weight in some.weights.items()
        }
        some = canonical_bias(Population(spec, weights, some.interface))
        layers = torch.stack(
            [_layer(some, suffix, read) for suffix, read in zip(spec.suffixes, _readers(some), strict=True)]
        )
        columns = [_whole(some), layers.mean(0), layers.amax(0)] + ([responses_of(some)] if responses else [])
        known = invariants_known(spec, responses).to(device)
        parts.append(torch.cat(columns, 1).where(known, 0.0).where(finite[:, None], torch.nan))
    return torch.cat(parts)


def _whole(population: Population) -> Float[Tensor, "rnn feature"]:
    """Sizes, flags and the head."""
    spec, head = population.spec, _head(population)
    sizes = torch.tensor([spec.hidden, spec.input, spec.layers, spec.directions]).double().log()
    flags = [spec.cell in RETENTION, spec.activation == "relu", len(spec.gates), spec.output is not None]
    fixed = torch.cat([sizes, torch.tensor(flags).double()]).to(head).expand(len(population), -1)
    bias = population.weights.get("head.bias", head.new_zeros(len(population), 1))
    scaled = bias * (3 * spec.hidden) ** 0.5
    return torch.cat([fixed, spectra.of_singular_values(head * 3**0.5), _size(scaled, (1,)).unsqueeze(1)], 1)


def _head(population: Population) -> Float[Tensor, "rnn output hidden"]:
    """The head's weights, the identity where there is none."""
    if population.spec.output is not None:
        return population.weights["head.weight"]
    like = next(iter(population.weights.values()))
    size = population.spec.output_size
    return torch.eye(size, dtype=like.dtype, device=like.device).expand(len(population), size, size)


def _readers(population: Population) -> list[Float[Tensor, "rnn reader hidden"]]:
    """For each layer and direction what reads its hidden units: the next layer or the head."""
    spec, weights = population.spec, population.weights
    above = spec.suffixes[spec.directions :]
    layers = [above[i : i + spec.directions] for i in range(0, len(above), spec.directions)]
    read = [torch.cat([weights[f"weight_ih_{suffix}"] for suffix in layer], 1) for layer in layers]
    return [part for all_ in [*read, _head(population)] for part in all_.split(spec.hidden, 2)]


def _layer(
    population: Population, suffix: str, readers: Float[Tensor, "rnn reader hidden"]
) -> Float[Tensor, "rnn feature"]:
    """The columns `_LAYER` of one layer and direction."""
    spec, weights = population.spec, population.weights
    gates = (len(spec.gates), spec.hidden)
    inputs, recurrent = (weights[f"weight_{kind}_{suffix}"].unflatten(1, gates) for kind in ("ih", "hh"))
    bias, second = (
        weights[name].unflatten(1, gates) if spec.bias else torch.zeros_like(recurrent[..., 0])
        for name in (f"bias_ih_{suffix}", f"bias_hh_{suffix}")
    )
    slots = _slots(spec)
    units = _units(population, suffix, readers, inputs, recurrent, bias, second)
    mean = units.mean(1, keepdim=True)
    sd = ((units - mean).square().mean(1, keepdim=True) + 1e-12).sqrt()
    over_units = torch.cat([mean.mT, sd.mT, spectra.quantiles(units.mT, _AT)], 2).flatten(1)
    standard = (units - mean) / sd
    correlations = standard.mT @ standard / spec.hidden
    columns = [over_units, correlations[:, [i for i, _ in _PAIRS], [j for _, j in _PAIRS]]]
    for slot in slots.values():
        for matrices in (recurrent, inputs):
            chosen = matrices[:, slot].flatten(1, 2) * (3 / max(1, len(slot))) ** 0.5
            columns.append(
                spectra.of_singular_values(chosen)
                if slot
                else units.new_zeros(len(population), len(spectra.SINGULAR))
            )
    columns.append(spectra.log_radius(recurrent[:, slots["candidate"][0]] * 3**0.5).unsqueeze(1))
    alpha = weights.get(f"alpha_{suffix}")
    columns.append(spectra.of_eigenvalues(_jacobian(spec, recurrent, bias, second, alpha)))
    return torch.cat(columns, 1)


def _slots(spec: RNNSpec) -> dict[str, list[int]]:
    """Positions of the gates of each role."""
    gates, retention = spec.gates, RETENTION.get(spec.cell)
    candidate = gates.index(CANDIDATE.get(spec.cell, "h"))
    return {
        "candidate": [candidate],
        "retention": [] if retention is None else [gates.index(retention)],
        "gates": list(range(len(gates))),
    }


def _units(
    population: Population,
    suffix: str,
    readers: Float[Tensor, "rnn reader hidden"],
    inputs: Float[Tensor, "rnn gate hidden input"],
    recurrent: Float[Tensor, "rnn gate hidden hidden"],
    bias: Float[Tensor, "rnn gate hidden"],
    second: Float[Tensor, "rnn gate hidden"],
) -> Float[Tensor, "rnn hidden column"]:
    """The columns `_UNIT` of each hidden unit.

    Norms are root mean squares, as logarithms; numbers with a sign go through asinh. What turns its sign with
    a unit, which in tanh cells means nothing, counts by its magnitude.
    """
    spec, scale = population.spec, (3 * population.spec.hidden) ** 0.5
    own = recurrent.diagonal(dim1=-2, dim2=-1) * scale
    columns: list[Tensor] = []
    for name, slot in _slots(spec).items():
        if not slot:
            columns += [torch.zeros_like(own[:, 0])] * 5
            continue
        if name == "gates":
            signed = [_size(bias * scale, (1,)), _size(own, (1,))]
        else:
            flips = name == "candidate" and spec.activation == "tanh"
            numbers = [bias[:, slot[0]] * scale, own[:, slot[0]]]
            magnitudes = [flips, name == "retention"]
            signed = [(n.abs() if m else n).asinh() for n, m in zip(numbers, magnitudes, strict=True)]
        rows, hidden = inputs[:, slot] * scale, recurrent[:, slot] * scale
        columns += [signed[0], _size(rows, (1, 3)), _size(hidden, (1, 3)), _size(hidden, (1, 2)), signed[1]]
    starts = [population.weights[f"{kind}_{suffix}"] for kind in spec.vectors if kind != "alpha"]
    none = torch.zeros_like(own[:, 0])
    columns += [
        _size(readers * scale, (1,)),
        population.weights.get(f"alpha_{suffix}", torch.ones_like(none)),
        sum((start.abs().asinh() for start in starts), none),
        (second[:, -1] * scale).abs().asinh() if spec.cell == "gru" else none,
    ]
    return torch.stack(columns, 2)


def _size(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Logarithm of the root mean square."""
    return (values.square().mean(dims) + 1e-12).log() / 2


def _jacobian(
    spec: RNNSpec,
    recurrent: Float[Tensor, "rnn gate hidden hidden"],
    bias: Float[Tensor, "rnn gate hidden"],
    second: Float[Tensor, "rnn gate hidden"],
    alpha: Float[Tensor, "rnn hidden"] | None,
) -> Float[Tensor, "rnn state state"]:
    """Of one step of a layer, at state and inputs zero; an LSTM's state is (h, c)."""
    matrices = recurrent.unbind(1)
    if spec.cell == "lstm":
        i, f, _, o = bias.sigmoid().unbind(1)
        g = bias[:, 2].tanh()
        cell = (i * g).tanh()
        into_c = torch.cat(
            [
                _rows(i * (1 - i) * g, matrices[0]) + _rows(i * (1 - g * g), matrices[2]),
                torch.diag_embed(f),
            ],
            2,
        )
        into_h = _rows(o * (1 - cell * cell), into_c)
        opened = torch.cat([_rows(o * (1 - o) * cell, matrices[3]), torch.zeros_like(matrices[3])], 2)
        return torch.cat([into_h + opened, into_c], 1)
    if spec.cell == "gru":
        r, z = bias[:, :2].sigmoid().unbind(1)
        n = (bias[:, 2] + r * second[:, 2]).tanh()
        candidate = _rows(r, matrices[2]) + _rows(r * (1 - r) * second[:, 2], matrices[0])
        kept = torch.diag_embed(z) - _rows(n * z * (1 - z), matrices[1])
        return kept + _rows((1 - z) * (1 - n * n), candidate)
    [drive], [matrix] = bias.unbind(1), matrices
    slope = 1 - drive.tanh().square() if spec.activation == "tanh" else (drive >= 0).to(drive)
    if alpha is None:
        return _rows(slope, matrix)
    return torch.diag_embed(1 - alpha) + _rows(alpha * slope, matrix)


def _rows(factors: Float[Tensor, "rnn hidden"], matrix: Float[Tensor, "rnn hidden column"]) -> Tensor:
    return factors.unsqueeze(2) * matrix
