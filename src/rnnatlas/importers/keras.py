"""Keras 2 and 3: whole models (.keras, .h5) and weights alone (.weights.h5, .h5, .hdf5)."""

import dataclasses
import json
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers import hdf5, kinds, zips
from rnnatlas.importers.base import Importer
from rnnatlas.importers.keras_config import Described, behind, cell_of, describe
from rnnatlas.importers.layers import Direction, Layer, Linear, assemble, in_torch_order, left_out
from rnnatlas.rnn import FoundRNN
from rnnatlas.rnn.heads import Head, listed, named_heads, shown

GATES: dict[float, tuple[str, str]] = {4: ("lstm", "ifgo"), 3: ("gru", "zrn"), 1: ("elman-tanh", "h")}
"""The cell of each number of gates, and the order in which Keras stacks them, in torch's letters."""
MOST_BYTES = 2**28
"""Of what a .keras file unpacks to, unless the file itself is a hundredth of it."""
RECURRENT = ("kernel", "recurrent_kernel", "bias")
_CELL = re.compile(r"/(\w+_)?cell(_\d+)?$")
_DIRECTION = re.compile(r"(^|/)(forward|backward)_")


class Keras(Importer):
    """Gates are put into torch's order; a GRU with reset_after=False and other activations are refused."""

    suffixes: ClassVar[tuple[str, ...]] = (".keras", ".h5", ".hdf5")
    kinds: ClassVar[tuple[str, ...]] = (kinds.KERAS, kinds.HDF5)

    def find(
        self, path: Path, cell: str | None = None, head: Head = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`."""
        with ExitStack() as stack:
            file: Any = stack.enter_context(path.open("rb"))
            document = None
            if file.read(2) == b"PK":
                document, file = _unpack(file, path.stat().st_size)
            root, texts = stack.enter_context(hdf5.opened(file))
            if document is None and "model_config" in texts[""]:
                document = json.loads(texts[""]["model_config"])
            described = describe(document) if isinstance(document, Mapping) else {}
            modules = _modules(root, texts, described)
            return _find(modules, described, cell, head, _assumed(texts))


def _unpack(file: Any, size: int) -> tuple[Any, Any]:
    """The configuration and the HDF5 file of a .keras file, which is not copied if it is not compressed."""
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > max(MOST_BYTES, 100 * size):
                raise CheckpointError(f"expected at most {MOST_BYTES} bytes when unpacked, found more")
            document, weights = json.loads(archive.read("config.json")), archive.getinfo("model.weights.h5")
            if weights.compress_type:
                return document, BytesIO(archive.read(weights))
            return document, zips.Part(file, zips.start(archive, weights, file), weights.file_size)
    except (KeyError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            "expected a .keras file with config.json and model.weights.h5, found something else or a part"
        ) from None


# --- which arrays belong together --------------------------------------------------------------------


@dataclasses.dataclass
class _Module:
    """Arrays that lie side by side.

    Args:
        folder: Where.
        layer: Name of the layer that they belong to.
        arrays: The arrays, by their names in Keras.
    """

    folder: str
    layer: str
    arrays: dict[str, Any]

    @property
    def recurrent(self) -> bool:
        """Whether they are of a recurrent cell."""
        return "recurrent_kernel" in self.arrays


def _modules(
    root: Any, texts: Mapping[str, Mapping[str, str]], described: Mapping[str, Described]
) -> list[_Module]:
    folders: dict[str, dict[str, Any]] = {}
    for path, array in hdf5.datasets(root).items():
        folder, _, name = path.removeprefix("model_weights/").rpartition("/")
        if not folder.startswith("optimizer"):
            folders.setdefault(folder, {})[re.sub(r":\d+$", "", name)] = array
    paths = {layer.path: layer.name for layer in described.values()}
    modules = []
    for folder, arrays in folders.items():
        place = folder.removesuffix("/vars")
        if place == folder:
            modules.append(_Module(place, _by_name(place, described), arrays))
            continue
        names = RECURRENT if _CELL.search(place) else ("kernel", "bias")  # Keras 3 numbers them
        numbers = {str(number): name for number, name in enumerate(names)}
        arrays = {numbers.get(name, name): array for name, array in arrays.items()}
        modules.append(_Module(place, _by_path(place, paths, texts), arrays))
    return _told_apart(modules, described)


def _by_path(place: str, paths: Mapping[str, str], texts: Mapping[str, Mapping[str, str]]) -> str:
    """The layer whose weights Keras 3 keeps at a place made of classes."""
    parts = place.replace("_layer_checkpoint_dependencies/", "layers/").split("/")
    ends = ("/".join(parts[:end]) for end in range(len(parts), 0, -1))
    known = next((paths[path] for path in ends if path in paths), None)
    if known is not None:
        return known
    path = re.sub(r"/((forward|backward)_)?layer$", "", _CELL.sub("", place))
    return texts.get(f"{path}/vars", {}).get("name") or path.removeprefix("layers/")


def _by_name(place: str, described: Mapping[str, Described]) -> str:
    """The layer whose weights Keras 2 keeps at a place that begins with its name."""
    name, *parts = place.split("/")
    for part in parts:
        name = f"{name}/{part}" if f"{name}/{part}" in described else name
    return name


def _told_apart(modules: Sequence[_Module], described: Mapping[str, Described]) -> list[_Module]:
    """Gives the layers of a model inside another their own names, where no configuration has done it."""
    own = [_DIRECTION.sub(r"\1", _CELL.sub("", module.folder)) for module in modules]
    several = Counter(layer for layer, _ in {(m.layer, name) for m, name in zip(modules, own, strict=True)})
    for module, name in zip(modules, own, strict=True):
        if several[module.layer] > 1 and module.layer not in described:
            module.layer = f"{module.layer}/{name.rpartition('/')[2]}"
    return list(modules)


def _is_linear(module: _Module, described: Mapping[str, Described]) -> bool:
    layer = described.get(module.layer)
    if layer is not None and layer.inner.get("class_name") != "Dense":
        return False
    shapes = {name: array.shape for name, array in module.arrays.items()}
    kernel = shapes.get("kernel", ())
    if len(kernel) != 2 or shapes not in ({"kernel": kernel}, {"kernel": kernel, "bias": kernel[1:]}):
        return False
    return layer is not None or "bias" in shapes or "dense" in module.folder  # else an embedding


def _linear(module: _Module) -> Linear:
    bias = module.arrays.get("bias")
    return Linear(hdf5.read(module.arrays["kernel"]).T, None if bias is None else hdf5.read(bias))


# --- what they compute ---------------------------------------------------------------------------------


def _find(
    modules: Sequence[_Module],
    described: Mapping[str, Described],
    cell: str | None,
    head: Head,
    assumed: str,
) -> tuple[list[FoundRNN], dict[str, str]]:
    groups: dict[str, list[_Module]] = {}
    for module in modules:
        if module.recurrent:
            groups.setdefault(module.layer, []).append(module)
    layers, unclear = [], {}
    for name, group in groups.items():
        try:
            layers.append(_layer(name, group, described, assumed))
        except CheckpointError as error:
            unclear[name] = str(error)
    linear = {module.layer: module for module in modules if _is_linear(module, described)}
    if not described:
        layers = _with_guessed_head(layers, linear)
    wanted = {layer.head for layer in layers} | named_heads(head)
    rnns, more = assemble(
        layers, {name: _linear(each) for name, each in linear.items() if name in wanted}, cell, head
    )
    return rnns, unclear | more


def _assumed(texts: Mapping[str, Mapping[str, str]]) -> str:
    """The note on activations where no configuration says what they are."""
    version = texts[""].get("keras_version", "")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    old = numbers and (int(numbers[1]), int(numbers[2])) < (2, 3)
    default = f", and the default of Keras {version} is hard_sigmoid" if old else ""
    return f"activations assumed tanh and sigmoid; a file of weights does not tell{default}"


def _layer(name: str, modules: Sequence[_Module], described: Mapping[str, Described], assumed: str) -> Layer:
    where = f"the layer {shown(name)}"
    modules = sorted(modules, key=lambda module: "backward_" in module.folder)
    backwards = ["backward_" in module.folder for module in modules]
    if len(modules) > 2 or (len(modules) == 2 and backwards != [False, True]):
        raise CheckpointError(
            f"{where} holds {len(modules)} recurrent cells; expected one, or one a direction"
        )
    layer = described.get(name)
    if layer is None and described:
        raise CheckpointError(
            f"{where} is not in the model's configuration, so what it computes is not known"
        )
    known, notes = (None, ()) if layer is None else _configured(layer, len(modules), where)
    cells, directions = zip(*(_direction(module.arrays, known, where) for module in modules), strict=True)
    if layer is None:
        certain = cells[0] == "elman-tanh" or all(
            _is_cudnn(module.arrays.get("bias"), module.arrays["recurrent_kernel"]) for module in modules
        )
        notes = ("merge_mode assumed concat",) * (len(modules) == 2)
        notes += () if certain else (assumed,)  # of an Elman network `assemble` says more
    read_by, head, more = (None, None, ()) if layer is None else behind(name, described)
    cell = known or (None if cells[0] == "elman-tanh" else cells[0])
    return Layer(name, cell, directions, read_by, head, tuple(dict.fromkeys([*notes, *more])))


def _configured(layer: Described, directions: int, where: str) -> tuple[str, tuple[str, ...]]:
    """The cell that a layer is configured to be, and what to know before trusting it."""
    notes = [] if len(layer.inputs) < 2 else ["its network gives it an initial state; zero is assumed"]
    inner = layer.inner
    cell = cell_of(inner, where)
    if layer.kind == "Bidirectional":
        backward = layer.config.get("backward_layer")
        if isinstance(backward, Mapping):
            settings = {**backward.get("config", {}), "go_backwards": False}
            if (other := cell_of({**backward, "config": settings}, where)) != cell:
                raise CheckpointError(
                    f"{where} is a {cell} forwards and a {other} backwards; expected one cell"
                )
        if (mode := layer.config.get("merge_mode")) != "concat":
            raise CheckpointError(f"{where} merges its directions by {mode!r}; only 'concat' is supported")
        if not inner.get("config", {}).get("return_sequences"):
            notes.append("its network reads the last state of each direction, not those of one time step")
    if (layer.kind == "Bidirectional") != (directions == 2):
        raise CheckpointError(f"{where} is a {layer.kind}, with weights for {directions} directions")
    return cell, tuple(notes)


def _is_cudnn(bias: Any, recurrent: Any) -> bool:
    """Whether weights lie as cuDNN has them, which has two biases for each gate in one row."""
    hidden = recurrent.shape[0]
    return bias is not None and tuple(bias.shape) in ((8 * hidden,), (6 * hidden,))


def _direction(arrays: Mapping[str, Any], known: str | None, where: str) -> tuple[str, Direction]:
    if others := [name for name in arrays if name not in RECURRENT]:
        raise CheckpointError(
            f"{where} has {listed(others)} beside its kernels, so it may compute something else"
        )
    kernel, recurrent = hdf5.read(arrays["kernel"]), hdf5.read(arrays["recurrent_kernel"])
    bias = hdf5.read(arrays["bias"]) if "bias" in arrays else None
    return direction(kernel, recurrent, bias, known, where)


def direction(
    kernel: Tensor, recurrent: Tensor, bias: Tensor | None, known: str | None, where: str
) -> tuple[str, Direction]:
    """The cell and the weights of what Keras keeps of a layer in one direction.

    Those of cuDNN's layers are as in `preprocess_weights_for_loading` of Keras 2.

    Args:
        kernel: [input, gate·hidden].
        recurrent: [hidden, gate·hidden].
        bias: One or two of [gate·hidden]; None for none.
        known: The cell, where it is configured.
        where: What to call the layer.

    Raises:
        CheckpointError: The shapes do not fit, or another function than torch's belongs to them.
    """
    gates = recurrent.shape[1] / recurrent.shape[0] if recurrent.ndim == 2 and len(recurrent) else 0
    shapes = [tuple(each.shape) for each in (kernel, recurrent)]
    if gates not in GATES or kernel.ndim != 2 or kernel.shape[1] != recurrent.shape[1] or not len(kernel):
        raise CheckpointError(
            f"{where} has kernels of shapes {shapes}; expected those of an LSTM, GRU or SimpleRNN"
        )
    cell, order = GATES[gates]
    if known is not None and known.partition("-")[0] != cell.partition("-")[0]:
        raise CheckpointError(f"{where} should be of cell {known}, its kernels are of shapes {shapes}")
    if cudnn := _is_cudnn(bias, recurrent):
        rows = [torch.cat([part.contiguous().view(part.shape[::-1]) for part in kernel.chunk(len(order), 1)])]
        rows += [torch.cat(recurrent.chunk(len(order), 1))]
    else:
        rows = [kernel.T, recurrent.T]
    biases = _biases(bias, cell, len(recurrent) * len(order), cudnn, known, where)
    weights = [in_torch_order(each, order, cell) for each in rows]
    ordered = [each if each is None else in_torch_order(each, order, cell) for each in biases]
    return known or cell, Direction(*weights, *ordered)


def _biases(
    bias: Tensor | None, cell: str, rows: int, cudnn: bool, known: str | None, where: str
) -> tuple[Tensor | None, Tensor | None]:
    """What is added to the inputs, and to the recurrence."""
    if bias is None and cell == "gru" and known is None:
        raise CheckpointError(
            f"{where} is a GRU without biases, of which a file of weights does not tell whether reset_after "
            "was True; save the whole model"
        )
    if bias is None:
        return None, None
    if cudnn or (cell == "gru" and tuple(bias.shape) == (2, rows)):
        first, second = bias.reshape(2, rows)
        return first, second
    if cell == "gru" and tuple(bias.shape) == (rows,):
        raise CheckpointError(
            f"{where} is a GRU with one bias a gate (reset_after=False), which is another function than "
            "torch's and not supported; expected reset_after=True"
        )
    if tuple(bias.shape) != (rows,):
        raise CheckpointError(f"{where} should have a bias of shape ({rows},), found {tuple(bias.shape)}")
    return bias, None


def _with_guessed_head(layers: Sequence[Layer], linear: Mapping[str, _Module]) -> list[Layer]:
    """Where nothing tells what comes behind: the only linear layer, if it can only be behind the only RNN."""
    shapes = {name: module.arrays["kernel"].shape for name, module in linear.items()}
    told = []
    for layer in layers:
        rows, inputs = layer.directions[0].recurrent.shape[1], layer.directions[0].input.shape[1]
        fitting = [name for name, (width, _) in shapes.items() if width == rows * len(layer.directions)]
        if len(layers) == len(shapes) == len(fitting) == 1 and shapes[fitting[0]][1] != inputs:
            told.append(dataclasses.replace(layer, head=fitting[0]))
        else:
            notes = (left_out(fitting),) if fitting else ()
            told.append(dataclasses.replace(layer, notes=(*layer.notes, *notes)))
    return told
