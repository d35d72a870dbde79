"""A stateful function as a system: something that can be run but not read."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rnnatlas.errors import RNNAtlasError, RNNSpecMismatch, is_out_of_memory, reason
from rnnatlas.rnn.signals import Interface
from rnnatlas.rnn.spec import RNNSpec
from rnnatlas.rnn.system import Index, positions

TAKES = (
    "a black box takes step(inputs [batch, input], state), which gives (outputs [batch, output], next "
    "state), and initial_state(batch size), which gives the first state or is None"
)


class BlackBox:
    """One recurrent network that can be run but not read, as a torch module or a remote service: a `System`.

    Gradients flow through where `step` is differentiable; probing encoders embed it in any case.

    Args:
        step: Takes inputs [batch, input] and a state; gives outputs [batch, output] and the next state.
            Outputs are logits where they are of tokens.
        initial_state: Takes a batch size and gives the state to start from; None where the state is None.
        interface: What is read and given out.
        device: Where inputs should be.

    Example:
        >>> import rnnatlas as ra, torch
        >>> cell, head = torch.nn.GRUCell(3, 8), torch.nn.Linear(8, 2)
        >>> def step(inputs, h):
        ...     h = cell(inputs, h)
        ...     return head(h), h
        >>> interface = ra.Interface(ra.Values(3), ra.Values(2))
        >>> box = ra.BlackBox(step, lambda batch: torch.zeros(batch, 8), interface)
        >>> ra.run(box, torch.zeros(1, 4, 10, 3))[0].shape
        torch.Size([1, 4, 10, 2])
    """

    specs: tuple[RNNSpec, ...] = ()

    def __init__(
        self,
        step: Callable[[Tensor, Any], tuple[Tensor, Any]],
        initial_state: Callable[[int], Any] | None,
        interface: Interface,
        device: torch.device | str = "cpu",
    ):
        self._step, self._initial_state = step, initial_state
        self.interface = interface
        self.device = torch.device(device)
        self.dtype = torch.float32

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return f"BlackBox({self.interface.input} → {self.interface.output})"

    def run(
        self,
        inputs: Float[Tensor, "rnn batch time input"] | Float[Tensor, "batch time input"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "rnn batch time output"], Any]:
        """See `rnnatlas.run`."""
        outputs = []
        for step in inputs.unbind(-2):
            given, state = self.step(step, state)
            outputs.append(given)
        return torch.stack(outputs, 2), state

    def step(
        self, inputs: Float[Tensor, "rnn batch input"] | Float[Tensor, "batch input"], state: Any = None
    ) -> tuple[Float[Tensor, "rnn batch output"], Any]:
        """See `rnnatlas.step`.

        Raises:
            RNNSpecMismatch: Inputs do not fit, or a function fails or gave something else than it should.
        """
        reads, gives = self.interface.sizes
        own = inputs.squeeze(0) if inputs.ndim == 3 and len(inputs) == 1 else inputs
        if own.ndim != 2 or own.shape[-1] != reads:
            raise RNNSpecMismatch(
                f"inputs of a step of a black box should have shape [1 or shared, batch, {reads}], found "
                f"{list(inputs.shape)}"
            )
        if state is None and self._initial_state is not None:
            state = _called("initial_state", self._initial_state, len(own))
        given = _called("step", self._step, own, state)
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            found = f"{len(given)} values" if isinstance(given, (tuple, list)) else type(given).__name__
            raise RNNSpecMismatch(f"{TAKES}; this step gives {found}")
        outputs, state = given
        if not isinstance(outputs, Tensor) or tuple(outputs.shape) != (len(own), gives):
            found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise RNNSpecMismatch(
                f"the step of a black box should give outputs of shape {[len(own), gives]}, found {found}"
            )
        return outputs.unsqueeze(0), state

    def select(self, index: Index) -> "BlackBox":
        """Itself; there is one.

        Raises:
            RNNSpecMismatch: Another one, or several, are asked for.
        """
        if positions(index, 1).tolist() not in ([0], [-1]):
            raise RNNSpecMismatch(f"a black box is one RNN, found the positions {index}")
        return self

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "BlackBox":
        """Itself: where it computes is its own affair.

        Raises:
            RNNSpecMismatch: Another device is asked for.
        """
        if device is not None and torch.device(device).type != self.device.type:
            raise RNNSpecMismatch(
                f"this black box computes on {self.device}, found {device}; make one whose step takes "
                "tensors there"
            )
        return self


def _called(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives.

    Raises:
        RNNSpecMismatch: It does not take such arguments, or fails on them.
    """
    try:
        return function(*arguments)
    except (TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        if isinstance(error, RNNAtlasError) or is_out_of_memory(error):
            raise
        raise RNNSpecMismatch(
            f"{TAKES}; this {name} raises {type(error).__name__} ({reason(error)})"
        ) from error
