"""`rnnatlas evaluate`: emulation losses and properties of held-out RNNs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, print_json


def evaluate(
    run: Path,
    /,
    *,
    zoo: str | None = None,
    supervised: Annotated[bool, Parameter(negative=())] = False,
    dsa: Annotated[bool, Parameter(negative=())] = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """Emulation losses and property predictions of held-out RNNs, each beside its controls.

    Says for each split whether embeddings help the emulator and predict what RNNs learned: yes, no, or open
    where intervals overlap. All figures are in figures.tsv and metrics.json of the run's folder.

    ```
    rnnatlas evaluate run
    ```

    Args:
        run: The trained run's folder; predictors and all figures are written into it.
        zoo: The run's zoo (a folder or s3://…), where it is no longer where the run was trained on it.
        supervised: Also train the same kind of encoder end to end on each property, which frozen embeddings
            are compared with: at most as many updates as emulation had, once for each property, unless
            supervised.steps or supervised.properties says otherwise.
        dsa: Also compare every pair of RNNs by dynamical similarity analysis, as one more baseline, with
            rnnatlas[neuro] installed; of 512 snapshots at most.
        device: Where encoders and emulators compute; auto takes a GPU where there is one.
        set: Change a setting, such as supervised.steps=400 or predictors.width=128; may be repeated.
        json: Print all figures as one JSON document instead of what they show.
    """
    from rnnatlas import settings
    from rnnatlas.evaluation.supervised import SupervisedSettings
    from rnnatlas.properties.predictors import PredictorSettings

    common = common or Common()
    resolved = common.layered({}, {}, set or [], ["predictors", "supervised"])
    predictors = settings.build(PredictorSettings, resolved.get("predictors", {}), "predictors")
    end_to_end = settings.build(SupervisedSettings, resolved.get("supervised", {}), "supervised")
    if common.print_config:
        flags = {"zoo": zoo, "supervised": supervised, "dsa": dsa, "device": device, "json": json}
        sections = {"predictors": settings.as_dict(predictors), "supervised": settings.as_dict(end_to_end)}
        common.show(flags, sections)
        return
    from rnnatlas.emulation.model import read_settings
    from rnnatlas.evaluation.evaluate import FIGURES, read_cost
    from rnnatlas.evaluation.evaluate import evaluate as evaluate_run
    from rnnatlas.report import words
    from rnnatlas.report.findings import of_run
    from rnnatlas.zoo.store import Zoo

    records = evaluate_run(
        run,
        None if zoo is None else Zoo.open(zoo),
        predictors,
        supervised=end_to_end if supervised else None,
        dsa=dsa,
        device=device,
        progress=common.progress,
    )
    if json:
        print_json(records)
        return
    print(f"To embed one RNN: {words.cost(read_cost(run))}")
    print(f"All {len(records)} figures beside their controls: {run / FIGURES}")
    for split, found in of_run(run, zoo or read_settings(run).zoo):
        print(f"\n{words.capital(split)}")
        for question, finding in found:
            print(f"{question} {words.capital(finding.outcome)}: {finding.text}")
