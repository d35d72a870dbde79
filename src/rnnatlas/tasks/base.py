"""What a task is: a family of instances that RNNs of one architecture are trained to do."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, System, Tokens, run
from rnnatlas.settings import build

BLOCK = 64
"""Numbers that the vectors of all instruction sets divide."""
Instance = Mapping[str, Any]
"""One member of a task's family as plain values, e.g. {"b": -1, "c": 2, "d": 0}; a zoo's `task` struct."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rollouts:
    """What RNNs read and gave out.

    `inputs` are stored compactly (token numbers, numbers with the mask beside them); `Task.encode_inputs`
    makes what the RNN reads of them.
    """

    inputs: Shaped[np.ndarray, "rnn rollout *stored"]
    outputs: Float[np.ndarray, "rnn rollout time output"]


class Task(ABC):
    """A family of instances, how to train RNNs on them, and how well a system does.

    Everything random is drawn from the streams given, one an RNN, so an RNN's data do not depend on
    which other RNNs are handled with it.
    """

    name: ClassVar[str]
    Settings: ClassVar[type]
    noun: ClassVar[str] = "task"
    """What an instance is called; its plural ends in s."""
    reads: ClassVar[str] = "its rollouts."
    """What an RNN reads in its rollouts and how far that gives its instance away: the end of a sentence, and
    one more."""

    performs: ClassVar[str] = "Performance"
    """What `performance` is, for the beginning of a sentence."""
    counted: ClassVar[str] = "all positions"
    """What `mask` leaves, in words."""
    input_names: ClassVar[tuple[str, ...]] = ()
    output_names: ClassVar[tuple[str, ...]] = ()
    """Names of the numbers that an RNN reads and gives out, where they have any."""

    def __init__(self, settings: Any):
        self.settings = settings

    @classmethod
    def from_settings(cls, values: Mapping[str, Any]) -> "Task":
        """The task with plain settings, such as a preset or a zoo holds, laid over its defaults.

        Raises:
            SettingsError: An unknown setting or an impossible value.
        """
        return cls(build(cls.Settings, values, "task"))

    def prepare(self, data: Path | None = None, progress: bool = False) -> None:
        """Makes sure that training finds what does not come with the package; most tasks need nothing.

        Args:
            data: Where the user has it; it is checked and kept for later.
            progress: Whether to show how far a download is.

        Raises:
            SettingsError: There are `data`, but the task makes its own.
            DataError: What is needed is missing or not what it should be.
        """
        if data is not None:
            raise SettingsError(f"the task {self.name} brings its own data; leave out --data {data}")

    def attach(self, open: Callable[[str], Any]) -> None:  # noqa: B027
        """Takes what opens files that a zoo of this task keeps beside its shards; most keep none."""

    @property
    def generates(self) -> bool:
        """Whether RNNs write their rollouts themselves, as those that read and give out tokens do."""
        return isinstance(self.interface.input, Tokens) and isinstance(self.interface.output, Tokens)

    # --- shape of the data -------------------------------------------------------------------
    interface: Interface
    """What RNNs read and give out."""
    time: int
    """Time steps that an RNN is run for (rollouts and training alike)."""

    # --- instances ---------------------------------------------------------------------------
    @property
    @abstractmethod
    def struct(self) -> pa.StructType:
        """Arrow type of an instance."""

    @abstractmethod
    def instance(self, run: int, seed: int) -> Instance:
        """The instance that a zoo's run number `run` is trained on."""

    @abstractmethod
    def label(self, instance: Instance) -> str:
        """The instance for people, e.g. "aⁿbⁿ⁻¹cⁿ⁺²"."""

    @abstractmethod
    def key(self, instance: Instance) -> Any:
        """Hashable; equal for instances that must lie in the same split."""

    @abstractmethod
    def is_ood(self, instances: Sequence[Instance], share: float) -> np.ndarray:
        """Which of the instances are out of distribution (method: smallest `|m|`; angle ≥ 312°)."""

    @abstractmethod
    def target(self, instances: Sequence[Instance]) -> Float[Tensor, "rnn target"]:
        """Instances as vectors to be predicted (languages: an m's one-hot vectors side by side)."""

    # --- training ----------------------------------------------------------------------------
    @abstractmethod
    def batches(
        self, instances: Sequence[Instance], batch: int, streams: Sequence[np.random.Generator]
    ) -> Iterator[Any]:
        """Training data without end, for many RNNs at once: each item is one step's, as `loss` takes it.

        An item is a dataclass of tensors, of the same shapes each time. RNN i's share of the data depends
        on its instance and its stream alone.
        """

    @abstractmethod
    def loss(self, system: System, batch: Any) -> Float[Tensor, " rnn"]:
        """Mean training loss of each RNN on one step's data."""

    # --- what a trained RNN does ---------------------------------------------------------------
    @abstractmethod
    def rollouts(
        self,
        system: System,
        instances: Sequence[Instance],
        streams: Sequence[np.random.Generator],
        count: int,
    ) -> Rollouts:
        """`count` rollouts of each RNN."""

    @abstractmethod
    def metrics(
        self,
        system: System,
        instances: Sequence[Instance],
        streams: Sequence[np.random.Generator],
        trials: int | None = None,
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """How well each RNN does; "performance" is always among them, but where that is not known at all.

        Args:
            system: The RNNs, or emulations of them.
            instances: What each RNN was trained on.
            streams: One an RNN.
            trials: Sequences that each RNN is judged by at most; as the task's settings say without it.
        """

    @abstractmethod
    def encode_inputs(self, stored: Shaped[Tensor, "*batch stored"]) -> Float[Tensor, "*batch time input"]:
        """Stored rollout inputs as what the RNN reads."""

    probe_kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of `probes` that the task offers."""

    def probes(self, kind: str, steps: int) -> Float[Tensor, "probe time input"]:
        """Fixed sequences, made for the task, to probe RNNs with.

        Args:
            kind: One of `probe_kinds`.
            steps: Their length; some may be shorter or longer.

        Raises:
            SettingsError: The task offers no such sequences.
        """
        known = ", ".join(("rollouts", "random", *self.probe_kinds))
        raise SettingsError(f"probing sequences of the task {self.name} should be {known}, found {kind!r}")

    turns: ClassVar[bool] = False
    """Whether inputs can be `turned`."""

    def turned(
        self, inputs: Float[Tensor, "*batch time input"], count: int
    ) -> Float[Tensor, "turn *batch time input"]:
        """Inputs as each element of a cyclic group makes them that acts on them, the identity first.

        An RNN of a turned instance responds to turned inputs about as one of the instance does to the inputs.

        Args:
            inputs: What an RNN reads.
            count: Elements of the group; turns are a whole one over it apart.

        Raises:
            SettingsError: None is known.
        """
        raise SettingsError(
            f"inputs of {self.name} cannot be turned, as images can; take a task such as tiled-digits"
        )

    def scan(self, system: System, sequences: int, turns: int) -> Float[Tensor, "rnn target"] | None:
        """Where instances are turns: in which RNNs do best; None where nothing is known of that.

        Args:
            system: The RNNs.
            sequences: How many inputs they are judged by, each in all turns.
            turns: How many these are.
        """
        return None

    def interview(
        self, system: System, sequences: int, steps: int
    ) -> Float[Tensor, "rnn probe time output"] | None:
        """What RNNs give out as they go on by themselves after fixed beginnings; None where they cannot.

        Args:
            system: The RNNs.
            sequences: How many beginnings.
            steps: Length of each interview.
        """
        return None

    def outputs(
        self, system: System, stored: Shaped[Tensor, "rnn rollout *stored"]
    ) -> Float[Tensor, "rnn rollout time output"]:
        """What RNNs give out on stored inputs, as rollouts keep it: of tokens, log-probabilities."""
        outputs, _ = run(system, self.encode_inputs(stored).to(system.device, system.dtype))
        return self.interface.output.interpret(outputs)

    @abstractmethod
    def mask(self, stored: Shaped[Tensor, "*batch stored"]) -> Float[Tensor, "*batch time"]:
        """1 where a rollout's output carries information, 0 elsewhere, such as after the first EOS."""

    def parts(self, stored: Shaped[Tensor, "*batch stored"]) -> dict[str, Float[Tensor, "*batch time"]]:
        """Other masks than `mask`, by name, under which emulation losses are reported as well.

        Those of positions that `mask` leaves out are reported of runs that were trained on them alone.
        """
        return {}

    def picture(
        self, inputs: Float[Tensor, "*batch time input"]
    ) -> Float[Tensor, "*batch height width"] | None:
        """What an RNN reads as an image, black 0 and white 1; None where it is not one.

        Pixels that it has not read are NaN.
        """
        return None

    @abstractmethod
    def show(self, stored: Shaped[np.ndarray, "rollout *stored"]) -> list[str]:
        """Rollouts for people, e.g. "aabbcc⏎" or "abca…" for one that never ended."""


def cross_entropy(
    outputs: Float[Tensor, "*batch class"], targets: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of each target under logits."""
    # classes first: torch's loops over a last axis as short as ours take four times as long; padded, since
    # what is left over at the end of vectors of numbers is rounded otherwise, and no RNN's loss should depend
    # on which others stand before it
    padding = (0, -targets.numel() % BLOCK)
    logits = functional.pad(outputs.flatten(0, -2).T, padding).contiguous()
    classes = functional.pad(targets.flatten(), padding)
    losses = functional.cross_entropy(logits[None], classes[None], reduction="none")
    return losses.flatten()[: targets.numel()].view(targets.shape)
