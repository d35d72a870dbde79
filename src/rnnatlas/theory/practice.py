"""The game played on trained RNNs: how often their language is named, by the number of queries."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8

from rnnatlas.errors import SettingsError
from rnnatlas.intervals import Interval, bootstrap
from rnnatlas.rnn import System, run
from rnnatlas.seeds import stream
from rnnatlas.tasks.base import Instance, Task
from rnnatlas.tasks.formal_languages import FormalLanguages
from rnnatlas.theory.interactive import Strategy
from rnnatlas.theory.languages import Languages
from rnnatlas.theory.noninteractive import greedy
from rnnatlas.theory.table import Table

TOGETHER = 64
"""RNNs that are run at once."""

Asked = Int[np.ndarray, "rnn query"]
"""What each RNN is asked, in order; −1 where nothing more is asked."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Whose language is named rightly after 1, 2, … queries.

    Curves of learned encoders, which read as many responses, belong beside these.

    Attributes:
        accuracy: Of trained RNNs; a fraction where several languages agree with as many answers.
        ideal: Of the languages themselves.
    """

    accuracy: Float[np.ndarray, "rnn query"]
    ideal: Float[np.ndarray, "language query"]

    def at(self, queries: int, clusters: Shaped[np.ndarray, " rnn"]) -> Interval:
        """The share after so many queries, or all where there are fewer; an interval over languages."""
        own = self.accuracy[:, min(queries, self.accuracy.shape[1]) - 1]
        return bootstrap(own[None], clusters, bounds=(0.0, 1.0))


class Examination:
    """Trained RNNs, their answers to long prefixes of several n, and the answers of their languages.

    A long prefix of another n asks the same of a language, and asks an RNN anew.

    Args:
        system: RNNs that were trained on formal languages.
        instances: The language of each.
        task: Their task.

    Raises:
        SettingsError: It is another task, or its strings are too short for prefixes of every letter.
    """

    def __init__(self, system: System, instances: Sequence[Instance], task: Task | None):
        if not isinstance(task, FormalLanguages):
            raise SettingsError(
                "theory needs a zoo of formal-languages, whose functions are known, found one of "
                f"{task.name if task else 'imported RNNs'}; build one with `rnnatlas zoo build "
                "formal-languages`"
            )
        settings = task.settings
        self.languages = Languages(settings.tokens, settings.smallest, settings.largest)
        room = settings.length - 2 - (settings.tokens - 1) * max(0, settings.largest)
        most = min(settings.largest_n, room // settings.tokens)
        if most < self.languages.long:
            raise SettingsError(
                f"strings of the zoo should have room for n = {self.languages.long}, so that every letter "
                f"comes in every language, found room for n = {most}; take a zoo of longer strings"
            )
        self.counts = range(self.languages.long, most + 1)
        prefixes = [self.languages.long_prefixes(n) for n in self.counts]
        threshold = 0.5 / (settings.largest_n + 1)
        self.truth = self.languages.allowed(np.concatenate(prefixes))
        self.given = np.concatenate([respond(system, own, task, threshold) for own in prefixes], axis=1)
        names = {tuple(shifts): number for number, shifts in enumerate(self.languages.shifts.tolist())}
        self.language = np.array([names[task.key(instance)] for instance in instances])
        self.one = Table(self.languages.allowed(prefixes[0]))

    def wrong(self) -> dict[str, float]:
        """Shares of answers that are wrong: of all, and of those whose like was wrong at another n."""
        wrong = self.given != self.truth[self.language]
        by_n = wrong.reshape(len(wrong), len(self.counts), -1)
        found = {"wrong answers": float(wrong.mean())}
        if len(self.counts) > 1 and wrong.any():
            others = (by_n.sum(1, keepdims=True) - by_n) / (len(self.counts) - 1)
            found["wrong where the same was wrong at another n"] = float(others[by_n].mean())
        return found

    def curves(self, seed: int = 0) -> dict[str, Curve]:
        """Accuracy against queries for every way of asking; what is named agrees with the most answers."""
        size, sets = self.one.queries, len(self.counts)
        random = stream(seed, "theory", "queries")
        fixed = random.permutation(self.languages.fixed_list())
        anywhere = np.stack(
            [random.permutation(size * sets) for _ in range(max(map(len, (self.given, self.truth))))]
        )
        interview, limit = self.languages.interview(), len(fixed) * sets

        def again(queries: Sequence[int] | np.ndarray) -> np.ndarray:
            return np.concatenate([np.asarray(queries) + number * size for number in range(sets)])

        def asked(given: np.ndarray) -> dict[str, Asked]:
            everyone = (len(given), 1)
            return {
                "interactive": follow(interview, given, size),
                "fixed, optimal list": np.tile(again(fixed), everyone),
                "fixed, greedy": np.tile(again(greedy(self.one))[:limit], everyone),
                "random": anywhere[: len(given), :limit],
            }

        trained, ideal = asked(self.given), asked(self.truth)
        own = np.arange(len(self.truth))
        return {
            name: Curve(
                score(trained[name], self.given, self.truth, self.language),
                score(ideal[name], self.truth, self.truth, own),
            )
            for name in trained
        }


@torch.no_grad()
def respond(
    system: System, prefixes: Int[np.ndarray, "prefix letter"], task: FormalLanguages, threshold: float
) -> UInt8[np.ndarray, "rnn prefix"]:
    """What RNNs say may come next: the most probable letter or the end; nothing, if the prefix is improbable.

    Args:
        system: RNNs that read BOS and letters and give out logits of the next token.
        prefixes: How often each letter comes.
        task: Says which token is which.
        threshold: A prefix is improbable if some token of it had a smaller probability than this. Half the
            least probability that a token has in training strings.

    Returns:
        Answers as `Languages.allowed` has them.
    """
    ends = np.cumsum(prefixes, axis=1)
    lengths = torch.from_numpy(ends[:, -1])
    places = np.arange(int(lengths.max()))
    letters = (places >= ends[:, :, None]).sum(1)
    letters[letters == task.settings.tokens] = task.eos
    tokens = torch.from_numpy(np.pad(letters, ((0, 0), (1, 0)), constant_values=task.bos))
    inputs = task.interface.input.encode(tokens).to(system.device, system.dtype)
    answers = []
    for start in range(0, len(system), TOGETHER):
        outputs, _ = run(system.select(slice(start, start + TOGETHER)), inputs)
        probabilities = outputs.softmax(-1).cpu()
        read = tokens[None, :, 1:, None].expand(len(outputs), -1, -1, 1)
        passed = probabilities[:, :, :-1].gather(-1, read).squeeze(-1)
        outside = torch.arange(passed.shape[-1]) >= lengths[:, None]
        possible = (passed.masked_fill(outside, 1.0) >= threshold).all(-1)
        last = probabilities[:, torch.arange(len(lengths)), lengths]
        last = torch.cat([last[..., : task.bos], last[..., task.eos :]], -1)
        answers.append(torch.where(possible, 1 << last.argmax(-1), 0).numpy().astype(np.uint8))
    return np.concatenate(answers)


def follow(strategy: Strategy, given: UInt8[np.ndarray, "rnn prefix"], size: int) -> Asked:
    """What a strategy asks; at its end, or after an answer unknown to it, it begins anew at the next n.

    Args:
        strategy: Over the queries of one n.
        given: Answers to the queries of all n, one n after the other.
        size: Queries of one n.
    """
    sets = given.shape[1] // size
    asked = np.full((len(given), sets * strategy.depth), -1)
    for own, answers in zip(asked, given, strict=True):
        count = 0
        for first in range(0, sets * size, size):
            node: Strategy | None = strategy
            while node is not None and node.query is not None:
                own[count] = first + node.query
                count += 1
                node = node.branches.get(int(answers[first + node.query]))
    return asked


def score(
    asked: Asked,
    given: UInt8[np.ndarray, "rnn prefix"],
    truth: UInt8[np.ndarray, "language prefix"],
    language: Int[np.ndarray, " rnn"],
) -> Float[np.ndarray, "rnn query"]:
    """Whether the language with the most answers that agree is the right one, after each query.

    Where several agree as often, the chance that the right one is drawn among them.
    """
    rnns = np.arange(len(given))
    agreed = np.zeros((len(given), len(truth)), np.int64)
    right = np.empty(asked.shape)
    for step, query in enumerate(asked.T):
        agreed += (given[rnns, query][:, None] == truth[:, query].T) & (query >= 0)[:, None]
        best = agreed == agreed.max(1, keepdims=True)
        right[:, step] = best[rnns, language] / best.sum(1)
    return right
