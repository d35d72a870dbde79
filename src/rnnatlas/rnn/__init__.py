"""RNNs as data: architectures, populations, running them, and what leaves their function unchanged."""

from rnnatlas.rnn.population import Population, RecurrentNetwork
from rnnatlas.rnn.recognise import FoundRNN, find_rnn, find_rnns
from rnnatlas.rnn.running import State, backend, draw, run, run_lstm, sample, step
from rnnatlas.rnn.spec import GATES, RNNSpec
from rnnatlas.rnn.symmetry import (
    SYMMETRIES,
    Symmetry,
    canonical_bias,
    flip_signs,
    permute_hidden,
    random_permutations,
    scale_units,
    shift_biases,
)

__all__ = [
    "GATES",
    "SYMMETRIES",
    "FoundRNN",
    "Population",
    "RNNSpec",
    "RecurrentNetwork",
    "State",
    "Symmetry",
    "backend",
    "canonical_bias",
    "draw",
    "find_rnn",
    "find_rnns",
    "flip_signs",
    "permute_hidden",
    "random_permutations",
    "run",
    "run_lstm",
    "sample",
    "scale_units",
    "shift_biases",
    "step",
]
