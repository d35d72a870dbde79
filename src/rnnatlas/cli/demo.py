"""`rnnatlas demo`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed


def demo(
    *,
    out: Path = Path("demo"),
    seed: Seed = 0,
    workers: int | None = None,
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: Common | None = None,
) -> None:
    """A whole atlas in minutes: zoo, encoders, evaluation, report.

    Trains 384 LSTMs on formal languages, three encoders on those LSTMs with several seeds each, and the
    controls; evaluates them on RNNs that were held out; embeds, searches and maps the zoo; and writes all
    of it into report.html. Call it again to go on with a demo that was stopped.

    ```
    rnnatlas demo --out demo
    ```

    Args:
        out: The demo's folder.
        seed: Decides everything random.
        workers: Processes at a time; as many as there are processors by default.
        set: Change a setting, such as zoo.runs=400 or experiment.seeds=5; may be repeated.
    """
    from rnnatlas.reproduce import reproduce, resolve

    common = common or Common()
    sections = ["experiment", "task", "zoo", "emulation", "encoders"]
    changes = common.layered({}, {}, set or [], sections)
    if common.print_config:
        common.show({"out": out, "seed": seed, "workers": workers}, resolve("demo", changes))
        return
    report = reproduce(out, "demo", seed=seed, changes=changes, workers=workers, progress=common.progress)
    print(report.resolve())
