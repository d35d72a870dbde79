"""What imported RNNs are run on, which of them can be, and which serve for what."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int
from torch import Tensor

from rnnatlas.errors import DataError, SettingsError
from rnnatlas.rnn import Interface, Population, RNNSpec, Tokens, Values, sample
from rnnatlas.seeds import stream
from rnnatlas.settings import at_least_one, settings
from rnnatlas.tasks import trials
from rnnatlas.tasks.base import Instance
from rnnatlas.tasks.recorded import Recorded, RecordedSettings
from rnnatlas.tasks.trials import Trials
from rnnatlas.zoo.labels import Labels
from rnnatlas.zoo.splits import SplitSettings

LEAST_NETWORKS, LEAST_GROUPS = 5, 3
"""With fewer all are for training, since some are needed to choose weights and some to be judged by."""
MANY = 8
"""From so many groups on, at least two are held out of each kind."""
NOISE, TIME = 256, 40
"""Trials drawn where no inputs were given, and their steps."""
NAMED = 5
"""RNNs left out that are named."""


@settings
class RecordSettings:
    """How RNNs are recorded.

    Args:
        group: Label that RNNs of one split share; None where each run stands alone.
        signal: "tokens" or "values"; None to tell from inputs, else from sizes.
        rollouts: Trials that are kept of each RNN, as far as there are so many.
        seed: Of splits and of all that is drawn.
    """

    group: str | None = None
    signal: str | None = None
    rollouts: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one(self, "rollouts")
        if self.signal not in (None, "tokens", "values"):
            raise SettingsError(f"signal should be tokens or values, found {self.signal!r}")


@dataclasses.dataclass(frozen=True)
class Row:
    """An RNN to be kept.

    Args:
        id: Its name.
        run: Number of its run.
        step: Updates; −1 where they are not known.
        spec: Its architecture.
        weights: Its tensors under the names of `spec.shapes`.
        about: What else is known, by name of a column.
        finite: Whether all weights are.
    """

    id: str
    run: int
    step: int
    spec: RNNSpec
    weights: Mapping[str, Tensor]
    about: Mapping[str, str | None]
    finite: bool = True


@dataclasses.dataclass(frozen=True)
class Recording:
    """What some RNNs do and what is known of them.

    Args:
        task: What they do.
        trials: What they read.
        kept: Positions of those that can be run, among all.
        instances: Of each that is kept.
        splits: Of each that is kept.
        labels: Of each that is kept; None for none.
        rollouts: Trials of each.
        left_out: What was left out, a sentence each.
        remarks: What to know of the others, a sentence each.
    """

    task: Recorded
    trials: Trials
    kept: Sequence[int]
    instances: Sequence[Instance]
    splits: Sequence[str]
    labels: pa.Table | None
    rollouts: int
    left_out: Sequence[str]
    remarks: Sequence[str]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what is measured."""
        return ("performance", "loss") if self.trials.targets is not None else ()

    def rows(self, places: Sequence[int], names: Sequence[tuple[int, int]]) -> Int[np.ndarray, "rnn rollout"]:
        """Numbers of the trials of some RNNs, drawn by run and step; of those that sample, their own."""
        if self.task.settings.source == "sampled":
            return np.stack([place * self.rollouts + np.arange(self.rollouts) for place in places])
        seed, known = self.task.settings.seed, len(self.trials)
        drawn = [stream(seed, "rollouts", *name).permutation(known)[: self.rollouts] for name in names]
        return np.stack(drawn)


def record(rows: Sequence[Row], given: Any, labels: Labels | None, own: RecordSettings) -> Recording:
    """What RNNs do on inputs, or on their own where there are none.

    Args:
        rows: The RNNs.
        given: Inputs as `trials.read` takes them, or None.
        labels: Of each of them; None for none.
        own: How.

    Raises:
        DataError: Inputs or labels cannot be used, or fit no RNN.
        UnknownName: There is no label to group by.
    """
    specs = [row.spec for row in rows]
    groups = labels.column(own.group) if labels is not None and own.group else [None] * len(rows)
    if own.group and labels is None:
        raise DataError(f"networks can only be grouped by a label; give --labels with a column {own.group}")
    known = trials.read(given, own.signal) if given is not None else None
    known, interface, reasons = _fit(known, specs, own.signal)
    kept = [place for place, spec in enumerate(specs) if spec not in reasons]
    chosen = [rows[place] for place in kept]
    source, count = "given", own.rollouts
    if known is None and isinstance(interface.input, Tokens):
        source, known = "sampled", _sampled(chosen, interface, own)
    elif known is None:
        source, known = "noise", trials.noise(NOISE, TIME, interface.input.size, own.seed)
    assert known is not None, "given, sampled or drawn"
    task = Recorded(_settings(interface, source, known, own))
    task.trials = known
    names = {row.run: row.id for row in reversed(rows)}
    instances = [
        {"network": names[row.run], "group": groups[place]} for row, place in zip(chosen, kept, strict=True)
    ]
    keys = [task.key(instance) for instance in instances]
    splits = assign(keys, own.seed, grouped=bool(own.group))
    return Recording(
        task=task,
        trials=known,
        kept=kept,
        instances=instances,
        splits=splits,
        labels=None if labels is None else labels.table.take(pa.array(kept, pa.int64())),
        rollouts=min(count, len(known)),
        left_out=_left_out(rows, reasons),
        remarks=[
            _said(task, known),
            *known.notes,
            *(labels.remarks if labels else ()),
            _sizes(keys, splits, own.group),
        ],
    )


def _settings(interface: Interface, source: str, known: Trials, own: RecordSettings) -> RecordedSettings:
    reads, gives = (
        "tokens" if isinstance(s, Tokens) else "values" for s in (interface.input, interface.output)
    )
    return RecordedSettings(
        reads=reads,
        gives=gives,
        inputs=interface.input.size,
        outputs=interface.output.size,
        source=source,
        trials=len(known),
        time=known.time,
        masked=known.mask is not None,
        group=own.group,
        seed=own.seed,
    )


# --- which RNNs can be run ------------------------------------------------------------------------------


Sizes = tuple[int, int]
"""Numbers read and given out a step."""


def _fit(
    known: Trials | None, specs: Sequence[RNNSpec], signal: str | None
) -> tuple[Trials | None, Interface, dict[RNNSpec, str]]:
    """The interface that most RNNs share of those that fit the inputs, and why others are left out.

    Raises:
        DataError: None fits.
    """
    counts = Counter(map(_sizes_of, specs))
    if known is None:
        interface = _without_inputs(specs, counts.most_common(1)[0][0], signal)
        found: dict[Sizes, Interface | str] = dict.fromkeys(counts, "fewer RNNs are of these sizes")
        found[interface.sizes] = interface
    else:
        found = {sizes: known.interface(sizes) for sizes in counts}
    fitting = {sizes: one for sizes, one in found.items() if isinstance(one, Interface)}
    if known is not None and not fitting:
        if known.are_tokens and signal is None and any(reads == 1 for reads, _ in counts):
            return _fit(known.as_numbers(), specs, "values")  # one number a step, which happens to be whole
        if (classes := known.as_classes()) is not None:
            return _fit(classes, specs, signal)
        sizes, count = counts.most_common(1)[0]
        raise DataError(
            f"the inputs fit none of the RNNs: {found[sizes]}, but {count} of {len(specs)} RNNs read "
            f"{sizes[0]} numbers a step and give out {sizes[1]}; give inputs for these"
        )
    chosen = max(fitting, key=lambda sizes: counts[sizes])
    found |= {sizes: "fewer RNNs are of these sizes" for sizes in fitting if sizes != chosen}
    reasons = {spec: found[_sizes_of(spec)] for spec in specs if _sizes_of(spec) != chosen}
    if known is None and isinstance(fitting[chosen].input, Tokens):
        both = [spec for spec in specs if spec.bidirectional and spec not in reasons]
        reasons |= dict.fromkeys(both, "an RNN that reads from both ends samples no sequence")
    return known, fitting[chosen], {spec: str(reason) for spec, reason in reasons.items()}


def _sizes_of(spec: RNNSpec) -> Sizes:
    return spec.input, spec.output_size


def _without_inputs(specs: Sequence[RNNSpec], sizes: Sizes, signal: str | None) -> Interface:
    """Tokens where RNNs can be fed what they give out, through a head, else numbers."""
    of_sizes = [spec for spec in specs if _sizes_of(spec) == sizes]
    one_way = any(not spec.bidirectional for spec in of_sizes)
    feeds = sizes[0] == sizes[1] > 1 and one_way
    if signal == "tokens" and not feeds:
        raise DataError(
            "RNNs that sample tokens from themselves give out as many as they read, and read one way, found "
            f"{of_sizes[0]}; give --inputs"
        )
    headed = all(spec.output is not None for spec in of_sizes)
    kind = Tokens if signal == "tokens" or (signal is None and feeds and headed) else Values
    return Interface(kind(sizes[0]), kind(sizes[1]))


def _left_out(rows: Sequence[Row], reasons: dict[RNNSpec, str]) -> list[str]:
    sentences = []
    for spec, reason in reasons.items():
        ids = [row.id for row in rows if row.spec == spec]
        named = ", ".join(ids[:NAMED]) + (", …" if len(ids) > NAMED else "")
        sentences.append(f"{spec} ({reason}): {named}")
    return sentences


def _sampled(rows: Sequence[Row], interface: Interface, own: RecordSettings) -> Trials:
    """Sequences that each RNN samples from itself, after a first token drawn evenly."""
    size = interface.input.size
    inputs = np.zeros((len(rows), own.rollouts, TIME), dtype=np.int64)
    for place, row in enumerate(rows):
        random = stream(own.seed, "rollouts", row.run, row.step)
        first = torch.from_numpy(random.integers(size, size=(1, own.rollouts)))
        uniforms = torch.from_numpy(random.random((1, own.rollouts, TIME - 1), dtype=np.float32))
        weights = {name: row.weights[name].detach().float()[None] for name in row.spec.shapes}
        drawn, _ = sample(Population(row.spec, weights, interface), uniforms, first)
        inputs[place] = torch.cat([first[..., None], drawn.long()], 2)[0].numpy()
    return Trials(inputs.reshape(-1, TIME))


# --- which serve for what --------------------------------------------------------------------------------


def assign(keys: Sequence[Any], seed: int, grouped: bool) -> list[str]:
    """The split of each RNN: of groups, or runs, drawn at random; all are for training where they are few."""
    known = sorted(set(keys))
    if len(known) < (LEAST_GROUPS if grouped else LEAST_NETWORKS):
        return ["train"] * len(keys)
    stream(seed, "splits").shuffle(known)
    shares, least = SplitSettings(), 2 if len(known) >= MANY else 1
    validation = max(least, round(shares.validation * len(known)))
    ood = max(least, round(shares.ood * len(known)))
    split = dict.fromkeys(known, "train")
    split |= dict.fromkeys(known[:validation], "validation")
    split |= dict.fromkeys(known[validation : validation + ood], "ood")
    return [split[key] for key in keys]


def _sizes(keys: Sequence[Any], splits: Sequence[str], group: str | None) -> str:
    """How many networks or groups there are in each split."""
    what = f"groups of {group}" if group else "networks"
    counts = Counter(dict(zip(keys, splits, strict=True)).values())
    if set(splits) == {"train"}:
        least = LEAST_GROUPS if group else LEAST_NETWORKS
        return (
            f"all {counts['train']} {what} are for training, since it takes {least} to hold some out, which "
            "training an encoder needs"
        )
    listed = ", ".join(f"{counts[split]} {split}" for split in ("train", "validation", "ood"))
    return f"splits, drawn at random: {listed} {what}"


def _said(task: Recorded, known: Trials) -> str:
    """What RNNs read, for people."""
    own = task.settings
    kind = f"one of {own.inputs} tokens" if own.reads == "tokens" else f"{own.inputs} numbers"
    said = f"RNNs read {kind} a step, {own.time} steps a trial, and give out "
    said += f"logits of {own.outputs} classes" if own.gives == "tokens" else f"{own.outputs} numbers"
    if own.source == "given":
        return f"{said}; {own.trials} trials were given" + (", with targets" * (known.targets is not None))
    if own.source == "noise":
        return f"{said}; no inputs were given, so they are white and smooth noise: give --inputs for others"
    return f"{said}; no inputs were given, so each RNN samples its own: give --inputs for others"
