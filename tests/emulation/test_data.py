"""Batches: RNNs of one architecture or several, each with its own rollouts."""

import inspect
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch
from tests.made import PROBING

from rnnatlas import encoders, seeds
from rnnatlas.emulation.data import AT, WEIGHTS, Snapshots, accepted, population_of
from rnnatlas.emulation.fit import Training
from rnnatlas.errors import RNNSpecMismatch, SettingsError
from rnnatlas.rnn import Interface, Mixed, Population, RNNSpec, Tokens, Values, groups
from rnnatlas.tasks.formal_languages import FormalLanguages

TASK = FormalLanguages.from_settings({"tokens": 2, "length": 12, "largest_n": 4})
SPECS = [
    RNNSpec(cell="lstm", input=4, hidden=5, output=4),
    RNNSpec(cell="gru", input=4, hidden=3, layers=2, output=4),
    RNNSpec(cell="elman-tanh", input=4, hidden=6, output=4),
]


@pytest.fixture(scope="module")
def mixed():
    """Nine RNNs of three architectures, in any order, with four rollouts each."""
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    members = [
        Population.initialise(spec, [torch.Generator().manual_seed(10 * number + i) for i in range(3)])
        for number, spec in enumerate(SPECS)
    ]
    return snapshots(Mixed(list(zip(order.chunk(3), members, strict=True))))


def snapshots(system):
    streams = [seeds.stream(0, "rollouts", rnn) for rnn in range(len(system))]
    rollouts = TASK.rollouts(system, [], streams, 4)
    where = torch.zeros(len(system), 2, dtype=torch.long)
    for number, (index, group) in enumerate(groups(system)):
        where[index, 0], where[index, 1] = number, torch.arange(len(group))
    return Snapshots(
        task=TASK,
        table=pa.table({}),
        weights={group.spec: group.flatten() for _, group in groups(system)},
        where=where,
        stored=torch.from_numpy(rollouts.inputs),
        targets=torch.from_numpy(rollouts.outputs),
    )


def single(system, rnn):
    return system.select([rnn]).flatten()[0]


def test_all_snapshots_are_the_rnns_in_their_order(mixed):
    rnns = mixed.population
    assert set(mixed.specs) == set(rnns.specs) == set(SPECS)
    outputs = TASK.outputs(rnns, mixed.stored)
    torch.testing.assert_close(outputs, mixed.targets.float(), atol=5e-3, rtol=2e-3)


def test_batches_of_several_architectures_hold_each_rnns_own_rollouts(mixed):
    for step in range(5):
        batch = mixed.draw(7, 3, 0, step)
        rnns = population_of(batch, TASK)
        assert len(rnns) == 7
        assert batch["stored"].shape[:2] == batch["targets"].shape[:2] == (7, 3)
        outputs = TASK.outputs(rnns, batch["stored"])
        torch.testing.assert_close(outputs, batch["targets"].float(), atol=5e-3, rtol=2e-3)


def test_a_batch_may_hold_one_of_several_architectures(mixed):
    rows = torch.tensor([4, 4])
    batch = mixed.batch(rows, torch.zeros(2, 1, dtype=torch.long))
    rnns = population_of(batch, TASK)
    assert len(rnns.specs) == 1
    assert torch.equal(single(rnns, 0), single(mixed.population, 4))
    assert torch.equal(single(rnns, 1), single(mixed.population, 4))


def test_a_batch_on_a_gpu_is_made_without_waiting_for_it(mixed):
    """Of a tensor on "meta" nothing can be read."""
    batch = Training.transfer_batch_to_device(None, mixed.draw(7, 3, 0, 0), torch.device("meta"), 0)
    assert {name[:2] for name, tensor in batch.items() if tensor.is_cpu} == {AT[:2]}
    rnns = population_of(batch, TASK)
    assert rnns.device.type == "meta"
    assert len(rnns) == 7


@pytest.mark.parametrize("world", [1, 2, 4])
def test_shares_make_up_the_batch(mixed, world):
    whole = mixed.draw(8, 2, 3, 5)
    rnns = population_of(whole, TASK)
    for rank in range(world):
        share = mixed.draw(8, 2, 3, 5, rank, world)
        assert torch.equal(share["stored"], whole["stored"][rank::world])
        assert torch.equal(share["targets"], whole["targets"][rank::world])
        own = population_of(share, TASK)
        assert len(own) == 8 // world
        for place in range(len(own)):
            assert torch.equal(single(own, place), single(rnns, rank + place * world))


def test_batches_in_order_are_all_snapshots_once(mixed):
    found = [population_of(batch, TASK) for batch in mixed.in_order(4, 2)]
    assert [len(rnns) for rnns in found] == [4, 4, 1]
    each = [single(rnns, place) for rnns in found for place in range(len(rnns))]
    assert all(torch.equal(own, single(mixed.population, rnn)) for rnn, own in enumerate(each))


def test_batches_of_one_architecture_are_drawn_as_ever():
    """From the step's own stream: RNNs first, then the rollouts of each."""
    population = Population.initialise(SPECS[0], [torch.Generator().manual_seed(i) for i in range(6)])
    data = snapshots(population)
    stream = seeds.stream(11, "emulation", 2)
    rows = torch.from_numpy(stream.integers(6, size=5))
    chosen = torch.from_numpy(stream.integers(4, size=(5, 2)))
    batch = data.draw(5, 2, 11, 2)
    assert set(batch) == {WEIGHTS + SPECS[0].slug, "stored", "targets"}
    assert not any(name.startswith(AT) for name in batch)
    assert torch.equal(batch[WEIGHTS + SPECS[0].slug], population.flatten()[rows])
    assert torch.equal(batch["stored"], data.stored[rows.unsqueeze(1), chosen])
    assert torch.equal(batch["targets"], data.targets[rows.unsqueeze(1), chosen])
    assert isinstance(population_of(batch, TASK), Population)
    assert population_of(batch, TASK).interface == TASK.interface


@pytest.mark.parametrize(
    ("zoo_reads", "zoo_gives", "sentence"),
    [
        (Values(4), Tokens(4), "read tokens, but those of zoo read numbers; train one on a zoo of such RNNs"),
        (Tokens(4), Values(4), "give out tokens, but those of zoo give out numbers"),
        (Values(4), Values(4), "read tokens, but those of zoo read numbers"),
        (Tokens(4), Tokens(4), None),
    ],
)
def test_tokens_are_not_taken_for_numbers(zoo_reads, zoo_gives, sentence):
    plain = inspect.unwrap(accepted)  # past the checks of annotations, as here is no whole zoo
    kind = encoders.registry["noninteractive"]
    encoder = kind(TASK.interface, SPECS[0], kind.Settings(**PROBING))
    zoo = SimpleNamespace(task=SimpleNamespace(interface=Interface(zoo_reads, zoo_gives)), path="zoo")
    table = pa.table({"spec": [SPECS[0].slug, SPECS[1].slug]})
    if sentence is None:
        assert plain(encoder, zoo, table) == (table, [])
    else:
        with pytest.raises(RNNSpecMismatch, match=f"^this encoder was trained on RNNs that {sentence}"):
            plain(encoder, zoo, table)


def test_snapshots_that_an_encoder_does_not_take_are_counted_and_named():
    plain = inspect.unwrap(accepted)
    kind = encoders.registry["statistics"]
    encoder = kind(TASK.interface, SPECS[0], kind.Settings(width=8))
    zoo = SimpleNamespace(task=TASK, path="zoo")
    table = pa.table({"spec": [SPECS[number].slug for number in (1, 0, 1, 2)]})
    kept, sentences = plain(encoder, zoo, table)
    assert kept["spec"].to_pylist() == [SPECS[0].slug]
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        f"2 snapshots of {SPECS[1]}",
        f"1 snapshots of {SPECS[2]}",
    ]
    with pytest.raises(RNNSpecMismatch, match=r"^no snapshot is left for this encoder; 2 snapshots of GRU"):
        plain(encoder, zoo, table.filter([True, False, True, False]))


def test_outputs_are_of_positions_that_count(mixed):
    outputs = mixed.outputs()
    assert len(outputs) == int(TASK.mask(mixed.stored[:, :1]).sum())
    torch.testing.assert_close(outputs.exp().sum(-1), torch.ones(len(outputs)))


@pytest.mark.parametrize("kind", ["rollouts", "random", *TASK.probe_kinds])
def test_examples_are_as_long_as_asked_for_and_alike_each_time(mixed, kind):
    short, long = (mixed.examples(kind, steps) for steps in (4, 3 * TASK.time))
    assert short.shape[1:] == (4, TASK.interface.input.size)
    assert long.shape[1] == 3 * TASK.time
    assert torch.equal(mixed.examples(kind, 4), short)
    torch.testing.assert_close(long.sum(-1), torch.ones(long.shape[:2]))
    if kind == "rollouts":
        own = TASK.encode_inputs(mixed.stored[:, 0])
        assert torch.equal(short, own[:, :4])
        assert torch.equal(long, own.repeat(1, 3, 1))


def test_examples_that_a_task_does_not_offer_are_refused(mixed):
    with pytest.raises(SettingsError, match="should be rollouts, random, counting, found 'images'"):
        mixed.examples("images", 4)
