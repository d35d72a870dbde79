"""`rnnatlas demo`."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rnnatlas.cli.common import Common, Seed


def demo(
    *,
    out: Path = Path("demo"),
    zoo: Literal["languages", "mixed", "digits", "integrator"] = "languages",
    seed: Seed = 0,
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    set: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: Common | None = None,
) -> None:
    """A whole atlas in minutes: zoo, encoders, evaluation, report.

    Ends with the report's path, what was found in two sentences, and what to try next.

    Trains 384 LSTMs on formal languages, three encoders on those LSTMs with several seeds each, and the
    controls; evaluates them on RNNs that were held out; embeds, searches and maps the zoo; and writes all
    of it into report.html. Call it again to go on with a demo that was stopped.

    ```
    rnnatlas demo --out demo
    ```

    Args:
        out: The demo's folder.
        zoo: languages; mixed, where LSTMs, GRUs and Elman networks learn them; digits, LSTMs that read small
            rotated digits tile by tile; or integrator, RNNs of many sizes whose outputs are numbers.
        seed: Decides everything random.
        workers: Processes at a time; as many as there are processors by default, or one with a GPU, which
            several can train encoders on.
        device: Where RNNs and encoders are trained; auto is a GPU, where there is one, unless --workers asks
            for several processes.
        set: Change a setting, such as zoo.runs=400 or experiment.seeds=5; may be repeated.
    """
    from rnnatlas.atlas.index import Atlas
    from rnnatlas.report.findings import brief
    from rnnatlas.reproduce import reproduce
    from rnnatlas.reproduce.jobs import ATLAS
    from rnnatlas.reproduce.settings import SECTIONS, ZOOS, resolve

    common = common or Common()
    changes = common.layered({}, {}, set or [], SECTIONS)
    if common.print_config:
        flags = {"out": out, "zoo": zoo, "seed": seed, "workers": workers, "device": device}
        common.show(flags, resolve("demo", changes, ZOOS[zoo]))
        return
    report = reproduce(
        out,
        "demo",
        zoo=ZOOS[zoo],
        seed=seed,
        changes=changes,
        workers=workers,
        device=device,
        progress=common.progress,
    )
    print(report.resolve(), flush=True)
    for sentence in brief(out):
        common.say(sentence)
    program = "rnnatlas" if shutil.which("rnnatlas") else sys.argv[0]
    common.say(f"next: {program} search {out / ATLAS} {Atlas.open(out / ATLAS).ids[-1]} -k 5")
