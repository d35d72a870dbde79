"""What kind of file something is, by its content; names of files say little."""

import zipfile
from pathlib import Path

LFS_POINTER = "a Git LFS pointer"
TORCH_ZIP, TORCHSCRIPT, PICKLE = "a torch zip", "a TorchScript program", "a pickle"
SAFETENSORS, SHARD_INDEX = "safetensors", "an index of sharded weights"
DCP, DCP_PART = "a torch.distributed checkpoint", "part of a torch.distributed checkpoint"
POLICY_ZIP, EXPORTED = "a Stable-Baselines3 zip", "a torch.export program"
JSON, JSON_OF_WEIGHTS = "JSON", "JSON of weights"
KERAS, HDF5, NPZ, NPY, ZIP = "a Keras archive", "HDF5", "npz", "npy", "a zip"
DCP_SUFFIX = ".distcp"

_STARTS = {
    b"version https://git-lfs": LFS_POINTER,
    b"\x89HDF\r\n\x1a\n": HDF5,
    b"\x93NUMPY": NPY,
    b"MATLAB 5.0 MAT-file": "MATLAB",
    b"GGUF": "GGUF",
    b"\x1f\x8b": "gzip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"BZh": "bzip2",
    b"<!DOCTYPE": "HTML",
    b"<html": "HTML",
    b"PAR1": "Parquet",
}


def kind_of(path: Path) -> str | None:
    """The kind of a file; None where its content does not tell.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(264)
    if path.name == ".metadata" and start[:1] == b"\x80":
        return DCP
    if path.name.endswith(DCP_SUFFIX):
        return DCP_PART
    if kind := next((kind for magic, kind in _STARTS.items() if start.startswith(magic)), None):
        return kind
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 40:
        return SAFETENSORS
    if start[4:8] == b"TFL3":
        return "TensorFlow Lite"
    if start[257:262] == b"ustar":
        return "a tar archive"
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return PICKLE
    if start.lstrip()[:1] in (b"{", b"["):
        return SHARD_INDEX if path.name.endswith(".index.json") else _json_kind(path)
    return None


def _json_kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(1 << 20)
    return JSON_OF_WEIGHTS if b"weight" in start else JSON


def _zip_kind(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeDecodeError):
        return None  # a part of one
    below = {name.partition("/")[2] for name in names}
    if "policy.pth" in names:
        return POLICY_ZIP
    if any(
        name.rpartition("/")[2] in ("serialized_exported_program.json", "archive_format") for name in names
    ):
        return EXPORTED
    if "data.pkl" in below:
        return TORCHSCRIPT if "constants.pkl" in below else TORCH_ZIP
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return KERAS
    if names and all(name.endswith(".npy") for name in names):
        return NPZ
    return ZIP
