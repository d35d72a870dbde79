"""What every registered task promises."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from rnnatlas import tasks
from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.seeds import stream
from rnnatlas.tasks.trials import Trials, noise, save

SMALL = {
    "formal-languages": {"tokens": 3, "length": 21, "largest_n": 5, "performance_samples": 50},
    "tiled-mnist": {"metric_images": 50},
    "tiled-digits": {"metric_images": 50},
    "integrator": {"time": 12, "response": 4, "earliest": 3},
    "recorded": {"inputs": 3, "outputs": 2, "source": "given", "trials": 40, "time": 9, "masked": True},
}


@pytest.fixture(params=list(tasks.registry))
def task(request):
    if request.param == "tiled-mnist":
        request.getfixturevalue("mnist_cache")
    made = tasks.registry[request.param].from_settings(SMALL[request.param])
    if request.param == "recorded":  # whose zoo has what it reads
        file = request.getfixturevalue("tmp_path") / "inputs.npz"
        drawn = noise(40, 9, 5, seed=0).inputs
        save(file, Trials(drawn[..., :3], np.arange(9) >= np.arange(40)[:, None] % 8, drawn[..., 3:]))
        made.attach(lambda name: file)
    return made


@pytest.fixture
def instances(task):
    return [task.instance(run, seed=0) for run in range(3)]


@pytest.fixture
def population(task):
    spec = RNNSpec(cell="gru", input=task.interface.input.size, hidden=5, output=task.interface.output.size)
    return Population.initialise(spec, [torch.Generator().manual_seed(i) for i in range(3)])


def streams(name):
    return [stream(0, name, run) for run in range(3)]


def test_name_is_the_one_registered(task):
    assert tasks.registry[task.name] is type(task)
    assert tasks.registry.description(task.name)


def test_instances_survive_the_table_with_their_key(task, instances):
    again = pa.array(instances, task.struct).to_pylist()
    assert [task.key(instance) for instance in again] == [task.key(instance) for instance in instances]
    assert all(task.label(instance) for instance in again)
    assert task.instance(1, seed=0) == instances[1]


def test_targets_are_one_row_an_instance(task, instances):
    target = task.target(instances)
    assert target.shape[0] == 3
    assert torch.isfinite(target).all()


def test_an_rnns_data_and_loss_depend_on_its_own_stream_only(task, instances, population):
    batches = task.batches(instances, 4, streams("batches"))
    alone = task.batches(instances[1:2], 4, streams("batches")[1:2])
    for _ in range(3):
        together, own = task.loss(population, next(batches)), task.loss(population.select([1]), next(alone))
        assert together.shape == (3,)
        assert torch.allclose(together[1], own[0], rtol=1e-5)


def test_loss_reaches_every_weight(task, instances, population):
    population.requires_grad_()
    task.loss(population, next(task.batches(instances, 4, streams("batches")))).sum().backward()
    for weight in population.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().amax(dim=tuple(range(1, weight.ndim))).gt(0).all()


def test_rollouts_hold_what_the_rnn_gives_out(task, instances, population):
    before = population.flatten().clone()
    rollouts = task.rollouts(population, instances, streams("rollouts"), 6)
    reads, gives = task.interface.sizes
    assert rollouts.inputs.shape[:2] == (3, 6)
    assert rollouts.outputs.shape == (3, 6, task.time, gives)
    stored = torch.from_numpy(rollouts.inputs)
    assert task.encode_inputs(stored).shape == (3, 6, task.time, reads)
    outputs = task.outputs(population, stored)
    assert np.allclose(outputs.numpy(), rollouts.outputs.astype(np.float32), atol=5e-3)
    mask = task.mask(stored)
    assert mask.shape == (3, 6, task.time)
    assert ((mask == 0) | (mask == 1)).all()
    assert (mask.amax(-1) == 1).all()
    assert len(task.show(rollouts.inputs[0])) == 6
    assert torch.equal(population.flatten(), before)


def test_metrics_and_rollouts_are_the_same_alone_and_among_others(task, instances, population):
    together = task.metrics(population, instances, streams("metrics"))
    alone = task.metrics(population.select([2]), instances[2:], streams("metrics")[2:])
    assert "performance" in together
    for name, values in together.items():
        assert values.shape == (3,)
        assert np.allclose(values[2], alone[name][0], atol=0.02)
    rollouts = task.rollouts(population, instances, streams("rollouts"), 6)
    own = task.rollouts(population.select([2]), instances[2:], streams("rollouts")[2:], 6)
    assert (rollouts.inputs[2] == own.inputs[0]).mean() > 0.99


def test_parts_of_rollouts_are_masks(task, instances, population):
    stored = torch.from_numpy(task.rollouts(population, instances, streams("rollouts"), 6).inputs)
    for mask in task.parts(stored).values():
        assert mask.shape == task.mask(stored).shape
        assert ((mask == 0) | (mask == 1)).all()


def test_inputs_turn_where_a_task_says_so(task, population, instances):
    """In whole turns; the identity first."""
    stored = task.rollouts(population, instances, streams("turned"), 2).inputs
    inputs = task.encode_inputs(torch.from_numpy(stored))
    if not task.turns:
        with pytest.raises(SettingsError, match=f"inputs of {task.name} cannot be turned"):
            task.turned(inputs, 4)
        assert task.scan(population, 2, 4) is None
        return
    turned = task.turned(inputs, 4)
    torch.testing.assert_close(turned[0], inputs)
    assert (turned[1] - inputs).abs().max() > 0.1
    torch.testing.assert_close(task.turned(turned[3], 4)[1], inputs)
    scanned = task.scan(population, 2, 4)
    assert scanned.shape == (3, 2)
    assert scanned.norm(dim=1).max() <= 1
