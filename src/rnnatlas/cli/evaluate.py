"""`rnnatlas evaluate`: emulation losses and properties of held-out RNNs."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, print_json, print_table, put


def evaluate(
    run: Path,
    zoos: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    /,
    *,
    supervised: Annotated[bool, Parameter(negative=())] = False,
    slow_baselines: Annotated[bool, Parameter(negative=())] = False,
    dsa: Annotated[bool, Parameter(negative=())] = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """Emulation losses and property predictions of held-out RNNs, each beside its controls.

    Says for each split whether embeddings help the emulator and predict what RNNs learned: yes, no, or open
    where intervals overlap. All figures are in figures.tsv and metrics.json of the run's folder.

    Another zoo of the same task, such as one of other architectures, is evaluated by the encoder and the
    predictors as they are, once the run was evaluated on its own: a row for each architecture, for tasks that
    the run was trained on (known) and others. Its figures are in the folder zoos/ of the run's.

    ```
    rnnatlas evaluate run
    ```

    Args:
        run: The trained run's folder; predictors and all figures are written into it.
        zoos: The zoos to evaluate on (folders or s3://…), one after the other; the run's own without any.
            Name the run's own, too, where it is no longer where the run was trained on it.
        supervised: Also train the same kind of encoder end to end on each property, which frozen embeddings
            are compared with: at most as many updates as emulation had, once for each property, unless
            supervised.steps or supervised.properties says otherwise.
        slow_baselines: Also fit an embedding to each RNN, which says how well the emulator could do with any,
            and predict properties from Lyapunov spectra: as long again as the rest.
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
        flags = {"supervised": supervised, "slow_baselines": slow_baselines, "dsa": dsa}
        flags |= {"device": device, "json": json}
        sections = {"predictors": settings.as_dict(predictors), "supervised": settings.as_dict(end_to_end)}
        common.show(flags, sections)
        return
    from rnnatlas.emulation.model import read_settings
    from rnnatlas.evaluation.evaluate import evaluate as evaluate_run
    from rnnatlas.zoo.store import Zoo

    identity = read_settings(run).zoo_identity
    opened = [Zoo.open(zoo) for zoo in zoos]
    own = next((zoo for zoo in opened if zoo.identity == identity), None)
    records = []
    for zoo in opened or [None]:
        another = zoo is not None and zoo.identity != identity
        asked = not (another and own)
        found = evaluate_run(
            run,
            zoo,
            predictors,
            own=own,
            supervised=end_to_end if supervised and asked else None,
            slow_baselines=slow_baselines and asked,
            dsa=dsa and asked,
            device=device,
            progress=common.progress,
        )
        records += found
        if json:
            continue
        if zoo is not None and another:
            _show_other(run, zoo, found)
        else:
            _show(run, zoo, len(found))
    if json:
        print_json(records)


def _show(run: Path, zoo: Any, figures: int) -> None:
    """What was found on the run's own zoo."""
    from rnnatlas.emulation.model import read_settings
    from rnnatlas.evaluation.evaluate import FIGURES, read_cost
    from rnnatlas.report import words
    from rnnatlas.report.findings import of_run

    put(f"To embed one RNN: {words.cost(read_cost(run))}")
    put(f"All {figures} figures beside their controls: {run / FIGURES}")
    for split, found in of_run(run, str(zoo.path) if zoo is not None else read_settings(run).zoo):
        put(f"\n{words.capital(split)}")
        for question, finding in found:
            put(f"{question} {words.capital(finding.outcome)}: {finding.text}")


def _show_other(run: Path, zoo: Any, records: list[dict[str, Any]]) -> None:
    """What was found on another zoo."""
    from rnnatlas.evaluation.evaluate import FIGURES, other_folder
    from rnnatlas.report.other import table

    put(f"All {len(records)} figures of {zoo.path}: {other_folder(run, zoo) / FIGURES}")
    print_table(*table(records, zoo.task.noun))
