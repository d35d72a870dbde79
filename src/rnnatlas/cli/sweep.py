"""`rnnatlas sweep`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, print_json, print_table


def sweep(
    plan: Path,
    /,
    *,
    out: Path,
    executor: str = "local",
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: bool = False,
    common: Common | None = None,
) -> None:
    """Train and evaluate every encoder with every seed on every zoo with all settings of a plan.

    ```
    rnnatlas sweep plan.yaml --out sweep
    ```

    The plan is a file such as

        zoos: [zoo]                       # folders or addresses; {small: a/zoo, large: b/zoo} names them
        encoders: [responses, statistics]
        seeds: 3                          # from 0 on; or [4, 7]
        preset: demo
        settings:                         # what differs from the preset, by names of your own
          base: {}
          wide: {emulation: {emulator: {width: 128}}}
        evaluate: true                    # as by default, like what follows
        retries: 2                        # of runs that fail, before they are reported
        threads: 1                        # of each run on processors

    Rows of the table appear as runs end; --out has it as sweep.tsv, with a folder for each run, such as
    zoo/wide/responses-0. Call it again to go on with what was stopped, to try again what failed, or when the
    plan has grown: what is there is kept.

    Args:
        plan: The plan, a YAML file.
        out: The sweep's folder.
        executor: Where runs are made: local (processes of this machine), ray or slurm.
        workers: Runs at a time; as many as there are processors by default.
        device: Where encoders are trained; auto is a GPU, where there is one.
        set: Change a setting of the executor, such as executor.partition=long; may be repeated.
        json: Print the table as one JSON document.
    """
    from rnnatlas.reproduce.sweep import COLUMNS, Plan, check_all_done
    from rnnatlas.reproduce.sweep import sweep as run
    from rnnatlas.settings import build, read_yaml

    common = common or Common()
    options = common.layered({}, {}, set or [], ["executor"]).get("executor", {})
    if common.print_config:
        flags = {"out": out, "executor": executor, "workers": workers, "device": device}
        common.show(flags, {"executor": options} if options else None)
        return

    def cells(row: dict[str, Any]) -> list[Any]:
        return ["–" if row[column] is None else row[column] for column in COLUMNS]

    rows = run(
        build(Plan, read_yaml(plan), "plan"),
        out,
        executor=executor,
        workers=workers,
        device=device,
        options=options,
        progress=common.progress,
        told=lambda row: common.say(
            "  ".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells(row))
        ),
    )
    if json:
        print_json(rows)
    else:
        print_table(COLUMNS, [cells(row) for row in rows])
    check_all_done(rows, out)
