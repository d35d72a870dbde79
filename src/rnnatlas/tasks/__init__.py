"""What RNNs are trained to do: `rnnatlas.tasks["formal-languages"]`."""

from rnnatlas.registry import Registry, make_indexable

registry = Registry(
    "task",
    {
        "formal-languages": (
            "rnnatlas.tasks.formal_languages:FormalLanguages",
            "generate strings of one language aⁿbⁿ⁺ᵐcⁿ⁺ᵐ…, token by token",
        ),
        "tiled-mnist": (
            "rnnatlas.tasks.tiled_mnist:TiledMNIST",
            "tell which MNIST digit an image shows, rotated by one angle an RNN, tile by tile",
        ),
        "tiled-digits": (
            "rnnatlas.tasks.tiled_mnist:TiledDigits",
            "the same with small images that come with scikit-learn",
        ),
        "integrator": (
            "rnnatlas.tasks.integrator:Integrator",
            "integrate a noisy stimulus and answer with a number when a cue asks for it",
        ),
        "recorded": (
            "rnnatlas.tasks.recorded:Recorded",
            "whatever imported RNNs do, on inputs that you give (rnnatlas zoo import --inputs)",
        ),
    },
    base="rnnatlas.tasks.base:Task",
    group="rnnatlas.tasks",
)

make_indexable(__name__)
