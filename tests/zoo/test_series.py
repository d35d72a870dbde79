from pathlib import Path

import pytest
import torch

from rnnatlas.rnn import FoundRNN, RNNSpec
from rnnatlas.zoo.imports import import_checkpoints
from rnnatlas.zoo.series import origins, said

SPEC = RNNSpec(cell="gru", input=2, hidden=3)


def of(names, steps=None, specs=None, **options):
    """(run, step) of each file."""
    given = zip(steps or [None] * len(names), specs or [SPEC] * len(names), strict=True)
    rnns = [FoundRNN("rnn.", None, spec, {}, step=step) for step, spec in given]
    return [(one.run, one.step) for one in origins([Path(name) for name in names], rnns, **options)]


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["step_100.pt", "step_200.pt"], [100, 200]),
        (["ckpt-000100.pt", "ckpt-000000.pt"], [100, 0]),
        (["epoch=3-step=1200.ckpt", "epoch=7-step=2400.ckpt"], [1200, 2400]),
        (["epoch=3-val_loss=0.12.ckpt", "epoch=7-val_loss=0.1.ckpt"], [3, 7]),
        (["model_500.pth", "model_1000.pth", "model_1500.pth"], [500, 1000, 1500]),
        (["seed1_step_5.pt", "seed1_step_6.pt"], [5, 6]),
        (["step_100.pt", "best.pt", "last.pt"], [100, -1, -1]),
    ],
)
def test_names_that_differ_in_a_step_are_of_one_run(names, steps):
    assert of(names) == [(0, step) for step in steps]


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["net_0.pt", "net_1.pt", "net_2.pt"], [-1, -1, -1]),
        (["lstm-10.pt", "lstm-11.pt"], [-1, -1]),
        (["seed_100.pt", "seed_200.pt"], [-1, -1]),
        (["a/step_100.pt", "b/step_100.pt"], [100, 100]),
        (["seed1_step_5.pt", "seed2_step_5.pt"], [5, 5]),
        (["a.pt", "b.pt"], [-1, -1]),
    ],
)
def test_others_are_runs_of_their_own(names, steps):
    assert of(names) == list(enumerate(steps))


def test_steps_inside_of_files_go_before_names():
    assert of(["step_1.pt", "step_2.pt"], [10, 20]) == [(0, 10), (0, 20)]
    assert of(["a_1.pt", "a_2.pt", "a_3.pt"], [10, 20, 40]) == [(0, 10), (0, 20), (0, 40)]
    # networks that were trained for some epochs each are not a series
    assert of(["a_1.pt", "a_2.pt", "a_3.pt"], [50, 50, 50]) == [(0, 50), (1, 50), (2, 50)]
    assert of(["a_1.pt", "a_2.pt", "a_3.pt"], [17, 31, 12]) == [(0, 17), (1, 31), (2, 12)]


def test_a_run_has_one_architecture_and_can_be_kept_apart():
    other = RNNSpec(cell="gru", input=2, hidden=4)
    names = ["step_100.pt", "step_200.pt"]
    assert of(names, specs=[SPEC, other]) == [(0, 100), (1, 200)]
    assert of(names, separate=True) == [(0, 100), (1, 200)]


def test_a_network_of_several_rnns_is_one_run(tmp_path):
    for seed in range(2):
        both = torch.nn.ModuleDict({"encoder": torch.nn.GRU(2, 3), "decoder": torch.nn.LSTM(2, 3)})
        torch.save({"model": both.state_dict(), "epoch": 4}, tmp_path / f"net_{seed}.pt")
    zoo, _ = import_checkpoints([tmp_path], tmp_path / "zoo", signal="values")
    rows = zoo.table.select(["run", "step", "role"]).to_pylist()
    assert {tuple(row.values()) for row in rows} == {
        (run, 4, f"model.{part}") for run in (0, 1) for part in ("encoder", "decoder")
    }
    apart, _ = import_checkpoints([tmp_path / "net_0.pt"], tmp_path / "apart", separate=True)
    assert apart.table["run"].to_pylist() == [0, 1]
    assert apart.table["role"].null_count == 2


def test_what_is_of_one_run_is_said():
    rnns = [FoundRNN("", None, SPEC, {}, step=step) for step in (1, 2, None, None)]
    names = ["a/ckpt_1.pt", "a/ckpt_2.pt", "b/step_3.pt", "b/step_4.pt"]
    sentence = said(origins([Path(name) for name in names], rnns))
    assert sentence is not None
    assert sentence.startswith(
        "2 series of checkpoints, 4 snapshots, steps from their files and names of files"
    )
    assert said(origins([Path("a.pt")], rnns[:1])) is None


@pytest.mark.parametrize(
    ("beside", "step"),
    [
        ({"meta": {"step": 5}}, 5),
        ({"meta": {"epoch": 5}, "progress": {"global_step": 70}}, 70),
        ({"step": 3, "meta": {"step": 5}}, 3),
        ({"meta": {"step": 5}, "other": {"step": 5}}, 5),
        ({"config": {"iterations": 1000}, "optimizer": {"step": 7}}, -1),
        ({"meta": {"step": True}}, -1),
    ],
)
def test_steps_are_looked_for_one_level_deep(tmp_path, beside, step):
    torch.save({"model": torch.nn.GRU(2, 3).state_dict(), **beside}, tmp_path / "a.pt")
    zoo, _ = import_checkpoints([tmp_path / "a.pt"], tmp_path / "zoo")
    assert zoo.table["step"].to_pylist() == [step]


def test_a_file_that_says_several_steps_has_none_and_it_is_said(tmp_path):
    beside = {"encoder": {"step": 5}, "decoder": {"step": 9}}
    torch.save({"model": torch.nn.GRU(2, 3).state_dict(), **beside}, tmp_path / "a.pt")
    zoo, _ = import_checkpoints([tmp_path / "a.pt"], tmp_path / "zoo")
    assert zoo.table["step"].to_pylist() == [-1]
    assert "says several (encoder.step 5, decoder.step 9)" in zoo.table["notes"][0].as_py()
