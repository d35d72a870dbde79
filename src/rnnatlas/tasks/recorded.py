"""What imported RNNs do: they read inputs that somebody gave, and keep what labels say of them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from rnnatlas.errors import DataError, SettingsError
from rnnatlas.rnn import Interface, Signal, System, Tokens, Values, run
from rnnatlas.seeds import stream
from rnnatlas.settings import at_least_one, settings
from rnnatlas.tasks import trials
from rnnatlas.tasks.base import Instance, Rollouts, Task, cross_entropy
from rnnatlas.tasks.trials import Trials

FILE = "inputs.npz"
"""Where a zoo keeps the trials."""
TOGETHER = 64
"""Trials that each RNN is judged by at a time, which bounds memory."""
SHOWN = 24
"""Tokens of a trial that people see."""

SOURCES = {
    "given": "",
    "noise": " of white and smooth noise, drawn since no inputs were given",
    "sampled": " of sequences that RNNs sampled from themselves, since no inputs were given",
}
"""Where trials come from, and what is said of them."""


@settings
class RecordedSettings:
    """What the RNNs read and give out, and where the trials come from.

    Args:
        reads: "values" or "tokens".
        gives: "values" or "tokens".
        inputs: Numbers read a step, or tokens that there are.
        outputs: Numbers given out a step, or tokens.
        source: "given" by the user, "noise", or "sampled" from the RNNs themselves.
        trials: How many there are.
        time: Steps of each.
        masked: Whether some positions do not count.
        group: Label that RNNs of one split share; None where each RNN stands alone.
        seed: Of noise.
        performance_trials: Trials that an RNN is judged by at most.
    """

    reads: str = "values"
    gives: str = "values"
    inputs: int = 1
    outputs: int = 1
    source: str = "noise"
    trials: int = 256
    time: int = 40
    masked: bool = False
    group: str | None = None
    seed: int = 0
    performance_trials: int = 1000

    def __post_init__(self) -> None:
        at_least_one(self, "inputs", "outputs", "trials", "time", "performance_trials")
        for name, known in (("reads", KINDS), ("gives", KINDS), ("source", SOURCES)):
            if getattr(self, name) not in known:
                raise SettingsError(
                    f"{name} should be one of {', '.join(known)}, found {getattr(self, name)!r}"
                )


KINDS: dict[str, Callable[[int], Signal]] = {"tokens": Tokens, "values": Values}


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Which trials each RNN reads."""

    rows: Int[Tensor, "rnn batch"]


class Recorded(Task):
    """Inputs that somebody gave to RNNs of their own.

    A rollout is stored as the number of its trial; the trials themselves lie in the zoo, in `inputs.npz`. An
    instance names the network, and its group where a label says which networks belong together. With targets
    performance is measured: of classes the share that is right, of numbers 1 less the mean squared error over
    the variance of the targets, not below 0.

    Args:
        settings: Signals, sizes, and where trials come from.
    """

    name: ClassVar[str] = "recorded"
    noun: ClassVar[str] = "group"
    Settings: ClassVar[type] = RecordedSettings
    settings: RecordedSettings

    def __init__(self, settings: RecordedSettings | None = None):
        super().__init__(settings or RecordedSettings())
        own = self.settings
        self.interface = Interface(KINDS[own.reads](own.inputs), KINDS[own.gives](own.outputs))
        self.time = own.time
        where = "positions that the mask of the inputs leaves" if own.masked else "all positions"
        self.counted = where + SOURCES[own.source]  # type: ignore[misc]
        said = SOURCES[own.source] or ", which were given with the RNNs"
        self.reads = f"trials{said}. They say nothing of the RNN."  # type: ignore[misc]
        if own.source == "sampled":
            self.reads = "sequences that it sampled from itself, which tell of it."  # type: ignore[misc]
        of_classes = isinstance(self.interface.output, Tokens)
        self.performs = "Share of classes right" if of_classes else "Share of the variance explained"  # type: ignore[misc]
        self._open: Callable[[str], Any] | None = None
        self._placed: dict[torch.device, tuple[Tensor, Tensor | None, Tensor | None]] = {}

    def prepare(self, data: Path | None = None, progress: bool = False) -> None:
        """Refuses: nothing can be trained on it.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError(
            "recorded is the task of RNNs that others trained; make such a zoo with: rnnatlas zoo import"
        )

    # --- trials ------------------------------------------------------------------------------
    def attach(self, open: Callable[[str], Any]) -> None:
        """Lets the task read the trials of its zoo."""
        self._open = open

    @property
    def generates(self) -> bool:
        """Whether rollouts are sampled from the RNNs; others cannot be, without a first token."""
        return self._open is not None and self.settings.source == "sampled"

    @cached_property
    def trials(self) -> Trials:
        """What RNNs read.

        Raises:
            DataError: It is in a zoo, and not known where; or damaged.
        """
        own = self.settings
        if self._open is not None:
            return trials.load(self._open(FILE))
        if own.source != "noise":
            raise DataError("the inputs of these RNNs are in their zoo; open it with Zoo.open(…).task")
        return trials.noise(own.trials, own.time, own.inputs, own.seed)

    def _tensors(self, device: torch.device) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Inputs, mask and targets on a device."""
        if device not in self._placed:
            own = self.trials
            mask, targets = (
                None if one is None else torch.from_numpy(one).to(device) for one in (own.mask, own.targets)
            )
            self._placed[device] = torch.from_numpy(own.inputs).to(device), mask, targets
        return self._placed[device]

    def _rows(self, streams: Sequence[np.random.Generator], count: int) -> Int[np.ndarray, "rnn rollout"]:
        """Numbers of trials, drawn for each RNN; each trial once where there are enough."""
        known = len(self.trials)
        return np.stack([own.choice(known, count, replace=count > known) for own in streams]).astype(np.int32)

    # --- instances ---------------------------------------------------------------------------
    @property
    def struct(self) -> pa.StructType:
        """Name of the network, and its group."""
        return pa.struct([("network", pa.string()), ("group", pa.string())])

    def instance(self, run: int, seed: int) -> Instance:
        """A network without a group."""
        return {"network": f"network-{run:05d}", "group": None}

    def label(self, instance: Instance) -> str:
        """The group, else the network."""
        return instance["network"] if instance["group"] is None else instance["group"]

    def key(self, instance: Instance) -> tuple[bool, str]:
        """The group, else the network."""
        return instance["group"] is not None, self.label(instance)

    def is_ood(self, instances: Sequence[Instance], share: float) -> Bool[np.ndarray, " rnn"]:
        """The `share` of groups, at least one, drawn at random: nobody's own networks have an order."""
        keys = [self.key(instance) for instance in instances]
        known = sorted(set(keys))
        stream(self.settings.seed, "recorded", "ood").shuffle(known)
        chosen = set(known[: max(1, round(share * len(known)))] if share else ())
        return np.array([key in chosen for key in keys], dtype=bool)

    def target(self, instances: Sequence[Instance]) -> Float[Tensor, "rnn target"]:
        """Nothing: what is predicted of such RNNs are their labels."""
        return torch.zeros(len(instances), 0)

    # --- training ----------------------------------------------------------------------------
    def batches(
        self, instances: Sequence[Instance], batch: int, streams: Sequence[np.random.Generator]
    ) -> Iterator[Chosen]:
        """Trials drawn anew at each step."""
        while True:
            yield Chosen(torch.from_numpy(self._rows(streams, batch)))

    def loss(self, system: System, batch: Chosen) -> Float[Tensor, " rnn"]:
        """Cross-entropy of classes; of numbers the squared error over the variance of targets.

        Raises:
            DataError: There are no targets.
        """
        sums = self._judge(system, batch.rows)
        return sums["loss"] / sums["counted"]

    def _judge(self, system: System, rows: Int[Tensor, "rnn batch"]) -> dict[str, Float[Tensor, " rnn"]]:
        """Sums over positions that count: of the loss, of these themselves, of classes that are right."""
        rows = rows.to(system.device)
        _, _, known = self._tensors(system.device)
        if known is None:
            raise DataError("performance needs targets, but the inputs of these RNNs have none")
        stored = rows.unsqueeze(2)
        outputs, _ = run(system, self.encode_inputs(stored).to(system.dtype))
        targets, mask = known[rows.long()], self.mask(stored)
        if isinstance(self.interface.output, Tokens):
            each = {
                "loss": cross_entropy(outputs, targets),
                "right": (outputs.argmax(-1) == targets).to(outputs.dtype),
            }
        else:
            targets = targets if targets.ndim == 4 else targets.unsqueeze(3)
            errors = (outputs - targets.to(outputs)).square().mean(3)
            each = {"loss": errors / self._variance}
        each["counted"] = torch.ones_like(each["loss"])
        return {name: (values * mask).sum((1, 2)) for name, values in each.items()}

    @cached_property
    def _variance(self) -> float:
        """Mean over outputs of the variance of targets where they count; 1 where they do not vary."""
        found = self.trials.targets
        assert found is not None, "who asks has looked for targets"
        found = found if found.ndim == 3 else found[..., None]
        counted = found.reshape(-1, found.shape[-1]) if self.trials.mask is None else found[self.trials.mask]
        return float(counted.astype(np.float64).var(0).mean()) or 1.0

    # --- what an RNN does ----------------------------------------------------------------------
    @torch.no_grad()
    def rollouts(
        self,
        system: System,
        instances: Sequence[Instance],
        streams: Sequence[np.random.Generator],
        count: int,
    ) -> Rollouts:
        """Trials drawn for each RNN, and what it gave out in them."""
        return self.read(system, self._rows(streams, count))

    @torch.no_grad()
    def read(self, system: System, rows: Int[np.ndarray, "rnn rollout"]) -> Rollouts:
        """What RNNs give out in the trials of these numbers."""
        stored = rows[..., None].astype(np.int32)
        outputs = self.outputs(system, torch.from_numpy(stored))
        return Rollouts(inputs=stored, outputs=self.interface.output.store(outputs))

    @torch.no_grad()
    def metrics(
        self,
        system: System,
        instances: Sequence[Instance],
        streams: Sequence[np.random.Generator],
        trials: int | None = None,
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Performance and loss; nothing at all where there are no targets."""
        if self.trials.targets is None:
            return {}
        count = min(trials or self.settings.performance_trials, len(self.trials))
        rows = torch.from_numpy(self._rows(streams, count))
        parts = [self._judge(system, part) for part in rows.split(TOGETHER, 1)]
        sums = {name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0]}
        loss = sums["loss"] / sums["counted"]
        performance = sums["right"] / sums["counted"] if "right" in sums else (1 - loss).clamp_min(0)
        return {"performance": performance.cpu().numpy(), "loss": loss.cpu().numpy()}

    def encode_inputs(self, stored: Shaped[Tensor, "*batch stored"]) -> Float[Tensor, "*batch time input"]:
        """The trials of the numbers stored."""
        inputs, _, _ = self._tensors(stored.device)
        return self.interface.input.encode(inputs[stored[..., 0].long()])

    def mask(self, stored: Shaped[Tensor, "*batch stored"]) -> Float[Tensor, "*batch time"]:
        """1 where the mask that was given says so; everywhere without one."""
        _, mask, _ = self._tensors(stored.device)
        if mask is None:
            return torch.ones(*stored.shape[:-1], self.time, device=stored.device)
        return mask[stored[..., 0].long()].float()

    def show(self, stored: Shaped[np.ndarray, "rollout stored"]) -> list[str]:
        """The first tokens of each trial; of numbers the trial's number."""
        if not self.trials.are_tokens:
            return [f"trial {number}" for number in stored[:, 0]]
        more = " …" if self.time > SHOWN else ""
        return [" ".join(map(str, self.trials.inputs[row, :SHOWN])) + more for row in stored[:, 0]]
