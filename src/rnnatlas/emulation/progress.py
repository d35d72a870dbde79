"""What a person sees of training while it runs."""

import rich.console
import rich.progress
from torch import Tensor


class Progress:
    """One bar for the whole training, on stderr: losses, rate and time left."""

    def __init__(self, title: str, steps: int, shown: bool):
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[losses]}"),
            rich.progress.TimeRemainingColumn(),
            console=rich.console.Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bar.add_task(title, total=steps, losses="")
        self._shown = shown
        self._done, self._train, self._validation = 0, "", ""

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, done: int, loss: Tensor) -> None:
        """Shows a step; losses are read now and then, which costs a wait on a GPU."""
        self._done = done
        if self._shown and done % 20 == 0:
            self._train = f"train {float(loss):.4f}"
            self._show()

    def validated(self, loss: float, best: float) -> None:
        """Shows a validation."""
        self._validation = f" validation {loss:.4f} (best {best:.4f})"
        self._show()

    def _show(self) -> None:
        self._bar.update(self._task, completed=self._done, losses=self._train + self._validation)
