"""Trained runs on the Hugging Face Hub; this module is imported where one is published."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, PyTorchModelHubMixin, snapshot_download

from rnnatlas import encoders, hub
from rnnatlas.emulation.model import read_metrics, read_settings, write_settings
from rnnatlas.encoders import CONTROL
from rnnatlas.evaluation.model import Model
from rnnatlas.zoo.target import is_address

LEFT = ("*.parquet", "events.out.*", "zoos", "resume.ckpt", ".*", "settings.yaml")
"""What stays behind of a run: tables of single RNNs, logs, and what is written anew."""

LOSS = "emulation loss, "


class PublishedModel(
    Model, PyTorchModelHubMixin, library_name="rnnatlas", tags=["rnnatlas", "weight-space-learning"]
):
    """A trained run that is read from the Hub, and put there.

    Example:
        >>> from rnnatlas.evaluation.published import PublishedModel
        >>> model = PublishedModel.from_pretrained("run")
        >>> model.save_pretrained("copy")
    """

    repository: str = "USER/NAME"
    license: str | None = None

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: Path | str | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **_: Any,
    ) -> "PublishedModel":
        if Path(model_id).is_dir():
            return cls.load(model_id)  # type: ignore[return-value]
        folder = snapshot_download(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        return cls.load(folder)  # type: ignore[return-value]

    def _save_pretrained(self, save_directory: Path) -> None:
        shutil.copytree(self.path, save_directory, ignore=shutil.ignore_patterns(*LEFT), dirs_exist_ok=True)
        for part in (".", CONTROL):
            settings = read_settings(self.path / part)
            zoo = settings.zoo if is_address(settings.zoo) else Path(settings.zoo).name
            write_settings(save_directory / part, dataclasses.replace(settings, zoo=zoo))

    def generate_model_card(self, *_: Any, **__: Any) -> Any:
        """The model's card, from the run's settings and figures."""
        return ModelCard(card(self, self.repository, self.license), ignore_metadata_errors=True)


def card(model: Model, name: str = "USER/NAME", license: str | None = None) -> str:
    """What a run is, how it was trained, and how far it got beside its controls."""
    run = model.settings
    data = {
        **({"license": license} if license else {}),
        "library_name": "rnnatlas",
        "tags": ["rnnatlas", "weight-space-learning", run.encoder, run.task.name],
    }
    what = encoders.registry.description(run.encoder)
    size = sum(parameter.numel() for parameter in model.encoder.parameters())
    zoo = run.zoo if is_address(run.zoo) else Path(run.zoo).name
    lines = [
        f"# An encoder of RNNs: {run.encoder}\n",
        f"{what[0].upper()}{what[1:]}. It maps an RNN to {run.emulation.embedding} numbers.\n",
        f"{size} parameters, trained by emulation for at most {run.emulation.steps} steps on",
        f"{', '.join(map(str, model.specs))} of the task {run.task.name} (zoo {zoo}, seed {run.seed}), with",
        f"rnnatlas {run.version}.\n",
        "```python\nimport rnnatlas as ra\n",
        f'model = ra.load("hf://{name}")\nz = model.embed(population)\n```\n',
    ]
    return hub.front_matter(data) + "\n".join(lines) + _figures(model)


def _figures(model: Model) -> str:
    """Emulation losses by split beside those of controls, and which properties are predicted."""
    wanted = LOSS + model.divergence
    records = [r for r in read_metrics(model.path) if r["name"] == wanted]
    ways = [way for way in ("conditioned", "shuffled", "zero") if any(r["of"] == way for r in records)]
    splits = list(dict.fromkeys(r["split"] for r in records))
    if not records:
        best = next(r for r in read_metrics(model.path) if r["name"] == "best validation loss")
        return (
            f"\nBest validation loss ({model.divergence}): {best['value']:.4f}. It has not been evaluated.\n"
        )
    lines = [["split", *ways], ["---"] * (1 + len(ways))]
    for split in splits:
        cells = {r["of"]: _cell(r) for r in records if r["split"] == split}
        lines.append([split, *(cells.get(way, "–") for way in ways)])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    predicted = ", ".join(model.predictors) or "none"
    return (
        f"\n## Figures\n\nEmulation loss ({model.divergence}; 95 % intervals), conditioned on the RNN's own "
        "embedding, on that of another RNN (shuffled), and unconditional (zero):\n\n"
        f"{table}\nProperties that are predicted: {predicted}. All figures are in `metrics.json`.\n"
    )


def _cell(record: dict[str, Any]) -> str:
    interval = f" ({record['low']:.3f}–{record['high']:.3f})" if record["low"] is not None else ""
    return f"{record['value']:.3f}{interval}"


def prepared(path: Path | str, folder: Path, name: str, license: str | None = None) -> dict[str, bytes | str]:
    """Writes what is uploaded of a run into a folder; its files by their paths there."""
    model = PublishedModel.load(path)
    assert isinstance(model, PublishedModel)
    model.repository, model.license = name, license
    model.save_pretrained(folder)
    found = sorted(own for own in folder.rglob("*") if own.is_file())
    return {own.relative_to(folder).as_posix(): str(own) for own in found}
