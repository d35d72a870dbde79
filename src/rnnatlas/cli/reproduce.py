"""`rnnatlas reproduce`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed


def reproduce(
    *,
    out: Path,
    preset: Literal["demo", "compare", "small", "paper"] = "small",
    zoo: Literal["languages", "mixed", "mnist", "digits", "integrator", "both"] = "languages",
    data: Annotated[Path | None, Parameter(negative=())] = None,
    seed: Seed = 0,
    executor: str = "local",
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: Common | None = None,
) -> None:
    """The paper's comparison of encoders on a zoo, as tables, figures and a report.

    Builds the zoo, trains every encoder and its controls with several seeds, evaluates them on RNNs that
    were held out, and writes all of it into report.html. What was found is compared with what was
    published. Call it again to go on with what was stopped.

    ```
    rnnatlas reproduce --preset small --out small
    ```

    Args:
        out: The experiment's folder.
        preset: demo (minutes on two cores), compare (all encoders on the demo's zoos, an hour or two), small
            (some hours) or paper (for a GPU).
        zoo: languages, mnist, or both, each in a folder of its own within --out; digits, small ones in the
            place of mnist; mixed or integrator, as in `rnnatlas demo`. Most presets have settings for some.
        data: The training images of MNIST, a folder of IDX files or an .npz file with x_train and y_train, to
            be checked and kept in the cache; without it the cache is read, and what it lacks is downloaded.
        seed: Decides everything random.
        executor: Where jobs run: local (processes of this machine), ray or slurm.
        workers: Jobs at a time; as many as there are processors by default, or one with a GPU, which
            several can train encoders on.
        device: Where RNNs and encoders are trained; auto is a GPU, where there is one, unless --workers asks
            for several processes.
        set: Change a setting, such as zoo.runs=400 or experiment.seeds=5, or one of the executor, such as
            executor.partition=long; may be repeated.
    """
    from rnnatlas.errors import SettingsError
    from rnnatlas.reproduce import reproduce as run
    from rnnatlas.reproduce.settings import SECTIONS, ZOOS, resolve

    common = common or Common()
    changes = common.layered({}, {}, set or [], (*SECTIONS, "executor"))
    options = changes.pop("executor", {})
    if common.print_config:
        if zoo == "both":
            raise SettingsError("--print-config prints the settings of one zoo, found --zoo both; name one")
        flags = {"out": out, "preset": preset, "zoo": zoo, "data": data, "seed": seed}
        flags |= {"executor": executor, "workers": workers}
        resolved = resolve(preset, changes, ZOOS[zoo])
        common.show({**flags, "device": device}, resolved)
        return
    # mnist first, and all settings before: what is missing or wrong should not be found so hours later
    chosen = ["mnist", "languages"] if zoo == "both" else [zoo]
    for one in chosen:
        try:
            resolve(preset, changes, ZOOS[one])
        except SettingsError as error:
            if zoo != "both":
                raise
            raise SettingsError(f"settings should suit both zoos, but those of {one}: {error}") from None
    for one in chosen:
        report = run(
            out / one if zoo == "both" else out,
            preset,
            zoo=ZOOS[one],
            data=None if (zoo, one) == ("both", "languages") else data,
            seed=seed,
            changes=changes,
            executor=executor,
            workers=workers,
            device=device,
            options=options,
            progress=common.progress,
        )
        print(report.resolve())
