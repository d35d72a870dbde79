"""Emulation: training encoders by making an emulator imitate RNNs given their embeddings."""

from rnnatlas.errors import SettingsError
from rnnatlas.registry import Registry, make_indexable
from rnnatlas.rnn.signals import Signal, Tokens

registry = divergences = Registry(
    "divergence of tokens",
    {
        "total-variation": ("rnnatlas.emulation.divergence:total_variation", "½ Σ|p − q|"),
        "kl": ("rnnatlas.emulation.divergence:kl", "Σ p (log p − log q)"),
        "reverse-kl": ("rnnatlas.emulation.divergence:reverse_kl", "Σ q (log q − log p)"),
        "jensen-shannon": (
            "rnnatlas.emulation.divergence:jensen_shannon",
            "½ KL(p, m) + ½ KL(q, m) with m = (p + q) / 2",
        ),
        "cross-entropy": ("rnnatlas.emulation.divergence:cross_entropy", "−Σ p log q"),
        "cosine": ("rnnatlas.emulation.divergence:cosine", "1 − p·q / (|p| |q|)"),
        "l2": ("rnnatlas.emulation.divergence:l2", "Σ (p − q)²"),
    },
)
"""p is the RNN's distribution, q the emulator's."""

of_numbers = Registry(
    "divergence of numbers",
    {
        "mse": ("rnnatlas.emulation.divergence:mse", "mean (x − y)² over the variance of the zoo's outputs"),
        "l1": ("rnnatlas.emulation.divergence:l1", "mean |x − y| over their standard deviation"),
        "cosine": (
            "rnnatlas.emulation.divergence:cosine_of_numbers",
            "1 − x·y / (|x| |y|), standardised",
        ),
    },
)
"""x is the RNN's output, y the emulator's."""

make_indexable(__name__)


def suitable(output: Signal) -> Registry:
    """The divergences that there are between outputs of a kind; the first is the default."""
    return divergences if isinstance(output, Tokens) else of_numbers


def choose(name: str | None, output: Signal) -> str:
    """The divergence of a name, or the default for outputs of a kind.

    Raises:
        SettingsError: It does not suit such outputs, or there is none of that name.
    """
    known = suitable(output)
    if name is None:
        return next(iter(known))
    if name not in known:
        kind = "distributions over tokens" if known is divergences else "numbers"
        raise SettingsError(
            f"emulation.divergence of outputs that are {kind} should be one of {', '.join(known)}, found "
            f"{name!r}"
        )
    return name
