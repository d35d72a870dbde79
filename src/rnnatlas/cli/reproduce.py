"""`rnnatlas reproduce`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed


def reproduce(
    *,
    out: Path,
    preset: Literal["small", "paper"] = "small",
    seed: Seed = 0,
    workers: int | None = None,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: Common | None = None,
) -> None:
    """The paper's comparison of encoders on the zoo of formal languages, as tables, figures and a report.

    Builds the zoo, trains every encoder and its controls with several seeds, evaluates them on RNNs that
    were held out, and writes all of it into report.html. What was found is compared with what was
    published. Call it again to go on with what was stopped.

    ```
    rnnatlas reproduce --preset small --out small
    ```

    Args:
        out: The experiment's folder.
        preset: small (some hours on two cores) or paper (for a GPU).
        seed: Decides everything random.
        workers: Processes at a time; as many as there are processors by default.
        set: Change a setting, such as zoo.runs=400 or experiment.seeds=5; may be repeated.
    """
    from rnnatlas import reproduce as experiment

    common = common or Common()
    sections = ["experiment", "task", "zoo", "emulation", "encoders"]
    changes = common.layered({}, {}, set or [], sections)
    if common.print_config:
        flags = {"out": out, "preset": preset, "seed": seed, "workers": workers}
        common.show(flags, experiment.resolve(preset, changes))
        return
    report = experiment.reproduce(
        out, preset, seed=seed, changes=changes, workers=workers, progress=common.progress
    )
    print(report.resolve())
