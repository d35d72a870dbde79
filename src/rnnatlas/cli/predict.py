"""`rnnatlas predict`: what RNNs compute and how well, by their embeddings."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rnnatlas.cli.common import Common, print_json, print_table


def predict(
    run: Path,
    paths: Annotated[list[str], Parameter(negative=())],
    /,
    *,
    cell: str | None = None,
    head: Annotated[list[str] | None, Parameter(negative=())] = None,
    calibrate: Path | None = None,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """Predict every property that the run has a predictor for, with its uncertainty.

    Classes come with the probability of the value predicted and, where there are others, the values of a 90 %
    set; numbers with a 90 % interval. Both are conformal, from the zoo's validation split: they hold for RNNs
    of other tasks where the split has nine tasks or more, else for other RNNs of its tasks.

    Predictions for RNNs of an architecture that the zoo lacks may go along with the truth, but be shifted and
    stretched. About ten such RNNs whose properties you know mend that: --calibrate.

    "like the zoo" says whether an RNN responds like those that the run was trained on, "more unlike than"
    how many held-out RNNs are nearer to these: few is best. From 95 % on it is not like them, and "?" marks
    predictions of it.

    ```
    rnnatlas predict run model.pt
    rnnatlas predict run checkpoints/ --calibrate known.csv
    ```

    Args:
        run: The trained and evaluated run's folder.
        paths: Zoos (also s3://…, with s3fs installed), checkpoint files, folders of them, globs. What the
            encoder does not take is left out and named, unless you gave it by its own name.
        cell: Which cell RNNs with one gate have, where a file does not say: elman-tanh (assumed, unless
            all such RNNs of the run are elman-relu), elman-relu, leaky-tanh or leaky-relu, with its α where
            the file has none (leaky-relu:0.2). lstm or gru: read no other cells.
        head: Prefix of the output layer's names in checkpoint files, where several would fit; "" for none;
            PREFIX=NAME for the RNN at one prefix, once for each.
        calibrate: What you know of some of the RNNs (three of an architecture at least, better ten): a .csv,
            .tsv or .parquet file with a column that names them (file, path, id or name), and columns named as
            properties (performance, step, a label). Predictions of their architecture are recalibrated, and
            intervals are those of the RNNs in the file; they need nine.
        json: Print one JSON document instead of a table.
    """
    from rnnatlas.atlas.predicting import predict as predict_paths
    from rnnatlas.evaluation import reference
    from rnnatlas.evaluation.model import load
    from rnnatlas.zoo.imports import assumed

    common = common or Common()
    model = load(run)
    found = predict_paths(model, paths, cell, head, calibrate)
    predictions = found.entries
    for reason in found.left_out:
        common.say(f"left out: {reason}")
    for remark in found.remarks:
        common.say(remark)
    if remark := assumed(entry["notes"] for entry in predictions):
        common.say(remark)
    like = [entry["in_distribution"] for entry in predictions]
    if remark := reference.remark(like):
        common.say(remark)
    elif model.reference is None:
        common.say(f"whether RNNs are like the zoo's is not known: {model.without_reference}")
    elif None in like:
        common.say("whether RNNs with other inputs or outputs are like the zoo's is not known")
    if json:
        print_json(predictions)
        return
    names = list(model.predictors)
    rows = [
        [
            entry["id"],
            *_likeness(entry),
            *(
                "?" * (known is False and name not in entry.get("recalibrated", ()))
                + _cell(model.task, model.predictors[name][0], entry[name])
                for name in names
            ),
        ]
        for entry, known in zip(predictions, like, strict=True)
    ]
    print_table(["id", "like the zoo", "more unlike than", *names], rows)


def _likeness(entry: dict[str, Any]) -> tuple[str, str]:
    known, score = entry["in_distribution"], entry["ood_score"]
    return ("unknown", "–") if known is None else ("yes" if known else "no", f"{score:.1%} of held-out RNNs")


def _cell(task: Any, prop: Any, prediction: dict[str, Any]) -> str:
    from rnnatlas.properties.angle import OfAngle, between

    value = prediction["value"]
    if isinstance(prop, OfAngle):
        return f"{value:.1f} ({between(prediction['low'], prediction['high'])})"
    if "low" in prediction:
        bounded = None not in (prediction["low"], prediction["high"])
        return (
            f"{value:.2f}"
            if not bounded
            else f"{value:.2f} ({prediction['low']:.2f}–{prediction['high']:.2f})"
        )
    tables, chosen = prediction["probabilities"], prediction["set"]
    if not isinstance(value, dict):
        others = [one for one in chosen or () if one != value]
        more = f"; 90 %: or {', '.join(map(str, others))}" if others else ""
        return f"{value} ({tables[str(value)]:.0%}{more})"
    least = min(tables[field][str(number)] for field, number in value.items())
    return f"{task.label(value)} (least probable of its numbers: {least:.0%})"
