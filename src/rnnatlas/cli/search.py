"""`rnnatlas search`: the RNNs nearest to one, or to several."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rnnatlas.cli.common import Common, at_least, print_json, print_table


def search(
    atlas: Path,
    query: Annotated[list[str], Parameter(negative=())],
    /,
    *,
    k: Annotated[int, Parameter(name=("-k", "--k"), validator=at_least(1))] = 10,
    where: str | None = None,
    why: Annotated[bool, Parameter(negative=())] = False,
    run: Path | None = None,
    cell: str | None = None,
    head: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """Find the RNNs nearest to one, or to the mean of several, by the cosine of their embeddings.

    With --why, also in which properties each agrees with the one asked about (numbers that differ by less
    than a tenth of their standard deviation over the atlas), in which not, and where the two respond most
    differently to inputs that the run keeps of training RNNs.

    ```
    rnnatlas search atlas model.pt -k 5 --where "split = 'train' AND performance > 0.5"
    rnnatlas search atlas model.pt -k 3 --why
    ```

    Args:
        atlas: The atlas's folder.
        query: Ids of entries, which are left out of what is found, and checkpoint files. Several stand for
            the mean of their embeddings, each of length one.
        k: How many to find.
        where: SQL condition that they must meet, on columns (split), fields (metrics.performance,
            predicted.step) or fields by their last name (performance: of metrics, labels, task and predicted
            the first that has it).
        why: Say what those found have in common with the query, which has to be one RNN.
        run: The run that made the atlas, where it is no longer where it was.
        cell: Which cell RNNs with one gate have, where a file does not say: elman-tanh (assumed, unless
            all such RNNs of the run are elman-relu), elman-relu, leaky-tanh or leaky-relu, with its α where
            the file has none (leaky-relu:0.2). lstm or gru: read no other cells.
        head: Prefix of the output layer's names in the checkpoint, where several would fit; "" for none;
            PREFIX=NAME for the RNN at one prefix, once for each.
        json: Print one JSON document instead of a table.
    """
    from rnnatlas.atlas.index import Atlas
    from rnnatlas.errors import SettingsError
    from rnnatlas.folders import ATLAS, kind
    from rnnatlas.zoo.labels import NAMING

    if why and len(query) > 1:
        raise SettingsError(f"--why compares with one RNN, found {len(query)} to search from; give one")
    common = common or Common()
    if kind(atlas) != ATLAS and (given := next((name for name in query if kind(Path(name)) == ATLAS), None)):
        raise SettingsError(
            f"expected an atlas first and then RNNs, found {atlas} before the atlas {given}; give: "
            f"rnnatlas search {given} {atlas}"
        )
    embedded = Atlas.open(atlas)
    files = [name for name in query if Path(name).is_file() and name not in embedded.ids]
    model = _model(embedded, run) if files or why else None
    start = [_of_file(embedded, name, model, cell, head, common) if name in files else name for name in query]
    nearest = embedded.search(start, k, where)
    if embedded.card.get("basis"):
        common.say(embedded.card["basis"])
    if embedded.exactness:
        common.say(embedded.exactness)
    hidden = {"embedding", "x", "y"}
    rows = [{key: value for key, value in row.items() if key not in hidden} for row in nearest.to_pylist()]
    if why:
        reasons = _reasons(embedded, query[0], nearest, model, cell, head, bool(files))
        rows = [{**row, "why": reason} for row, reason in zip(rows, reasons, strict=True)]
    if json:
        print_json(rows)
        return
    labels = list(dict.fromkeys(name for row in rows for name in row.get("labels") or {}))
    labels = [name for name in labels if name.lower() not in NAMING]  # of files, as the id is
    columns = ["id", "similarity", "task", "step", "performance", "split", *labels, "writes"]
    reasoned = ["agrees in", "differs in", "responses differ by", "most"] if why else []
    print_table([*columns, *reasoned], [[*_cells(row, labels), *_why(row.get("why"))] for row in rows])


def _cells(row: dict[str, Any], labels: list[str]) -> list[Any]:
    performance = (row.get("metrics") or {}).get("performance")
    step = None if row.get("step") == -1 else row.get("step")
    known = [row.get("label"), step, performance, row.get("split")]
    known += [(row.get("labels") or {}).get(name) for name in labels]
    return [row["id"], row["similarity"], *map(_text, known), " ".join((row.get("samples") or [])[:2])]


def _why(reason: dict[str, Any] | None) -> list[Any]:
    if reason is None:
        return []
    from rnnatlas.atlas.columns import title

    agree = [f"{title(name)} {_brief(name, value)}" for name, value in reason["agree"].items()]
    differ = [
        f"{title(name)} {_brief(name, one)} → {_brief(name, other)}"
        for name, (one, other) in reason["differ"].items()
    ]
    return ["; ".join(agree) or "–", "; ".join(differ) or "–", _text(reason["distance"]), reason["most"]]


def _reasons(
    atlas: Any, name: str, found: Any, model: Any, cell: Any, head: Any, is_file: bool
) -> list[dict[str, Any]]:
    import dataclasses

    from rnnatlas.atlas.embed import embed_file
    from rnnatlas.atlas.why import explain

    asked = embed_file(model, Path(name), cell, head) if is_file else name
    return [dataclasses.asdict(reason) for reason in explain(atlas, asked, found, model, cell)]


def _model(atlas: Any, run: Path | None) -> Any:
    from rnnatlas.atlas.untrained import Untrained
    from rnnatlas.evaluation.model import load

    if atlas.basis is not None:
        return Untrained(atlas.basis)
    return load(run or atlas.card["run"])


def _of_file(atlas: Any, name: str, model: Any, cell: Any, head: Any, common: Common) -> Any:
    """The embedding of the RNN of a checkpoint file."""
    from rnnatlas.atlas.embed import embed_query
    from rnnatlas.zoo.imports import assumed

    vector, remark = embed_query(atlas, Path(name), model, cell, head)
    if remark := assumed([remark]):
        common.say(remark)
    return vector


def _brief(name: str, value: Any) -> str:
    from rnnatlas.rnn import RNNSpec

    if name == "spec":
        return str(RNNSpec.from_slug(value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> Any:
    return "–" if value is None else value
