"""Weights in several files: which belong together."""

import json
import re
from pathlib import Path

LONGEST_INDEX = 1 << 26
_SHARD = re.compile(r"-(\d+)-of-(\d+)$")


def index_of(path: Path) -> dict[str, str] | None:
    """Name of each tensor → name of its file, as an index says; None where the file is no such index."""
    if path.stat().st_size > LONGEST_INDEX:
        return None
    try:
        places = json.loads(path.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    plain = isinstance(places, dict) and all(
        isinstance(name, str) and name == Path(name).name and name not in ("", "..")
        for name in places.values()
    )
    return places if plain and places else None


def shard_of(path: Path) -> str | None:
    """What a file is a part of, by its name and by indexes beside it; None where it stands alone."""
    for index in sorted(path.parent.glob("*.index.json")):
        if path.name in (index_of(index) or {}).values():
            return f"{index.name} names it beside others; give that, or the folder"
    match = _SHARD.search(path.stem)
    if match and int(match[2][:9]) > 1:
        return "its index (….index.json) is not beside it; put all its files together"
    return None
