"""`rnnatlas zoo build | import | show | verify | export`."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed, at_least, print_json, print_table, put
from rnnatlas.errors import SettingsError

if TYPE_CHECKING:
    from rnnatlas.zoo.imports import Checkpoint
    from rnnatlas.zoo.store import Zoo


def build(
    task: str,
    /,
    *,
    out: str,
    preset: str | None = None,
    runs: int | None = None,
    data: Annotated[Path | None, Parameter(negative=())] = None,
    seed: Seed = 0,
    executor: str = "local",
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    resume: bool = False,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: Common | None = None,
) -> None:
    """Train many RNNs on a task and keep their snapshots.

    Stop it whenever you like: with --resume it goes on where it was.

    ```
    rnnatlas zoo build formal-languages --preset demo --out zoo
    ```

    Args:
        task: What the RNNs are trained to do; `rnnatlas tasks` lists the tasks.
        out: The zoo's folder, or its address (s3://…, with rnnatlas[s3] installed).
        preset: demo, compare, small or paper; without one, everything is as in the paper.
        runs: RNNs to train.
        data: The training images of tiled-mnist, a folder of IDX files or an .npz file with x_train and
            y_train, to be checked and kept in the cache; without it the cache is read, and what it lacks is
            downloaded.
        seed: With a run's number, decides everything random about the run.
        executor: Where the work is done: local (processes of this machine), ray (a Ray cluster, or one that
            is started here) or slurm.
        workers: Jobs at a time; by default as many as there are processors, or one with a GPU of this
            machine, or 64 that wait for Slurm.
        device: Where RNNs are trained; auto is a GPU, where there is one, unless --workers asks for several
            processes.
        resume: Go on with a zoo that was begun in --out.
        set: Change a setting, such as zoo.hidden=16 or task.tokens=3, or one of the executor, such as
            executor.partition=long; may be repeated.
    """
    from rnnatlas import settings, tasks

    common = common or Common()
    kind = tasks.registry[task]
    below = settings.preset(preset, task) if preset else {}
    resolved = common.layered(below, {"zoo": {"runs": runs}}, set or [], ["task", "zoo", "executor"])
    from rnnatlas.zoo.train import ZooSettings

    made = kind.from_settings(resolved.get("task", {}))
    zoo_settings = settings.build(ZooSettings, resolved.get("zoo", {}), "zoo")
    if common.print_config:
        flags = {
            "out": out,
            "data": data,
            "seed": seed,
            "executor": executor,
            "workers": workers,
            "device": device,
        }
        sections = {"task": settings.as_dict(made.settings), "zoo": settings.as_dict(zoo_settings)}
        common.show(flags, sections)
        return
    from rnnatlas.zoo.build import build as build_zoo

    if data is not None:
        made.prepare(data, common.progress)
    zoo = build_zoo(
        made,
        zoo_settings,
        out,
        seed=seed,
        executor=executor,
        workers=workers,
        device=device,
        options=resolved.get("executor"),
        resume=resume,
        progress=common.progress,
    )
    common.say(f"{len(zoo)} snapshots of {', '.join(map(str, zoo.specs))} in {out}")


def import_(
    paths: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    out: Path,
    inputs: Annotated[Path | None, Parameter(negative=())] = None,
    labels: Annotated[Path | None, Parameter(negative=())] = None,
    group: str | None = None,
    signal: Literal["tokens", "values"] | None = None,
    rollouts: int | None = None,
    seed: Annotated[int | None, Parameter(validator=at_least(0))] = None,
    separate: Annotated[bool, Parameter(negative=())] = False,
    cell: str | None = None,
    head: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: Common | None = None,
) -> None:
    """Make a zoo of checkpoints that others trained.

    Files without an RNN that can be used are skipped and named, unless you gave them one by one. With
    --inputs (or --labels, --group, --signal) what the RNNs give out is kept, and encoders can be trained on
    the zoo. Without, it can be shown and embedded by an encoder of another zoo with the same input and output
    sizes. A folder in the layout of Herrmann et al. (2024), parameters.npy and so on, becomes a zoo with
    tasks, metrics and rollouts; of the flags it takes --seed alone.

    ```
    rnnatlas zoo import checkpoints/ 'runs/*/model.pt' --out zoo
    rnnatlas zoo import checkpoints/ --inputs trials.npz --labels runs.csv --out mine
    ```

    Args:
        paths: Files, folders (with all below them), globs; `rnnatlas formats` lists the formats.
        out: The zoo's folder.
        inputs: What the RNNs read: an .npz file of arrays `inputs` [trial, time, channel], or [trial, time]
            of token numbers, and perhaps `mask` [trial, time] and `targets` [trial, time, output], or classes
            [trial, time]; an .npy file of inputs alone; or a .csv or .parquet file with a sequence of token
            numbers a line. Without it, RNNs with a head and as many outputs as inputs sample tokens from
            themselves, others read white and smooth noise.
        labels: What you know of the networks: a .csv or .parquet table whose column file, path, id or name
            says which file a row is about. Labels can be searched by, colour maps, and are predicted.
        group: Label of which all networks with one value lie in one split; each network by itself without it.
        signal: Whether RNNs read tokens or values, where inputs do not tell.
        rollouts: Trials kept of each RNN, 64 without it.
        seed: Of splits and of what is drawn; 0 without it.
        separate: Keep RNNs of one file, and checkpoints of one series (step_100.pt, step_200.pt), as runs of
            their own; else they share a run, and so a split.
        cell: Which cell RNNs with one gate have, where a file does not say: elman-tanh (assumed),
            elman-relu, leaky-tanh or leaky-relu, with its α where the file has none (leaky-relu:0.2). lstm or
            gru: read no other cells.
        head: Prefix of the output layer's names, where several would fit; "" for none;
            PREFIX=NAME for the RNN at one prefix, once for each.
    """
    from rnnatlas.zoo.imports import import_checkpoints, passed_over
    from rnnatlas.zoo.published import is_published

    common = common or Common()
    if any(map(is_published, paths)):
        flags = [inputs, labels, group, signal, rollouts, cell, head, separate or None]
        _import_published(paths, out, seed or 0, any(flag is not None for flag in flags), common)
        return
    others = passed_over(paths)  # before there is a zoo, which may lie in a folder of theirs
    zoo, incomplete = import_checkpoints(
        paths,
        out,
        cell=cell,
        head=head,
        inputs=inputs,
        labels=labels,
        separate=separate,
        **{"group": group, "signal": signal, "rollouts": rollouts, "seed": seed},
    )
    for sentence in _remarks(zoo, incomplete):
        common.say(sentence)
    skipped = sum(checkpoint.skipped is not None for checkpoint in incomplete)
    counted = f"{skipped} {'file' if skipped == 1 else 'files'} skipped"
    runs = len(zoo.table["run"].unique())
    held = f"{len(zoo)} RNNs" if runs == len(zoo) else f"{len(zoo)} snapshots of {runs} RNNs"
    common.say(f"{held} ({', '.join(map(str, zoo.specs))}) in {out}, {counted}")
    if others:
        common.say(others)


def _import_published(paths: Sequence[Path], out: Path, seed: int, others: bool, common: Common) -> None:
    """Imports a zoo in the paper's layout, where it is given alone and without `others` of the flags."""
    from rnnatlas.zoo.published import import_published, is_published

    if len(paths) > 1 or others:
        raise SettingsError(
            f"{next(filter(is_published, paths))}, a zoo in the layout of Herrmann et al. (2024), is "
            "imported by itself and with no flag but --seed; leave out the others"
        )
    zoo = import_published(paths[0], out, seed, common.progress)
    for sentence in _remarks(zoo, []):
        common.say(sentence)
    common.say(f"{len(zoo)} snapshots of {', '.join(map(str, zoo.specs))} in {out}")


def _remarks(zoo: "Zoo", incomplete: Sequence["Checkpoint"]) -> Iterator[str]:
    """What was skipped, left out, assumed and found on the way into a zoo, a sentence each."""
    from rnnatlas.zoo.imports import assumed
    from rnnatlas.zoo.store import DIVERGED

    yield from (f"skipped {checkpoint.skipped}" for checkpoint in incomplete if checkpoint.skipped)
    for checkpoint in incomplete:
        yield from (f"left out: {reason}" for reason in checkpoint.unclear)
    if remark := assumed(zoo.table["notes"].to_pylist()):
        yield remark
    health = zip(zoo.table["id"].to_pylist(), zoo.table["health"].to_pylist(), strict=True)
    if diverged := [id for id, state in health if state == DIVERGED]:
        named = f"{', '.join(diverged[:5])}{', …' if len(diverged) > 5 else ''}"
        what = "weights" if zoo.task is None else "weights or outputs"
        yield f"marked as diverged, since {what} are not finite: {len(diverged)} ({named})"
    made = zoo.card["settings"]
    yield from filter(None, [made.get("series"), *made.get("remarks", [])])


def show(zoo: str, /, *, json: bool = False, common: Common | None = None) -> None:
    """What a zoo holds: counts by architecture, step and split, metrics, health.

    ```
    rnnatlas zoo show zoo
    ```

    Args:
        zoo: The zoo's folder, or its address (s3://…).
        json: Print one JSON document instead of tables.
    """
    from rnnatlas.rnn import Tokens
    from rnnatlas.zoo.store import Zoo
    from rnnatlas.zoo.summary import examples, summarise

    opened = Zoo.open(zoo)
    summary = summarise(opened)
    if json:
        print_json(summary)
        return
    task = summary["task"]["name"] if summary["task"] else "imported"
    health = ", ".join(f"{count} {name}" for name, count in summary["health"].items())
    put(f"{zoo}: {summary['snapshots']} snapshots of {summary['runs']} RNNs, {task}; health: {health}\n")
    specs = {spec.slug: spec for spec in opened.specs}
    rows = [[specs[row["spec"]], row["parameters"], row["snapshots"]] for row in summary["specs"]]
    print_table(["architecture", "parameters", "snapshots"], rows)
    for groups, title in (("steps", "step"), ("splits", "split")):
        _print_groups(summary[groups], title)
    writes = opened.task is not None and isinstance(opened.task.interface.output, Tokens)
    for label, performance, strings in examples(opened) if writes else ():
        put(f"{label} (performance {performance:.2f}): {' '.join(strings)}")


def _print_groups(groups: list[dict[str, Any]], title: str) -> None:
    if len(groups) < 2 and not (groups and groups[0]["metrics"]):
        return
    metrics = list(groups[0]["metrics"])
    rows = [
        [
            "–" if group[title] == -1 else group[title],
            *(group[count] for count in ("snapshots", "runs", "tasks")),
            *group["metrics"].values(),
        ]
        for group in groups
    ]
    print()
    print_table([title, "snapshots", "RNNs", "tasks", *(f"mean {name}" for name in metrics)], rows)
    print()


def verify(
    zoo: str,
    /,
    *,
    sample: int = 100,
    all: bool = False,
    full: bool = False,
    set_aside: bool = False,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """Run stored rollouts and metrics again and compare them with what is stored.

    ```
    rnnatlas zoo verify zoo --all
    rnnatlas zoo verify zoo --full --set-aside
    ```

    Args:
        zoo: The zoo's folder, or its address (s3://…).
        sample: Snapshots to check, drawn at random.
        all: Check every snapshot.
        full: Read every byte first, to name shards that are damaged; then check every snapshot.
        set_aside: Move damaged shards to the folder `damaged` within the zoo; `zoo build --resume` then
            trains their runs again, and no others.
        json: Print one JSON document instead of a sentence.
    """
    from rnnatlas.errors import ZooFormatError
    from rnnatlas.zoo.store import Zoo
    from rnnatlas.zoo.verify import verify as check

    if set_aside and not full:
        raise SettingsError("--set-aside is for the damaged shards that --full finds; give both")
    if full:
        _check_shards(zoo, set_aside)
        all = True
    opened = Zoo.open(zoo)
    found = check(opened, None if all else sample, progress=(common or Common()).progress)
    if json:
        print_json({"zoo": zoo, "agree": found.agree, **dataclasses.asdict(found)})
    else:
        what = "rollouts and metrics" if opened.task else "weights (there are no rollouts to run again)"
        print(
            f"{found.agree} of {found.checked} snapshots checked agree with their stored {what}; "
            f"the zoo holds {found.snapshots}, {found.diverged} of them marked as diverged"
        )
    if found.agree < found.checked:
        bad = {**dict.fromkeys(found.not_finite), **dict.fromkeys(found.outputs_differ)}
        bad |= dict.fromkeys(found.metrics_differ)
        raise ZooFormatError(
            f"{found.checked - found.agree} of {found.checked} snapshots are not what was stored: "
            f"{', '.join(list(bad)[:5])}{', …' if len(bad) > 5 else ''}; copy, build or import the zoo again"
        )


def _check_shards(zoo: str, set_aside: bool) -> None:
    """Makes sure that no shard is damaged.

    Raises:
        ZooFormatError: Some are.
    """
    from rnnatlas.errors import ZooFormatError
    from rnnatlas.zoo.folder import Folder
    from rnnatlas.zoo.format import AGAIN
    from rnnatlas.zoo.verify import damaged

    found, count = damaged(zoo)
    if not found:
        return
    named = "; ".join(f"{name} is {why}" for name, why in found.items())
    advice = AGAIN.replace("ZOO", zoo)
    if set_aside:
        for name in found:
            Folder(zoo).set_aside(name)
        advice = (
            "they are set aside in its folder damaged: build it again as before with --resume, which trains "
            "their runs alone, or import it again"
        )
    raise ZooFormatError(
        f"{len(found)} of {count} shards of {zoo} are not what was written: {named}; {advice}"
    )


def export(
    zoo: str,
    /,
    *,
    out: str,
    format: Literal["hf", "safetensors", "npy"] = "hf",
    license: str | None = None,
    common: Common | None = None,
) -> None:
    """Write a zoo as a dataset of the Hugging Face Hub, or as plain files of weights.

    ```
    rnnatlas zoo export zoo --format safetensors --out weights
    rnnatlas zoo export zoo --out dataset
    ```

    Args:
        zoo: The zoo's folder, or its address (s3://…, hf://user/name).
        out: A folder that should not exist yet; for hf, also an address.
        format: hf: a copy that is a zoo and a dataset with a card of what it holds, as `rnnatlas publish`
            uploads it. safetensors: for each shard its parameters by torch's names, an RNN a row. npy: for
            each shard its flat weights. Beside these, snapshots.parquet says what each row is.
        license: What the card gives as the licence.
    """
    from rnnatlas.zoo.export import export as write
    from rnnatlas.zoo.store import Zoo

    opened = Zoo.open(zoo)
    write(opened, out, format, license)
    (common or Common()).say(f"{len(opened)} snapshots in {out}")
