"""What RNNs are trained to do: `rnnatlas.tasks["formal-languages"]`."""

from rnnatlas.registry import Registry, make_indexable

registry = Registry(
    "task",
    {
        "formal-languages": (
            "rnnatlas.tasks.formal_languages:FormalLanguages",
            "generate strings of one language aⁿbⁿ⁺ᵐcⁿ⁺ᵐ…, token by token",
        ),
    },
)

make_indexable(__name__)
