"""Files that others made: each is read as it was meant, or it is said why not."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rnnatlas.errors import CheckpointError
from rnnatlas.rnn import Population, run
from rnnatlas.zoo.imports import checkpoints

SHARED = Path(__file__).parents[3] / "shared" / "data"
CASES = sorted(SHARED.glob("cases/*"))
if not CASES:
    pytest.skip(f"needs the cases at {SHARED}", allow_module_level=True)

READ, SAID = "read", "said"
"""All outputs are those of the reference; or they may not be, and a word has to be among what is said."""

OTHER_FORMATS = ("51_other_formats",)
ENDS = {
    "08_whole_module": (SAID, "mymodels.LSTMNet"),
    "17_quantized_dynamic": (SAID, "quantised"),
    "18_projected_beside_plain": (READ, "projection (enc.weight_hr_l0)"),
    "19_lstmcell_stack": (READ, "'linear' lies behind 'lstm2'"),
    "20_lstmcell_stack_with_head_flag": (READ, "'linear' lies behind 'lstm2'"),
    "25_sample_factory": (READ, "--head 'model.action_parameterization.distribution_linear'"),
    "28_stacked_population": (SAID, "stacked"),
    "29_learned_initial_state": (READ, "learned initial state: 'lstm_init_h'"),
    "30_layernorm_lstm_cell": (SAID, "'cell.ln_ih.weight'"),
    "31_layernorm_jit_nobias": (SAID, "'layers.0.cell.layernorm_i.weight'"),
    "33_peephole": (SAID, "'lstmpeephole.weight_ch_i'"),
    "34_coupled_gates": (SAID, "--cell lstm leaves it out"),
    "35_leaky_alpha": (SAID, "--cell leaky-tanh"),
    "36_single_bias": (READ, "one bias"),
    "37_transposed_square": (SAID, "transposed"),
    "38_relu_rnn": (SAID, "assumed tanh"),
    "42_relu_before_head_and_mlp": (SAID, "'fc1' is only the first layer"),
    "45_hf_folder_duplicates": (READ, "same weights"),
    "46_step_series": (SAID, ""),
    "47_nan_weights": (SAID, "not finite"),
    "48_haste_names": (SAID, "'rnn.kernel'"),
    "49_ctrnn_h2h": (SAID, "h"),
    "50_mamba_rwkv_xlstm": (SAID, "expected the weights of an LSTM"),
    "52_mixed_folder_left_out": (SAID, ""),
    "55_attention_query_only": (READ, "'attn.query', 'out'"),
    "58_embed_other_architectures": (SAID, ""),
    "60_odd_tensors": (SAID, ""),
    "61_weightdrop_only_l0": (SAID, "raw"),
    "62_folder_with_one_bad": (SAID, ""),
    "63_folder_with_one_grad": (SAID, ""),
    "64_single_shard": (SAID, "a part of one"),
    "65_wide_and_long_table": (SAID, ""),
    "66_git_lfs_pointer": (SAID, "git lfs pull"),
    "68_stacked_modules": (READ, "'lstm2' may read what it gives out"),
}
"""How cases end that are not just read with the outputs of the reference."""


def read(paths, args=()):
    """The RNNs in some paths by their prefix, a list for each, and all that is said."""
    options = dict(zip([arg.removeprefix("--") for arg in args[::2]], args[1::2], strict=True))
    found, said = {}, []
    try:
        for checkpoint in checkpoints(paths, **options):
            said += [*([checkpoint.skipped] if checkpoint.skipped else []), *checkpoint.unclear]
            for rnn in checkpoint.rnns:
                found.setdefault(rnn.place, []).append((checkpoint.path, rnn))
                said += rnn.notes
    except CheckpointError as error:
        said.append(str(error))
    assert all(line and line.isprintable() for line in said)
    return found, said


def differs(rnn, reference):
    """By how much outputs differ from a reference, which are those of the head or the hidden states."""
    with np.load(reference) as arrays:
        x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    spec, weights = rnn.spec, {name: weight.float() for name, weight in rnn.weights.items()}
    if spec.output not in (None, y.shape[-1]):
        spec = dataclasses.replace(spec, output=None, head_bias=True)
    if spec.output_size != y.shape[-1]:
        return float("inf")
    population = Population(spec, {name: weights[name][None] for name in spec.shapes})
    outputs, _ = run(population, x[None])
    return float((outputs[0] - y).abs().max())


def inputs(case, folder):
    files = sorted(path for path in (folder / "input").rglob("*") if path.is_file())
    return [[folder / "input"]] if case.get("folder") else [[file] for file in files]


COUNTS = {
    "08_whole_module": 1,
    "17_quantized_dynamic": 0,
    "27_ensemble_one_file": 60,
    "28_stacked_population": 5,
    "30_layernorm_lstm_cell": 0,
    "31_layernorm_jit_nobias": 0,
    "33_peephole": 0,
    "35_leaky_alpha": 0,
    "44_dcp_folder": 1,
    "45_hf_folder_duplicates": 2,
    "46_step_series": 6,
    "47_nan_weights": 1,
    "48_haste_names": 0,
    "49_ctrnn_h2h": 0,
    "50_mamba_rwkv_xlstm": 0,
    "52_mixed_folder_left_out": 6,
    "58_embed_other_architectures": 10,
    "60_odd_tensors": 2,
    "61_weightdrop_only_l0": 2,
    "62_folder_with_one_bad": 6,
    "63_folder_with_one_grad": 6,
    "64_single_shard": 1,
    "65_wide_and_long_table": 3,
    "66_git_lfs_pointer": 0,
}
"""How many RNNs are read in cases that do not say it by their references."""


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_a_case_ends_as_it_should(folder):
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    if folder.name in OTHER_FORMATS:
        pytest.skip("no files of torch")
    kind, word = ENDS.get(folder.name, (READ, ""))
    check, count = case.get("check", {}), 0
    for paths in inputs(case, folder):
        found, said = read(paths, case.get("args", ()))
        count += sum(map(len, found.values()))
        if not paths[0].name.endswith(".index.json"):
            assert word in "\n".join(said), said
        if kind == READ and check:
            # 27 names the places in three files at once
            assert set(found) & set(check) if folder.name in COUNTS else set(found) >= set(check), said
            for prefix in set(found) & set(check):
                name = paths[0].stem if check[prefix] == "by_file" else check[prefix]
                for _, rnn in found[prefix]:
                    assert differs(rnn, folder / f"ref_{name}.npz") < 1e-5, said
    assert count == COUNTS.get(folder.name, count)
    assert check or folder.name in COUNTS


def test_three_gates_that_are_no_grus_can_be_left_out():
    paths = [SHARED / "cases" / "34_coupled_gates" / "input" / "coupled.pt"]
    found, said = read(paths, ["--cell", "lstm"])
    assert not found
    assert "has 3 gates, so it is not of cell 'lstm'" in said[0]


# --- hostile ----------------------------------------------------------------------------------------

HOSTILE = {
    "ansi": "printable characters",
    "big": "as large as 1e+38",
    "complex": "complex64",
    "digits": "found more",
    "float8": "float8_e4m3fn",
    "hidden0": "found shape (0, 0)",
    "ih1d": "found shape (64,)",
    "int8": "int8",
    "l1only": "no weight_hh_l0",
    "laughs": "found more",
    "layers": "no weight_hh_l1",
    "meta": "device meta",
    "nested": "a nested tensor",
    "ok": "",
    "only_bias_hh": "no rnn.bias_ih_l0",
    "parameters": "",
    "quantised": "a quantised tensor",
    "sparse": "",
    "surrogate": "printable characters",
    "virtual": "expanded",
}
READABLE = {"big", "ok", "parameters", "sparse"}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_a_sentence(name):
    found, said = read([SHARED / "hostile" / f"{name}.pt"])
    assert list(found) == (["rnn"] if name in READABLE else [])
    assert len(said) == (HOSTILE[name] != "")
    assert HOSTILE[name] in "".join(said)


def test_no_file_takes_too_much_of_anything():
    paths = [
        *(SHARED / "hostile").glob("*.pt"),
        *(SHARED / "wild").glob("*.pt"),
        *(SHARED / "hostile").glob("*.ckpt"),
    ]
    script = Path(__file__).with_name("fuzz.py")
    done = subprocess.run(
        [sys.executable, script, *paths], capture_output=True, text=True, check=False, timeout=600
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
