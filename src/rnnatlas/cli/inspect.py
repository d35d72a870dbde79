"""`rnnatlas inspect`: what RNNs checkpoint files hold."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rnnatlas.cli.common import Common, print_json, print_table


def inspect(
    paths: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    cell: str | None = None,
    head: str | None = None,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """What RNNs a checkpoint holds: cell, sizes, layers, direction, parameters, format.

    Nothing in a file is executed.

    ```
    rnnatlas inspect model.pt
    ```

    Args:
        paths: Files, folders (with all below them), globs.
        cell: elman-relu, where RNNs with one gate are such; a file does not tell them from elman-tanh.
        head: Prefix of the output layer's names, where several would fit; "" for none.
        json: Print one JSON document instead of a table.
    """
    from rnnatlas.zoo.imports import checkpoints

    common = common or Common()
    found = [_describe(checkpoint) for checkpoint in checkpoints(paths, cell, head)]
    if json:
        print_json(found)
        return
    rows = [
        [
            entry["path"],
            rnn["prefix"] or "–",
            rnn["description"],
            rnn["parameters"],
            rnn["head"] or "–",
            entry["format"],
        ]
        for entry in found
        for rnn in entry["rnns"]
    ]
    if rows:
        print_table(["file", "at", "RNN", "parameters", "head", "format"], rows)
    for entry in found:
        if entry["skipped"]:
            common.say(f"skipped {entry['skipped']}")


def _describe(checkpoint: Any) -> dict[str, Any]:
    return {
        "path": str(checkpoint.path),
        "format": checkpoint.format,
        "skipped": checkpoint.skipped,
        "rnns": [
            {
                "prefix": rnn.prefix.rstrip("."),
                "head": rnn.head.rstrip(".") if rnn.head else None,
                "description": str(rnn.spec),
                "parameters": rnn.spec.parameters,
                **rnn.spec.as_dict(),
            }
            for rnn in checkpoint.rnns
        ],
    }
