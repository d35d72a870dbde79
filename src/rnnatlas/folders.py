"""What a folder of ours is, so that one given in place of another is named."""

from pathlib import Path

ZOO, RUN, ATLAS, FILES = "a zoo", "a trained run", "an atlas", "checkpoint files"
_MARKS = {ZOO: "zoo.json", ATLAS: "atlas.json", RUN: "settings.yaml"}
"""The file that each has."""
_OF_A_RUN = "zoo_identity:"
"""What the settings of a run say, and those of others do not."""
_ADVICE = {
    (
        RUN,
        ZOO,
    ): "give a run first, as in rnnatlas evaluate RUN {0}, or train one: rnnatlas train {0} --out RUN",
    (RUN, ATLAS): "give the run that made it",
    (ZOO, RUN): "give the zoo that it was trained on",
    (ZOO, ATLAS): "give the zoo that it was made of",
    (ATLAS, RUN): "make one with: rnnatlas embed {0} PATH --out ATLAS",
    (ATLAS, ZOO): "make one with: rnnatlas embed RUN {0} --out ATLAS",
    (FILES, ZOO): "see what it holds with: rnnatlas zoo show {0}; embed and predict take it as it is",
    (FILES, RUN): "give the zoo or the files that hold RNNs",
    (FILES, ATLAS): "give the zoo or the files that it was made of",
}


def kind(path: Path) -> str | None:
    """What a folder is by the files in it: ZOO, RUN or ATLAS; None for others."""
    return next((kind for kind in _MARKS if _is(path / _MARKS[kind], kind)), None)


def mistaken(path: Path | str, expected: str) -> str | None:
    """A sentence where a folder is something else of ours than expected; else None.

    Args:
        path: The folder.
        expected: ZOO, RUN, ATLAS or FILES, which others may hold.
    """
    found = kind(Path(path))
    if found is None or found == expected:
        return within(path, expected) if found is None and expected != FILES else None
    return f"{path} should be {expected}, found {found}; {_ADVICE[expected, found].format(path)}"


def within(path: Path | str, expected: str) -> str | None:
    """A sentence where a folder, such as an experiment's, holds what is expected, or zoos; else None."""
    path, wanted = Path(path), ZOO if expected == FILES else expected
    mark = _MARKS[wanted]
    held = [file.parent for depth in ("*", "*/*") for file in sorted(path.glob(f"{depth}/{mark}"))]
    named = [str(own) for own in held if _is(own / mark, wanted) and kind(own.parent) is None]
    if not named:
        return None
    more = f" or {len(named) - 4} others" if len(named) > 4 else ""
    what = wanted.partition(" ")[2]
    return (
        f"{path} should be {expected}, found a folder with {len(named)} {what}{'s' * (len(named) > 1)} "
        f"in it; give {'one of ' * (len(named) > 1)}{', '.join(named[:4])}{more}"
    )


def _is(mark: Path, kind: str) -> bool:
    """Whether a file is the one that such a folder has."""
    try:
        return mark.is_file() and (kind != RUN or _OF_A_RUN in mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
