"""Pictures of handwritten digits: MNIST from a file, the cache or a mirror, and small ones of scikit-learn.

The order is fixed and nothing takes another's place silently: what is given with `--data` is checked and
kept in the cache; without it the cache is read; what the cache lacks is downloaded. MNIST counts as MNIST
only if its checksums are right.
"""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import UInt8

from rnnatlas.errors import DataError, reason
from rnnatlas.files import replacing

CACHE = "RNNATLAS_CACHE"
"""Environment variable with another folder for the cache than the system's usual one."""
TIMEOUT = 30
"""Seconds that a mirror may be silent."""
PIECE = 1 << 16
"""Bytes of a download that are written at a time."""
UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading damaged gzip and zip files raises, among others."""


@dataclasses.dataclass(frozen=True)
class Digits:
    """Pictures, black 0 and white 255, and which digit each one shows."""

    images: UInt8[np.ndarray, "image height width"]
    labels: UInt8[np.ndarray, " image"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """One IDX file: bytes 0, 0, 8 (unsigned bytes), number of axes; the axes' sizes; the data."""

    name: str
    """Without ".gz"."""
    shape: tuple[int, ...]
    md5: str
    """Of the file itself."""
    packed_md5: str
    """Of the ".gz" that mirrors hold."""

    @property
    def header(self) -> bytes:
        """The bytes before the data."""
        return struct.pack(f">HBB{len(self.shape)}I", 0, 8, len(self.shape), *self.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collection:
    """Digits that are kept in two IDX files."""

    name: str
    mirrors: tuple[str, ...]
    images: File
    labels: File


MNIST = Collection(
    name="MNIST",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    # the 60 000 training images alone: they serve RNNs for training and validation, and nothing else is read
    images=File(
        name="train-images-idx3-ubyte",
        shape=(60_000, 28, 28),
        md5="6bbc9ace898e44ae57da46a324031adb",
        packed_md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    labels=File(
        name="train-labels-idx1-ubyte",
        shape=(60_000,),
        md5="a25bea736e30d166cdddb491f175f624",
        packed_md5="d53e105ee54ea40749a09fcbcd1e9432",
    ),
)


@functools.cache
def small_digits() -> Digits:
    """The 1797 digits of 8×8 that come with scikit-learn (UCI's optical recognition of digits)."""
    from sklearn.datasets import load_digits

    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return Digits(images, labels.astype(np.uint8))


@functools.cache
def load(collection: Collection) -> Digits:
    """As `fetch`, once a process."""
    return fetch(collection)


def fetch(collection: Collection, progress: bool = False) -> Digits:
    """The digits as the cache has them; downloaded first where it lacks them.

    Raises:
        DataError: They are neither in the cache nor to be had from a mirror, or the cache cannot be written.
    """
    folder = cache(collection)
    with contextlib.suppress(DataError):  # missing or damaged, which a download mends
        return _read_folder(collection, folder)
    with _locked(folder):
        try:
            return _read_folder(collection, folder)  # another process may have fetched it meanwhile
        except DataError as error:
            damaged = f"the cached {collection.name} is of no use ({error})"
            missing = f"{collection.name} is not in the cache"
            _download(collection, progress, damaged if any(folder.glob("*.gz")) else missing)
    return _read_folder(collection, folder)


def keep(collection: Collection, path: Path) -> None:
    """Checks digits that the user has and puts them into the cache, where later commands find them.

    Args:
        collection: What they should be.
        path: A folder with the two IDX files, gzipped or not, or an .npz with x_train and y_train.

    Raises:
        DataError: They are missing, damaged or others than they should be, or the cache cannot be written.
    """
    digits = _read_npz(collection, path) if path.is_file() else _read_folder(collection, path)
    with _writing_cache():
        for file, array in ((collection.images, digits.images), (collection.labels, digits.labels)):
            with replacing(cache(collection) / f"{file.name}.gz") as partial:
                packed = gzip.compress(file.header + array.tobytes(), compresslevel=6, mtime=0)
                partial.write_bytes(packed)


def cache(collection: Collection) -> Path:
    """The folder that the digits are kept in."""
    import pooch

    return Path(os.environ.get(CACHE) or pooch.os_cache("rnnatlas")) / collection.name.lower()


# --- reading -------------------------------------------------------------------------------------


def _read_folder(collection: Collection, folder: Path) -> Digits:
    if not folder.is_dir():
        raise DataError(
            f"{collection.name} was expected in a folder or an .npz file, but there is no {folder}; "
            "give another --data"
        )
    images, labels = (_read_idx(collection, file, folder) for file in (collection.images, collection.labels))
    return Digits(images, labels)


def _read_idx(collection: Collection, file: File, folder: Path) -> np.ndarray:
    # some copies are called train-images.idx3-ubyte
    names = [name + end for name in (file.name, file.name.replace("-idx", ".idx")) for end in (".gz", "")]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise DataError(f"{folder} should hold {file.name}.gz, gzipped or not, but has no such file")
    path = found[0]
    content = _unpack(path)
    axes = content[3] if len(content) > 3 else 0
    if content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * axes:
        raise DataError(f"{path} should be an IDX file of unsigned bytes, but does not begin like one")
    shape = struct.unpack_from(f">{axes}I", content, 4)
    _check_shape(collection, file, np.dtype(np.uint8), shape, str(path))
    expected = 4 + 4 * axes + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{path} should hold {expected} bytes as its header says, found {len(content)}; copy it again"
        )
    array = np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    return _checked(collection, file, array, str(path))


def _unpack(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read ({reason(error)}); copy it again") from None


def _read_npz(collection: Collection, path: Path) -> Digits:
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path} should be an .npz file with the arrays x_train and y_train, but is none; give another, "
            "or the folder that holds the IDX files of images and labels"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["x_train"], arrays["y_train"]
    except (*UNREADABLE, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} should be an .npz file with the arrays x_train and y_train, but is not "
            f"({reason(error)}); give another, or a folder with IDX files"
        ) from None
    return Digits(
        _checked(collection, collection.images, images, f"x_train of {path}"),
        _checked(collection, collection.labels, labels, f"y_train of {path}"),
    )


def _checked(collection: Collection, file: File, array: np.ndarray, where: str) -> np.ndarray:
    _check_shape(collection, file, array.dtype, array.shape, where)
    digest = hashlib.md5(file.header, usedforsecurity=False)
    digest.update(np.ascontiguousarray(array).data)
    if digest.hexdigest() != file.md5:
        raise DataError(
            f"{where} is not {collection.name}'s {file.name}: its MD5 should be {file.md5}, found "
            f"{digest.hexdigest()}; copy it again, or give the original files"
        )
    return array


def _check_shape(
    collection: Collection, file: File, dtype: np.dtype, shape: tuple[int, ...], where: str
) -> None:
    if shape != file.shape or dtype != np.uint8:
        raise DataError(
            f"{where} should hold uint8 {_sizes(file.shape)} as {collection.name} does, found "
            f"{dtype} {_sizes(shape)}; give the original files"
        )


def _sizes(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


# --- downloading ---------------------------------------------------------------------------------


def _download(collection: Collection, progress: bool, lacks: str) -> None:
    reasons = {}
    for mirror in collection.mirrors:
        reason = _download_from(collection, mirror, progress)
        if reason is None:
            return
        reasons[urlsplit(mirror).netloc] = reason
    tried = "; ".join(f"{host}: {reason}" for host, reason in reasons.items())
    raise DataError(
        f"{lacks} and could not be downloaded ({tried}); give a folder with {collection.images.name}.gz and "
        f"{collection.labels.name}.gz with --data"
    )


def _download_from(collection: Collection, mirror: str, progress: bool) -> str | None:
    """Fetches the files; says what stopped it, in a few words. A file appears only once its MD5 is right."""
    import pooch
    from requests.exceptions import ChunkedEncodingError, HTTPError, RequestException

    pooch.get_logger().setLevel("WARNING")  # the progress bar says it
    folder = cache(collection)
    try:
        with _writing_cache():
            for file in (collection.images, collection.labels):
                name, known = f"{file.name}.gz", f"md5:{file.packed_md5}"
                part = folder / f"{name}.part"
                downloader: Any = functools.partial(_go_on, part, progress)
                # what was begun may be of something else: then it is gone now, and begins anew
                with contextlib.suppress(*([ValueError] if part.is_file() else [])):
                    pooch.retrieve(mirror + name, known, name, folder, downloader=downloader)
                pooch.retrieve(mirror + name, known, name, folder, downloader=downloader)
    except HTTPError as error:
        return str(error).partition(" for url")[0]
    except ChunkedEncodingError:
        return "broke off; the next try goes on from there"
    except RequestException as error:
        return f"no connection ({type(error).__name__})"
    except ValueError:  # how pooch tells of a wrong checksum
        return "sent a file with the wrong checksum"
    return None


def _go_on(part: Path, progress: bool, url: str, out: str, _: Any) -> None:
    """How pooch gets a file: what came of it before waits in `part`, and only the rest is asked for.

    A part that is whole goes to `out`, where its checksum is looked at, so a wrong one does not stay.
    """
    import requests
    from rich.console import Console
    from rich.progress import Progress

    start = part.stat().st_size if part.is_file() else 0
    # sizes are those of the file as it is kept, not of what a server may make of it on the way
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code != requests.codes.requested_range_not_satisfiable:  # else nothing is missing
            answer.raise_for_status()
            came = answer.headers.get("Content-Range", f"bytes {start}-")
            goes_on = answer.status_code == requests.codes.partial_content and came.startswith(
                f"bytes {start}-"
            )
            length = int(answer.headers.get("Content-Length", 0)) + (start if goes_on else 0)
            with (
                Progress(console=Console(stderr=True), disable=not progress) as bar,
                part.open("ab" if goes_on else "wb") as file,
            ):
                task = bar.add_task(f"downloading {url}", total=length or None, completed=file.tell())
                for piece in answer.iter_content(PIECE):
                    file.write(piece)
                    bar.advance(task, len(piece))
    part.replace(out)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Makes other processes wait, so that one of them downloads."""
    from filelock import FileLock

    with _writing_cache():
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing_cache() -> Iterator[None]:
    from requests.exceptions import RequestException

    try:
        yield
    except RequestException:  # an OSError too, but not of ours
        raise
    except OSError as error:
        raise DataError(
            f"the cache cannot be written ({reason(error)}); set {CACHE} to another folder"
        ) from None
