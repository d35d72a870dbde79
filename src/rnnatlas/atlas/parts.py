"""Embedding large zoos in parts, as jobs of an executor."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rnnatlas.atlas.embed import PART, digest, embed, from_zoo
from rnnatlas.atlas.index import Atlas
from rnnatlas.atlas.sources import snapshots_of
from rnnatlas.atlas.untrained import Untrained
from rnnatlas.errors import SettingsError
from rnnatlas.evaluation.model import Model
from rnnatlas.executors.base import Executor, Job
from rnnatlas.files import replacing
from rnnatlas.zoo.store import Zoo


@dataclasses.dataclass(frozen=True)
class Part:
    """Embeds some snapshots of a zoo; `name` as `from_zoo` takes it."""

    run: Path
    zoo: Path | str
    name: str
    start: int
    output: Path

    def __call__(self, beat: Callable[[int], None]) -> None:
        """Writes their entries."""
        model, zoo = Model.load(self.run), Zoo.open(self.zoo)
        snapshots = snapshots_of(model, zoo)[0].slice(self.start, PART)
        table = from_zoo(model, zoo, snapshots, self.name)
        with replacing(self.output) as partial:
            pq.write_table(table, partial)
        beat(snapshots.num_rows)


def embed_in_parts(
    runner: Executor, out: Path, model: Model | str, things: Any, progress: bool = False, **options: Any
) -> Atlas:
    """As `embed`, with zoos embedded by an executor.

    Args:
        runner: The executor.
        out: Folder of the atlas; parts lie beside it until all are done, and are taken up after a stop.
        model: The encoder.
        things: What is embedded.
        progress: Whether to show a bar.
        options: As `embed` takes them; errors are those of `embed`.

    Raises:
        SettingsError: The encoder is no trained run, which jobs could load.
    """
    if isinstance(model, str):
        raise SettingsError(
            f"--executor embeds by a trained run, found --encoder {model}; leave one of them out"
        )
    folder = out.resolve().parent / f".{out.resolve().name}.parts"
    run, known = model.path, digest(model)

    def by_jobs(model: Model | Untrained, zoo: Zoo, snapshots: pa.Table, name: str) -> pa.Table:
        jobs = []
        for start in range(0, snapshots.num_rows, PART):
            file = folder / f"{known}-{zoo.identity}-{name.replace('/', '_')}{start}.parquet"
            work = Part(run, zoo.path, name, start, file)
            count = min(PART, snapshots.num_rows - start)
            jobs.append(Job(name=file.name, work=work, output=file, updates=count))
        runner.run(jobs, folder, "embedding", "RNNs/s" if progress else None)
        tables = [pq.read_table(job.output) for job in jobs]
        return pa.concat_tables(tables) if tables else from_zoo(model, zoo, snapshots, name)

    atlas = embed(model, things, **options, by_zoo=by_jobs)
    shutil.rmtree(folder, ignore_errors=True)
    return atlas
