"""The training loop, on Lightning; this module is imported when training starts.

Resuming is exact, on a CPU to the last bit, because nothing depends on what the loop remembers: batches and
the learning rate are functions of the step, and all else that changes is in the one file that each
validation writes.
"""

import contextlib
import csv
import io
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, IterableDataset

from rnnatlas import files, seeds
from rnnatlas.captured import Captured
from rnnatlas.emulation import choose, suitable
from rnnatlas.emulation.data import AT, WEIGHTS, Batch, Snapshots, population_of, unpack
from rnnatlas.emulation.divergence import last_counted, masked_mean
from rnnatlas.emulation.emulator import Emulator
from rnnatlas.emulation.model import RESUME, EmulationSettings, share_of_rate
from rnnatlas.emulation.progress import EachStep, Progress
from rnnatlas.emulation.resuming import COLUMNS, saved
from rnnatlas.encoders.base import Encoder
from rnnatlas.encoders.reader import Reader
from rnnatlas.errors import TrainingDiverged
from rnnatlas.rnn.backends import layers


class Training(lightning.LightningModule):
    """Encoder and emulator, trained to give out what RNNs did on stored rollouts.

    Args:
        encoder: Makes embeddings.
        emulator: Imitates RNNs, given those.
        train: Snapshots to train on.
        validation: Snapshots that choose the best weights.
        settings: How.
        seed: Of the batches.
        out: The run's folder.
    """

    def __init__(
        self,
        encoder: Encoder,
        emulator: Emulator,
        train: Snapshots,
        validation: Snapshots,
        settings: EmulationSettings,
        seed: int,
        out: Path,
    ):
        super().__init__()
        self.encoder, self.emulator = encoder, emulator
        self._train, self._validation = train, validation
        self.settings, self._seed, self._out = settings, seed, out
        for module in self.modules():
            if isinstance(module, (Emulator, Reader)):
                module.rounded = settings.products == "bfloat16" and layers.has_half()
        output = emulator.interface.output
        known = suitable(output)
        self._divergence = known[choose(settings.divergence, output)]
        self._first = known[choose(settings.first_divergence or settings.divergence, output)]
        self.done = 0
        self.history: list[dict[str, int | float]] = []
        self.best: dict[str, Any] = {"loss": float("inf"), "step": 0, "weights": {}}
        self.waited = 0
        self._sum: Tensor = torch.zeros(())
        self._since = 0
        self._losses: list[Tensor] = []
        self._captured: Captured | None = None

    # --- data ----------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader:
        """The batches up to the next validation."""
        return DataLoader(_Stream(self._upcoming), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """All validation snapshots."""
        return DataLoader(
            _Stream(lambda: self._validation.in_order(128, self.settings.validation_rollouts)),
            batch_size=None,
        )

    def _upcoming(self) -> Iterator[Batch]:
        end = self.done - self.done % self.settings.validate_every + self.settings.validate_every
        rank, world = self.trainer.global_rank, self.trainer.world_size
        for step in range(self.done, min(end, self.settings.steps)):
            yield self._train.draw(self.settings.rnns, self.settings.rollouts, self._seed, step, rank, world)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, *_: Any) -> Batch:
        """Positions stay on the CPU, which reads them: a GPU would have to be waited for."""
        return {name: tensor if name.startswith(AT) else tensor.to(device) for name, tensor in batch.items()}

    # --- one step ------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Tensor:
        """The divergence of each RNN of a batch from its emulation."""
        return self._loss(**self._unpacked(batch))

    def _unpacked(self, batch: Batch) -> dict[str, Tensor]:
        inputs, targets, mask = unpack(batch, self._train.task)
        weights = {name: tensor for name, tensor in batch.items() if name.startswith((WEIGHTS, AT))}
        return {**weights, "inputs": inputs, "targets": targets, "mask": mask}

    def _loss(self, inputs: Tensor, targets: Tensor, mask: Tensor, **weights: Tensor) -> Tensor:
        rnns = population_of(weights, self._train.task)
        z = self.encoder(rnns)
        lengths = last_counted(mask) if self.settings.mask_padding else None
        predictions, targets = map(self.emulator.standardise, (self.emulator(z, inputs, lengths), targets))
        early = self.training and self.done < self.settings.first_steps
        values = (self._first if early else self._divergence)(targets, predictions)
        loss = masked_mean(values, mask if self.settings.mask_padding else None)
        extra = self.encoder.extra_loss(rnns, z) if self.training else None
        return loss if extra is None else loss + extra

    def learn(self, batch: Batch) -> Tensor:
        """The loss of a batch, and its gradients in the parameters, worked out on a GPU by one CUDA graph."""
        if self.done == self.settings.first_steps:  # a graph repeats the divergence that it was made with
            self._captured = None
        self._captured = self._captured or Captured(self._learn, self.device)
        loss = self._captured(**self._unpacked(batch))
        assert loss is not None
        return loss

    def _learn(self, **tensors: Tensor) -> Tensor:
        for parameter in self.parameters():
            parameter.grad = None
        loss = self._loss(**tensors).mean()
        loss.backward()
        return loss.detach()

    @property
    def _captures(self) -> bool:
        """Whether steps are CUDA graphs: of one process, whose RNNs share an architecture.

        Gradients of several processes are brought together, and of several architectures each has another
        number of RNNs at each step. Encoders may not be capturable, either.
        """
        alone = self.device.type == "cuda" and self.trainer.world_size == 1
        return alone and len(self._train.specs) == 1 and self.encoder.capturable

    def training_step(self, batch: Batch, index: int) -> Tensor:  # noqa: D102
        loss = self.learn(batch) if self._captures else self.loss(batch).mean()
        if self.device.type == "cpu":  # a GPU would have to be waited for; validation finds it out there
            self._check(loss)
        self._sum += loss.detach()
        self._since += 1
        return loss

    def backward(self, loss: Tensor, *_: Any, **__: Any) -> None:  # noqa: D102
        if not self._captures:  # else the gradients are there
            loss.backward()

    def optimizer_zero_grad(self, *_: Any) -> None:  # noqa: D102
        if not self._captures:
            self.zero_grad()

    def on_validation_model_zero_grad(self) -> None:
        """Leaves gradients where they are, which is where a CUDA graph goes on writing them."""

    def _check(self, loss: Tensor) -> None:
        if not loss.isfinite():
            raise TrainingDiverged(
                f"the emulation loss stopped being finite at step {self.done}; try a learning rate below "
                f"{self.settings.learning_rate:g}, or look for broken snapshots with: rnnatlas zoo verify"
            )

    def on_train_batch_start(self, batch: Batch, index: int) -> None:  # noqa: D102
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = learning_rate(self.settings, self.done)
        # what an encoder draws while it learns (dropout, augmentation) is a function of the step, too
        noise = seeds.torch_generator(self._seed, "noise", self.done).initial_seed()
        seeds.seed_torch(noise, self.device)

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:  # noqa: D102
        self.done += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:  # noqa: D102
        return torch.optim.AdamW(
            self.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:  # noqa: D102
        for part in (self.encoder, self.emulator):
            if parameters := list(part.parameters()):
                clip_grad_norm_(parameters, self.settings.clip)

    # --- validation ----------------------------------------------------------------------------

    def validation_step(self, batch: Batch, index: int) -> None:  # noqa: D102
        self._losses.append(self.loss(batch))

    def on_validation_epoch_end(self) -> None:
        """Adds a row to the history and keeps the weights if they are the best so far."""
        strategy = self.trainer.strategy  # all devices decide alike
        loss = strategy.reduce(torch.cat(self._losses).mean(), reduce_op="mean")
        self._check(loss)
        train = strategy.reduce(self._sum / self._since, reduce_op="mean")
        row = {
            "step": self.done,
            "train_loss": float(train),
            "validation_loss": float(loss),
            "learning_rate": learning_rate(self.settings, self.done - 1),
        }
        self._losses, self._sum, self._since = [], torch.zeros_like(self._sum), 0
        self.history.append(row)
        self.waited += 1
        if row["validation_loss"] < self.best["loss"]:
            self.waited = 0
            self.best = {"loss": row["validation_loss"], "step": self.done, "weights": self.weights()}
        self.trainer.should_stop = self.finished
        if self.logger is not None:
            self.logger.log_metrics({key: row[key] for key in COLUMNS[1:]}, step=self.done)

    @property
    def train_loss(self) -> float:
        """Mean loss of the steps since the last validation, or up to it where there are none yet."""
        return float(self._sum / self._since) if self._since else float(self.history[-1]["train_loss"])

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or patience has run out."""
        patience = self.settings.patience
        return self.done >= self.settings.steps or (patience is not None and self.waited >= patience)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Copies of the weights of both parts, on the CPU."""
        parts: dict[str, nn.Module] = {"encoder": self.encoder, "emulator": self.emulator}
        return {
            part: {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
            for part, module in parts.items()
        }

    # --- stopping and going on -----------------------------------------------------------------

    def on_train_epoch_end(self) -> None:
        """Saves, after each validation, all that training needs to go on from here."""
        if not self.trainer.is_global_zero:
            return
        state = {
            "done": self.done,
            "history": self.history,
            "best": self.best,
            "waited": self.waited,
            "weights": self.weights(),
            "optimizer": self.trainer.optimizers[0].state_dict(),
        }
        write_history(self._out, self.history)
        content = io.BytesIO()  # torch.save to a full disk raises no OSError
        torch.save(state, content)
        with files.replacing(self._out / RESUME) as partial:
            partial.write_bytes(content.getbuffer())

    def take_up(self, path: Path) -> None:
        """Goes back to where a saved state was.

        Raises:
            RunFormatError: It is damaged, or of another training.
        """
        state = saved(path, self.weights(), list(self.parameters()), self.settings.steps)
        self.done, self.history = state["done"], state["history"]
        self.best, self.waited = state["best"], state["waited"]
        for part in ("encoder", "emulator"):
            getattr(self, part).load_state_dict(state["weights"][part])
        self._optimizer_state = state["optimizer"]

    def on_train_start(self) -> None:
        """Gives the optimiser back what it had gathered."""
        self._sum = torch.zeros((), device=self.device)
        if self.done:
            optimizer = self.trainer.optimizers[0]
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": self._optimizer_state, "param_groups": groups})


class _Stream(IterableDataset):
    """Batches made as they are asked for."""

    def __init__(self, make: Any):
        self._make = make

    def __iter__(self) -> Iterator[Batch]:
        return self._make()


def learning_rate(settings: EmulationSettings, step: int) -> float:
    """The learning rate of a step (from 0): linear warm-up, then constant or falling linearly to zero."""
    return settings.learning_rate * share_of_rate(step, settings.steps, settings.warmup, settings.decay)


def write_history(out: Path, history: list[dict[str, int | float]]) -> None:
    """Writes history.csv anew."""
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    files.write_text(out / "history.csv", text.getvalue())


def fit(
    training: Training, out: Path, device: str, devices: int, progress: bool | Callable[[int], None]
) -> None:
    """Trains from where `training` is to its last step; arguments as those of `train`."""
    logger = TensorBoardLogger(out, name="", version="", purge_step=training.done or None)
    gpus = range(torch.cuda.device_count()) if device == "cuda" else []
    with _quiet(), _raising_diverged(), torch.random.fork_rng(gpus):
        trainer = lightning.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=devices,
            strategy="auto" if devices == 1 else "ddp_spawn",
            max_epochs=-1,
            max_steps=training.settings.steps - training.done,
            num_sanity_val_steps=0,
            logger=logger,
            callbacks=[EachStep(progress) if callable(progress) else Progress()] if progress else [],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(training)


@contextlib.contextmanager
def _raising_diverged() -> Iterator[None]:
    """Raises what one of several processes raised, of which a text arrives here."""
    try:
        yield
    except ProcessRaisedException as error:
        kind, _, sentence = str(error).strip().splitlines()[-1].partition(": ")
        if not kind.endswith(TrainingDiverged.__name__):
            raise
        raise TrainingDiverged(sentence) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Lightning's remarks away, and turns its way of handling Ctrl-C back into Python's."""
    log = logging.getLogger("lightning.pytorch")
    level, handler = log.level, signal.getsignal(signal.SIGINT)
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        log.setLevel(level)
        with contextlib.suppress(ValueError):  # not in the main thread, where no handler can be set
            signal.signal(signal.SIGINT, handler)
