"""Colours for maps and figures, which colour-blind readers can distinguish."""

import math
from collections.abc import Sequence

from rnnatlas import encoders

CONTROLS = {"shuffled": "#b0b7bf", "untrained": "#6e7781", "fitted": "#7fa8c9"}
BASELINE = "#b0b7bf"
"""Of trivial predictors, and whatever else is neither an encoder nor a control."""

SPARE = ("#56b4e9", "#d55e00", "#999933", "#44aa99", "#aa4499", "#88776f")
"""For encoders that have no colour of their own."""

QUALITATIVE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#999933")
"""Okabe and Ito's colours without black, and without their yellow, which vanishes on white."""

# viridis without its palest end, which vanishes on white
SEQUENTIAL = (
    "#440154",
    "#472d7b",
    "#3b528b",
    "#2c728e",
    "#21918c",
    "#28ae80",
    "#5ec962",
    "#addc30",
    "#e3d426",
)
DARK = ("#8563c7", "#7a78d8", "#5f92d0", "#45a6c0", "#35b5a4", "#4fc585", "#86d45e", "#bfe045", "#f3e950")
"""The same order of hues, light enough for a dark page."""

# twilight, shifted so that no end is white
CYCLIC = (
    "#2f1436", "#5d2a7c", "#6054b2", "#6787be", "#8fb3c6", "#d0cfd0",
    "#ce9e86", "#bc6b5a", "#963a50", "#5e1c4a", "#2f1436",
)  # fmt: skip


def encoder_colour(name: str, among: Sequence[str]) -> str:
    """An encoder's own colour, or a spare one by its place among those shown that have none either."""
    own = {other: getattr(encoders.find(other), "colour", None) for other in among}
    without = [other for other in among if own[other] is None]
    return own[name] or SPARE[without.index(name) % len(SPARE)]


def control_colour(name: str) -> str:
    """The colour of a control or baseline."""
    return getattr(encoders.find(name), "colour", None) or CONTROLS.get(name, BASELINE)


def categorical(count: int) -> list[str]:
    """Colours of unordered values: eight that anyone can tell apart, or hues around the circle."""
    if count <= len(QUALITATIVE):
        return list(QUALITATIVE[:count])
    # Neighbours in hue differ in lightness too, so that they can be distinguished without hue.
    lightness = (0.58, 0.72, 0.48)
    return [oklch(lightness[i % 3], 0.13, 2 * math.pi * i / count) for i in range(count)]


def by_numbers(points: Sequence[Sequence[float | int]]) -> list[str]:
    """Colours of things that are points in a space of one to three numbers, near points alike.

    The first two numbers span the plane of hue and chroma, the third is lightness (OKLab), so
    languages whose m's are alike look alike.
    """
    columns = list(zip(*points, strict=True))
    scaled = [_scaled(column) for column in columns[:3]]
    colours = []
    for row in zip(*scaled, strict=True):
        first, second, third = (*row, 0.0, 0.0)[:3]
        colours.append(oklab(0.64 + 0.13 * third, 0.125 * first, 0.125 * second))
    return colours


def oklch(light: float, chroma: float, hue: float) -> str:
    """A colour of the OKLCh space as #rrggbb; hue in radians."""
    return oklab(light, chroma * math.cos(hue), chroma * math.sin(hue))


def oklab(light: float, a: float, b: float) -> str:
    """A colour of the OKLab space (Ottosson 2020) as #rrggbb, cut to what screens can show."""
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(255 * _gamma(channel)):02x}" for channel in linear)


def _gamma(channel: float) -> float:
    channel = min(max(channel, 0.0), 1.0)
    return 12.92 * channel if channel <= 0.0031308 else 1.055 * channel ** (1 / 2.4) - 0.055


def _scaled(column: Sequence[float | int]) -> list[float]:
    low, high = min(column), max(column)
    return [2 * (value - low) / (high - low) - 1 if high > low else 0.0 for value in column]


CYCLIC_DARK = tuple(oklch(0.72, 0.13, 2 * math.pi * place / 10) for place in range(11))
"""All hues at one lightness: on a dark page twilight's ends vanish."""
