"""Emulation: training encoders by making an emulator imitate RNNs given their embeddings."""

from rnnatlas.registry import Registry, make_indexable

registry = divergences = Registry(
    "divergence",
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

make_indexable(__name__)
