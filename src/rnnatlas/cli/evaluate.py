"""`rnnatlas evaluate`: emulation losses and properties of held-out RNNs."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, print_json, print_table


def evaluate(
    run: Path,
    /,
    *,
    zoo: str | None = None,
    supervised: Annotated[bool, Parameter(negative=())] = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """Emulation losses and property predictions of held-out RNNs, each beside its controls.

    ```
    rnnatlas evaluate run
    ```

    Args:
        run: The trained run's folder; predictors and all figures are written into it.
        zoo: The run's zoo (a folder or s3://…), where it is no longer where the run was trained on it.
        supervised: Also train the same kind of encoder end to end on each property, which frozen embeddings
            are compared with: at most as many updates as emulation had, once for each property, unless
            supervised.steps or supervised.properties says otherwise.
        device: Where encoders and emulators compute; auto takes a GPU where there is one.
        set: Change a setting, such as supervised.steps=400 or predictors.width=128; may be repeated.
        json: Print one JSON document instead of tables.
    """
    from rnnatlas import settings
    from rnnatlas.evaluation.supervised import SupervisedSettings
    from rnnatlas.properties.predictors import PredictorSettings

    common = common or Common()
    resolved = common.layered({}, {}, set or [], ["predictors", "supervised"])
    predictors = settings.build(PredictorSettings, resolved.get("predictors", {}), "predictors")
    end_to_end = settings.build(SupervisedSettings, resolved.get("supervised", {}), "supervised")
    if common.print_config:
        flags = {"zoo": zoo, "supervised": supervised, "device": device, "json": json}
        sections = {"predictors": settings.as_dict(predictors), "supervised": settings.as_dict(end_to_end)}
        common.show(flags, sections)
        return
    from rnnatlas.evaluation.evaluate import evaluate as evaluate_run
    from rnnatlas.evaluation.evaluate import read_cost
    from rnnatlas.report.words import cost
    from rnnatlas.zoo.store import Zoo

    records = evaluate_run(
        run,
        None if zoo is None else Zoo.open(zoo),
        predictors,
        supervised=end_to_end if supervised else None,
        device=device,
        progress=common.progress,
    )
    if json:
        print_json(records)
        return
    print(f"To embed one RNN: {cost(read_cost(run))}\n")
    for name in dict.fromkeys(record["name"] for record in records):
        figures = [record for record in records if record["name"] == name]
        if any(record["value"] is not None for record in figures):
            _print(name, figures)


def _print(name: str, records: list[dict[str, Any]]) -> None:
    from rnnatlas.evaluation.results import interval

    splits = list(dict.fromkeys(record["split"] for record in records))
    rows = []
    for of in dict.fromkeys(record["of"] for record in records):
        cells = {record["split"]: str(interval(record)) for record in records if record["of"] == of}
        rows.append([of, *(cells.get(split, "–") for split in splits)])
    runs = {record["split"]: record["n_runs"] for record in records}
    counts = ", ".join(f"{runs[split]} {split}" for split in splits)
    print_table(["", *splits], rows, title=f"{name} (RNNs: {counts})")
    print()
