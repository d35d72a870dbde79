"""What can be predicted of an RNN from its embedding."""

from typing import Any

from rnnatlas.registry import Registry, make_indexable

registry = Registry(
    "property",
    {
        "task": ("rnnatlas.properties.task:TaskProperty", "which task instance the RNN was trained on"),
        "angle": ("rnnatlas.properties.angle:Angle", "by how much its images are rotated, over 360°"),
        "direction": ("rnnatlas.properties.angle:Direction", "the same as sine and cosine"),
        "unseen_direction": (
            "rnnatlas.properties.angle:UnseenDirection",
            "the same, by predictors that have seen no OOD angle",
        ),
        "performance": ("rnnatlas.properties.scalar:Performance", "how well the RNN does its task"),
        "generalisation_gap": (
            "rnnatlas.properties.scalar:GeneralisationGap",
            "how much more it loses on new data than on its training data",
        ),
        "step": ("rnnatlas.properties.step:TrainingStep", "how many updates the RNN was trained for"),
    },
    base="rnnatlas.properties.base:Property",
    group="rnnatlas.properties",
)


def kind(name: str, of_classes: bool = False) -> Any:
    """The class of a property, also of one that is a label: of classes, or of a number."""
    from rnnatlas.properties.labels import LABEL, LabelClass, LabelNumber

    if not name.startswith(LABEL):
        return registry[name]
    return LabelClass if of_classes else LabelNumber


make_indexable(__name__)
