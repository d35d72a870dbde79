"""RNNs as data: systems, their architectures, running them, and what leaves their function unchanged."""

from rnnatlas.rnn.blackbox import BlackBox
from rnnatlas.rnn.mixed import Mixed, by_population, groups, populations
from rnnatlas.rnn.modules import RecurrentNetwork
from rnnatlas.rnn.population import Population
from rnnatlas.rnn.recognise import FoundRNN, find_rnn, find_rnns
from rnnatlas.rnn.running import State, backend
from rnnatlas.rnn.signals import Interface, Signal, Tokens, Values
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
from rnnatlas.rnn.system import Index, System, check_system, run, sample, step
from rnnatlas.rnn.trajectories import hidden

__all__ = [
    "GATES",
    "SYMMETRIES",
    "BlackBox",
    "FoundRNN",
    "Index",
    "Interface",
    "Mixed",
    "Population",
    "RNNSpec",
    "RecurrentNetwork",
    "Signal",
    "State",
    "Symmetry",
    "System",
    "Tokens",
    "Values",
    "backend",
    "by_population",
    "canonical_bias",
    "check_system",
    "find_rnn",
    "find_rnns",
    "flip_signs",
    "groups",
    "hidden",
    "permute_hidden",
    "populations",
    "random_permutations",
    "run",
    "sample",
    "scale_units",
    "shift_biases",
    "step",
]
