"""A trained run on disk, and the encoder and emulators in it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnatlas import encoders, files, seeds, tasks
from rnnatlas._version import __version__
from rnnatlas.checked import Kind, load_tensors, read_json, save_tensors
from rnnatlas.emulation import choose, divergences, of_numbers
from rnnatlas.emulation.emulation import Emulation
from rnnatlas.emulation.emulator import Emulator, EmulatorSettings
from rnnatlas.encoders import CONTROL
from rnnatlas.encoders.base import EMBED, TOGETHER, Encoder, chunks
from rnnatlas.errors import RunFormatError, SettingsError
from rnnatlas.folders import RUN, mistaken
from rnnatlas.rnn import RNNSpec, System, check_system
from rnnatlas.settings import above_zero, as_dict, at_least_one, build, read_yaml, settings, to_yaml
from rnnatlas.tasks.base import Task

M = TypeVar("M", bound="TrainedRun")

_WEIGHTS, _FIGURES, _SETTINGS = (
    Kind(f"the run's {what}", RunFormatError, "copy it again, or train again")
    for what in ("weights", "figures", "settings")
)
RESUME = "resume.ckpt"
"""What an unfinished run goes on from; read without unpickling code, removed when the run is finished."""
FORMAT = 3
"""Version of a run's folder; a run of another one is refused with a sentence that says so."""


@settings
class EmulationSettings:
    """How an encoder and an emulator are trained together; the paper's by default.

    Args:
        steps: Updates.
        rnns: RNNs a step.
        rollouts: Rollouts of each RNN a step.
        divergence: What is minimised, by its name in the registry; None for total variation of tokens and
            mean squared error of numbers.
        first_divergence: What is minimised instead in the first `first_steps` steps; None for the same. Total
            variation has a plateau that the Kullback–Leibler divergence leaves at once, but the latter
            overfits (docs/decisions/0024-responses.md).
        first_steps: How many steps these are.
        mask_padding: Whether positions that the task's mask leaves out, such as those after the first EOS, do
            not count.
        learning_rate: AdamW's, after warm-up.
        weight_decay: AdamW's.
        clip: Largest norm of the gradient, for encoder and emulator each.
        warmup: Steps over which the learning rate rises from zero.
        decay: Whether it then falls linearly, to zero at the end.
        validate_every: Steps between validations. Each also saves all that resuming needs.
        validation_rollouts: Rollouts of each validation snapshot that are looked at.
        patience: Validations in a row without improvement after which training stops; None for never.
        where: SQL condition on the snapshots to train and validate on, such as "step >= 100".
        embedding: Numbers of an embedding.
        emulator: Size of the emulator.
        products: What numbers the LSTMs of emulator and reader multiply in training. "bfloat16" rounds
            factors to those where the processor multiplies them faster; sums, weights and all else stay
            float32, as do embedding and evaluation.
    """

    steps: int = 100_000
    rnns: int = 64
    rollouts: int = 1
    divergence: str | None = None
    first_divergence: str | None = None
    first_steps: int = 0
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
    embedding: int = EMBED
    emulator: EmulatorSettings = dataclasses.field(default_factory=EmulatorSettings)
    products: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        counts = (
            "steps",
            "rnns",
            "rollouts",
            "validate_every",
            "validation_rollouts",
            "patience",
            "embedding",
        )
        at_least_one(self, *counts)
        above_zero(self, "learning_rate", "clip")
        for name in ("weight_decay", "warmup", "first_steps"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} should be 0 or more, found {getattr(self, name)}")
        for name in (self.divergence, self.first_divergence):
            if name is not None and name not in of_numbers:
                divergences.description(name)  # raises for an unknown name


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
    specs: tuple[str, ...]
    task: TaskSettings
    encoder_settings: dict[str, Any]
    emulation: EmulationSettings


class TrainedRun:
    """A trained encoder, the emulator it was trained with, and that of the zero-embedding control.

    Attributes:
        path: Folder of the run.
        settings: All that it can be made again from.
        specs: Architectures of the RNNs that it was trained on.
        task: Their task.
        encoder: Embeds RNNs.
        emulator: Imitates them, conditioned on embeddings.
        zero: The unconditional emulator; None for a control.
    """

    def __init__(self, path: Path, run: RunSettings):
        self.path = path
        self.settings = run
        self.specs = [RNNSpec.from_slug(slug) for slug in run.specs]
        self.task: Task = tasks.registry[run.task.name].from_settings(run.task.settings)
        self.encoder, self.emulator = make_parts(self.specs, self.task, run)
        self.zero: Emulator | None = None

    def __repr__(self) -> str:
        more = f" and {len(self.specs) - 2} more" if len(self.specs) > 2 else ""
        specs = f"{', '.join(map(str, self.specs[:2]))}{more}"
        return f"{type(self).__name__}({self.settings.encoder} encoder for {specs}, at {str(self.path)!r})"

    @classmethod
    def load(cls: type[M], path: Path | str) -> M:
        """Reads a finished run.

        Raises:
            RunFormatError: It is missing, unfinished, damaged or of another format version.
        """
        path = Path(path)
        model = cls._begun(path)
        read_weights(path, {"encoder": model.encoder, "emulator": model.emulator})
        if model.settings.encoder not in encoders.controls:
            control = cls._begun(path / CONTROL)
            read_weights(control.path, {"encoder": control.encoder, "emulator": control.emulator})
            model.zero = control.emulator
        for part in (model.encoder, model.emulator, model.zero):
            if part is not None:
                part.eval().requires_grad_(False)
        return model

    @classmethod
    def _begun(cls: type[M], path: Path) -> M:
        """A run as it was before training; raises as `load`."""
        run = read_settings(path)
        with _SETTINGS.reading(path / "settings.yaml"):
            return cls(path, run)

    def to(self: M, device: torch.device | str) -> M:
        """Moves encoder and emulators there."""
        for part in (self.encoder, self.emulator, self.zero):
            if part is not None:
                part.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the run's networks are."""
        return next(self.emulator.parameters()).device

    @property
    def divergence(self) -> str:
        """What was minimised."""
        return choose(self.settings.emulation.divergence, self.task.interface.output)

    @torch.no_grad()
    def embed(self, system: System, batch: int = TOGETHER) -> Float[Tensor, "rnn embed"]:
        """Embeddings of unit length, on the CPU.

        Args:
            system: RNNs that the encoder takes.
            batch: RNNs at a time, which bounds memory.

        Raises:
            RNNSpecMismatch: The encoder does not take them, or they are no system.
        """
        self.encoder.check(check_system(system))
        parts = chunks(system, batch)
        return torch.cat([self.encoder(part.to(self.device, torch.float32)).cpu() for part in parts])

    def emulation(self, z: Float[Tensor, "rnn embed"]) -> Emulation:
        """RNNs with these embeddings, as the emulator imitates them: a system."""
        return Emulation(self.emulator, z)

    def standardise(self, outputs: Float[Tensor, "*batch output"]) -> Float[Tensor, "*batch output"]:
        """Outputs on the CPU as divergences take them; see `Emulator.standardise`."""
        return self.emulator.standardise(outputs.to(self.device)).cpu()

    def unconditional(self, count: int) -> Emulation:
        """As many RNNs as the unconditional emulator imitates them; the run has to have one."""
        assert self.zero is not None, "controls have none themselves"
        return Emulation.unconditional(self.zero, count)


def make_parts(specs: Sequence[RNNSpec], task: Task, run: RunSettings) -> tuple[Encoder, Emulator]:
    """Encoder and emulator as training starts with them.

    Each is drawn from its own stream, so the emulator starts alike whatever the encoder.

    Args:
        specs: Architectures of the RNNs; an encoder that reads one reads the first.
        task: Their task.
        run: What else they are made from.
    """
    known = encoders.controls if run.encoder in encoders.controls else encoders.registry
    kind = known[run.encoder]
    own = build(kind.Settings, run.encoder_settings, "encoder")
    size = run.emulation.embedding
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seeds.torch_generator(run.seed, "encoder").initial_seed())
        encoder = kind(task.interface, specs[0], own, size)
        torch.default_generator.manual_seed(seeds.torch_generator(run.seed, "emulator").initial_seed())
        emulator = Emulator(task.interface, task.time, run.emulation.emulator, size)
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
            mistaken(path, RUN)
            or f"expected a trained run at {path}, found no settings.yaml; make one with: rnnatlas train"
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
    encoder = values.get("encoder_settings")
    if isinstance(encoder, dict) and "permute" in encoder:  # as it was called when orders alone were drawn
        encoder["augment"] = "permutation" if encoder.pop("permute") else "none"
    try:
        return build(RunSettings, values, "settings.yaml")
    except SettingsError as error:
        raise RunFormatError(f"{path} cannot be read ({error}); train again") from None


def write_weights(path: Path, parts: dict[str, dict[str, Tensor]]) -> None:
    """Writes model.safetensors; a run is finished once it is there."""
    tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    save_tensors(path / "model.safetensors", tensors)


def read_weights(path: Path, parts: dict[str, nn.Module]) -> None:
    """Fills modules from model.safetensors.

    Raises:
        RunFormatError: It is not there yet, is damaged or does not fit the run's settings.
    """
    if not (path / "model.safetensors").is_file():
        raise RunFormatError(f"the run {path} is not finished; finish it with: rnnatlas train … --resume")
    tensors, _ = load_tensors(path / "model.safetensors", _WEIGHTS)
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
    records = read_json(path / "metrics.json", _FIGURES)
    with _FIGURES.reading(path / "metrics.json"):
        if not records or not all(map(_is_record, records)):
            raise ValueError("a record lacks its name, its value or its step")
    return records


def _is_record(record: Any) -> bool:
    """Whether it is one of a figure; the best validation loss has a step as well."""
    if not isinstance(record["name"], str) or not isinstance(record["value"], float | int | None):
        return False
    best = record["name"] == "best validation loss"
    return not best or (record["value"] is not None and isinstance(record["step"], int))


def share_of_rate(step: int, steps: int, warmup: int, decay: bool) -> float:
    """What a learning rate is multiplied by at a step (from 0) of so many."""
    rise = min(1.0, (step + 1) / (warmup + 1))
    fall = (steps - step) / max(1, steps - warmup) if decay else 1.0
    return min(rise, fall)
