"""A progress bar over jobs, on stderr."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rnnatlas.executors.claims import INTERVAL


@contextmanager
def bar(title: str, updates: int, rate: str | None, done: Callable[[], int]) -> Iterator[None]:
    """A bar that moves by itself while the block runs.

    Args:
        title: What is being done.
        updates: Updates in all.
        rate: What updates a second are called; None for no bar.
        done: Says how many updates have been made.
    """
    if rate is None or not updates:
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    stop = threading.Event()
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(title, total=updates, rate="")

        def show(done: int) -> None:
            elapsed = shown.tasks[0].elapsed or 1
            shown.update(task, completed=done, rate=f"{done / elapsed:,.0f} {rate}")

        def watch() -> None:
            while not stop.wait(INTERVAL):
                show(done())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
            show(updates)
        finally:
            stop.set()
            watcher.join()
