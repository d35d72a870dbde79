"""A zoo as others read it: a dataset of the Hugging Face Hub, or plain files of weights."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from rnnatlas import files, hub
from rnnatlas.files import making
from rnnatlas.rnn import Population
from rnnatlas.zoo.folder import Folder
from rnnatlas.zoo.format import Shard
from rnnatlas.zoo.store import Zoo
from rnnatlas.zoo.summary import summarise
from rnnatlas.zoo.target import Target, is_address

SNAPSHOTS = "snapshots.parquet"
"""What is known of each snapshot, and in which file and row its weights are."""

LARGE = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
"""What the Hub calls numbers of rows below these."""


def export(zoo: Zoo, out: Path | str, form: str, license: str | None = None) -> None:
    """Writes a zoo in another form.

    Args:
        zoo: The zoo.
        out: A folder, or for "hf" an address such as s3://bucket/zoo, which should not exist yet.
        form: "hf", a dataset of the Hub that is also a zoo; "safetensors", for each shard its parameters by
            torch's names, each [rnn, …]; or "npy", for each shard its flat weights [rnn, parameter]. Beside
            the latter two `snapshots.parquet` says what each row is.
        license: What the card says under which licence the zoo is.

    Raises:
        OutputExists: `out` holds something.
        ZooFormatError: A shard is damaged.
    """
    if form == "hf":
        _copy(zoo, str(out), license)
        return
    write = {"safetensors": _safetensors, "npy": _npy}[form]
    with making(out) as folder:
        rows = zoo.table
        places = []
        for shard in zoo.shards:
            name = shard.name.removeprefix("data/").replace(".parquet", f".{form}")
            weights = np.empty((shard.rows, shard.spec.parameters), np.float32)
            shard.read_array("weights", weights)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write(folder / name, shard, weights)
            places += [(name, row) for row in range(shard.rows)]
        for column, number in (("file", 0), ("row", 1)):
            rows = rows.append_column(column, pa.array([place[number] for place in places]))
        import pyarrow.parquet as pq

        pq.write_table(rows, folder / SNAPSHOTS)
        files.write_text(folder / "README.md", card(zoo, license))


def _safetensors(path: Path, shard: Shard, weights: np.ndarray) -> None:
    import torch
    from safetensors.torch import save_file

    population = Population.unflatten(shard.spec, torch.from_numpy(weights))
    save_file({name: own.contiguous() for name, own in population.weights.items()}, path)


def _npy(path: Path, shard: Shard, weights: np.ndarray) -> None:
    np.save(path, weights)


def _copy(zoo: Zoo, out: str, license: str | None) -> None:
    """All files, zoo.json last: a copy that was stopped is no zoo."""
    target = Target(out)
    target.check_free()
    for name, content in contents(zoo, license):
        own = target.file(name)
        with files.replacing(own.path) as partial:
            partial.write_bytes(content())
        own.send()


def contents(zoo: Zoo, license: str | None = None) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The files of a zoo as a dataset of the Hub, with what reads each; zoo.json comes last."""
    folder = Folder(zoo.path)
    yield "README.md", lambda: card(zoo, license).encode()
    for name in [*(shard.name for shard in zoo.shards), "zoo.json"]:
        yield name, lambda name=name: _read(folder, name)


def _read(folder: Folder, name: str) -> bytes:
    place = folder.open(name)
    if isinstance(place, str):
        return Path(place).read_bytes()
    with place:
        return place.read()


def card(zoo: Zoo, license: str | None = None) -> str:
    """The dataset's card: what the zoo's README says, and what is in it by split and step."""
    text = Folder(zoo.path).read_text("README.md") or ""
    _, header, body = text.split("---\n", 2) if text.startswith("---\n") else ("", "", text)
    size = next((name for most, name in LARGE if len(zoo) < most), "n>1M")
    data: dict[str, Any] = {
        **({"license": license} if license else {}),
        **(yaml.safe_load(header) or {}),
        "library_name": "rnnatlas",
        "size_categories": [size],
    }
    found = summarise(zoo)
    parts = [f"{found['snapshots']} snapshots of {found['runs']} RNNs; {_counted(found['health'])}.\n"]
    for title, group in (("split", found["splits"]), ("step", found["steps"])):
        if group:
            parts.append(_table(title, group))
    return hub.front_matter(data) + body.strip() + "\n\n## What is in it\n\n" + "\n".join(parts)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _table(title: str, groups: list[dict[str, Any]]) -> str:
    metrics = list(groups[0]["metrics"])
    head = [title, "snapshots", "RNNs", "tasks", *(f"mean {name}" for name in metrics)]
    lines = [head, ["---"] * len(head)]
    for group in groups:
        own = [
            "–" if np.isnan(group["metrics"][name]) else f"{group['metrics'][name]:.3f}" for name in metrics
        ]
        lines.append([str(group[name]) for name in (title, "snapshots", "runs", "tasks")] + own)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def publish(zoo: Zoo, name: str, license: str | None = None, private: bool = False) -> str:
    """Uploads a zoo to the Hub as a dataset; arguments and errors as those of `hub.upload`."""
    local = not is_address(zoo.path)
    uploaded = {
        path: str(Path(zoo.path) / path) if local and path != "README.md" else content()
        for path, content in contents(zoo, license)
    }
    return hub.upload(name, "dataset", uploaded, private)
