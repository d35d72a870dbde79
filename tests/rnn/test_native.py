"""The compiled backend computes what eager torch computes, wherever it is used, and frees what it takes."""

import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnatlas
from rnnatlas.errors import RNNAtlasError
from rnnatlas.rnn import Population, RNNSpec, backend, run, step
from rnnatlas.rnn.backends import eager, kernels, native

missing = kernels.library()
pytestmark = pytest.mark.skipif(isinstance(missing, str), reason=f"no compiled backend: {missing}")

TOLERANCE = 1e-5  # relative to the largest value: float32 sums in another order


@st.composite
def specs(draw, one_way=False):
    return RNNSpec(
        cell=draw(st.sampled_from(sorted(kernels.CELLS))),
        input=draw(st.integers(1, 20)),
        hidden=draw(st.integers(1, 20) | st.sampled_from([24, 32, 40, 64, 70])),
        layers=draw(st.integers(1, 3)),
        output=draw(st.none() | st.integers(1, 20)),
        bidirectional=not one_way and draw(st.booleans()),
        bias=draw(st.booleans()),
        head_bias=draw(st.booleans()),
        initial_state=draw(st.booleans()),
    )


def population_of(spec, count, seed=0):
    return Population.initialise(spec, [torch.Generator().manual_seed(seed + i) for i in range(count)])


def state_for(spec, count, batch):
    parts = 2 if spec.cell == "lstm" else 1
    return tuple(
        torch.randn(spec.layers * spec.directions, count, batch, spec.hidden) * 0.5 for _ in range(parts)
    )


def close(found, expected):
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE * scale)


def same_gradients(function, reference, leaves):
    """Both give (outputs, state); compares them, and gradients of a random combination of all they give."""
    results = []
    for one in (function, reference):
        outputs, end = one()
        torch.manual_seed(1)
        total = sum((part * torch.randn_like(part)).sum() for part in (outputs, *end))
        results.append((outputs, *end, *torch.autograd.grad(total, leaves, materialize_grads=True)))
    for found, expected in zip(*results, strict=True):
        close(found, expected)


@settings(max_examples=150, deadline=None)
@given(
    spec=specs(),
    count=st.integers(1, 3),
    batch=st.integers(1, 14),
    time=st.integers(1, 6),
    carried=st.booleans(),
    asked=st.sets(st.sampled_from(["inputs", "state", "weights"]), min_size=1),
    shared=st.booleans(),
)
def test_equals_eager_with_the_gradients_asked_for(spec, count, batch, time, carried, asked, shared):
    torch.manual_seed(0)
    population = population_of(spec, count)
    inputs = torch.randn(*(() if shared else (count,)), batch, time, spec.input)
    state = state_for(spec, count, batch) if carried else None
    sources = {"inputs": [inputs], "state": list(state or ()), "weights": population.parameters()}
    leaves = [leaf.requires_grad_() for name in sorted(asked) for leaf in sources[name]]

    def compare(nudge):
        same_gradients(
            lambda: native.run(population, inputs + nudge, state),
            lambda: eager.run(population, inputs + nudge, state),
            leaves,
        )

    if leaves:
        try:
            compare(0.0)
        except AssertionError:
            if "relu" not in spec.cell:
                raise
            compare(1e-5)  # a unit was at its kink, where rounding decides its slope
    with torch.no_grad():
        outputs, end = native.run(population, inputs, state)
        expected, expected_end = eager.run(population, inputs, state)
    assert outputs.grad_fn is None
    for found, one in zip((outputs, *end), (expected, *expected_end), strict=True):
        close(found, one)


@settings(max_examples=40, deadline=None)
@given(spec=specs(one_way=True), batch=st.integers(1, 7), shared=st.booleans(), weights=st.booleans())
def test_gradients_through_steps_that_depend_on_responses(spec, batch, shared, weights):
    torch.manual_seed(0)
    population = population_of(spec, 3)
    first = torch.randn(*(() if shared else (3,)), batch, spec.input, requires_grad=True)
    leaves = [first, *(population.requires_grad_().parameters() if weights else ())]

    def probe(module):
        outputs, state = module.step(population, first, None)
        for _ in range(3):
            probing_input = outputs.mean(-1, keepdim=True).sin() * first
            outputs, state = module.step(population, probing_input, state)
        return outputs, state

    same_gradients(lambda: probe(native), lambda: probe(eager), leaves)


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_older_instruction_sets_pass_this_file_too(isa):
    """Each build of the kernels has its own tile sizes."""
    if os.environ.get("RNNATLAS_ISA"):
        pytest.skip("this is the run for an older instruction set")
    tests = [
        f"{__file__}::{name}"
        for name in ("test_equals_eager_with_the_gradients_asked_for", "test_activations")
    ]
    environment = os.environ | {"RNNATLAS_ISA": isa}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_activations():
    """The largest errors that docs/decisions states, over all of float32's range that matters."""
    x = torch.cat(
        [torch.linspace(-100, 100, 200_001), torch.logspace(-30, 2, 50_000), torch.tensor([torch.inf])]
    )
    x = torch.cat([x, -x])[: len(x) * 2 // 16 * 16]
    for which, function, bound in ((0, torch.sigmoid, 3e-7), (1, torch.tanh, 5e-7)):
        y, exact = torch.empty_like(x), function(x.double())
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, y)]
        kernels.library().rnnatlas_activate(ctypes.c_int64(which), *pointers, ctypes.c_int64(len(x)))
        error = (y - exact).abs()
        assert error.max() <= 2e-7
        normal = exact.abs() > 1e-37
        assert (error / exact.abs())[normal].max() <= bound


@pytest.mark.parametrize("cell", kernels.CELLS)
def test_nan_stays_in_its_own_sequence(cell):
    population = population_of(RNNSpec(cell=cell, input=2, hidden=5, layers=2, output=3), 2)
    inputs = torch.randn(2, 7, 4, 2)
    inputs[1, 3, 2, 0] = torch.nan
    outputs, _ = native.run(population, inputs, None)
    bad = torch.zeros(2, 7, 4, 3, dtype=torch.bool)
    bad[1, 3, 2:] = True
    assert torch.equal(outputs.isnan(), bad)


def test_memory_layouts():
    spec = RNNSpec(cell="lstm", input=6, hidden=8, layers=2, output=6)
    population = population_of(spec, 3)
    base = torch.randn(3, 4, 5, 6)
    views = [
        base,
        base.transpose(1, 2).contiguous().transpose(1, 2),
        base.mT.contiguous().mT,
        base[:, :1].expand(-1, 4, -1, -1),
        torch.randn(3, 4, 10, 12)[:, :, ::2, 3:9],
    ]
    flat = Population.unflatten(spec, population.flatten().requires_grad_())
    columns = Population(
        spec, {k: w.mT.contiguous().mT if w.ndim == 3 else w for k, w in population.weights.items()}
    )
    for inputs in views:
        for one in (population, flat, columns):
            found, _ = native.run(one, inputs, None)
            expected, _ = eager.run(one, inputs, None)
            close(found, expected)
    state = tuple(part.mT.contiguous().mT for part in state_for(spec, 3, 4))
    leaves = list(flat.weights.values())
    same_gradients(lambda: native.run(flat, base, state), lambda: eager.run(flat, base, state), leaves)


def test_no_rnns():
    population = population_of(RNNSpec(cell="gru", input=2, hidden=3, output=2), 2).select([])
    outputs, (h,) = native.run(population, torch.randn(0, 4, 5, 2), None)
    assert outputs.shape == (0, 4, 5, 2)
    assert h.shape == (1, 0, 4, 3)


def test_what_it_cannot_do_runs_in_eager_torch():
    population = population_of(RNNSpec(cell="lstm", input=2, hidden=3, output=2), 2)
    inputs = torch.randn(2, 3, 4, 2)
    assert native.applies(population, inputs, None)
    assert not native.applies(population.to(dtype=torch.float64), inputs.double(), None)
    assert not native.applies(population.to(device="meta"), inputs.to("meta"), None)
    several = torch.stack([inputs, inputs + 1])
    found = torch.vmap(lambda one: run(population, one)[0])(several)
    close(found[1], run(population, inputs + 1)[0])
    _, tangent = torch.func.jvp(lambda one: run(population, one)[0], (inputs,), (torch.ones_like(inputs),))
    assert tangent.isfinite().all()


def test_the_environment_asks_for_eager(monkeypatch):
    assert backend().startswith("native")
    monkeypatch.setenv("RNNATLAS_BACKEND", "eager")
    assert backend().startswith("eager")
    population = population_of(RNNSpec(cell="lstm", input=2, hidden=3), 1).requires_grad_()
    outputs, _ = run(population, torch.randn(1, 1, 1, 2))
    assert "_Run" not in type(outputs.grad_fn).__name__


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", kernels.CELLS)
def test_second_derivatives_are_refused_rather_than_wrong(cell, bidirectional):
    spec = RNNSpec(cell=cell, input=2, hidden=5, output=3, bidirectional=bidirectional)
    population = population_of(spec, 2).requires_grad_()
    inputs = torch.randn(2, 3, 4, 2, requires_grad=True)
    outputs, _ = native.run(population, inputs, None)
    with pytest.raises(RNNAtlasError, match=r"first derivatives alone.*RNNATLAS_BACKEND=eager"):
        torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
    (first,) = torch.autograd.grad(outputs.square().sum(), inputs)
    assert not first.requires_grad


def test_backward_twice_and_weights_changed_in_between():
    population = population_of(RNNSpec(cell="lstm", input=2, hidden=5, output=3), 2).requires_grad_()
    outputs, _ = native.run(population, torch.randn(2, 3, 4, 2), None)
    first = torch.autograd.grad(outputs.sum(), population.parameters(), retain_graph=True)
    second = torch.autograd.grad(outputs.sum(), population.parameters(), retain_graph=True)
    assert all(torch.equal(one, other) for one, other in zip(first, second))
    with torch.no_grad():
        population.weights["weight_hh_l0"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def large():
    """Outputs and gradients of enough work for several threads.

    Joined by numpy: torch's own threads, were they to work here, would hang in a forked child.
    """
    population = population_of(
        RNNSpec(cell="lstm", input=6, hidden=32, layers=2, output=6), 8
    ).requires_grad_()
    outputs, _ = native.run(population, torch.ones(8, 8, 10, 6), None)
    gradients = torch.autograd.grad(outputs.sum(), population.parameters())
    return np.concatenate([part.detach().numpy().ravel() for part in (outputs, *gradients)])


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_child(queue):
    torch.set_num_threads(2)
    queue.put(large().tobytes())


@pytest.mark.usefixtures("two_threads")
def test_threads_change_nothing():
    several = large()
    torch.set_num_threads(1)
    assert np.array_equal(large(), several)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("shared", [False, True])
def test_one_rnn_spreads_its_batch_over_threads(shared):
    spec = RNNSpec(cell="gru", input=6, hidden=64, layers=2, output=6)
    population = population_of(spec, 1).requires_grad_()
    inputs = torch.randn(*(() if shared else (1,)), 32, 20, 6, requires_grad=True)
    state = tuple(part.requires_grad_() for part in state_for(spec, 1, 32))
    assert kernels._parts(spec, 1, 32, 20) == 2
    leaves = [inputs, *state, *population.parameters()]
    same_gradients(
        lambda: native.run(population, inputs, state), lambda: eager.run(population, inputs, state), leaves
    )


@pytest.mark.usefixtures("two_threads")
def test_python_threads_may_call_at_once():
    expected, found = large(), []
    callers = [threading.Thread(target=lambda: found.extend(large() for _ in range(5))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 20
    assert all(np.array_equal(one, expected) for one in found)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_child_processes(method):
    expected = large().tobytes()  # so that the parent has threads
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=in_child, args=(queue,))
    child.start()
    try:
        assert queue._reader.poll(60), "the child hangs"
        assert queue.get() == expected
    finally:
        child.kill()
        child.join()


def resident():
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grown(call, calls):
    """By how many bytes this process grows in so many calls, once it has warmed up."""
    for _ in range(500):
        call()
    before = resident()
    for _ in range(calls):
        call()
    return resident() - before


needs_proc = pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"),  # noqa: PTH110
    reason="needs Linux's /proc",
)


@needs_proc
def test_ten_thousand_steps_keep_no_memory():
    population = population_of(RNNSpec(cell="lstm", input=4, hidden=16, output=4), 2)
    inputs = torch.randn(2, 8, 4, requires_grad=True)

    def call():
        outputs, state = step(population, inputs, None)
        outputs, _ = step(population, outputs, state)
        outputs.sum().backward()

    assert grown(call, 5000) < 4 << 20  # a leak of one call's tensors would be 40 MB


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("bidirectional", [False, True])
def test_ten_thousand_runs_keep_no_memory(bidirectional):
    spec = RNNSpec(cell="lstm", input=4, hidden=16, layers=2, output=4, bidirectional=bidirectional)
    population = population_of(spec, 2).requires_grad_()
    inputs = torch.randn(2, 8, 5, 4)
    state = state_for(spec, 2, 8)

    def call():
        outputs, end = run(population, inputs, state)
        torch.autograd.grad(outputs.sum() + end[0].sum(), population.parameters())

    assert grown(call, 10_000) < 4 << 20  # a leak of one call's outputs alone would be 13 MB


def negated(tensor):
    """The same numbers as a view of complex ones, in whose memory they lie with the other sign."""
    view = torch.complex(torch.zeros_like(tensor), -tensor).conj().imag
    assert view.is_neg()
    assert torch.equal(view, tensor)
    return view


@pytest.mark.parametrize("cell", sorted(kernels.CELLS))
def test_negated_views_are_the_numbers_that_they_stand_for(cell):
    spec = RNNSpec(cell=cell, input=3, hidden=4, output=2)
    population, inputs, state = population_of(spec, 2), torch.randn(2, 3, 5, 3), state_for(spec, 2, 3)
    expected, end = run(population, inputs, state)
    views = {name: negated(weight) for name, weight in population.weights.items()}
    assert not any(weight.is_neg() for weight in Population(spec, views).weights.values())
    leaf = inputs.clone().requires_grad_()
    for weights in (views, population.weights):
        of_views = Population(spec, population.weights)
        of_views.weights = dict(weights)
        outputs, last = run(of_views, negated(leaf), tuple(map(negated, state)))
        close(outputs, expected)
        for found, other in zip(last, end, strict=True):
            close(found, other)
        [gradient] = torch.autograd.grad((outputs, *last), leaf, (negated(outputs), *map(negated, last)))
        of_plain = inputs.clone().requires_grad_()
        again, after = run(population, of_plain, state)
        close(gradient, torch.autograd.grad((again, *after), of_plain, (outputs, *last))[0])


def test_a_lack_of_threads_leaves_the_work_to_those_that_there_are():
    """In a process of another user who may start none; it was aborted."""
    code = """if True:
        import os, resource, torch
        from rnnatlas.rnn import Population, RNNSpec, run
        spec = RNNSpec(cell="lstm", input=5, hidden=32, output=5)
        rnns = Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(8)])
        inputs = torch.randn(8, 8, 20, 5)
        torch.set_num_threads(1)
        with torch.no_grad():
            before, _ = run(rnns, inputs)
            if os.getuid() == 0:
                os.setuid(65534)  # root has no limit
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            torch.set_num_threads(4)
            after, _ = run(rnns, inputs)
        assert torch.equal(before, after)
    """
    subprocess.run([sys.executable, "-c", code], env=_with_sources(), check=True, timeout=120)


def _with_sources():
    sources = Path(rnnatlas.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": str(sources)}
