"""Hidden trajectories of RNNs, for whatever compares representations: CKA, Procrustes, DSA."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn.population import Population
from rnnatlas.rnn.system import System, check_system, run


def hidden(
    system: System,
    inputs: Float[Tensor, "rnn batch time input"] | Float[Tensor, "batch time input"],
    state: Any = None,
) -> Float[Tensor, "rnn batch time hidden"]:
    """Hidden states of the last layer at each step (h of LSTMs), whether RNNs have heads or not.

    Both directions of bidirectional RNNs stand one after the other. RNNs of several architectures have hidden
    states of several sizes; take them one by one: `[hidden(rnn, inputs) for rnn in mixed]`.

    Args:
        system: A population.
        inputs: As `run` takes them.
        state: As `run` takes it.

    Raises:
        RNNSpecMismatch: Inputs or state do not fit, or the hidden states cannot be seen.

    Example:
        >>> import rnnatlas as ra, torch
        >>> nets = [(torch.nn.GRU(3, 8), torch.nn.Linear(8, 2)) for _ in range(2)]
        >>> ra.hidden(ra.Population.from_modules(nets), torch.zeros(4, 10, 3)).shape
        torch.Size([2, 4, 10, 8])
    """
    check_system(system)
    if not isinstance(system, Population):
        raise RNNSpecMismatch(
            f"hidden states are those of a population of one architecture, found {type(system).__name__}; "
            "take a mixed system's RNNs one by one: [hidden(rnn, inputs) for rnn in mixed]"
        )
    return run(system.without_head(), inputs, state)[0]
