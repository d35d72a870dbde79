"""Graphs that torch compiles or exports hold a run as one node, which computes what eager torch computes."""

import multiprocessing
import traceback

import pytest
import torch

from rnnatlas.rnn import Population, RNNSpec, run, step
from rnnatlas.rnn.backends import eager, kernels, operator

missing = kernels.library()
pytestmark = pytest.mark.skipif(isinstance(missing, str), reason=f"no compiled backend: {missing}")

CHECKS = [
    # cell, stepping, carried, shared
    ("lstm", False, False, True),
    ("lstm", True, True, False),
    ("gru", False, True, False),
    ("elman-tanh", True, False, True),
]


def population_of(spec):
    return Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(3)])


@pytest.mark.parametrize(("cell", "stepping", "carried", "shared"), CHECKS)
def test_torch_finds_the_operators_well_formed(cell, stepping, carried, shared):
    torch.manual_seed(0)
    spec = RNNSpec(cell=cell, input=5, hidden=7, layers=2, output=3)
    weights = population_of(spec).parameters()
    inputs = torch.randn(*(() if shared else (3,)), 4, *(() if stepping else (6,)), 5)
    h = torch.randn(2, 3, 4, 7) if carried else None
    c = torch.randn(2, 3, 4, 7) if carried and cell == "lstm" else None
    arguments = (spec.slug, stepping, inputs, h, c, weights)
    gradients = [torch.randn_like(result) for result in operator.run(*arguments)]
    wanted = [True, h is not None, c is not None, *(i % 2 == 0 for i in range(len(weights)))]
    torch.library.opcheck(operator.run_backward, (*arguments, wanted, gradients))
    for tensor in (inputs, h, c, *weights):
        if tensor is not None:
            tensor.requires_grad_()
    torch.library.opcheck(operator.run, arguments)


def nodes(graph):
    return [node for node in graph.nodes if "rnnatlas" in str(node.target)]


def compiles(bidirectional):
    spec = RNNSpec(cell="lstm", input=5, hidden=7, layers=2, output=3, bidirectional=bidirectional)
    population, graphs = population_of(spec).requires_grad_(), []
    torch._dynamo.reset()  # it remembers which sizes changed

    def compiler(module, examples):
        graphs.append(module.graph)
        return torch._dynamo.lookup_backend("aot_eager")(module, examples)

    def objective(inputs, running):
        outputs, end = running(population, inputs.sin())
        return outputs.tanh().sum() + sum(part.square().sum() for part in end)

    compiled = torch.compile(lambda inputs: objective(inputs, run), fullgraph=True, backend=compiler)
    for batch, time in ((4, 6), (7, 9), (2, 3)):  # from the second size on, sizes are symbols
        inputs = torch.randn(3, batch, time, 5, requires_grad=True)
        leaves = [inputs, *population.parameters()]
        value = compiled(inputs)
        expected = objective(inputs, lambda population, inputs: eager.run(population, inputs, None))
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
        pairs = zip(torch.autograd.grad(value, leaves), torch.autograd.grad(expected, leaves), strict=True)
        for found, one in pairs:
            torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-5)
    assert len(graphs) == 2
    assert [len(nodes(graph)) for graph in graphs] == 2 * [4 if bidirectional else 1]


def compiles_transforms():
    """`vmap` inside a compiled function has to see torch's own operations."""
    population = population_of(RNNSpec(cell="gru", input=2, hidden=3, output=2))
    several = torch.randn(4, 3, 2, 5, 2)
    compiled = torch.compile(
        lambda inputs: torch.vmap(lambda one: run(population, one)[0])(inputs),
        fullgraph=True,
        backend="aot_eager",
    )
    torch.testing.assert_close(compiled(several)[1], run(population, several[1])[0], rtol=1e-5, atol=1e-5)


class Answers(torch.nn.Module):
    """Runs a population for some time, then one step more."""

    def __init__(self, population):
        super().__init__()
        self.population = population

    def forward(self, inputs):
        outputs, state = run(self.population, inputs)
        return step(self.population, outputs[:, :, -1], state)[0]


def exports():
    module = Answers(population_of(RNNSpec(cell="lstm", input=3, hidden=7, output=3)))
    sizes = {"inputs": {1: torch.export.Dim("batch"), 2: torch.export.Dim("time")}}
    exported = torch.export.export(module, (torch.randn(3, 4, 6, 3),), dynamic_shapes=sizes)
    assert len(nodes(exported.graph)) == 2
    longer = torch.randn(3, 5, 9, 3)
    assert torch.equal(exported.module()(longer), module(longer))


def in_child(connection):
    torch.set_num_threads(1)
    try:
        compiles(bidirectional=False)
        compiles(bidirectional=True)
        compiles_transforms()
        exports()
        connection.send("")
    except BaseException:
        connection.send(traceback.format_exc())


@pytest.mark.slow
def test_compiled_and_exported_graphs():
    """In a process of its own: torch cannot see through what the suite wraps around annotated functions."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=in_child, args=(theirs,))
    child.start()
    theirs.close()
    try:
        problem = ours.recv()
    finally:
        child.join()
    assert problem == ""
