"""What training goes on from is of the kinds and shapes that it should be, or refused."""

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rnnatlas.emulation.resuming import COLUMNS, saved
from rnnatlas.errors import RunFormatError

PARTS = nn.ModuleDict({"encoder": nn.Linear(3, 4), "emulator": nn.Linear(4, 2)})
STEPS = 10


def weights():
    return {name: part.state_dict() for name, part in PARTS.items()}


@pytest.fixture
def state():
    optimizer = torch.optim.AdamW(PARTS.parameters(), fused=True)
    PARTS["emulator"](PARTS["encoder"](torch.ones(1, 3))).sum().backward()
    optimizer.step()
    return {
        "done": 3,
        "history": [{name: 3 if name == "step" else 0.5 for name in COLUMNS}],
        "best": {"loss": 0.5, "step": 3, "weights": weights()},
        "waited": 0,
        "weights": weights(),
        "optimizer": optimizer.state_dict(),
    }


def taken(path):
    return saved(path, weights(), list(PARTS.parameters()), STEPS)


def refused(path):
    with pytest.raises(RunFormatError, match=r"is damaged; remove this file, and --resume trains from the"):
        taken(path)


def test_what_was_saved_is_taken(state, tmp_path):
    torch.save(state, tmp_path / "a")
    found = taken(tmp_path / "a")
    assert {name: found[name] for name in ("done", "history", "waited")} == {
        name: state[name] for name in ("done", "history", "waited")
    }
    for number, own in state["optimizer"]["state"].items():
        assert all(torch.equal(found["optimizer"][number][name], own[name]) for name in own)
    assert torch.equal(found["weights"]["encoder"]["weight"], PARTS["encoder"].weight)


def test_a_changed_number_is_found(state, tmp_path):
    """torch.load does not compare checksums, and went on with what it read."""
    path = tmp_path / "a"
    torch.save(state, path)
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    with zipfile.ZipFile(path) as archive:
        parts = [each for each in archive.infolist() if each.file_size]
    for part in parts:
        names = int.from_bytes(whole[part.header_offset + 26 :][:2], "little")
        extra = int.from_bytes(whole[part.header_offset + 28 :][:2], "little")
        changed = bytearray(whole)
        at = part.header_offset + 30 + names + extra + draw.integers(part.file_size)
        changed[at] ^= 1 << draw.integers(8)
        path.write_bytes(changed)
        refused(path)


def moments(state):
    return state["optimizer"]["state"][0]


WRONG = {
    "a moment of another shape": lambda state: moments(state).update(exp_avg=torch.zeros(1)),
    "a moment of another type": lambda state: moments(state).update(exp_avg_sq=torch.zeros(4, 3).double()),
    "a moment that is not there": lambda state: moments(state).pop("exp_avg"),
    "a moment without numbers": lambda state: moments(state).update(exp_avg=torch.zeros(4, 3, device="meta")),
    "steps by the parameter": lambda state: moments(state).update(step=torch.zeros(3)),
    "an endless step": lambda state: moments(state).update(step=torch.tensor(1e30)),
    "no such parameter": lambda state: state["optimizer"]["state"].update({999: moments(state)}),
    "weights of another shape": lambda state: state["weights"]["encoder"].update(weight=torch.zeros(1)),
    "weights of another name": lambda state: state["weights"]["encoder"].update(other=torch.zeros(1)),
    "no best weights": lambda state: state["best"].update(weights={}),
    "half a step": lambda state: state.update(done=2.5),
    "more steps than there are": lambda state: state.update(done=STEPS + 1),
    "a step that is text": lambda state: state.update(done="3"),
    "no history": lambda state: state.update(history=[]),
    "an odd history": lambda state: state.update(history=[{"step": 3}]),
    "a loss that is none": lambda state: state["best"].update(loss=math.nan),
    "texts": lambda state: state.update(dict.fromkeys(state, "a")),
    "nothing": lambda state: state.clear(),
}


@pytest.mark.parametrize("kind", WRONG)
def test_nothing_of_another_shape_reaches_the_optimiser(state, tmp_path, kind):
    WRONG[kind](state)
    torch.save(state, tmp_path / "a")
    refused(tmp_path / "a")


def test_numbers_that_a_file_repeats_are_copied(state, tmp_path):
    moments(state)["exp_avg"] = torch.ones(1, 1).expand(4, 3)
    torch.save(state, tmp_path / "a")
    assert taken(tmp_path / "a")["optimizer"][0]["exp_avg"].is_contiguous()


@pytest.mark.parametrize("name", ["oob_resume.ckpt", "segv_resume.ckpt"])
def test_files_that_crashed_the_process_are_refused(name):
    path = Path(__file__).parents[3] / "shared" / "data" / "hostile" / name
    if not path.is_file():
        pytest.skip("needs shared/data/hostile")
    refused(path)
