"""The compiled backend as operators of torch, for graphs that `torch.compile` and `torch.export` write.

They cannot see into a `torch.autograd.Function` that calls through ctypes. An operator stands in their
graphs as one node, but costs more in each call (docs/decisions/0003-cpu-backend.md has the figures).
"""

from typing import Any

import torch
from torch import Tensor

from rnnatlas.rnn.backends import kernels
from rnnatlas.rnn.backends.kernels import Part
from rnnatlas.rnn.spec import RNNSpec

_ARGUMENTS = "str slug, bool stepping, Tensor inputs, Tensor? h, Tensor? c, Tensor[] weights"


@torch.library.custom_op("rnnatlas::run", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor[]")
def run(slug: str, stepping: bool, inputs: Tensor, h: Part, c: Part, weights: list[Tensor]) -> list[Tensor]:
    """Outputs, h and for LSTMs c of a population of the architecture that a slug names."""
    results, _ = kernels.forward(RNNSpec.from_slug(slug), stepping, weights, (inputs, h, c), save=False)
    return list(results)


@torch.library.custom_op(
    "rnnatlas::run_backward",
    mutates_args=(),
    schema=f"({_ARGUMENTS}, bool[] wanted, Tensor[] gradients) -> Tensor[]",
)
def run_backward(
    slug: str,
    stepping: bool,
    inputs: Tensor,
    h: Part,
    c: Part,
    weights: list[Tensor],
    wanted: list[bool],
    gradients: list[Tensor],
) -> list[Tensor]:
    """Gradients in those of inputs, h, c and weights that are wanted.

    Runs forward again: what backward needs would be a tensor of the graph, in fresh pages each time,
    which take longer than the forward pass.
    """
    spec, starts = RNNSpec.from_slug(slug), (inputs, h, c)
    _, kept = kernels.forward(spec, stepping, weights, starts, save=True)
    assert kept is not None
    found = kernels.backward(spec, stepping, weights, starts, kept, wanted, gradients)
    return [gradient for gradient in found if gradient is not None]


@run.register_fake
def _(slug: str, stepping: bool, inputs: Tensor, h: Part, c: Part, weights: list[Tensor]) -> list[Tensor]:
    return kernels.empty_results(RNNSpec.from_slug(slug), stepping, inputs, weights)


@run_backward.register_fake
def _(
    slug: str,
    stepping: bool,
    inputs: Tensor,
    h: Part,
    c: Part,
    weights: list[Tensor],
    wanted: list[bool],
    gradients: list[Tensor],
) -> list[Tensor]:
    tensors = (inputs, h, c, *weights)
    return [one.new_empty(one.shape) for one, want in zip(tensors, wanted) if want and one is not None]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.slug, ctx.stepping, *starts, weights = inputs
    ctx.save_for_backward(*starts, *weights)


def _differentiate(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    inputs, h, c, *weights = ctx.saved_tensors
    *_, inputs_wanted, h_wanted, c_wanted, weights_wanted = ctx.needs_input_grad
    wanted = [inputs_wanted, h_wanted, c_wanted, *weights_wanted]
    found = iter(run_backward(ctx.slug, ctx.stepping, inputs, h, c, weights, wanted, gradients))
    given = [next(found) if want else None for want in wanted]
    return None, None, *given[:3], given[3:]


run.register_autograd(_differentiate, setup_context=_keep)
