"""Generating strings of the languages aⁿ bⁿ⁺ᵐᵇ cⁿ⁺ᵐᶜ dⁿ⁺ᵐᵈ … (Herrmann et al. 2024, section 5.1)."""

import dataclasses
import functools
import string
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import one_hot

from rnnatlas.errors import SettingsError
from rnnatlas.rnn import Interface, System, Tokens, run, sample
from rnnatlas.seeds import stream
from rnnatlas.settings import at_least_one, settings
from rnnatlas.tasks.base import Instance, Rollouts, Task, cross_entropy

BLOCK = 512
"""Training steps whose strings are drawn at once; part of what a seed means, like the streams' names."""
PROBES = 128
"""Counting strings that RNNs can be probed with."""
LANGUAGES = 100_000
"""More languages than this and dealing them out to runs would no longer be instant."""
INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
SUPERSCRIPTS = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")


@settings
class FormalLanguagesSettings:
    """Which languages there are and how long their strings may be; the defaults are the paper's.

    Args:
        tokens: Letters of the alphabet; a language has tokens − 1 numbers m, one for each letter but a.
        smallest: Smallest m.
        largest: Largest m.
        length: Stored tokens of a sequence, BOS and at least one EOS included.
        largest_n: Largest n in training strings; less where the string and its EOS would not fit.
        performance_samples: Strings sampled to measure an RNN's performance.
    """

    tokens: int = 4
    smallest: int = -3
    largest: int = 2
    length: int = 42
    largest_n: int = 9
    performance_samples: int = 1000

    def __post_init__(self) -> None:
        if not 2 <= self.tokens <= 26:
            raise SettingsError(f"tokens should lie between 2 and 26, found {self.tokens}")
        if self.smallest > self.largest:
            raise SettingsError(
                f"smallest should be at most largest, found {self.smallest} and {self.largest}"
            )
        if self.languages > LANGUAGES:
            raise SettingsError(
                f"at most {LANGUAGES} languages are supported, these settings make {self.languages}; "
                "take fewer tokens or a narrower range of m"
            )
        at_least_one(self, "performance_samples")
        self._check_lengths()

    def _check_lengths(self) -> None:
        lowest = max(0, -self.smallest)
        if self.largest_n < lowest:
            raise SettingsError(
                f"largest_n should be {lowest} or more, so that every count from n + {self.smallest} "
                f"up can be 0, found {self.largest_n}"
            )
        # The longest of the languages' shortest strings: one m sets n, the others are as large as may be.
        longest = max(
            self.tokens * max(0, -m) + m + (self.tokens - 2) * self.largest
            for m in range(self.smallest, self.largest + 1)
        )
        if self.length < longest + 2:
            raise SettingsError(
                f"length should be {longest + 2} or more, so that every language has a string that fits "
                f"between BOS and EOS, found {self.length}"
            )

    @property
    def values(self) -> int:
        """How many values an m can have."""
        return self.largest - self.smallest + 1

    @property
    def languages(self) -> int:
        """How many languages there are."""
        return self.values ** (self.tokens - 1)


@dataclasses.dataclass(frozen=True)
class Strings:
    """One step's training strings, each different one once, weighted by its share of the batch.

    A language has no more than `largest_n` + 1 strings, fewer than a batch draws: the mean over the
    different ones, weighted, is the mean over the batch at a fraction of the work.
    """

    inputs: Float[Tensor, "rnn batch time input"]
    targets: Int[Tensor, "rnn batch time"]
    weights: Float[Tensor, "rnn batch"]


class FormalLanguages(Task):
    """Languages of equal counts, shifted: { aⁿ bⁿ⁺ᵐᵇ cⁿ⁺ᵐᶜ dⁿ⁺ᵐᵈ : n ≥ max(0, −min m) }.

    RNNs read one-hot tokens (letters, BOS, EOS) and give out logits of the next token. A rollout is
    sampled from the RNN itself; a sampled string belongs to a language if its letters have the right
    counts in the right order and EOS ends it. What follows the first EOS is padding.

    Args:
        settings: Alphabet, range of m, lengths.
    """

    name: ClassVar[str] = "formal-languages"
    noun: ClassVar[str] = "language"
    reads: ClassVar[str] = (
        "strings that it wrote itself. Such strings give the language away as they unfold, so even an "
        "unconditional emulator does fairly well."
    )
    performs: ClassVar[str] = "Share of strings written that belong to the language"
    counted: ClassVar[str] = "positions up to the first EOS"
    Settings: ClassVar[type] = FormalLanguagesSettings
    settings: FormalLanguagesSettings

    def __init__(self, settings: FormalLanguagesSettings | None = None):
        super().__init__(settings or FormalLanguagesSettings())
        self.bos = self.settings.tokens
        self.eos = self.settings.tokens + 1
        tokens = Tokens(self.settings.tokens + 2)
        self.interface = Interface(tokens, tokens)
        self.time = self.settings.length - 1
        self.letters = string.ascii_lowercase[: self.settings.tokens]

    # --- instances ---------------------------------------------------------------------------
    @property
    def struct(self) -> pa.StructType:
        """One small whole number m for each letter but the first, in as few bits as hold every m."""
        most = max(self.settings.largest, -self.settings.smallest - 1)
        kind = next(kind for kind in INTEGERS if most < 2 ** (kind.bit_width - 1))
        return pa.struct([(letter, kind) for letter in self.letters[1:]])

    def instance(self, run: int, seed: int) -> Instance:
        """Languages are dealt out in rounds, each round in its own random order.

        So any number of runs covers the languages as evenly as it can, and a run's language does not
        depend on how many runs there are.
        """
        round_, place = divmod(run, self.settings.languages)
        number = int(_dealt(seed, round_, self.settings.languages)[place])
        shifts = []
        for _ in self.letters[1:]:
            number, digit = divmod(number, self.settings.values)
            shifts.append(self.settings.smallest + digit)
        return dict(zip(self.letters[1:], shifts, strict=True))

    def label(self, instance: Instance) -> str:
        """For people: "aⁿbⁿ⁻¹cⁿ⁺²"."""
        shifts = [0, *self.key(instance)]
        powers = ("ⁿ" + (f"{shift:+d}".translate(SUPERSCRIPTS) if shift else "") for shift in shifts)
        return "".join(letter + power for letter, power in zip(self.letters, powers, strict=True))

    def key(self, instance: Instance) -> tuple[int, ...]:
        """The numbers m, in the order of the letters."""
        return tuple(instance[letter] for letter in self.letters[1:])

    def is_ood(self, instances: Sequence[Instance], share: float) -> Bool[np.ndarray, " rnn"]:
        """The `share` of the languages present whose sum of |m| is smallest; ties go by the m in order."""
        keys = [self.key(instance) for instance in instances]
        ranked = sorted(set(keys), key=lambda key: (sum(map(abs, key)), key))
        chosen = set(ranked[: round(share * len(ranked))])
        return np.array([key in chosen for key in keys], dtype=bool)

    def target(self, instances: Sequence[Instance]) -> Float[Tensor, "rnn target"]:
        """Each m one-hot over its possible values, side by side ("three-hot" for four tokens)."""
        shifts = torch.from_numpy(self._shifts(instances) - self.settings.smallest)
        return one_hot(shifts, self.settings.values).flatten(1).float()

    def _shifts(self, instances: Sequence[Instance]) -> Int[np.ndarray, "rnn shift"]:
        keys = [self.key(instance) for instance in instances]
        return np.array(keys, dtype=np.int64).reshape(len(keys), self.settings.tokens - 1)

    # --- strings -----------------------------------------------------------------------------
    def largest_n(self, instance: Instance) -> int:
        """Largest n whose string fits between BOS and EOS, and at most the setting `largest_n`."""
        room = self.settings.length - 2 - sum(self.key(instance))
        return min(self.settings.largest_n, room // self.settings.tokens)

    def strings(self, instance: Instance) -> UInt8[np.ndarray, "string stored"]:
        """All training strings of a language, shortest first: BOS, letters, EOS to the end."""
        shifts = np.array([0, *self.key(instance)])
        n = np.arange(max(0, -shifts.min()), self.largest_n(instance) + 1)
        ends = np.cumsum(n[:, None] + shifts, axis=1)
        positions = np.arange(self.settings.length - 1)
        letters = (positions >= ends[:, :, None]).sum(axis=1)
        letters[letters == self.settings.tokens] = self.eos
        return np.pad(letters, ((0, 0), (1, 0)), constant_values=self.bos).astype(np.uint8)

    def membership(
        self, tokens: UInt8[np.ndarray, "*batch time"], instance: Instance
    ) -> Bool[np.ndarray, "*batch"]:
        """Which sampled strings (without BOS) belong to a language.

        A string ends before its first EOS; one without EOS does not belong. It must be made of letters
        in alphabetical order whose counts differ from the count of a by exactly the language's m.
        """
        ends = tokens == self.eos
        inside = np.cumsum(ends, axis=-1) == 0
        letters = ~(inside & (tokens >= self.bos)).any(axis=-1)
        ordered = ~((tokens[..., 1:] < tokens[..., :-1]) & inside[..., 1:]).any(axis=-1)
        counts = np.stack(
            [((tokens == k) & inside).sum(axis=-1) for k in range(self.settings.tokens)], axis=-1
        )
        right = (counts[..., 1:] - counts[..., :1] == np.array(self.key(instance))).all(axis=-1)
        return np.asarray(ends.any(axis=-1) & letters & ordered & right)

    def score(
        self, tokens: UInt8[np.ndarray, "rnn batch time"], instances: Sequence[Instance]
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Shares of each RNN's sampled strings (without BOS) that belong, and that EOS ends."""
        belong = [self.membership(own, instance) for own, instance in zip(tokens, instances, strict=True)]
        return {
            "performance": np.array([own.mean() for own in belong]),
            "finished": (tokens == self.eos).any(axis=-1).mean(axis=-1),
        }

    # --- training ----------------------------------------------------------------------------
    def batches(
        self, instances: Sequence[Instance], batch: int, streams: Sequence[np.random.Generator]
    ) -> Iterator[Strings]:
        """Uniform draws of n, as often as there are strings in a batch, step after step."""
        tables, inputs, targets = self._tables(instances)
        places = self.settings.largest_n + 1
        while True:
            counts = np.stack(
                [
                    _counts(own, BLOCK, batch, len(table), places)
                    for own, table in zip(streams, tables, strict=True)
                ],
                axis=1,
            )
            for weights in torch.from_numpy(counts.astype(np.float32) / batch):
                yield Strings(inputs, targets, weights)

    def _tables(
        self, instances: Sequence[Instance]
    ) -> tuple[list[np.ndarray], Float[Tensor, "rnn batch time input"], Int[Tensor, "rnn batch time"]]:
        tables = [self.strings(instance) for instance in instances]
        shape = (len(tables), self.settings.largest_n + 1, self.settings.length)
        padded = np.full(shape, self.eos, dtype=np.uint8)
        for own, table in zip(padded, tables, strict=True):
            own[: len(table)] = table
        stored = torch.from_numpy(padded)
        return tables, self.encode_inputs(stored), stored[..., 1:].long()

    def loss(self, system: System, batch: Strings) -> Float[Tensor, " rnn"]:
        """Next-token cross-entropy with the true tokens fed; mean over strings and positions, padding too."""
        outputs, _ = run(system, batch.inputs.to(system.device, system.dtype))
        each = cross_entropy(outputs, batch.targets.to(system.device))
        return (each.mean(-1) * batch.weights.to(each)).sum(-1)

    # --- what a trained RNN does ---------------------------------------------------------------
    @torch.no_grad()
    def rollouts(
        self,
        system: System,
        instances: Sequence[Instance],
        streams: Sequence[np.random.Generator],
        count: int,
    ) -> Rollouts:
        """Sequences sampled from the RNN itself, with the log-probabilities that it gave each next token."""
        tokens, log_probs = self._sample(system, streams, count)
        inputs = np.pad(tokens.cpu().numpy(), ((0, 0), (0, 0), (1, 0)), constant_values=self.bos)
        return Rollouts(inputs=inputs, outputs=self.interface.output.store(log_probs))

    @torch.no_grad()
    def metrics(
        self,
        system: System,
        instances: Sequence[Instance],
        streams: Sequence[np.random.Generator],
        trials: int | None = None,
    ) -> dict[str, Float[np.ndarray, " rnn"]]:
        """Shares "performance" and "finished" of sampled strings, and the expected training "loss"."""
        tokens, _ = self._sample(system, streams, trials or self.settings.performance_samples)
        tables, inputs, targets = self._tables(instances)
        weights = torch.zeros(inputs.shape[:2])
        for own, table in zip(weights, tables, strict=True):
            own[: len(table)] = 1 / len(table)
        loss = self.loss(system, Strings(inputs, targets, weights))
        return {**self.score(tokens.cpu().numpy(), instances), "loss": loss.cpu().numpy()}

    def _sample(
        self, system: System, streams: Sequence[np.random.Generator], count: int
    ) -> tuple[UInt8[Tensor, "rnn batch time"], Float[Tensor, "rnn batch time output"]]:
        uniforms = np.stack([own.random((count, self.time), dtype=np.float32) for own in streams])
        return sample(system, torch.from_numpy(uniforms).to(system.device), self.bos)

    def encode_inputs(self, stored: UInt8[Tensor, "*batch stored"]) -> Float[Tensor, "*batch time input"]:
        """One-hot tokens, all but the last, which nothing is predicted from."""
        return self.interface.input.encode(stored[..., :-1])

    def mask(self, stored: UInt8[Tensor, "*batch stored"]) -> Float[Tensor, "*batch time"]:
        """1 up to the output that should say EOS, 0 from the first EOS read on."""
        return ((stored[..., :-1] == self.eos).cumsum(-1) == 0).float()

    probe_kinds: ClassVar[tuple[str, ...]] = ("counting",)

    def probes(self, kind: str, steps: int) -> Float[Tensor, "probe time input"]:
        """Counting strings: aⁿ, then as many b, c, … or up to `largest_m` more or fewer, then EOS."""
        if kind not in self.probe_kinds:
            return super().probes(kind, steps)
        random = stream(0, "counting", steps)
        most = max(1, min(self.settings.largest_n, steps // self.settings.tokens))
        n = 1 + np.arange(PROBES)[:, None] % most
        shifts = random.integers(
            self.settings.smallest, self.settings.largest + 1, (PROBES, len(self.letters))
        )
        shifts[:, 0] = 0
        ends = np.cumsum(np.maximum(0, n + shifts), axis=1)
        letters = (np.arange(steps - 1) >= ends[:, :, None]).sum(axis=1)
        letters[letters == self.settings.tokens] = self.eos
        tokens = np.pad(letters, ((0, 0), (1, 0)), constant_values=self.bos)
        return self.interface.input.encode(torch.from_numpy(tokens))

    @torch.no_grad()
    def interview(self, system: System, sequences: int, steps: int) -> Float[Tensor, "rnn probe time output"]:
        """Log-probabilities after aⁿ, for several n, where an RNN then reads what it finds most probable.

        So b's come until the answer turns to c, and so on, as in the interview of theorem 3.3 (Herrmann et
        al. 2024): of an RNN that has learned its language, they count every m.
        """
        most = max(1, steps // self.settings.tokens)
        n = torch.linspace(1, most, sequences).round().long().expand(len(system), -1)
        read = torch.full_like(n, self.bos)
        state, responses = None, []
        for step in range(steps):
            outputs, state = system.step(
                self.interface.input.encode(read).to(system.device, system.dtype), state
            )
            responses.append(outputs.log_softmax(-1))
            read = torch.where(step < n, 0, outputs.argmax(-1).cpu())
        return torch.stack(responses, 2)

    def show(self, stored: UInt8[np.ndarray, "rollout stored"]) -> list[str]:
        """Letters up to EOS ("aabbcc⏎"), or to the end where it never came ("abca…"); "^" is a stray BOS."""
        characters = np.array([*self.letters, "^", "⏎"])
        texts = ("".join(characters[own[1:]]).partition("⏎") for own in stored)
        return [text + (end or "…") for text, end, _ in texts]


@functools.lru_cache(maxsize=4)
def _dealt(seed: int, round_: int, languages: int) -> Int[np.ndarray, " language"]:
    """The order in which the languages are dealt out in a round."""
    return stream(seed, "tasks", round_).permutation(languages)


def _counts(
    own: np.random.Generator, steps: int, batch: int, strings: int, places: int
) -> Int[np.ndarray, "step string"]:
    """How often each of a language's strings is drawn in each of many steps."""
    drawn = own.integers(strings, size=(steps, batch)) + places * np.arange(steps)[:, None]
    return np.bincount(drawn.ravel(), minlength=steps * places).reshape(steps, places)
