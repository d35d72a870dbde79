"""A trained run on disk, and the encoder and emulators in it."""

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from rnnatlas import encoders, files, seeds, tasks
from rnnatlas._version import __version__
from rnnatlas.emulation import divergences
from rnnatlas.emulation.emulator import Emulator, EmulatorSettings
from rnnatlas.encoders import CONTROL
from rnnatlas.encoders.base import EMBED, TOGETHER, Encoder, chunks
from rnnatlas.errors import RunFormatError, SettingsError
from rnnatlas.rnn import Population, RNNSpec
from rnnatlas.settings import above_zero, as_dict, at_least_one, build, read_yaml, settings, to_yaml
from rnnatlas.tasks.base import Task

M = TypeVar("M", bound="Model")

FORMAT = 2
"""Version of a run's folder; a run of another one is refused with a sentence that says so."""


@settings
class EmulationSettings:
    """How an encoder and an emulator are trained together; the paper's by default.

    Args:
        steps: Updates.
        rnns: RNNs a step.
        rollouts: Rollouts of each RNN a step.
        divergence: What is minimised, by its name in the registry.
        mask_padding: Whether positions after the first EOS, which carry no information, are left out.
        learning_rate: AdamW's, after warm-up.
        weight_decay: AdamW's.
        clip: Largest norm of the gradient, for encoder and emulator each.
        warmup: Steps over which the learning rate rises from zero.
        decay: Whether it then falls linearly, to zero at the end.
        validate_every: Steps between validations. Each also saves all that resuming needs.
        validation_rollouts: Rollouts of each validation snapshot that are looked at.
        patience: Validations in a row without improvement after which training stops; None for never.
        where: SQL condition on the snapshots to train and validate on, such as "step >= 100".
        emulator: Size of the emulator.
    """

    steps: int = 100_000
    rnns: int = 64
    rollouts: int = 1
    divergence: str = "total-variation"
    mask_padding: bool = True
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    clip: float = 0.1
    warmup: int = 0
    decay: bool = False
    validate_every: int = 1000
    validation_rollouts: int = 4
    patience: int | None = None
    where: str | None = None
    emulator: EmulatorSettings = dataclasses.field(default_factory=EmulatorSettings)

    def __post_init__(self) -> None:
        counts = ("steps", "rnns", "rollouts", "validate_every", "validation_rollouts", "patience")
        at_least_one(self, *counts)
        above_zero(self, "learning_rate", "clip")
        for name in ("weight_decay", "warmup"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} should be 0 or more, found {getattr(self, name)}")
        divergences.description(self.divergence)  # raises for an unknown name


@settings
class TaskSettings:
    """Which task a zoo's RNNs were trained on."""

    name: str
    settings: dict[str, Any]


@settings
class RunSettings:
    """All that a trained run can be made again from; its settings.yaml."""

    format: int = FORMAT
    version: str = __version__
    encoder: str
    seed: int
    zoo: str
    zoo_identity: str
    spec: str
    task: TaskSettings
    encoder_settings: dict[str, Any]
    emulation: EmulationSettings


class Model:
    """A trained encoder, the emulator it was trained with, and that of the zero-embedding control.

    Args:
        path: Folder of the run.
        run: Its settings.
    """

    def __init__(self, path: Path, run: RunSettings):
        self.path = path
        self.settings = run
        self.spec = RNNSpec.from_slug(run.spec)
        self.task: Task = tasks.registry[run.task.name].from_settings(run.task.settings)
        self.encoder, self.emulator = make_parts(self.spec, self.task, run)
        self.zero: Emulator | None = None

    @classmethod
    def load(cls: type[M], path: Path | str) -> M:
        """Reads a finished run.

        Raises:
            RunFormatError: It is missing, unfinished, damaged or of another format version.
        """
        path = Path(path)
        model = cls(path, read_settings(path))
        read_weights(path, {"encoder": model.encoder, "emulator": model.emulator})
        if model.settings.encoder not in encoders.controls:
            control = cls(path / CONTROL, read_settings(path / CONTROL))
            read_weights(control.path, {"encoder": control.encoder, "emulator": control.emulator})
            model.zero = control.emulator
        for part in (model.encoder, model.emulator, model.zero):
            if part is not None:
                part.eval().requires_grad_(False)
        return model

    def to(self: M, device: torch.device | str) -> M:
        """Moves encoder and emulators there."""
        for part in (self.encoder, self.emulator, self.zero):
            if part is not None:
                part.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.emulator.parameters()).device

    @torch.no_grad()
    def embed(self, population: Population, batch: int = TOGETHER) -> Float[Tensor, "rnn embed"]:
        """Embeddings of unit length, on the CPU.

        Args:
            population: RNNs of an architecture that the encoder takes.
            batch: RNNs at a time, which bounds memory.

        Raises:
            RNNSpecMismatch: The encoder does not take them.
        """
        self.encoder.check(population.spec)
        parts = chunks(population, batch)
        return torch.cat([self.encoder(part.to(self.device, torch.float32)).cpu() for part in parts])

    @torch.no_grad()
    def emulate(
        self, z: Float[Tensor, "rnn embed"], inputs: Float[Tensor, "rnn rollout time input"]
    ) -> Float[Tensor, "rnn rollout time output"]:
        """What RNNs with these embeddings would give out on the inputs, as log-probabilities."""
        return self._emulate(self.emulator, z, inputs)

    @torch.no_grad()
    def emulate_untold(
        self, inputs: Float[Tensor, "rnn rollout time input"]
    ) -> Float[Tensor, "rnn rollout time output"]:
        """The same by the control, whose emulator is told nothing of the RNNs; the run has to have one."""
        assert self.zero is not None, "controls have none themselves"
        return self._emulate(self.zero, torch.zeros(len(inputs), EMBED), inputs)

    def _emulate(self, emulator: Emulator, z: Tensor, inputs: Tensor) -> Tensor:
        return emulator(z.to(self.device), inputs.to(self.device)).cpu()


def make_parts(spec: RNNSpec, task: Task, run: RunSettings) -> tuple[Encoder, Emulator]:
    """Encoder and emulator as training starts with them.

    Each is drawn from its own stream, so the emulator starts alike whatever the encoder.
    """
    known = encoders.controls if run.encoder in encoders.controls else encoders.registry
    kind = known[run.encoder]
    own = build(kind.Settings, run.encoder_settings, "encoder")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seeds.torch_generator(run.seed, "encoder").initial_seed())
        encoder = kind(spec, task.signal, task.outcome, own)
        torch.default_generator.manual_seed(seeds.torch_generator(run.seed, "emulator").initial_seed())
        emulator = Emulator(spec.input, spec.output_size, task.time, run.emulation.emulator)
    return encoder, emulator


def write_settings(path: Path, run: RunSettings) -> None:
    """Writes a run's settings.yaml."""
    files.write_text(path / "settings.yaml", to_yaml(as_dict(run)))


def read_settings(path: Path) -> RunSettings:
    """A run's settings.

    Raises:
        RunFormatError: There is no run at `path`, or it is of another format version.
    """
    if not (path / "settings.yaml").is_file():
        raise RunFormatError(
            f"expected a trained run at {path}, found no settings.yaml; make one with: rnnatlas train"
        )
    try:
        values = read_yaml(path / "settings.yaml")
    except SettingsError as error:
        raise RunFormatError(f"{path} cannot be read ({error}); copy it again, or train again") from None
    if values.get("format") != FORMAT:
        raise RunFormatError(
            f"{path} is of format version {values.get('format')}, this rnnatlas {__version__} reads version "
            f"{FORMAT}; use rnnatlas {values.get('version', 'of that version')}, or train again"
        )
    try:
        return build(RunSettings, values, "settings.yaml")
    except SettingsError as error:
        raise RunFormatError(f"{path} cannot be read ({error}); train again") from None


def write_weights(path: Path, parts: dict[str, dict[str, Tensor]]) -> None:
    """Writes model.safetensors; a run is finished once it is there."""
    tensors = {
        f"{part}.{name}": tensor.contiguous()
        for part, state in parts.items()
        for name, tensor in state.items()
    }
    with files.replacing(path / "model.safetensors") as partial:
        partial.write_bytes(save(tensors))


def read_weights(path: Path, parts: dict[str, nn.Module]) -> None:
    """Fills modules from model.safetensors.

    Raises:
        RunFormatError: It is not there yet, is damaged or does not fit the run's settings.
    """
    if not (path / "model.safetensors").is_file():
        raise RunFormatError(f"the run {path} is not finished; finish it with: rnnatlas train … --resume")
    try:
        tensors = load_file(path / "model.safetensors")
    except SafetensorError as error:
        raise RunFormatError(
            f"{path / 'model.safetensors'} is damaged ({error}); copy it again, or train again"
        ) from None
    expected = {f"{part}.{name}" for part, module in parts.items() for name in module.state_dict()}
    if expected != set(tensors):
        odd = sorted(expected ^ set(tensors))[0]
        raise RunFormatError(
            f"{path / 'model.safetensors'} does not fit the run's settings.yaml ({odd}); copy the run whole"
        )
    for part, module in parts.items():
        own = {
            name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")
        }
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise RunFormatError(
                f"{path / 'model.safetensors'} does not fit the run's settings.yaml ({detail}); "
                "copy the run whole"
            ) from None


def write_metrics(path: Path, records: list[dict[str, Any]]) -> None:
    """Writes metrics.json: every figure with its definition, split, seed and number of snapshots."""
    files.write_json(path / "metrics.json", records)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """A run's figures.

    Raises:
        RunFormatError: There are none, or they are damaged.
    """
    try:
        records = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
        if not all({"name", "value"} <= set(record) for record in records):
            raise ValueError("a record lacks its name or value")
    except (OSError, TypeError, ValueError) as error:
        raise RunFormatError(
            f"{path / 'metrics.json'} should hold the run's figures, but cannot be read ({error}); "
            "copy it again, or train again"
        ) from None
    return records
