"""What made the files of this folder, with Flax 0.12.8: parameters of networks, and what those give out.

Flax and JAX are too large for the tests' own requirements; `python make.py FOLDER` makes the files again.
"""

import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from flax import nnx, serialization

CELLS = ("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell")


class Linen(nn.Module):
    cell: nn.RNNCellBase

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.RNN(self.cell)(x))


class NNX(nnx.Module):
    def __init__(self, cell):
        self.memory = nnx.RNN(cell)
        self.readout = nnx.Linear(4, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.readout(self.memory(x))


def shaken(parameters):
    """The same with random numbers everywhere, biases included."""
    leaves, tree = jax.tree_util.tree_flatten(parameters)
    random = np.random.default_rng(1)
    return jax.tree_util.tree_unflatten(
        tree, [jax.numpy.asarray(0.5 * random.normal(size=leaf.shape), leaf.dtype) for leaf in leaves]
    )


def main(folder):
    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32")
    outputs = {"x": x}
    for name in CELLS:
        linen = Linen(getattr(nn, name)(4))
        parameters = shaken(linen.init(jax.random.PRNGKey(0), x))
        (folder / f"{name}.msgpack").write_bytes(serialization.to_bytes(parameters))
        outputs[name] = np.asarray(linen.apply(parameters, x))
        graph, state, rest = nnx.split(NNX(getattr(nnx, name)(3, 4, rngs=nnx.Rngs(0))), nnx.Param, ...)
        parameters = shaken(nnx.to_pure_dict(state))
        nnx.replace_by_pure_dict(state, parameters)
        (folder / f"nnx_{name}.msgpack").write_bytes(serialization.to_bytes(parameters))
        outputs[f"nnx_{name}"] = np.asarray(nnx.merge(graph, state, rest)(x))
    np.savez_compressed(folder / "outputs.npz", **outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
