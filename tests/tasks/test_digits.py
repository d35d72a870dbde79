"""Digits come from where the user says, the cache or a mirror; whole, checked, or not at all."""

import concurrent.futures
import dataclasses
import functools
import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest

from rnnatlas.errors import DataError, SettingsError
from rnnatlas.tasks import digits
from rnnatlas.tasks.digits import MNIST, Collection, File, cache, fetch, keep, load, small_digits
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.tasks.tiled_mnist import TiledDigits, TiledMNIST

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(256, size=(7, 3, 3), dtype=np.uint8)
LABELS = RANDOM.integers(10, size=7, dtype=np.uint8)
NAMES = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def md5(content):
    return hashlib.md5(content).hexdigest()


def made(mirrors=()):
    """Seven tiny pictures in place of MNIST."""
    files = [
        File(name=name, shape=array.shape, md5=md5(idx(array)), packed_md5=md5(packed(array)))
        for name, array in zip(NAMES, (IMAGES, LABELS), strict=True)
    ]
    return Collection(name="Tiny", mirrors=tuple(mirrors), images=files[0], labels=files[1])


def packed(array):
    return gzip.compress(idx(array), mtime=0)


def write(folder, gzipped=True, end=".gz", names=NAMES):
    folder.mkdir(exist_ok=True)
    for name, array in zip(names, (IMAGES, LABELS), strict=True):
        (folder / (name + end)).write_bytes(packed(array) if gzipped else idx(array))
    return folder


def is_whole(found):
    return np.array_equal(found.images, IMAGES) and np.array_equal(found.labels, LABELS)


def cached():
    return sorted(path.name for path in cache(made()).iterdir() if path.name != ".lock")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(digits.CACHE, str(tmp_path / "cache"))


@pytest.fixture
def serve(tmp_path):
    """Serves folders over HTTP on this machine; gives their addresses and the paths asked for."""
    servers, asked = [], []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(args[0].split()[1] if " " in str(args[0]) else args[0])

    def start(folder):
        handler = functools.partial(Handler, directory=str(folder))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    start.asked = asked
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


# --- what the user has -----------------------------------------------------------------------------


@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize("end", [".gz", ""])
@pytest.mark.parametrize("names", [NAMES, [name.replace("-idx", ".idx") for name in NAMES]])
def test_idx_files_are_kept_in_the_cache(tmp_path, gzipped, end, names):
    keep(made(), write(tmp_path / "own", gzipped, end, names))
    assert is_whole(fetch(made()))


def test_npz_files_are_kept_in_the_cache(tmp_path):
    np.savez(tmp_path / "own.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:1])
    keep(made(), tmp_path / "own.npz")
    assert is_whole(fetch(made()))


def damage(folder, change):
    path = folder / f"{NAMES[0]}.gz"
    change(path)
    return folder


def other_pixel(path):
    images = IMAGES.copy()
    images[0, 0, 0] ^= 1
    path.write_bytes(packed(images))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path: path.unlink(), "should hold train-images-idx3-ubyte.gz, gzipped or not"),
        (lambda path: path.write_bytes(packed(IMAGES)[:-20]), "cannot be read .*copy it again"),
        (lambda path: path.write_bytes(b"\x1f\x8b" + b"no" * 9), "cannot be read .*copy it again"),
        (lambda path: path.write_bytes(gzip.compress(idx(IMAGES)[:-5])), "79 bytes .*, found 74"),
        (lambda path: path.write_bytes(idx(IMAGES) + b"\0"), "79 bytes .*, found 80"),
        (lambda path: path.write_bytes(b"<html>"), "does not begin like one"),
        (lambda path: path.write_bytes(b""), "does not begin like one"),
        (lambda path: path.write_bytes(b"\0\0\x0d\3" + idx(IMAGES)[4:]), "does not begin like one"),
        (lambda path: path.write_bytes(idx(IMAGES)[:9]), "does not begin like one"),
        (lambda path: path.write_bytes(b"\0\0\x08\4" + 4 * struct.pack(">I", 65536)), "found uint8 65536×"),
        (lambda path: path.write_bytes(b"\0\0\x08\xff" + bytes(4 * 255)), "found uint8 0×"),
        (lambda path: path.write_bytes(idx(IMAGES[:5])), "uint8 7×3×3 as Tiny does, found uint8 5×3×3"),
        (lambda path: path.write_bytes(idx(LABELS)), "uint8 7×3×3 as Tiny does, found uint8 7;"),
        (other_pixel, "its MD5 should be [0-9a-f]{32}, found [0-9a-f]{32}"),
    ],
)
def test_bad_idx_files_are_refused_in_one_sentence_and_not_kept(tmp_path, change, sentence):
    folder = damage(write(tmp_path / "own"), change)
    with pytest.raises(DataError, match=sentence) as raised:
        keep(made(), folder)
    assert "\n" not in str(raised.value)
    assert not cache(made()).exists()


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x_train": IMAGES}, "with the arrays x_train and y_train"),
        ({"x_train": IMAGES.astype(np.float32), "y_train": LABELS}, "found float32 7×3×3"),
        ({"x_train": IMAGES, "y_train": LABELS[:3]}, "y_train of .* found uint8 3"),
        ({"x_train": IMAGES[::-1], "y_train": LABELS}, "is not Tiny's train-images-idx3-ubyte"),
        ({"x_train": np.array([{}]), "y_train": LABELS}, "with the arrays x_train and y_train"),
    ],
)
def test_bad_npz_files_are_refused(tmp_path, arrays, sentence):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError, match=sentence):
        keep(made(), tmp_path / "own.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"text"])
def test_files_that_are_no_npz_are_refused(tmp_path, content):
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"should be an \.npz file") as raised:
        keep(made(), tmp_path / "own.npz")
    assert "pickle" not in str(raised.value)


@pytest.mark.parametrize("place", [6, 8, 10])  # version, flags, method
def test_npz_files_whose_directory_is_damaged_are_refused(tmp_path, place):
    path = tmp_path / "own.npz"
    np.savez(path, x_train=IMAGES, y_train=LABELS)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + place] = 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x_train and y_train"):
        keep(made(), path)


def test_a_path_without_anything_is_refused_and_the_cache_does_not_step_in(tmp_path):
    keep(made(), write(tmp_path / "own"))
    with pytest.raises(DataError, match=r"there is no .*nowhere"):
        keep(made(), tmp_path / "nowhere")


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(digits.CACHE, str(tmp_path / "file"))
    with pytest.raises(DataError, match="set RNNATLAS_CACHE to another folder"):
        keep(made(), write(tmp_path / "own"))


# --- mirrors ---------------------------------------------------------------------------------------


def test_what_the_cache_lacks_is_downloaded_once(tmp_path, serve):
    mirror = serve(write(tmp_path / "mirror"))
    assert is_whole(fetch(made([mirror])))
    assert len(serve.asked) == 2
    assert is_whole(fetch(made([mirror])))
    assert len(serve.asked) == 2
    assert cached() == [f"{name}.gz" for name in NAMES]


def test_the_next_mirror_helps_out(tmp_path, serve):
    bad = damage(write(tmp_path / "bad"), other_pixel)
    mirrors = serve(tmp_path / "empty"), serve(bad), serve(write(tmp_path / "good"))
    assert is_whole(fetch(made(mirrors)))


def test_a_download_goes_on_where_it_was_cut_off(monkeypatch):
    """The first mirror breaks off in the middle of a file; the second is asked for the rest alone."""
    monkeypatch.setattr(digits, "PIECE", 16)
    whole, half = packed(IMAGES), 48
    asked = []

    class Mirror(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = whole if NAMES[0] in self.path else packed(LABELS)
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            asked.append((self.path, start))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:half] if len(asked) == 1 else content[start:])

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mirror = f"http://127.0.0.1:{server.server_port}/"
    assert is_whole(fetch(made([mirror, mirror])))
    names = [f"/{name}.gz" for name in NAMES]
    assert asked == [(names[0], 0), (names[0], half), (names[1], 0)]
    assert cached() == [f"{name}.gz" for name in NAMES]
    for name in NAMES:  # stopped between coming and checking
        (cache(made()) / f"{name}.gz").rename(cache(made()) / f"{name}.gz.part")
    assert is_whole(fetch(made([mirror])))
    for name in NAMES:
        (cache(made()) / f"{name}.gz").unlink()
        (cache(made()) / f"{name}.gz.part").write_bytes(b"of something else")
    assert is_whole(fetch(made([mirror])))
    server.shutdown()
    server.server_close()


def test_one_of_several_at_once_downloads(tmp_path, serve):
    mirror = serve(write(tmp_path / "mirror"))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert all(map(is_whole, pool.map(lambda _: fetch(made([mirror])), range(4))))
    assert len(serve.asked) == 2


@pytest.mark.parametrize("content", [b"something else", packed(IMAGES) + b"and more"])
def test_the_beginning_of_something_else_does_not_stay(tmp_path, serve, content):
    cache(made()).mkdir(parents=True)
    (cache(made()) / f"{NAMES[0]}.gz.part").write_bytes(content)
    assert is_whole(fetch(made([serve(write(tmp_path / "mirror"))])))  # which sends whole files, always


def test_a_mirror_that_sends_something_else_is_asked_once_for_each_file(tmp_path, serve):
    cache(made()).mkdir(parents=True)
    (cache(made()) / f"{NAMES[1]}.gz.part").write_bytes(b"begun")
    folder = write(tmp_path / "mirror")
    (folder / f"{NAMES[0]}.gz").write_bytes(b"<html>")
    with pytest.raises(DataError, match="sent a file with the wrong checksum"):
        fetch(made([serve(folder)]))
    assert len(serve.asked) == 1


def test_a_damaged_cache_is_named_where_nothing_mends_it(tmp_path):
    keep(made(), write(tmp_path / "own"))
    damage(cache(made()), lambda path: path.write_bytes(packed(IMAGES)[:-9]))
    with pytest.raises(DataError, match=r"the cached Tiny is of no use \(.*cannot be read"):
        fetch(made(["http://127.0.0.1:9/"]))


def test_a_damaged_cache_is_mended(tmp_path, serve):
    keep(made(), write(tmp_path / "own"))
    damage(cache(made()), lambda path: path.write_bytes(packed(IMAGES)[:-9]))
    assert is_whole(fetch(made([serve(write(tmp_path / "mirror"))])))


def test_without_a_network_the_sentence_says_what_was_tried_and_what_to_do(tmp_path, serve):
    bad = damage(write(tmp_path / "bad"), other_pixel)
    mirrors = ["http://127.0.0.1:9/", serve(tmp_path / "empty"), serve(bad)]
    with pytest.raises(DataError) as raised:
        fetch(made(mirrors))
    for part in (
        "127.0.0.1:9: no connection (ConnectionError)",
        "404",
        "sent a file with the wrong checksum",
        "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz with --data",
    ):
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)
    assert cached() == []


def test_a_failure_is_not_remembered(tmp_path):
    with pytest.raises(DataError):
        load(made())
    keep(made(), write(tmp_path / "own"))
    assert is_whole(load(made()))
    assert load(made()) is load(made())


# --- tasks -----------------------------------------------------------------------------------------


def test_mnist_is_mnist_and_its_checksums_are_the_published_ones(mnist_file, mnist_cache):
    with np.load(mnist_file, allow_pickle=False) as arrays:
        assert md5(idx(arrays["x_train"])) == MNIST.images.md5 == "6bbc9ace898e44ae57da46a324031adb"
        assert md5(idx(arrays["y_train"])) == MNIST.labels.md5
        assert np.array_equal(load(MNIST).images, arrays["x_train"])
        assert np.array_equal(load(MNIST).labels, arrays["y_train"])
    pixels = load(MNIST).images / 255
    assert pixels.mean() == pytest.approx(TiledMNIST.mean, abs=1e-4)
    assert pixels.std() == pytest.approx(TiledMNIST.sd, abs=1e-4)


def test_small_digits_are_whole_and_as_the_task_says():
    found = small_digits()
    assert found.images.shape == (1797, 8, 8)
    assert found.images.max() == 255
    assert sorted(set(found.labels)) == list(range(10))
    assert found.images.mean() / 255 == pytest.approx(TiledDigits.mean, abs=1e-4)
    assert found.images.std() / 255 == pytest.approx(TiledDigits.sd, abs=1e-4)


@pytest.mark.parametrize("task", [TiledDigits(), FormalLanguages()])
def test_tasks_that_bring_their_own_data_refuse_others(task, tmp_path):
    task.prepare()
    with pytest.raises(SettingsError, match="brings its own data; leave out --data"):
        task.prepare(tmp_path)


def test_tiled_mnist_never_takes_anything_else(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "MNIST", dataclasses.replace(MNIST, mirrors=("http://127.0.0.1:9/",)))
    with pytest.raises(DataError, match="MNIST is not in the cache and could not be downloaded"):
        TiledMNIST().prepare()
    np.savez(tmp_path / "small.npz", x_train=small_digits().images, y_train=small_digits().labels)
    with pytest.raises(DataError, match="uint8 60000×28×28 as MNIST does, found uint8 1797×8×8"):
        TiledMNIST().prepare(tmp_path / "small.npz")
