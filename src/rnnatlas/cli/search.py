"""`rnnatlas search`: the RNNs nearest to one."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rnnatlas.cli.common import Common, at_least, print_json, print_table


def search(
    atlas: Path,
    query: str,
    /,
    *,
    k: Annotated[int, Parameter(name=("-k", "--k"), validator=at_least(1))] = 10,
    where: str | None = None,
    run: Path | None = None,
    cell: str | None = None,
    head: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """Find the RNNs nearest to one, by the cosine of their embeddings.

    ```
    rnnatlas search atlas model.pt -k 5 --where "split = 'train' AND performance > 0.5"
    ```

    Args:
        atlas: The atlas's folder.
        query: The id of an entry, which is left out of what is found, or a checkpoint file.
        k: How many to find.
        where: SQL condition that they must meet, on columns (split), fields (metrics.performance,
            predicted.step) or fields by their last name (performance: of metrics, labels, task and predicted
            the first that has it).
        run: The run that made the atlas, where it is no longer where it was.
        cell: elman-relu, where the checkpoint's RNN is such; a file does not tell it from elman-tanh.
        head: Prefix of the output layer's names in the checkpoint, where several would fit; "" for none;
            PREFIX=NAME for the RNN at one prefix, once for each.
        json: Print one JSON document instead of a table.
    """
    from rnnatlas.atlas.index import Atlas

    embedded = Atlas.open(atlas)
    start: Any = query
    if query not in embedded.ids and Path(query).is_file():
        from rnnatlas.atlas.embed import embed_query
        from rnnatlas.evaluation.model import load
        from rnnatlas.zoo.imports import assumed

        start, remark = embed_query(embedded, Path(query), load(run or embedded.card["run"]), cell, head)
        if remark := assumed([remark]):
            (common or Common()).say(remark)
    nearest = embedded.search(start, k, where)
    hidden = {"embedding", "x", "y"}
    rows = [{key: value for key, value in row.items() if key not in hidden} for row in nearest.to_pylist()]
    if json:
        print_json(rows)
        return
    print_table(
        ["id", "similarity", "task", "step", "performance", "split", "writes"],
        [
            [
                row["id"],
                row["similarity"],
                *(_text(row.get(key)) for key in ("label", "step")),
                _text((row.get("metrics") or {}).get("performance")),
                _text(row.get("split")),
                " ".join(row["samples"][:2]),
            ]
            for row in rows
        ],
    )


def _text(value: Any) -> Any:
    return "–" if value is None else value
