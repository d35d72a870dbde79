"""Programs of torch.export, and of TorchScript for phones: weights are the module's, and nothing is run."""

import io
import json
import zipfile

import pytest
import torch
from tests.importers.outputs import difference
from torch import nn

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import find


class Net(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn
        self.fc = nn.Linear(rnn.hidden_size * (1 + rnn.bidirectional), 2)

    def forward(self, x):
        return self.fc(self.rnn(x)[0])


X = torch.randn(2, 5, 3)
RNNS = [
    nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True),
    nn.GRU(3, 4, batch_first=True),
    nn.RNN(3, 4, batch_first=True, nonlinearity="relu"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("rnn", RNNS, ids=str)
def test_outputs_are_those_of_the_program(tmp_path, rnn):
    net = Net(rnn).eval()
    torch.export.save(torch.export.export(net, (X,)), tmp_path / "net.pt2")
    format_, [found], unclear = find(tmp_path / "net.pt2")
    assert (format_, unclear) == ("torch", [])
    assert found.notes == ("weights of a torch.export program, whose graph was not read",)
    assert difference(found, X, net(X).detach().numpy()) < 1e-6


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("rnn", RNNS, ids=str)
def test_programs_for_phones_are_read_too(tmp_path, rnn):
    net = Net(rnn).eval()
    torch.jit.script(net)._save_for_lite_interpreter(str(tmp_path / "net.ptl"))
    _, [found], _ = find(tmp_path / "net.ptl")
    assert difference(found, X, net(X).detach().numpy()) < 1e-6


def zipped(path, parts):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_programs_of_earlier_torch_have_a_state_dict_inside(tmp_path):
    state = io.BytesIO()
    torch.save(Net(RNNS[1]).state_dict(), state)
    zipped(
        tmp_path / "net.pt2",
        {"serialized_exported_program.json": "{}", "serialized_state_dict.pt": state.getvalue()},
    )
    _, [found], _ = find(tmp_path / "net.pt2")
    assert str(found.spec) == "GRU 3→4→2"


def meta(sizes, path="weight_0", dtype=7):
    named = {"sizes": sizes, "strides": [1] * len(sizes), "storage_offset": 0}
    numbers = {
        name: [{"as_int": n} for n in value] if isinstance(value, list) else {"as_int": value}
        for name, value in named.items()
    }
    return {"path_name": path, "use_pickle": False, "tensor_meta": {"dtype": dtype, **numbers}}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"config": {"weight_hh_l0": meta([4, 1])}}, "fewer numbers than its shape has"),
        ({"config": {"weight_hh_l0": meta([1 << 40, 1 << 40])}}, "fewer numbers than its shape has"),
        (
            {"config": {"weight_hh_l0": meta([1, 1], "../../../etc/passwd")}},
            "has no numbers for 'weight_hh_l0'",
        ),
        ({"config": {"weight_hh_l0": meta([1, 1], dtype=99)}}, "of a type that is not known"),
        ({"config": {"weight_hh_l0": {"path_name": "weight_0"}}}, "expected a torch.export program"),
        ({"config": []}, "expected a torch.export program"),
        ([], "expected a torch.export program"),
    ],
)
def test_odd_descriptions_end_in_a_sentence(tmp_path, config, said):
    parts = {"archive_format": "pt2", "data/weights/weight_0": b"\0" * 8}
    zipped(tmp_path / "a.pt2", {**parts, "data/weights/m_weights_config.json": json.dumps(config)})
    with pytest.raises(CheckpointError, match=said):
        find(tmp_path / "a.pt2")


def test_compiled_programs_are_refused(tmp_path):
    zipped(tmp_path / "a.pt2", {"archive_format": "pt2", "data/aotinductor/model/a.so": b"\x7fELF"})
    with pytest.raises(CheckpointError, match=r"expected a torch\.export program with its weights"):
        find(tmp_path / "a.pt2")
