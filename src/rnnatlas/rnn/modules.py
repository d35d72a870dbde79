"""RNNs as torch modules: those made of a spec, and reading those of others."""

import dataclasses
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rnnatlas.errors import RNNSpecMismatch
from rnnatlas.rnn.comparing import CONTAINERS, compare, is_changed, is_plain
from rnnatlas.rnn.spec import RNNSpec


class LeakyRNN(nn.Module):
    """A leaky RNN, batch first, with the parameters of `RNNSpec.shapes`; torch has none.

    α does not ask for a gradient, so optimisers leave it as it is.
    """

    def __init__(self, spec: RNNSpec):
        super().__init__()
        self.spec = spec
        for name, shape in spec.shapes.items():
            if not name.startswith("head."):
                trained = name not in spec.fixed
                self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=trained))

    def forward(
        self,
        inputs: Float[Tensor, "batch time input"],
        state: Float[Tensor, "layer batch hidden"] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states [batch, time, hidden] of the last layer, and the last of all, as `torch.nn.RNN`."""
        spec = self.spec
        if state is None:
            state = inputs.new_zeros(len(spec.suffixes), len(inputs), spec.hidden)
        signal, ends = inputs, []
        for layer in range(spec.layers):
            both = []
            for index in range(layer * spec.directions, (layer + 1) * spec.directions):
                hidden = self._scan(spec.suffixes[index], signal, state[index])
                both.append(torch.stack(hidden, 1))
                ends.append(hidden[0] if spec.suffixes[index].endswith("_reverse") else hidden[-1])
            signal = torch.cat(both, -1)
        return signal, torch.stack(ends)

    def _scan(self, suffix: str, signal: Tensor, h: Tensor) -> list[Tensor]:
        """Hidden states of one layer and direction in the order of time."""
        own = {name.removesuffix(f"_{suffix}"): parameter for name, parameter in self.named_parameters()}
        order = -1 if suffix.endswith("_reverse") else 1
        phi = torch.tanh if self.spec.activation == "tanh" else torch.relu
        hidden = []
        for x in signal.unbind(1)[::order]:
            from_h = F.linear(h, own["weight_hh"], own.get("bias_hh"))
            candidate = phi(F.linear(x, own["weight_ih"], own.get("bias_ih")) + from_h)
            h = (1 - own["alpha"]) * h + own["alpha"] * candidate
            hidden.append(h)
        return hidden[::order]


RNNModule = (nn.RNNBase, LeakyRNN)


class RecurrentNetwork(nn.Module):
    """One RNN of a `RNNSpec` as a torch module: `rnn`, batch first, and `head` where the spec has one."""

    def __init__(self, spec: RNNSpec):
        super().__init__()
        self.spec = spec
        self.rnn = LeakyRNN(spec) if "alpha" in spec.vectors else _torch_rnn(spec)
        self.head = None
        if spec.output is not None:
            self.head = nn.Linear(spec.hidden * spec.directions, spec.output, bias=spec.head_bias)

    def forward(self, inputs: Float[Tensor, "batch time input"], state: Any = None) -> tuple[Tensor, Any]:
        """Outputs [batch, time, output] and the last state, as `torch.nn.LSTM` gives it."""
        if state is None and self.spec.initial_state:
            state = self._start(len(inputs))
        hidden, state = self.rnn(inputs, state)
        return (hidden if self.head is None else self.head(hidden)), state

    def _start(self, batch: int) -> Any:
        """The learned initial state, for each sequence."""
        parts = []
        for part in self.spec.state:
            own = [getattr(self.rnn, f"{part}0_{suffix}") for suffix in self.spec.suffixes]
            parts.append(torch.stack(own).unsqueeze(1).repeat(1, batch, 1))
        return tuple(parts) if len(parts) > 1 else parts[0]


def _torch_rnn(spec: RNNSpec) -> nn.RNNBase:
    """Torch's module; a learned initial state is kept beside its own parameters."""
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}.get(spec.cell, nn.RNN)
    options: dict[str, Any] = {"nonlinearity": spec.activation} if kind is nn.RNN else {}
    rnn = kind(
        spec.input,
        spec.hidden,
        spec.layers,
        bias=spec.bias,
        batch_first=True,
        bidirectional=spec.bidirectional,
        **options,
    )
    for suffix in spec.suffixes:
        for vector in spec.vectors:
            rnn.register_parameter(f"{vector}_{suffix}", nn.Parameter(torch.zeros(spec.hidden)))
    return rnn


def read_module(module: nn.Module | tuple[nn.Module, nn.Linear]) -> tuple[RNNSpec, dict[str, Tensor]]:
    """The architecture and the weights, which stay connected to the module's parameters.

    Raises:
        RNNSpecMismatch: It holds no RNN or several, or does something else than its RNN and head (`compare`).
    """
    if isinstance(module, tuple):
        rnn, head = module
        if not isinstance(rnn, RNNModule) or not isinstance(head, nn.Linear):
            raise RNNSpecMismatch(
                "a pair should be (nn.LSTM, GRU or RNN, nn.Linear), "
                f"found ({type(rnn).__name__}, {type(head).__name__})"
            )
    elif isinstance(module, nn.Module):
        rnn, head = _parts(module)
    else:
        raise RNNSpecMismatch(
            "expected torch modules that hold an nn.LSTM, nn.GRU or nn.RNN, or pairs (RNN, linear head), "
            f"found {type(module).__name__}"
        )
    spec = dataclasses.replace(
        _without_head(rnn),
        output=None if head is None else head.out_features,
        head_bias=head is None or head.bias is not None,
    )
    for part in (rnn, head):
        if part is not None and part._forward_pre_hooks:
            _refresh(part)
    weights = {name: _weight(rnn, head, name) for name in spec.shapes}
    if not _is_known(module, rnn, head):
        compare(module, rnn, spec, weights)
    return spec, weights


def _is_known(module: Any, rnn: nn.Module, head: nn.Module | None) -> bool:
    """Whether it is clear without running it that a module does what its parts do."""
    if type(module) is RecurrentNetwork:
        return not any(map(is_changed, module.modules()))
    plain = is_plain(*(part for part in (rnn, head) if part is not None))
    return plain and (module is rnn or isinstance(module, (tuple, *CONTAINERS)))


def _weight(rnn: nn.Module, head: nn.Module | None, name: str) -> Tensor:
    """A parameter as the module uses it, which may be computed of others."""
    place, own = (head, name.removeprefix("head.")) if name.startswith("head.") else (rnn, name)
    return getattr(place, own)


def _refresh(part: nn.Module) -> None:
    """Lets hooks compute weights of others, as weight_norm and pruning do before a module runs."""
    training, part.training = part.training, False
    for hook in part._forward_pre_hooks.values():
        name = getattr(hook, "name", getattr(hook, "_tensor_name", None))
        if isinstance(name, str) and isinstance(getattr(part, name, None), Tensor):
            hook(part, ())
    part.training = training


def _without_head(rnn: nn.RNNBase | LeakyRNN) -> RNNSpec:
    if isinstance(rnn, LeakyRNN):
        return dataclasses.replace(rnn.spec, output=None, head_bias=True)
    if getattr(rnn, "proj_size", 0):
        raise RNNSpecMismatch(f"LSTMs with a projection are not supported, found proj_size={rnn.proj_size}")
    cell = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "elman-tanh", "RNN_RELU": "elman-relu"}[rnn.mode]
    return RNNSpec(
        cell=cell,
        input=rnn.input_size,
        hidden=rnn.hidden_size,
        layers=rnn.num_layers,
        bidirectional=rnn.bidirectional,
        bias=rnn.bias,
        initial_state=hasattr(rnn, "h0_l0"),
    )


def _parts(module: nn.Module) -> tuple[nn.RNNBase | LeakyRNN, nn.Linear | None]:
    rnns = [part for part in module.modules() if isinstance(part, RNNModule)]
    if len(rnns) != 1:
        raise RNNSpecMismatch(
            f"expected a module that holds one nn.LSTM, nn.GRU or nn.RNN, found {len(rnns)} in "
            f"{type(module).__name__}; pass the recurrent modules themselves"
            + ("" if rnns else ", or of a hand-written one the file of its state_dict, and its cell")
        )
    width = _without_head(rnns[0]).output_size
    heads = [part for part in module.modules() if isinstance(part, nn.Linear) and part.in_features == width]
    if len(heads) > 1:
        raise RNNSpecMismatch(
            f"{type(module).__name__} holds {len(heads)} linear layers that fit behind its RNN; "
            "pass a pair (RNN, linear head) instead"
        )
    return rnns[0], heads[0] if heads else None
