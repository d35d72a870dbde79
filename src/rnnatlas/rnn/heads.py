"""Which linear layer of a state_dict is an RNN's head."""

import bisect
import dataclasses
import functools
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import Tensor

from rnnatlas.errors import CheckpointError

_ATTENTION = re.compile(r"att(e?n)?|attention|query|key|memory|score|concat|merge", re.IGNORECASE)
_INPUT = re.compile(r"in|inp|inputs?|pre|emb\w*|enc\w*|features?|backbone|stem", re.IGNORECASE)
_INITIAL = re.compile(r"(.*_)?(init(ial)?|[hc]_?0|[hc]x|hidden_?0|cell_?0|start)(_.*)?", re.IGNORECASE)
Head = str | Sequence[str] | None
"""Prefix of the linear head's names, "" for none; "PREFIX=NAME" for the RNN at one prefix."""
MOST = 64
"""Layers around one RNN that are looked at; files may hold many of both."""
CHOOSE = "--head PREFIX=NAME takes one"


@dataclasses.dataclass(frozen=True)
class Reader:
    """An RNN as far as its neighbours matter: what it reads, what it gives out, and its place in the file."""

    input: int
    width: int
    place: int


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of a state_dict: its name, its place in the file, and its sizes where it is linear."""

    name: str
    place: int
    shape: tuple[int, ...]
    biased: bool

    @property
    def reads(self) -> int | None:
        """How many numbers it reads, if it is linear."""
        return self.shape[1] if len(self.shape) == 2 else None

    @property
    def gives(self) -> int | None:
        """How many numbers it gives out, if it is linear."""
        return self.shape[0] if len(self.shape) == 2 else None

    @property
    def is_embedding(self) -> bool:
        """Whether it is one by its name, and has no bias."""
        return not self.biased and "emb" in self.name.lower()


@dataclasses.dataclass(frozen=True)
class Choice:
    """An RNN's head.

    Args:
        head: What its names start with; None where there is none, or it is not clear.
        question: Why it is not clear.
        notes: What else lies around the RNN and is not read.
        named: Layers that are named in these.
    """

    head: str | None = None
    question: str | None = None
    notes: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


class Heads:
    """The layers of a state_dict that may be heads.

    Args:
        tensors: All tensors.
        readers: Prefix of each RNN → what it reads and gives out.
        named: What the user named: prefix of an RNN → prefix of its head, "" for none; None for all RNNs.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], readers: Mapping[str, Reader], named: Mapping[str | None, str]
    ):
        self._tensors, self._readers, self._named = tensors, readers, named
        names = list(tensors)
        self._ordered = names != sorted(names)
        """Whether the order of names is that of the program, not of the alphabet (safetensors)."""
        # a layer belongs to the innermost module around it that has an RNN inside
        modules = {module for prefix in readers for module in around(prefix)}
        self._layers: dict[str, list[Layer]] = defaultdict(list)
        self._reading: dict[tuple[str, int], list[Layer]] = defaultdict(list)
        self._loose: dict[str, list[str]] = defaultdict(list)
        self._initials: dict[str, list[str]] = defaultdict(list)
        self._inside = Counter(module for prefix in readers for module in around(prefix))
        for place, (name, tensor) in enumerate(tensors.items()):
            if not modules or tensor.is_nested:
                continue
            layer, _, kind = name.rpartition(".")
            module = next(module for module in around(name) if module in modules)
            if kind == "weight" and tensor.ndim:
                bias = tensors.get(f"{layer}.bias" if layer else "bias")
                found = Layer(layer, place, tuple(tensor.shape), bias is not None)
                self._layers[module].append(found)
                self._reading[module, found.reads or 0].append(found)
                if _INITIAL.fullmatch(layer.rpartition(".")[2]):
                    self._initials[module].append(layer)
            elif kind not in _PARTS and tensor.ndim:
                if _INITIAL.fullmatch(kind):
                    self._initials[module].append(name)
                elif module not in readers:
                    self._loose[module].append(name)
        self._siblings: dict[tuple[str, int], list[str]] = defaultdict(list)
        for prefix, reader in readers.items():
            self._siblings[_parent(prefix), reader.input].append(prefix)
        self._sharing: dict[tuple[str, int], list[str]] = defaultdict(list)
        for prefix, reader in readers.items():
            for module in around(prefix):
                self._sharing[module, reader.width].append(prefix)
        self._last = functools.cache(self._last_of)

    def behind(self, prefix: str, where: str) -> Choice:
        """The head of an RNN: the one that was named, or the only one that it can be.

        Raises:
            CheckpointError: The one that was named is not there, or fits no RNN.
        """
        named = self._named.get(prefix, self._named.get(None))
        notes = self._next(prefix)
        if named is None:
            choice = self._guess(prefix, where)
        else:
            choice = Choice(named, notes=()) if prefix in self._named else self._fitting(named, prefix, where)
        behind = self._left_out(prefix, choice)
        return dataclasses.replace(choice, notes=(*choice.notes, *notes, *behind))

    def _fitting(self, named: str, prefix: str, where: str) -> Choice:
        """The head that was named for all RNNs, if it fits this one."""
        if not named:
            return Choice("")
        weight = self._tensors.get(f"{named}weight")
        if weight is None:
            raise CheckpointError(
                f"expected the head's weights at {named}weight, found none; "
                "give the prefix of a linear layer's names, or an empty one for no head"
            )
        width = None if weight.is_nested or weight.ndim != 2 else weight.shape[1]
        fits = self._sharing.get(("", width), []) if width else []
        if not fits or fits == [prefix]:
            return Choice(named)
        if self._readers[prefix].width != width:
            return Choice(
                notes=(f"{shown(named.rstrip('.'))} does not fit behind it, so it is read without a head",)
            )
        last = self._last("", width)
        if last is None or last == prefix:
            return Choice(named)
        return Choice(notes=(f"{shown(named.rstrip('.'))} lies behind {shown(last.rstrip('.'))}",))

    def _guess(self, prefix: str, where: str) -> Choice:
        reader = self._readers[prefix]
        for module in around(prefix):
            layers = self._reading.get((module, reader.width), [])[: MOST // 4]
            candidates = self._candidates(layers, reader)
            if candidates:
                return self._chosen(module, candidates, prefix, where)
            before = [
                layer.name
                for layer in layers
                if layer.biased
                and self._ordered
                and layer.place < reader.place
                and layer.gives != reader.input
            ]
            if before:
                return Choice(
                    notes=(f"{listed(before)} stands before it in the file, so is no head; {CHOOSE}",)
                )
        return Choice()

    def _candidates(self, layers: Sequence[Layer], reader: Reader) -> list[Layer]:
        """Those of some layers that may be a head."""
        biased = [layer for layer in layers if layer.biased]
        if len(biased) == 1 and self._fits(biased[0]):
            layers = biased  # the others are embeddings, which have no bias
        else:
            layers = [layer for layer in layers if not layer.is_embedding]
        return [
            layer
            for layer in layers
            if not _is_attention(layer.name)
            and not self._is_before(layer, reader)
            and not (self._ordered and layer.place < reader.place)
        ]

    def _fits(self, layer: Layer) -> bool:
        bias = self._tensors[f"{layer.name}.bias" if layer.name else "bias"]
        return not bias.is_nested and tuple(bias.shape) == layer.shape[:1]

    def _is_before(self, layer: Layer, reader: Reader) -> bool:
        """Whether the RNN reads what a layer gives out."""
        if layer.gives != reader.input:
            return False
        if self._ordered:
            return layer.place < reader.place
        return any(_INPUT.fullmatch(word) for word in re.split(r"[._\d]+", layer.name))

    def _chosen(self, module: str, candidates: Sequence[Layer], prefix: str, where: str) -> Choice:
        width = self._readers[prefix].width
        named = tuple(layer.name for layer in candidates)
        example = f"{prefix.rstrip('.')}={named[-1]}" if len(self._readers) > 1 else named[-1]
        names, how = listed(named), f"name the head to use: --head {shown(example)}"
        if len(candidates) > 1 and not self._alike(candidates):
            why = f"several linear layers fit behind {where}: {names}; {how}"
            return Choice(question=why, named=named)
        head = candidates[-1]
        sharing = self._sharing[module, width]
        if len(sharing) > 1:
            last = self._last(module, width)
            if last is None:
                why = f"the linear layer {names} fits behind {len(sharing)} RNNs; {how}"
                return Choice(question=why, named=named)
            if last != prefix:
                return Choice(notes=(f"{names} lies behind {shown(last.rstrip('.'))}",), named=named)
        if other := self._between(module, head, prefix):
            why, name = other
            return Choice(question=f"{why}, so the head of {where} is not clear; {how}", named=(*named, name))
        return Choice(f"{head.name}." if head.name else "", named=named)

    def _alike(self, layers: Sequence[Layer]) -> bool:
        """Whether it does not matter which of some layers is taken, as where weights are tied."""
        if len(layers) > 4:
            return False
        first, *rest = (self._tensors[f"{layer.name}.weight"] for layer in layers)
        return not any(layer.biased for layer in layers) and all(
            one.shape == first.shape
            and one.dtype == first.dtype
            and one.layout == first.layout
            and not one.is_meta
            and not first.is_meta
            and bool((one == first).all())
            for one in rest
        )

    def _between(self, module: str, head: Layer, prefix: str) -> tuple[str, str] | None:
        """What may lie between an RNN and a layer, or show that it is the first of several."""
        reader = self._readers[prefix]
        for layer in self._layers[module]:
            if layer == head or layer.is_embedding or (self._ordered and layer.place < reader.place):
                continue
            name = shown(layer.name)
            if layer.shape == (reader.width,) and (self._ordered or layer.gives != reader.input):
                return f"{name} may lie between it and {shown(head.name)}", layer.name
            if (
                layer.reads == head.gives
                and (not self._ordered or layer.place > head.place)
                and (layer.gives != reader.input or self._ordered)
            ):
                why = (
                    f"{shown(head.name)} is only the first layer behind it, {name} reads what that gives out"
                )
                return why, layer.name
            if layer.gives == reader.width and (self._ordered or layer.gives != reader.input):
                return f"{shown(head.name)} may read what {name} gives out", layer.name
        return None

    def _last_of(self, module: str, width: int) -> str | None:
        """The one of some RNNs that reads what the others give out; None where that is not clear."""
        group = self._sharing[module, width]
        if len(group) > 64:
            return None
        stacked = [
            one for one in group if self._readers[one].input == width
        ]  # these may read any of the others
        if len(stacked) == 1 < len(group):
            return stacked[0]
        alike = len({re.sub(r"\d+", "0", one) for one in group}) == 1  # "layers.0", "layers.1", …
        return group[-1] if alike and self._ordered and len(stacked) == len(group) - 1 else None

    def _next(self, prefix: str) -> list[str]:
        """What to say where another RNN beside this one may read what it gives out."""
        reader = self._readers[prefix]
        beside = self._siblings.get((_parent(prefix), reader.width), ())
        for other in itertools.islice(beside, 64):
            place = self._readers[other].place
            if other != prefix and (place > reader.place or not self._ordered):
                return [f"{shown(other.rstrip('.'))} may read what it gives out, as parts of one network"]
        return []

    def initial(self, prefix: str) -> tuple[list[str], bool]:
        """What seems to be an RNN's learned initial state; whether it is of tensors and of no other RNN."""
        width = self._readers[prefix].width
        found: list[str] = []
        alone = True
        for module in around(prefix):
            for name in self._initials.get(module, [])[:MOST]:
                tensor = self._tensors.get(name)  # none of a layer that gives it out
                if tensor is None or tensor.shape[-1] in (width, width // 2):
                    found.append(name)
                    alone &= self._inside[module] == 1 and tensor is not None
        return found, alone

    def _left_out(self, prefix: str, choice: Choice) -> list[str]:
        """What to say of the layers behind an RNN that are not read."""
        reader = self._readers[prefix]
        parent = _parent(prefix)
        known = {*choice.named, choice.head and choice.head.rstrip(".")}
        found: list[str] = []
        for module in around(prefix):
            layers = self._layers.get(module, [])
            first = bisect.bisect(layers, reader.place, key=_place) if self._ordered else 0
            for layer in layers[first : first + MOST]:
                if not layer.is_embedding and not self._is_before(layer, reader):
                    found += [] if layer.name in known else [layer.name]
            loose = [name.rpartition(".") for name in self._loose.get(module, [])[:MOST]]
            found += [f"{p}{d}{n}" for p, d, n in loose if p == parent]
            if len(found) >= MOST:
                break
        if not found:
            return []
        what = "left out, behind it" if self._ordered else "left out, before or behind it"
        return [f"{what}: {listed(found)}"]


_PARTS = frozenset(["weight", "bias", "running_mean", "running_var", "num_batches_tracked"])


def parse_heads(head: Head) -> dict[str | None, str]:
    """What a user named: prefix of an RNN or None for all → prefix of the head, each with its dot."""
    given = [] if head is None else [head] if isinstance(head, str) else list(head)
    named: dict[str | None, str] = {}
    for each in given:
        prefix, equals, name = each.rpartition("=")
        key = (f"{prefix.rstrip('.')}." if prefix.rstrip(".") else "") if equals else None
        named[key] = f"{name.rstrip('.')}." if name.rstrip(".") else ""
    return named


def head_for(head: Head, rnn: str) -> str | None:
    """The head that a user named for an RNN, without its dot; "" for none, None where nothing was named."""
    named = parse_heads(head)
    found = named.get(f"{rnn.rstrip('.')}." if rnn else "", named.get(None))
    return found if found is None else found.rstrip(".")


def named_heads(head: Head) -> set[str | None]:
    """All heads that a user named, without their dots."""
    return {name.rstrip(".") for name in parse_heads(head).values()}


def around(name: str) -> Iterator[str]:
    """Prefixes of the modules around a name, from the innermost: "a.b.", "a.", ""."""
    end = name.rfind(".")
    while end >= 0:
        yield name[: end + 1]
        end = name.rfind(".", 0, end)
    yield ""


def _place(layer: Layer) -> int:
    return layer.place


def _parent(prefix: str) -> str:
    return prefix.rstrip(".").rpartition(".")[0]


def _is_attention(name: str) -> bool:
    return any(_ATTENTION.fullmatch(word) for word in re.split(r"[._\d]+", name))


def shown(name: str) -> str:
    """A name in quotes, for a sentence."""
    return repr(name if len(name) <= 200 else f"{name[:199]}…")


def listed(names: Collection[str]) -> str:
    """The first few of many names, in quotes."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(map(shown, itertools.islice(names, 4))) + more
