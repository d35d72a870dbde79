"""A whole experiment: a zoo, encoders with several seeds, their controls, an atlas and a report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnnatlas import executors, seeds, tasks
from rnnatlas.report.experiment import FILE
from rnnatlas.reproduce.ablations import of_ablations
from rnnatlas.reproduce.folder import begin, describe, timing
from rnnatlas.reproduce.jobs import ZOO, of_encoders, of_the_map
from rnnatlas.reproduce.settings import LANGUAGES, resolve, task_of
from rnnatlas.settings import build


def reproduce(
    out: Path | str,
    preset: str = "small",
    *,
    zoo: str = LANGUAGES,
    data: Path | None = None,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    executor: str = "local",
    workers: int | None = None,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Path:
    """Builds a zoo, trains encoders and controls on it, evaluates them, and writes a report.

    Args:
        out: Folder of the experiment; one that was stopped goes on.
        preset: demo, compare, small or paper.
        zoo: What presets call the zoo: its task, or mixed.
        data: Where the user has what the task's RNNs are trained on, as `Task.prepare` takes it.
        seed: Of the zoo; run number i is trained with seed + i.
        changes: Settings over those of the preset, by section.
        executor: Where jobs run: a name of `rnnatlas.executors.registry`.
        workers: Jobs at a time; None for as many as there are processors, or one with a GPU, which
            several can train encoders on, while the zoo's RNNs are trained by one.
        device: Where RNNs and encoders are trained: "cpu", "cuda" or "auto", which is a GPU where there is
            one, unless there are several workers of this machine.
        options: Settings of the executor.
        progress: Show progress bars on stderr.

    Returns:
        The report, an HTML file.

    Raises:
        OutputExists: `out` holds something else, or an experiment with another zoo, another seed or other
            settings.
        RunFormatError: What `out` says of itself cannot be read.
        SettingsError: Unknown settings or properties, data for a task that brings its own, no such device,
            or less than one worker.
        DataError: The data are missing or not what they should be.
    """
    from rnnatlas.report.page import write_report
    from rnnatlas.zoo.build import build as build_zoo
    from rnnatlas.zoo.build import choose_device
    from rnnatlas.zoo.store import Zoo
    from rnnatlas.zoo.train import ZooSettings

    seeds.check(seed)
    out = Path(out)
    resolved = resolve(preset, changes or {}, zoo)
    of_zoo = workers
    if executor == "local":
        device = choose_device(device, None if device == "cuda" else workers)
        of_zoo = None if device == "cuda" else workers
        workers = 1 if device == "cuda" and workers is None else workers
    runner = executors.make(executor, workers, resolved["experiment"]["threads"], options)
    device = runner.choose(device)
    made = tasks.registry[task_of(zoo)].from_settings(resolved["task"])
    if data is not None or not (out / FILE).is_file():  # before anything is made
        made.prepare(data, progress)
    begin(out, describe(out, preset, zoo, seed, changes or {}, resolved))
    with timing(out, "zoo"):
        build_zoo(
            made,
            build(ZooSettings, resolved["zoo"], "zoo"),
            out / ZOO,
            seed=seed,
            executor=executor,
            workers=of_zoo,
            device=device,
            options=options,
            resume=True,
            progress=progress,
        )
    opened = Zoo.open(out / ZOO)
    mixed = len(opened.specs) > 1
    jobs = of_encoders(out, resolved, seed, device, _end_to_end(opened, resolved), mixed)
    jobs += of_ablations(out, resolved, seed, device, mixed)
    with timing(out, "encoders and controls"):
        runner.run(jobs, out, "training encoders", "steps/s" if progress else None)
    with timing(out, "atlas and map"):
        runner.run([*jobs, of_the_map(out, resolved, seed)], out)
    return write_report(out)


def _end_to_end(zoo: Any, resolved: Mapping[str, Any]) -> int:
    """On how many properties encoders are trained end to end.

    Raises:
        SettingsError: The zoo's RNNs lack one that is asked for.
    """
    from rnnatlas.evaluation.predictions import asked_for
    from rnnatlas.evaluation.supervised import SupervisedSettings

    if not resolved["experiment"]["supervised"]:
        return 0
    snapshots = zoo.snapshots(where=resolved["emulation"]["where"])
    return len(asked_for(build(SupervisedSettings, resolved["supervised"], "supervised"), zoo, snapshots))
