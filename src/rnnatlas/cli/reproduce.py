"""`rnnatlas reproduce`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed


def reproduce(
    *,
    out: Path,
    preset: Literal["small", "paper"] = "small",
    zoo: Literal["languages", "mnist", "both"] = "languages",
    data: Annotated[Path | None, Parameter(negative=())] = None,
    seed: Seed = 0,
    workers: int | None = None,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: Common | None = None,
) -> None:
    """The paper's comparison of encoders on one of its zoos or both, as tables, figures and a report.

    Builds the zoo, trains every encoder and its controls with several seeds, evaluates them on RNNs that
    were held out, and writes all of it into report.html. What was found is compared with what was
    published. Call it again to go on with what was stopped.

    ```
    rnnatlas reproduce --preset small --out small
    ```

    Args:
        out: The experiment's folder.
        preset: small (some hours on two cores) or paper (for a GPU).
        zoo: languages, mnist, or both, each in a folder of its own within --out.
        data: The training images of MNIST, a folder of IDX files or an .npz file, to be checked and kept in
            the cache; without it the cache is read, and what it lacks is downloaded.
        seed: Decides everything random.
        workers: Processes at a time; as many as there are processors by default.
        set: Change a setting, such as zoo.runs=400 or experiment.seeds=5; may be repeated.
    """
    from rnnatlas import reproduce as experiment
    from rnnatlas import tasks

    common = common or Common()
    changes = common.layered({}, {}, set or [], experiment.SECTIONS)
    chosen = ["languages", "mnist"] if zoo == "both" else [zoo]
    resolved = {one: experiment.resolve(preset, changes, experiment.ZOOS[one]) for one in chosen}
    if common.print_config:
        flags = {"out": out, "preset": preset, "zoo": zoo, "data": data, "seed": seed, "workers": workers}
        common.show(flags, resolved if zoo == "both" else resolved[zoo])
        return
    if zoo == "both":  # digits that are missing should not be found so hours later
        made = tasks.registry[experiment.ZOOS["mnist"]].from_settings(resolved["mnist"]["task"])
        made.prepare(data, common.progress)
        data = None
    for one in chosen:
        report = experiment.reproduce(
            out / one if zoo == "both" else out,
            preset,
            task=experiment.ZOOS[one],
            data=data,
            seed=seed,
            changes=changes,
            workers=workers,
            progress=common.progress,
        )
        print(report.resolve())
