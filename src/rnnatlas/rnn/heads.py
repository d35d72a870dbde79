"""Which linear layer of a state_dict is an RNN's head."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import Tensor

from rnnatlas.errors import CheckpointError


class Heads:
    """The linear layers of a state_dict that may be heads.

    Args:
        tensors: All tensors.
        widths: Prefix of each RNN → how many numbers it gives out.
        named: Prefix of the head that the user named, with or without its dot; "" for none.
    """

    def __init__(self, tensors: Mapping[str, Tensor], widths: Mapping[str, int], named: str | None):
        self._named = f"{named.rstrip('.')}." if named else named
        self._there = not named or f"{self._named}weight" in tensors
        # a layer belongs to the innermost module around it that has an RNN inside
        self._readers = Counter(
            (module, width) for prefix, width in widths.items() for module in around(prefix)
        )
        modules = {module for module, _ in self._readers}
        self._layers: dict[tuple[str, int], list[str]] = {}
        for name, tensor in tensors.items():
            if modules and name.endswith(".weight") and not tensor.is_nested and tensor.ndim == 2:
                module = next(module for module in around(name) if module in modules)
                self._layers.setdefault((module, tensor.shape[1]), []).append(name.removesuffix(".weight"))
        self._tensors = tensors
        self._known: dict[tuple[tuple[str, ...], int], list[str]] = {}  # there may be many RNNs alike

    def behind(self, prefix: str, width: int, where: str) -> str | None:
        """Prefix of the named layer, or of the only one that reads `width` numbers; None or "" for none.

        Raises:
            CheckpointError: The layer named is not there, several fit, or the one that fits may belong to
                another RNN.
        """
        if not self._there:
            raise CheckpointError(
                f"expected the head's weights at {self._named}weight, found none; "
                "give the prefix of a linear layer's names, or an empty one for no head"
            )
        if self._named is not None:
            return self._named
        modules = tuple(module for module in around(prefix) if (module, width) in self._layers)
        if (modules, width) not in self._known:
            layers = [layer for module in modules for layer in self._layers[module, width]]
            self._known[modules, width] = _candidates(self._tensors, layers)
        candidates = self._known[modules, width]
        if not candidates:
            return None
        names, how = listed(candidates), f"name the head to use: --head {shown(candidates[-1])}"
        if len(candidates) > 1:
            raise CheckpointError(f"several linear layers fit behind {where}: {names}; {how}")
        module = next(module for module in modules if candidates[0] in self._layers[module, width])
        if (readers := self._readers[module, width]) > 1:
            raise CheckpointError(f"the linear layer {names} fits behind {readers} RNNs; {how}")
        return f"{candidates[0]}."


def around(name: str) -> Iterator[str]:
    """Prefixes of the modules around a name, from the innermost: "a.b.", "a.", ""."""
    end = name.rfind(".")
    while end >= 0:
        yield name[: end + 1]
        end = name.rfind(".", 0, end)
    yield ""


def _candidates(tensors: Mapping[str, Tensor], layers: Sequence[str]) -> list[str]:
    """Those of some matrices that may be a head: one without a bias whose name says "emb" is an embedding."""
    biased = [layer for layer in layers if f"{layer}.bias" in tensors]
    fitting = [layer for layer in biased if _fits(tensors[f"{layer}.weight"], tensors[f"{layer}.bias"])]
    if len(fitting) == 1:  # the others are embeddings, which have none
        return fitting
    bare = [layer for layer in layers if f"{layer}.bias" not in tensors and "emb" not in layer.lower()]
    return biased + bare


def _fits(weight: Tensor, bias: Tensor) -> bool:
    return not bias.is_nested and bias.shape == weight.shape[:1]


def shown(name: str) -> str:
    """A name in quotes, for a sentence."""
    return repr(name if len(name) <= 200 else f"{name[:199]}…")


def listed(names: Collection[str]) -> str:
    """The first few of many names, in quotes."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(map(shown, itertools.islice(names, 4))) + more
