"""The GPU backend computes what eager torch computes in float64: on a GPU, or in Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch

from rnnatlas.errors import RNNAtlasError
from rnnatlas.rnn import Population, RNNSpec, run
from rnnatlas.rnn.backends import eager, native, triton
from rnnatlas.rnn.running import _backend

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = 1e-5  # relative to the largest value: float32 sums in another order
needs_triton = pytest.mark.skipif(
    not triton.installed(), reason="no Triton (700 MB, comes with CUDA builds of torch): pip install triton"
)
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device")


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    """Kernels are compiled or interpreted as the environment says when they are first imported."""
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")


def population_of(spec, count, device=DEVICE):
    generators = [torch.Generator().manual_seed(number) for number in range(count)]
    return Population.initialise(spec, generators).to(device)


def data_for(spec, count, batch, time, shared=False):
    """Inputs and a state, drawn from torch's own generator."""
    inputs = torch.randn(*(() if shared else (count,)), batch, time, spec.input)
    shape = (spec.layers * spec.directions, count, batch, spec.hidden)
    parts = 2 if spec.cell == "lstm" else 1
    return inputs.to(DEVICE), tuple((torch.randn(shape) / 2).to(DEVICE) for _ in range(parts))


def outcome(module, population, inputs, state, asked, dtype):
    """Outputs, last state, and gradients of a random combination of them in the leaves asked for."""
    population = population.to(dtype=dtype).detach().clone()
    inputs, *state = (part.to(dtype, copy=True) for part in (inputs, *state))
    sources = {"inputs": [inputs], "state": state, "weights": population.parameters()}
    leaves = [leaf.requires_grad_() for name in sorted(asked) for leaf in sources[name]]
    outputs, end = module.run(population, inputs, tuple(state) or None)
    torch.manual_seed(1)
    total = sum((part * torch.randn(part.shape).to(part)).sum() for part in (outputs, *end))
    gradients = torch.autograd.grad(total, leaves) if leaves else ()
    return [outputs, *end, *gradients]


def close(found, expected):
    assert found.dtype is torch.float32
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found.double(), expected.double(), rtol=TOLERANCE, atol=TOLERANCE * scale)


SHAPES = [
    # hidden, layers, bidirectional, bias; RNNs, batch, time; shared, carried; gradients
    (1, 1, False, True, 3, 1, 1, False, True, {"inputs", "state", "weights"}),
    (5, 2, False, True, 2, 18, 3, False, False, {"weights"}),
    (16, 1, False, False, 2, 16, 2, True, True, {"inputs", "weights"}),
    (20, 1, True, True, 1, 17, 3, True, True, {"inputs", "state"}),
    (33, 1, False, True, 2, 3, 4, False, True, {"inputs", "state", "weights"}),
    (64, 1, False, True, 1, 2, 2, False, False, set()),  # as in inference
]


@needs_triton
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape[:-1])))
@pytest.mark.parametrize("cell", triton.CELLS)
def test_equals_eager_in_float64(cell, shape):
    hidden, layers, bidirectional, bias, count, batch, time, shared, carried, asked = shape
    spec = RNNSpec(
        cell=cell,
        input=3,
        hidden=hidden,
        layers=layers,
        output=None if hidden == 16 else 2,
        bidirectional=bidirectional,
        bias=bias,
        initial_state=not carried,
    )
    torch.manual_seed(0)
    population = population_of(spec, count)
    inputs, state = data_for(spec, count, batch, time, shared)
    state = state if carried else ()
    found = outcome(triton, population, inputs, state, asked, torch.float32)
    expected = outcome(eager, population, inputs, state, asked, torch.float64)
    for one, other in zip(found, expected, strict=True):
        close(one, other)


@needs_triton
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_steps_that_depend_on_responses(cell):
    spec = RNNSpec(cell=cell, input=3, hidden=6, output=3)
    population = population_of(spec, 2).requires_grad_()
    torch.manual_seed(0)
    results = []
    for module, dtype in ((triton, torch.float32), (eager, torch.float64)):
        torch.manual_seed(0)
        probing_input = torch.randn(2, 4, 3).to(DEVICE, dtype)
        same, state = population.to(dtype=dtype), None
        for _ in range(3):
            outputs, state = module.step(same, probing_input, state)
            probing_input = outputs.sin()
        results.append([outputs, *torch.autograd.grad(outputs.square().sum(), population.parameters())])
    for one, other in zip(*results, strict=True):
        close(one, other)


@needs_triton
def test_memory_layouts():
    """Weights may be rows of one matrix, inputs any view, and a gradient may come expanded."""
    spec = RNNSpec(cell="lstm", input=4, hidden=6, output=None)
    flat = population_of(spec, 3).flatten()
    views = [torch.randn(3, 5, 4, 6)[..., 1:5], torch.randn(3, 4, 2, 4).transpose(1, 2)]
    views.append(torch.randn(3, 1, 2, 4).expand(-1, 5, -1, -1))
    for inputs in views:
        results = []
        for module, dtype in ((triton, torch.float32), (eager, torch.float64)):
            rows = flat.to(dtype).detach().requires_grad_()
            outputs, _ = module.run(Population.unflatten(spec, rows), inputs.to(DEVICE, dtype), None)
            results.append([outputs, *torch.autograd.grad(outputs.sum(), rows)])
        for one, other in zip(*results, strict=True):
            close(one, other)


@needs_triton
@pytest.mark.parametrize("cell", triton.CELLS)
def test_extreme_numbers(cell):
    """Activations end where torch's do, and NaN stays in its own sequence."""
    spec = RNNSpec(cell=cell, input=1, hidden=3, output=None)
    population = population_of(spec, 1)
    inputs = torch.tensor([0.0, 1e-20, -1e-3, 0.3, 80.0, -80.0, 1e4, -1e4, torch.nan]).to(DEVICE)
    inputs = inputs.view(1, -1, 1, 1).expand(-1, -1, 2, -1)
    outputs, _ = triton.run(population, inputs, None)
    expected, _ = eager.run(population.to(dtype=torch.float64), inputs.double(), None)
    close(outputs[:, :-1], expected[:, :-1])
    assert outputs[:, -1].isnan().all()


@needs_triton
def test_tanh():
    """As exact as float32 allows, on both sides of where the series ends (0.25)."""
    spec = RNNSpec(cell="elman-tanh", input=1, hidden=1, bias=False)
    ones = {name: torch.ones(1, *shape) for name, shape in spec.shapes.items()}
    x = torch.cat([torch.linspace(-0.5, 0.5, 301), torch.logspace(-10, 1, 100)])
    outputs, _ = triton.run(Population(spec, ones).to(DEVICE), x.view(1, -1, 1, 1).to(DEVICE), None)
    torch.testing.assert_close(outputs.flatten().cpu().double(), x.double().tanh(), rtol=5e-7, atol=0)


@needs_triton
@pytest.mark.parametrize("cell", triton.CELLS)
def test_second_derivatives_are_refused_rather_than_wrong(cell):
    population = population_of(RNNSpec(cell=cell, input=2, hidden=5, output=3), 2).requires_grad_()
    inputs = torch.randn(2, 3, 3, 2).to(DEVICE).requires_grad_()
    outputs, _ = triton.run(population, inputs, None)
    with pytest.raises(RNNAtlasError, match=r"first derivatives alone.*RNNATLAS_BACKEND=eager"):
        torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)


@needs_triton
def test_backward_twice_and_weights_changed_in_between():
    population = population_of(RNNSpec(cell="lstm", input=2, hidden=5, output=3), 2).requires_grad_()
    outputs, _ = triton.run(population, torch.randn(2, 3, 4, 2).to(DEVICE), None)
    first = torch.autograd.grad(outputs.sum(), population.parameters(), retain_graph=True)
    second = torch.autograd.grad(outputs.sum(), population.parameters(), retain_graph=True)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    with torch.no_grad():
        population.weights["weight_hh_l0"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


COMPILE = """
import sys
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.rnn.backends import triton as backend

class H100:
    "A driver that says which GPU to compile for, and has none."
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)

triton.runtime.driver.set_active(H100)
compiled = []
def only_compile(kernel, grid):
    return lambda *arguments, **options: compiled.append(
        kernel.run(*arguments, grid=grid, warmup=True, **options)
    )
JITFunction.__getitem__ = only_compile
for cell in ("lstm", "gru", "elman-tanh"):
    spec = RNNSpec(cell=cell, input=3, hidden=int(sys.argv[1]))
    population = Population.initialise(spec, [torch.Generator()]).requires_grad_()
    outputs, _ = backend.run(population, torch.randn(1, 40, 5, 3), None)
    outputs.sum().backward()
for kernel in compiled:
    print(kernel.name, kernel.metadata.shared, len(kernel.asm["cubin"]))
"""


@needs_triton
@pytest.mark.slow
def test_compiles_for_gpus_and_fits_their_shared_memory(tmp_path):
    """The largest that `applies` lets through, on the smallest GPU that it does: 99 KiB a program."""
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE, str(triton._LARGEST)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kernels = [line.split() for line in done.stdout.splitlines()]
    names = [f"{cell}_{way}" for cell in ("lstm", "gru", "elman") for way in ("forward", "backward")]
    assert [name for name, *_ in kernels] == names
    assert all(int(shared) <= 99 * 1024 and int(size) > 0 for _, shared, size in kernels)


class Elsewhere(torch.Tensor):
    """Says that it is on a GPU and has no memory anywhere."""

    @staticmethod
    def __new__(cls, *shape, dtype=torch.float32):
        return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device="cuda")

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        raise NotImplementedError(f"{function} on a GPU that is not there")


def elsewhere(hidden=32, dtype=torch.float32, count=2):
    spec = RNNSpec(cell="lstm", input=2, hidden=hidden)
    weights = {name: Elsewhere(count, *shape, dtype=dtype) for name, shape in spec.shapes.items()}
    return Population(spec, weights)


def test_what_the_gpu_backend_takes(monkeypatch):
    monkeypatch.setattr(triton, "installed", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    inputs = Elsewhere(2, 3, 4, 2)
    assert _backend(elsewhere(), inputs, None) is triton
    assert _backend(elsewhere(hidden=65), inputs, None) is eager
    assert _backend(elsewhere(dtype=torch.float64), inputs, None) is eager
    assert _backend(elsewhere(), Elsewhere(2, 3, 4, 2, dtype=torch.float64), None) is eager
    assert _backend(elsewhere(), torch.zeros(2, 3, 4, 2), None) is eager
    assert _backend(elsewhere(), inputs, (torch.zeros(1, 2, 3, 32), Elsewhere(1, 2, 3, 32))) is eager
    assert _backend(elsewhere(count=0), Elsewhere(0, 3, 4, 2), None) is eager
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert _backend(elsewhere(), inputs, None) is eager
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(triton, "installed", lambda: False)
    assert _backend(elsewhere(), inputs, None) is eager


def test_the_environment_asks_for_eager(monkeypatch):
    monkeypatch.setattr(triton, "applies", lambda *arguments: True)
    assert _backend(elsewhere(), Elsewhere(2, 3, 4, 2), None) is triton
    monkeypatch.setenv("RNNATLAS_BACKEND", "eager")
    assert _backend(elsewhere(), Elsewhere(2, 3, 4, 2), None) is eager


def test_leaves_the_cpu_to_others():
    population = population_of(RNNSpec(cell="lstm", input=2, hidden=3), 1, device="cpu")
    assert _backend(population, torch.randn(1, 1, 1, 2), None) in (native, eager)


@pytest.mark.gpu
@needs_gpu
def test_paper_size_on_a_gpu():
    spec = RNNSpec(cell="lstm", input=6, hidden=32, layers=2, output=6)
    torch.manual_seed(0)
    population = population_of(spec, 64)
    inputs, state = data_for(spec, 64, 32, 41)
    asked = {"inputs", "state", "weights"}
    assert _backend(population, inputs, None) is triton
    found = outcome(triton, population, inputs, state, asked, torch.float32)
    expected = outcome(eager, population, inputs, state, asked, torch.float64)
    for one, other in zip(found, expected, strict=True):
        close(one, other)
    again = outcome(triton, population, inputs, state, asked, torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


@pytest.mark.gpu
@needs_gpu
def test_more_numbers_than_32_bits_count():
    spec = RNNSpec(cell="elman-tanh", input=1, hidden=64)
    population = population_of(spec, 600)
    inputs = torch.randn(1, 2, 1).to(DEVICE).expand(32_768, -1, -1)
    outputs, _ = run(population, inputs)
    assert outputs.numel() > 2**31
    for rnn in (0, 599):
        expected, _ = eager.run(population.select([rnn]), inputs[:1], None)
        assert torch.allclose(outputs[rnn, [0, -1]], expected[0], atol=1e-5)
