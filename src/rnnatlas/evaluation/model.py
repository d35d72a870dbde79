"""A trained run with its property predictors: what `rnnatlas.load` gives."""

from pathlib import Path
from typing import Any

import torch

from rnnatlas.emulation import model as emulation
from rnnatlas.errors import RunFormatError
from rnnatlas.properties import predictors
from rnnatlas.properties.base import Property
from rnnatlas.properties.predictors import Predictor
from rnnatlas.rnn import Population

PREDICTORS = "predictors.safetensors"


class Model(emulation.Model):
    """An encoder, its emulators, and what was learned to be read off its embeddings.

    Attributes:
        predictors: Name of a property → the property and its predictor; empty before the run is evaluated.
    """

    predictors: dict[str, tuple[Property, Predictor]]

    @classmethod
    def load(cls, path: Path | str) -> "Model":
        """Reads a finished run.

        Raises:
            RunFormatError: It is missing, unfinished, damaged or of another format version.
        """
        model = super().load(path)
        file = model.path / PREDICTORS
        model.predictors = predictors.load(file) if file.is_file() else {}
        return model

    @torch.no_grad()
    def predict(self, population: Population) -> list[dict[str, Any]]:
        """Every property that the run has a predictor for, for each RNN.

        Returns:
            For each RNN its properties by name, as plain values. `value` is the prediction. Classes
            come with the `probabilities` of their values under a temperature; numbers with `low` and
            `high`, a 90 % split-conformal interval. Both were set on the validation split, whose tasks no
            predictor knows, so they are cautious for RNNs of known tasks; metrics.json says how far they
            hold.

        Raises:
            RunFormatError: The run has no predictors yet.
            RNNSpecMismatch: The encoder does not take such RNNs.
        """
        return self.read(self.embed(population))

    @torch.no_grad()
    def read(self, z: torch.Tensor) -> list[dict[str, Any]]:
        """The same for embeddings made before.

        Raises:
            RunFormatError: The run has no predictors yet.
        """
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


def load(path: Path | str) -> Model:
    """Reads a trained run: encoder, emulators, predictors, settings.

    Raises:
        RunFormatError: It is missing, unfinished, damaged or of another format version.
    """
    return Model.load(path)
