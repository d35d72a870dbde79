"""`rnnatlas bench`: how fast it is here."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rnnatlas.cli.common import Common, print_json, print_table


def bench(*name: str, json: bool = False, common: Common | None = None) -> None:
    """How fast this installation is, beside other ways of doing the same; a few minutes.

    ```
    rnnatlas bench zoo-training
    rnnatlas bench --json > benchmarks.json
    ```

    Figures are medians with quartiles. Contenders take turns, and where there is one thread it is the
    processor's time that counts, so a busy machine does little harm.

    Args:
        name: Which: zoo-training, run, encoders, scaling; all of them if none is named.
        json: Print one JSON document instead of tables.
    """
    from rnnatlas.benchmarks import registry
    from rnnatlas.benchmarks.report import report

    common = common or Common()
    benchmarks = {each: registry[each]() for each in name or registry}
    command = shlex.join(["rnnatlas", "bench", *name, *["--json"] * json])
    with _bar(len(benchmarks), common.progress) as show:
        document = report(benchmarks, command, show)
    if json:
        print_json(document)
        return
    print(f"{document['processor']}, {document['cores']} cores; backend {document['backend']}")
    print(f"rnnatlas {document['rnnatlas']} ({document['commit'] or 'installed'}), torch {document['torch']}")
    for each, found in document["benchmarks"].items():
        rows = benchmarks[each].table(found["rows"])
        print(f"\n{each}: {found['claim']}\n{found['note']}\n")
        print_table(list(rows[0]), [list(row.values()) for row in rows])


@contextmanager
def _bar(count: int, shown: bool) -> Iterator[Callable[[str, float, str], None]]:
    """A bar over all benchmarks, drawn when something is new: a thread of its own would be timed too."""
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), auto_refresh=False, disable=not shown)
    with bar:
        task = bar.add_task("", total=count)
        started: list[str] = []

        def show(benchmark: str, share: float, doing: str) -> None:
            if benchmark not in started:
                started.append(benchmark)
            done = len(started) - 1 + share
            bar.update(task, completed=done, description=f"{benchmark}: {doing}", refresh=True)

        yield show
        bar.update(task, completed=count, refresh=True)
