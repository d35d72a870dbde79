"""What embeddings tell about RNNs: predictors of properties and the baselines they must beat."""

from rnnatlas.registry import Registry, make_indexable

registry = Registry(
    "property",
    {
        "task": ("rnnatlas.properties.task:TaskProperty", "which task instance the RNN was trained on"),
        "performance": ("rnnatlas.properties.scalar:Performance", "how well the RNN does its task"),
        "step": ("rnnatlas.properties.step:TrainingStep", "how many updates the RNN was trained for"),
    },
)

make_indexable(__name__)
