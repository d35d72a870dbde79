"""`rnnatlas inspect`: what RNNs checkpoint files hold."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rnnatlas.cli.common import Common, print_json, print_table
from rnnatlas.errors import CheckpointError


def inspect(
    paths: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    cell: str | None = None,
    head: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """What RNNs a checkpoint holds: cell, sizes, layers, direction, parameters, format, notes.

    Nothing in a file is executed. The status is 1 where no file holds an RNN that can be read.

    ```
    rnnatlas inspect model.pt
    ```

    Args:
        paths: Files, folders (with all below them), globs.
        cell: Which cell RNNs with one gate have, where a file does not say: elman-tanh (assumed),
            elman-relu, leaky-tanh or leaky-relu, with its α where the file has none (leaky-relu:0.2). lstm or
            gru: read no other cells.
        head: Prefix of the output layer's names, where several would fit; "" for none;
            PREFIX=NAME for the RNN at one prefix, once for each.
        json: Print one JSON document instead of a table.
    """
    from rnnatlas.zoo.imports import checkpoints, passed_over

    common = common or Common()
    files = [_describe(checkpoint) for checkpoint in checkpoints(paths, cell, head)]
    reasons = [f"skipped {file['skipped']}" for file in files if file["skipped"]]
    reasons += [f"left out: {reason}" for file in files for reason in file["left_out"]]
    none = not any(file["rnns"] for file in files)
    if json:
        print_json(files)
    else:
        _print(files)
        for reason in reasons if len(reasons) > 1 or not none else ():
            common.say(reason)
        if others := passed_over(paths):
            common.say(others)
    if none:
        raise CheckpointError(
            reasons[0]
            if len(reasons) == 1
            else "expected an RNN that can be read, found none; why not is said of each"
        )


def _print(files: list[dict[str, Any]]) -> None:
    """A table of all RNNs."""
    rows = [
        [
            file["path"],
            rnn["prefix"] or "–",
            rnn["description"],
            rnn["parameters"],
            rnn["head"] or "–",
            file["format"],
            "; ".join(rnn["notes"]),
        ]
        for file in files
        for rnn in file["rnns"]
    ]
    if rows:
        columns = ["file", "at", "RNN", "parameters", "head", "format", "notes"]
        print_table(columns, rows, whole=("at", "head"))


def _describe(checkpoint: Any) -> dict[str, Any]:
    return {
        "path": str(checkpoint.path),
        "format": checkpoint.format,
        "skipped": checkpoint.skipped,
        "left_out": list(checkpoint.unclear),
        "rnns": [
            {
                "prefix": rnn.place,
                "head": rnn.head.rstrip(".") if rnn.head else None,
                "description": str(rnn.spec),
                "parameters": rnn.spec.parameters,
                **rnn.spec.as_dict(),
                "notes": list(rnn.notes),
            }
            for rnn in checkpoint.rnns
        ],
    }
