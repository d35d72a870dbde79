"""A trained run with its property predictors: what `rnnatlas.train` and `rnnatlas.load` give."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float

from rnnatlas import hub
from rnnatlas.emulation import training
from rnnatlas.emulation.model import TrainedRun
from rnnatlas.errors import RNNSpecMismatch, RunFormatError
from rnnatlas.evaluation.evaluate import PREDICTORS, evaluate
from rnnatlas.evaluation.reference import FEWEST, FLAGGED, REFERENCE, Reference
from rnnatlas.properties import predictors
from rnnatlas.properties.base import Property
from rnnatlas.properties.predictors import Predictor
from rnnatlas.rnn import System
from rnnatlas.zoo.store import Zoo


class Model(TrainedRun):
    """An encoder, its emulators, and predictors of properties from its embeddings.

    Attributes:
        predictors: Name of a property → the property and its predictor; empty before the run is evaluated.
        reference: What tells RNNs like those of the zoo from others; None before the run is evaluated.
    """

    predictors: dict[str, tuple[Property, Predictor]]
    reference: Reference | None

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.predictors, self.reference = {}, None

    @classmethod
    def load(cls, path: Path | str) -> "Model":
        """Reads a finished run, of a folder or of the Hugging Face Hub (hf://user/name).

        Raises:
            RunFormatError: It is missing, unfinished, damaged or of another format version.
            RNNAtlasError: The Hub cannot be reached, or has no such run.
        """
        model = super().load(hub.download(str(path)) if hub.is_address(path) else path)
        model._read_predictors()
        return model

    def _read_predictors(self) -> None:
        file = self.path / PREDICTORS
        self.predictors = predictors.load(file) if file.is_file() else {}
        self.reference = Reference.load(self.path / REFERENCE)

    @property
    def without_reference(self) -> str:
        """Why there is no `reference`, and what to do."""
        if not (self.path / PREDICTORS).is_file():
            return f"the run has not been evaluated; do so with: rnnatlas evaluate {self.path}"
        return (
            f"the run's zoo is too small; use one with {FEWEST} snapshots or more of the splits train, "
            "new-runs and validation"
        )

    def evaluate(self, zoo: Zoo | None = None, **options: Any) -> list[dict[str, Any]]:
        """Evaluates the run on held-out RNNs, after which `predict` works, or on another zoo.

        Args:
            zoo: Another zoo, or the run's own, where it has moved.
            options: As `rnnatlas.evaluation.evaluate.evaluate` takes them, which also says what is raised.

        Returns:
            Every figure with its definition, split, interval and counts, as metrics.json has them; of another
            zoo also with its architecture.
        """
        records = evaluate(self.path, zoo, **options)
        self._read_predictors()
        return records

    @torch.no_grad()
    def predict(self, system: System) -> list[dict[str, Any]]:
        """Every property that the run has a predictor for, for each RNN.

        Returns:
            For each RNN its properties by name, as plain values. `value` is the prediction. Classes
            come with the `probabilities` of their values under a temperature; numbers with `low` and
            `high`, a 90 % split-conformal interval. Both were calibrated on the validation split, whose tasks
            no predictor knows, so they are cautious for RNNs of known tasks; metrics.json says how far they
            hold. Of RNNs that are not `in_distribution` they say nothing: see `likeness`.

        Raises:
            RunFormatError: The run has no predictors yet.
            RNNSpecMismatch: The encoder does not take such RNNs, or they have no finite embedding.
        """
        z = self.embed(system)
        if broken := (~z.isfinite().all(1)).nonzero().flatten().tolist():
            raise RNNSpecMismatch(
                f"RNNs should have finite embeddings, found others at the positions {broken[:8]}, whose "
                "outputs grow without bound; leave them out"
            )
        read = self.read(z)
        return [{**own, **like} for own, like in zip(read, self.likeness(system), strict=True)]

    def likeness(self, system: System) -> list[dict[str, Any]]:
        """Whether RNNs are like those of the zoo that the run was trained on, by their responses.

        Returns:
            For each RNN `ood_score`, the share of held-out RNNs whose responses to some inputs are nearer to
            those of a training RNN than this one's are; and `in_distribution`, whether that is below 95 %.
            Both are None where the run was not evaluated, or on too few RNNs, and of RNNs with other input or
            output sizes, which cannot read the same inputs.
        """
        if self.reference is None or system.interface.sizes != self.task.interface.sizes:
            return [{"ood_score": None, "in_distribution": None} for _ in range(len(system))]
        scores = self.reference.scores(self, system).tolist()
        return [{"ood_score": score, "in_distribution": score < FLAGGED} for score in scores]

    @torch.no_grad()
    def read(self, z: Float[torch.Tensor, "rnn embed"]) -> list[dict[str, Any]]:
        """The same for embeddings made before.

        Raises:
            RunFormatError: The run has no predictors yet.
        """
        if not self.predictors and (self.path / PREDICTORS).is_file():
            raise RunFormatError(
                f"the run {self.path} has no property to predict, since nothing but weights and outputs is "
                "known of its zoo; import it again with --labels"
            )
        if not self.predictors:
            raise RunFormatError(
                f"the run {self.path} has no property predictors yet; "
                f"make them with: rnnatlas evaluate {self.path}"
            )
        columns = {
            name: prop.describe(predictor(z) / predictor.temperature, predictor.half_width.item())
            for name, (prop, predictor) in self.predictors.items()
        }
        return [{name: column[i] for name, column in columns.items()} for i in range(len(z))]


def train(
    zoo: Zoo | Path | str,
    encoder: str,
    out: Path | str,
    seed: int = 0,
    *,
    preset: str | None = None,
    changes: Mapping[str, Any] | None = None,
    **options: Any,
) -> Model:
    """Trains an encoder on a zoo by emulation.

    Args:
        zoo: A zoo, or where it is.
        encoder: Name of the encoder; `rnnatlas.encoders` has them.
        out: Folder of the run, made here.
        seed: Of initial weights and batches.
        preset: demo, compare, small or paper; None for the paper's settings for formal languages.
        changes: Settings over those of the preset, by section: {"emulation": {"steps": 2000}}.
        options: As `rnnatlas.emulation.training.train` takes them, which also says what is raised.

    Example:
        >>> import rnnatlas as ra
        >>> changes = {"emulation": {"steps": 20, "validate_every": 10}}
        >>> model = ra.train("zoo", "noninteractive", "mine", preset="demo", changes=changes, progress=False)
        >>> [str(spec) for spec in model.specs]
        ['LSTM 4→4→4']
    """
    opened = zoo if isinstance(zoo, Zoo) else Zoo.open(zoo)
    resolved = training.resolve(opened, encoder, preset, changes)
    training.train(opened, encoder, out, seed, **{**resolved, **options})
    return Model.load(out)


def load(path: Path | str) -> Model:
    """Reads a trained run: encoder, emulators, predictors, settings.

    Args:
        path: The run's folder, or its address on the Hugging Face Hub (hf://user/name).

    Raises:
        RunFormatError: It is missing, unfinished, damaged or of another format version.
        RNNAtlasError: The Hub cannot be reached, or has no such run.

    Example:
        >>> import rnnatlas as ra
        >>> model = ra.load("run")
        >>> zoo = ra.Zoo.open("zoo")
        >>> rnns = zoo.population(zoo.snapshots(split="ood"))
        >>> model.embed(rnns).shape[1]
        16
        >>> sorted(model.predict(rnns)[0])
        ['in_distribution', 'ood_score', 'performance', 'step', 'task']
    """
    return Model.load(path)
