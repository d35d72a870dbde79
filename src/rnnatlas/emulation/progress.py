"""What a person sees of training while it runs."""

from collections.abc import Callable
from typing import Any

import lightning
import rich.console
import rich.progress


class Progress(lightning.Callback):
    """One bar for the whole training, on stderr: losses and time left.

    What it is shown of is a `fit.Training`, which uses this and so is not imported here.
    """

    def __init__(self):
        self._bar: rich.progress.Progress | None = None

    def on_train_start(self, trainer: lightning.Trainer, training: Any) -> None:  # noqa: D102
        if trainer.is_global_zero:
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TextColumn("{task.fields[losses]}"),
                rich.progress.TimeRemainingColumn(),
                console=rich.console.Console(stderr=True),
            )
            title = f"training {training.encoder.title or type(training.encoder).__name__}"
            self._task = self._bar.add_task(title, total=training.settings.steps, losses="")
            self._bar.start()

    def on_train_batch_end(self, trainer: Any, training: Any, *_: Any) -> None:
        """Shows the step; now and then only, since reading a loss waits for a GPU."""
        if training.done % 20 == 0:
            self._show(training)

    def on_train_epoch_end(self, trainer: Any, training: Any) -> None:  # noqa: D102
        self._show(training)

    def on_train_end(self, trainer: Any, training: Any) -> None:  # noqa: D102
        self._stop()

    def on_exception(self, *_: Any) -> None:  # noqa: D102
        self._stop()

    def _show(self, training: Any) -> None:
        if self._bar is None:
            return
        losses = f"train {training.train_loss:.4f}"
        if training.history:
            last, best = training.history[-1]["validation_loss"], training.best["loss"]
            losses += f" validation {last:.4f} (best {best:.4f})"
        self._bar.update(self._task, completed=training.done, losses=losses)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class EachStep(lightning.Callback):
    """Calls a function after each step, with 1."""

    def __init__(self, advance: Callable[[int], None]):
        self._advance = advance

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: D102
        self._advance(1)
