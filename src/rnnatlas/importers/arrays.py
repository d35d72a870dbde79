"""Arrays by name, of NumPy (.npz) and MATLAB (.mat): W_rec, W_in, W_out and their like."""

import dataclasses
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from rnnatlas.errors import CheckpointError
from rnnatlas.importers import hdf5, zips
from rnnatlas.importers.base import Importer
from rnnatlas.importers.flax import find_cells
from rnnatlas.importers.layers import MOST_ENTRIES, Direction, Layer, Linear, assemble, kept, tensor
from rnnatlas.rnn import FoundRNN, find_rnns
from rnnatlas.rnn.heads import Head, listed, shown
from rnnatlas.rnn.leaks import DT, TAU, equation, leaks, parse_cell

NAMES = {
    "recurrent": {"wrec", "whh"},
    "input": {"win", "wxh", "wih"},
    "output": {"wout", "why"},
    "bias": {"brec", "bh"},
    "output bias": {"bout", "by"},
    "alpha": {"alpha"},
    "time step": {"dt"},
    "time constant": {"tau"},
    "initial": {"initstate", "h0", "x0"},
}
"""What an array is by its name, in small letters and without underscores."""
WEIGHTS = {"recurrent", "input", "output", "bias", "output bias"}
PSYCHRNN = {"daleratio", "dalerec", "daleout", "inputconnectivity", "recconnectivity", "outputconnectivity"}
"""Names that only PsychRNN gives."""


class Arrays(Importer):
    """Vanilla RNNs by the names of their matrices; besides, arrays named as those of torch or Flax."""

    suffixes: ClassVar[tuple[str, ...]] = (".npz", ".mat")

    def find(
        self, path: Path, cell: str | None = None, head: Head = None
    ) -> tuple[list[FoundRNN], dict[str, str]]:
        """See `Importer.find`."""
        arrays = _npz(path) if path.suffix.lower() == ".npz" else _mat(path)
        arrays = {name.replace("/", "."): value for name, value in arrays.items()}
        if any(re.search(r"(^|\.)weight_hh(_l\d+)?$", name) for name in arrays):
            return kept(find_rnns({name: tensor(value, name) for name, value in arrays.items()}, cell, head))
        if any(name.endswith(".kernel") for name in arrays):
            return kept(find_cells(arrays, cell, head))
        return kept(_vanilla(arrays, cell, head))


# --- files ---------------------------------------------------------------------------------------------


def _npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, mapped if not compressed; those of objects stay unread and empty."""
    arrays = {}
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            for entry in archive.infolist()[:MOST_ENTRIES]:
                name = entry.filename.removesuffix(".npy")
                if name != entry.filename:
                    _check_size(name, entry.file_size, entry.compress_size)
                    if entry.compress_type:
                        with archive.open(entry) as content:
                            arrays[name] = _npy(content, name, entry.file_size)
                    else:
                        part = zips.Part(file, zips.start(archive, entry, file), entry.file_size)
                        arrays[name] = _npy(part, name, entry.file_size, path)
    except CheckpointError:
        raise
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, SyntaxError):
        raise CheckpointError(
            "expected arrays as numpy.savez writes them, found something else or a part of them"
        ) from None
    return arrays


def _npy(file: Any, name: str, size: int, within: Path | None = None) -> np.ndarray:
    """An array, read or mapped from the file that it lies within."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    order = "F" if fortran else "C"
    if dtype.hasobject:
        return np.empty(0)
    if math.prod(shape) * dtype.itemsize > size:
        raise CheckpointError(f"expected {shape} numbers in {shown(name)}, found {size} bytes")
    if within is not None and math.prod(shape):
        return np.memmap(within, dtype, "c", file.place, shape, order)
    values = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype)
    return values.reshape(shape, order=order)


def _check_size(name: str, size: int, stored: int) -> None:
    if size > max(hdf5.FREE, 100 * stored):
        raise CheckpointError(f"expected at most {hdf5.FREE} bytes in {shown(name)}, found {size}")


def _mat(path: Path) -> dict[str, Any]:
    """The arrays of a MATLAB file, with those of structs under their joined names."""
    import scipy.io

    with path.open("rb") as file:
        if b"MATLAB 7.3" in file.read(128):  # an HDF5 file, whose arrays lie the other way round
            with hdf5.opened(file) as (root, _):
                found = {name: each for name, each in hdf5.datasets(root).items() if each.dtype.kind == "f"}
                return {name: hdf5.read(each).numpy().T for name, each in found.items() if name[0] != "#"}
        file.seek(0)
        try:
            stored = path.stat().st_size
            for name, shape, _ in scipy.io.whosmat(file):
                _check_size(name, 8 * math.prod(shape), stored)
            file.seek(0)
            document = scipy.io.loadmat(file)
        except CheckpointError:
            raise
        except Exception:  # whatever SciPy has against a damaged file
            raise CheckpointError("expected a MATLAB file, found something else or a part of one") from None
    return _flat({name: value for name, value in document.items() if not name.startswith("__")})


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    arrays = {}
    waiting = list(document.items())
    for _ in range(MOST_ENTRIES):
        if not waiting:
            return arrays
        name, value = waiting.pop()
        if isinstance(value, np.ndarray) and value.dtype.names:
            if value.size == 1:
                waiting += [(f"{name}.{key}", value[key].item()) for key in value.dtype.names]
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            arrays[name] = value
    raise CheckpointError(f"expected at most {MOST_ENTRIES} entries, found more")


# --- vanilla RNNs ----------------------------------------------------------------------------------------


def _vanilla(
    arrays: Mapping[str, Any], cell: str | None, head: Head
) -> tuple[list[FoundRNN], dict[str, str]]:
    groups: dict[str, dict[str, Any]] = {}
    for name, value in arrays.items():
        place, _, own = name.rpartition(".")
        groups.setdefault(place, {})[own] = value
    rnns, unclear = [], {}
    cell, given = parse_cell(cell)
    for place, group in groups.items():
        kinds = {name: _kind(name) for name in group}
        if "recurrent" in kinds.values():
            where = f"the RNN at {shown(place)}" if place else "the RNN"
            try:
                _check(group, kinds, where)
                vectors = _vectors(group, kinds, where)
                layer, linear = _layer(place, group, kinds, where)
                found, more = assemble([layer], linear, cell and cell.replace("leaky-", "elman-"), head)
                rnns += [_with(rnn, cell, given, vectors, where) for rnn in found]
                unclear |= more
            except CheckpointError as error:
                unclear[place] = str(error)
    return rnns, unclear


def _kind(name: str) -> str | None:
    plain = name.replace("_", "").lower()
    return next((kind for kind, names in NAMES.items() if plain in names), None)


def _layer(
    place: str, group: Mapping[str, Any], kinds: Mapping[str, str | None], where: str
) -> tuple[Layer, dict[str, Linear]]:
    """The RNN of some arrays, and its output layer."""
    names = {kind: name for name, kind in kinds.items() if kind}
    values = {kind: tensor(group[name], name) for kind, name in names.items() if kind in WEIGHTS}
    values, notes = _turned(values, names, where)
    others = [name for name, kind in kinds.items() if kind is None]
    notes += [f"left out: {listed(others)}"] if others else []
    name = place or names["recurrent"]
    bias = values["bias"].reshape(-1) if "bias" in values else None
    linear = {}
    if "output" in values:
        vector = values["output bias"].reshape(-1) if "output bias" in values else None
        linear = {
            f"{place}.{names['output']}" if place else names["output"]: Linear(values["output"], vector)
        }
    direction = Direction(values["input"], values["recurrent"], bias)
    layer = Layer(name, None, (direction,), head=next(iter(linear), None), notes=tuple(notes))
    return layer, linear


def _vectors(group: Mapping[str, Any], kinds: Mapping[str, str | None], where: str) -> dict[str, Tensor]:
    """What else an RNN has, under the names that `leaks` knows: its leak and its initial state."""
    names = {"alpha": "alpha", "time step": DT, "time constant": TAU, "initial": "h0_l0"}
    found = {
        names[kind]: tensor(group[name], name).reshape(-1) for name, kind in kinds.items() if kind in names
    }
    initial = found.get("h0_l0")
    hidden = np.shape(group[next(name for name, kind in kinds.items() if kind == "recurrent")])[-1:]
    if initial is not None:
        if not initial.any():
            del found["h0_l0"]
        elif initial.numel() in (1, *hidden):
            found["h0_l0"] = initial.expand(hidden).clone()
        else:
            raise CheckpointError(f"{where} should have one initial state for each hidden unit")
    return found


def _with(
    rnn: FoundRNN, cell: str | None, alpha: float | None, vectors: Mapping[str, Tensor], where: str
) -> FoundRNN:
    """An Elman network with a leak and a learned initial state, where it has them."""
    leaky = cell if cell is not None and cell.startswith("leaky-") else None
    spec = dataclasses.replace(rnn.spec, cell=leaky or rnn.spec.cell, initial_state="h0_l0" in vectors)
    leak, said = leaks(vectors, "", spec, alpha, where)
    if not leaky and (unread := [name for name in vectors if name != "h0_l0"]):
        raise CheckpointError(
            f"{where} has {listed(unread)}, so its states leak, how the file does not tell; to read it "
            "as h ← (1 − α)·h + α·φ(…), name φ: --cell leaky-tanh or leaky-relu"
        )
    weights = {**rnn.weights, **vectors, **{name: values for name, (_, values) in leak.items()}}
    ordered = {name: weights[name] for name in spec.shapes}
    leaking = f"read as {equation(spec)}" + (f" with {said}" if said else "")
    note = leaking if leaky else f"{leaking}; whether there is a leak, the file does not tell"
    return dataclasses.replace(rnn, spec=spec, weights=ordered, notes=(*rnn.notes, note))


def _check(group: Mapping[str, Any], kinds: Mapping[str, str | None], where: str) -> None:
    """Refuses what is no vanilla RNN, or not known to be one."""
    by_kind: dict[str | None, list[str]] = {}
    for name, kind in kinds.items():
        by_kind.setdefault(kind, []).append(name)
    if psychrnn := [name for name in group if name.replace("_", "").lower() in PSYCHRNN]:
        raise CheckpointError(
            f"{where} has {listed(psychrnn)}, so it is of PsychRNN, whose states leak by dt/tau, which its "
            "files do not hold; it cannot be read"
        )
    for kind, names in by_kind.items():
        if kind is not None and len(names) > 1:
            raise CheckpointError(f"{where} has several arrays of one kind, {listed(names)}; expected one")
    if "input" not in by_kind:
        raise CheckpointError(f"{where} has {by_kind['recurrent'][0]} but no input weights (W_in)")


def _turned(
    values: dict[str, Tensor], names: Mapping[str, str], where: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Matrices as [to, from]: turned where their shapes say that they are not so."""
    matrices = {kind: each for kind, each in values.items() if kind in ("recurrent", "input", "output")}
    shapes = {names[kind]: tuple(each.shape) for kind, each in matrices.items()}
    sides = {"recurrent": 0, "input": 0, "output": 1}  # of a matrix [to, from], where the hidden units are
    hidden = matrices["recurrent"].shape[-1:]

    def fit(turn: int) -> bool:
        return all(
            each.ndim == 2 and each.shape[abs(sides[kind] - turn)] == hidden[0]
            for kind, each in matrices.items()
        )

    if not fit(0) and not fit(1):
        raise CheckpointError(f"{where} has matrices of shapes {shapes}, which do not fit one another")
    if fit(0):
        note = f"{', '.join(shapes)} assumed to be [to, from]; their shapes do not tell"
        return values, [note] * fit(1)
    return {kind: each.T if kind in matrices else each for kind, each in values.items()}, []
