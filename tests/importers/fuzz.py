"""Damages checkpoint files at random and reads them, or reads those named: `python fuzz.py 1000`.

`python fuzz.py 100 0 .npz .onnx` damages those of some endings, with seed 0.

Each has to be read or refused in one sentence, within memory and time. The exit status tells.
"""

import io
import json
import pickle
import random
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save
from torch import nn

from rnnatlas.errors import CheckpointError
from rnnatlas.importers.base import find

MEMORY, SECONDS = 1 << 30, 20.0
DAMAGED = (".pkl", ".json", ".npy", ".h5")
"""Parts of zips that are damaged as if nothing had happened to the zip."""


def written(content: object, **options: object) -> bytes:
    """What `torch.save` writes."""
    file = io.BytesIO()
    torch.save(content, file, **options)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def originals() -> dict[str, bytes]:
    """Files of all kinds by their name."""
    net = nn.ModuleDict({"rnn": nn.LSTM(3, 4, num_layers=2), "fc": nn.Linear(4, 2)})
    scripted = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.GRU(2, 3)), scripted)
    return {
        "zip.pt": written(net.state_dict()),
        "legacy.pt": written(net.state_dict(), _use_new_zipfile_serialization=False),
        "module.pt": written({"net": net, "epoch": 3}),
        "plain.pkl": pickle.dumps(net.state_dict()),
        "arrays.pkl": pickle.dumps({name: value.numpy() for name, value in net.state_dict().items()}),
        "script.pt": scripted.getvalue(),
        "a.safetensors": save(net.state_dict()),
        "a.npz": arrays(),
        "a.onnx": graph(),
        "a.msgpack": (Path(__file__).parent / "flax" / "LSTMCell.msgpack").read_bytes(),
        "a.keras": keras(),
        "a.pt2": exported(),
    }


def arrays() -> bytes:
    """What `numpy.savez` writes."""
    file = io.BytesIO()
    ones = np.ones((4, 4), np.float32)
    np.savez(file, W_rec=ones, W_in=ones[:, :3], b_rec=ones[0], W_out=ones[:2], other=ones)
    return file.getvalue()


def graph() -> bytes:
    """An LSTM in ONNX, with large weights that stay in the file."""
    sizes = {"W": (1, 512, 640), "R": (1, 512, 128), "B": (1, 1024)}
    held = [numpy_helper.from_array(np.ones(size, np.float32), name) for name, size in sizes.items()]
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["y", "", ""], hidden_size=128)
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], held))
    return model.SerializeToString()


def keras() -> bytes:
    """A model as Keras 3 saves it."""
    weights, whole = io.BytesIO(), io.BytesIO()
    with h5py.File(weights, "w") as file:
        for number, shape in enumerate([(3, 16), (4, 16), (16,)]):
            file[f"layers/lstm/cell/vars/{number}"] = np.ones(shape, np.float32)
    layer = {"class_name": "LSTM", "config": {"name": "lstm", "units": 4}}
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights.getvalue())
    return whole.getvalue()


def exported() -> bytes:
    """What `torch.export.save` writes, as far as it is read."""
    whole = io.BytesIO()
    weights = nn.GRU(2, 3).state_dict()
    about = {}
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        for number, (name, tensor) in enumerate(weights.items()):
            archive.writestr(f"net/data/weights/weight_{number}", tensor.numpy().tobytes())
            sizes, strides = ([{"as_int": n} for n in each] for each in (tensor.shape, tensor.stride()))
            meta = {"dtype": 7, "sizes": sizes, "strides": strides, "storage_offset": {"as_int": 0}}
            about[name] = {"path_name": f"weight_{number}", "use_pickle": False, "tensor_meta": meta}
        config = json.dumps({"config": about})
        archive.writestr("net/data/weights/model_weights_config.json", config)
    return whole.getvalue()


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The same with a few bytes changed, or less of it, or some of it twice."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        if not changed:
            break
        at, length = draw.randrange(len(changed)), draw.choice([1, 2, 4, 8, 40])
        part = changed[at : at + length]
        kind = draw.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            changed[at : at + length] = bytes([draw.choice([0, 1, 0x7F, 0xFF])]) * len(part)
        elif kind == 2:
            changed[at:at] = part * draw.choice([1, 1000])
        elif kind == 3:
            del changed[at : at + length]
        else:
            changed[at : at + length] = draw.randbytes(len(part))
    return bytes(changed[: len(changed) // draw.randint(1, 9)] if draw.random() < 0.1 else changed)


def inside(data: bytes, draw: random.Random) -> bytes:
    """A zip of which some parts are damaged, with the checksums that fit them."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(file, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, damaged(content, draw) if name.endswith(DAMAGED) else content)
    return file.getvalue()


def files(count: int, seed: int, endings: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Damaged files of each kind, or of those with some endings, with their names."""
    draw = random.Random(seed)
    chosen = {name: data for name, data in originals().items() if name.endswith(tuple(endings or [""]))}
    for name, data in chosen.items():
        changes: list[Callable[[bytes, random.Random], bytes]] = [damaged]
        changes += [inside] * data.startswith(b"PK")
        for number in range(count):
            yield f"{number}-{name}", changes[number % len(changes)](data, draw)


def problem(path: Path) -> str | None:
    """What is wrong with how a file ends, if something is."""
    start = time.monotonic()
    try:
        find(path)
    except CheckpointError as error:
        if not str(error).isprintable():
            return f"not one line: {error!r}"
        if isinstance(error.__cause__, MemoryError):
            return "too much memory"
    except BaseException as error:
        return repr(error)
    took = time.monotonic() - start
    return f"{took:.0f} seconds" if took > SECONDS else None


def main() -> int:
    """Reads as many damaged files of each kind as the first argument says, or the files that are named."""
    given, *rest = sys.argv[1:]
    count, seed = (int(given), int(*rest[:1])) if given.isdigit() else (0, 0)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    warnings.simplefilter("ignore")
    failed = 0
    for path in map(Path, [] if count else sys.argv[1:]):
        if wrong := problem(path):
            failed += 1
            print(f"{path.name}: {wrong}")
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files(count, seed, rest[1:]) if count else ():
            path = Path(folder) / name
            path.write_bytes(data)
            if wrong := problem(path):
                failed += 1
                print(f"{name} of seed {seed}: {wrong}")
            path.unlink()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
