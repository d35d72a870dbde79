import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rnnatlas.errors import DataError
from rnnatlas.rnn import Interface, Tokens, Values
from rnnatlas.tasks.trials import Trials, load, noise, read, save

NUMBERS = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
TOKENS = np.arange(12).reshape(3, 4) % 5


@pytest.mark.parametrize("as_given", [np.asarray, torch.as_tensor, lambda x: {"inputs": x}])
def test_arrays_tensors_and_mappings_are_read_alike(as_given):
    assert np.array_equal(read(as_given(NUMBERS)).inputs, NUMBERS)
    assert np.array_equal(read(as_given(TOKENS)).inputs, TOKENS)
    assert read(as_given(TOKENS)).are_tokens


def test_the_signal_can_be_said():
    assert read(TOKENS, "values").inputs.shape == (3, 4, 1)
    assert not read(TOKENS + 0.5).are_tokens
    assert np.array_equal(read(np.eye(5)[TOKENS], "tokens").inputs, TOKENS)
    assert not read(np.eye(5)[TOKENS]).are_tokens
    for wrong in (NUMBERS, NUMBERS[..., 0]):
        with pytest.raises(DataError, match="tokens should be whole numbers"):
            read(wrong, "tokens")


def test_files_of_arrays(tmp_path):
    np.save(tmp_path / "a.npy", NUMBERS)
    assert np.array_equal(read(tmp_path / "a.npy").inputs, NUMBERS)
    mask, targets = np.ones((6, 5), dtype=np.int8), NUMBERS[..., :2]
    np.savez(tmp_path / "a.npz", inputs=NUMBERS, mask=mask, targets=targets)
    found = read(tmp_path / "a.npz")
    assert found.mask is not None
    assert found.mask.dtype == bool
    save(tmp_path / "b.npz", found)
    again = load(tmp_path / "b.npz")
    assert all(np.array_equal(again.arrays()[name], array) for name, array in found.arrays().items())


def test_what_may_be_a_mistake_is_said(tmp_path, caplog):
    np.savez(tmp_path / "a.npz", x=NUMBERS)
    assert np.array_equal(read(tmp_path / "a.npz").inputs, NUMBERS)
    assert caplog.messages == [
        f"{tmp_path / 'a.npz'} should hold an array `inputs`, found `x` alone, which is taken as the inputs"
    ]
    for zeros in (NUMBERS * 0, TOKENS * 0):
        caplog.clear()
        read(zeros)
        [said] = caplog.messages
        assert "only zeros in the inputs" in said
    caplog.clear()
    read({"inputs": NUMBERS})
    assert caplog.messages == []


@pytest.mark.parametrize("text", ["0,1,2\n3,4\n", "a,b,c\n0,1,2\n3,4,\n", "0 1 2\n\n3 4\n"])
def test_lines_of_tokens_of_several_lengths(tmp_path, text):
    (tmp_path / "a.csv").write_text(text.replace(",\n", "\n"))
    found = read(tmp_path / "a.csv")
    assert found.inputs.tolist() == [[0, 1, 2], [3, 4, 0]]
    assert found.mask is not None
    assert found.mask.tolist() == [[True] * 3, [True, True, False]]


def test_lists_of_tokens_in_parquet(tmp_path):
    pq.write_table(pa.table({"id": [1, 2], "inputs": [[0, 1, 2], [3, 4]]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").inputs.tolist() == [[0, 1, 2], [3, 4, 0]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"inputs": NUMBERS * np.nan}, "finite, found 90 numbers that are NaN"),
        ({"inputs": NUMBERS[:0]}, r"found an array of shape \[0, 5, 3\]"),
        ({"inputs": NUMBERS[0, 0]}, r"found an array of shape \[3\]"),
        ({"inputs": np.array(["a"])}, "should be an array of numbers"),
        ({"inputs": [[1, 2], [3]]}, "should be an array of numbers"),
        ({"input": NUMBERS, "dt": 1}, "should hold an array `inputs`, found input, dt"),
        ({"inputs": NUMBERS, "mask": np.ones((6, 4))}, r"mask of .* \[6, 5\], .* found \[6, 4\]"),
        ({"inputs": NUMBERS, "mask": np.full((6, 5), 2)}, "mask of the inputs should hold 0 and 1 alone"),
        ({"inputs": NUMBERS, "mask": np.zeros((6, 5))}, "found 6 without"),
        ({"inputs": NUMBERS, "targets": NUMBERS[:3]}, r"targets of .* found shape \[3, 5, 3\]"),
        ({"inputs": NUMBERS, "targets": NUMBERS * np.inf}, "targets should be finite"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(given, words):
    with pytest.raises(DataError, match=words) as caught:
        read(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", b"no zip", "cannot be read"),
        ("a.npy", b"", "cannot be read"),
        ("a.csv", b"0,1\n2,b\n", r"found \['2', 'b'\] in line 2"),
        ("a.csv", b"\xff\xfe\x00", "cannot be read"),
        ("a.csv", b"", r"shape \[0, 0\]"),
        ("a.parquet", b"no parquet", "cannot be read"),
        ("a.txt", b"0", "found .*a.txt"),
    ],
)
def test_files_that_cannot_be_used_are_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv", "parquet"])
def test_a_pipe_is_not_waited_for(tmp_path, suffix):
    os.mkfifo(tmp_path / f"a.{suffix}")
    with pytest.raises(DataError, match="a pipe or a device, not a file"):
        read(tmp_path / f"a.{suffix}")


def test_damaged_archives_are_one_sentence(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.zeros((5, 4, 3)))
    whole = (tmp_path / "a.npz").read_bytes()
    changed = [whole[:at] + b"\xff\xff\xff" + whole[at + 3 :] for at in (100, 150, 300)]
    for content in (whole[:300], *changed):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match="inputs should be in"):
            read(tmp_path / "a.npz")


def test_pickles_are_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="holds Python objects"):
        read(tmp_path / "a.npz")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.npz")


def test_what_rnns_of_some_sizes_read_and_give_out():
    classes = Trials(NUMBERS, targets=np.full((6, 5), 1))
    assert Trials(NUMBERS).interface((3, 2)) == Interface(Values(3), Values(2))
    assert Trials(TOKENS).interface((5, 5)) == Interface(Tokens(5), Tokens(5))
    assert Trials(TOKENS).interface((5, 2)) == Interface(Tokens(5), Values(2))
    assert classes.interface((3, 2)) == Interface(Values(3), Tokens(2))
    assert classes.interface((3, 1)) == Interface(Values(3), Values(1))
    for trials, sizes in (
        (Trials(NUMBERS), (4, 2)),
        (Trials(TOKENS), (4, 4)),
        (Trials(NUMBERS, targets=np.full((6, 5), 7)), (3, 2)),
        (Trials(NUMBERS, targets=NUMBERS), (3, 2)),
    ):
        assert isinstance(trials.interface(sizes), str)


def test_noise_has_mean_0_and_variance_1_and_comes_from_its_seed():
    found = noise(400, 30, 2, seed=1).inputs
    assert np.array_equal(found, noise(400, 30, 2, seed=1).inputs)
    assert not np.array_equal(found, noise(400, 30, 2, seed=2).inputs)
    assert abs(found.mean()) < 0.05
    assert abs(found.var() - 1) < 0.05
    beside = (found[:, 1:] * found[:, :-1]).mean((1, 2))  # some trials are smooth, some are not
    assert beside.min() < 0.2 < 0.6 < beside.max()


def test_a_target_that_is_no_class_does_not_count():
    targets = np.array([[0, 2, -100], [-100, 1, 1]])
    found = read({"inputs": NUMBERS[:2, :3], "targets": targets})
    assert found.mask is not None
    assert found.mask.tolist() == (targets >= 0).tolist()
    assert found.targets is not None
    assert found.targets[found.mask].tolist() == [0, 2, 1, 1]
    assert found.interface((3, 3)) == Interface(Values(3), Tokens(3))
    assert "2 of 6 positions the target is -100" in found.notes[0]
    mask = np.array([[1, 0, 1], [1, 1, 1]])
    both = read({"inputs": NUMBERS[:2, :3], "mask": mask, "targets": targets}).mask
    assert both is not None
    assert both.tolist() == ((targets >= 0) & (mask == 1)).tolist()
    with pytest.raises(DataError, match="found 1 without"):
        read({"inputs": NUMBERS[:2, :3], "targets": np.array([[0, 2, 1], [-100] * 3])})


@pytest.mark.parametrize("targets", [[[-1, 1, 0]], [[-1, 2, -2]], [[-0.5, 1, 0]]])
def test_other_negative_targets_are_numbers_at_first(targets):
    found = read({"inputs": NUMBERS[:1, :3], "targets": np.array(targets)})
    assert found.mask is None
    assert found.interface((3, 1)) == Interface(Values(3), Values(1))
    classes = found.as_classes()
    assert (classes is not None) == (targets == [[-1, 1, 0]])
