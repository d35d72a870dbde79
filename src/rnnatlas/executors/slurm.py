"""Jobs that a Slurm cluster runs, submitted by submitit."""

import contextlib
import dataclasses
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnnatlas.errors import SettingsError, warn
from rnnatlas.executors.base import Executor, Submit
from rnnatlas.executors.calls import Call, killed, missing, settle
from rnnatlas.settings import above_zero, settings

FOLDER = ".slurm"
"""Where submitit keeps jobs and their output, within the folder that jobs write to."""

LOGGING = "SUBMITIT_LOG_LEVEL"
"""What submitit reads when it is imported."""

INTERVAL = 0.5
"""Seconds between two looks at which jobs have ended."""


@dataclasses.dataclass(frozen=True)
class Resumed:
    """A function that is called again, in a new Slurm job, when Slurm ends its job before it is done."""

    call: Call

    def __call__(self) -> Any:
        """Calls it."""
        return self.call()

    def checkpoint(self) -> Any:
        """What submitit then submits."""
        return load().helpers.DelayedSubmission(self)


def load() -> Any:
    """The module submitit, which is kept from setting up logging: that would close what others log to.

    Raises:
        SettingsError: It is not installed.
    """
    before = os.environ.get(LOGGING)
    os.environ[LOGGING] = before or "NOCONFIG"
    try:
        import submitit
    except ImportError:
        raise missing("slurm", "Slurm") from None
    finally:
        if before is None:
            del os.environ[LOGGING]
    return submitit


class Slurm(Executor):
    """Jobs of a Slurm cluster; where there is none, processes of this machine that submitit starts."""

    @settings
    class Settings(Executor.Settings):
        """What each job asks Slurm for.

        Args:
            partition: Where it waits.
            account: Who it counts for.
            minutes: After which Slurm ends it; it then goes on in another one.
            gigabytes: Of memory; None for what the cluster gives by default.
            gpus: Of each job, where jobs compute on GPUs.
            options: Other options of sbatch, such as `{qos: long, constraint: a100}`.
            cluster: "slurm"; or "local" and "debug", submitit's ways of trying it out. None for Slurm where
                there is one.
        """

        partition: str | None = None
        account: str | None = None
        minutes: int = 240
        gigabytes: float | None = None
        gpus: int = 1
        options: dict[str, Any] = dataclasses.field(default_factory=dict)
        cluster: str | None = None

        def __post_init__(self) -> None:
            super().__post_init__()
            above_zero(self, "minutes")
            if self.cluster not in (None, "slurm", "local", "debug"):
                raise SettingsError(f"cluster should be slurm, local or debug, found {self.cluster!r}")

    gpus = 0

    @property
    def workers(self) -> int:
        """Jobs that are submitted at a time; Slurm says how many of them run."""
        return self.asked or 64

    def choose(self, device: str) -> str:
        """See `Executor.choose`; "auto" is the CPU, since what machines Slurm has is not known here."""
        self.gpus = self.settings.gpus if device == "cuda" else 0
        return "cuda" if device == "cuda" else "cpu"

    def _engine(self, logs: Path) -> Any:
        chosen = self.settings
        try:
            engine = load().AutoExecutor(logs, cluster=chosen.cluster)
        except RuntimeError as error:  # Slurm is asked for by name, and is not there
            raise SettingsError(f"{error}; run it where `srun` is, or leave executor.cluster out") from None
        if engine.cluster != "slurm" and chosen.cluster is None:
            warn("there is no Slurm here (no srun), so jobs are processes of this machine")
        asked = {"partition": chosen.partition, "account": chosen.account}
        engine.update_parameters(
            name="rnnatlas",
            timeout_min=chosen.minutes,
            cpus_per_task=self.threads,
            gpus_per_node=self.gpus,
            **({"mem_gb": chosen.gigabytes} if chosen.gigabytes else {}),
            **{f"slurm_{name}": value for name, value in asked.items() if value},
            slurm_additional_parameters=chosen.options,
        )
        return engine

    @contextmanager
    def pool(self, workers: int, folder: Path) -> Iterator[Submit]:
        """See `Executor.pool`; what Slurm's jobs printed is kept where one of them was lost."""
        logs = folder / FOLDER
        logs.mkdir(parents=True, exist_ok=True)
        engine, running, over = self._engine(logs), {}, threading.Event()

        def submit(work: Callable[..., bool], *arguments: Any) -> "Future[bool]":
            future: Future[bool] = Future()
            running[future] = engine.submit(Resumed(Call.of(work, *arguments)))
            return future

        def watch() -> None:
            while not over.wait(INTERVAL):
                for future, job in list(running.items()):
                    if job.done():
                        settle(future, _found(job, logs))
                        del running[future]

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield submit
        finally:
            over.set()
            watcher.join()
            for job in running.values():
                with contextlib.suppress(Exception):
                    job.cancel(check=False)
        shutil.rmtree(logs, ignore_errors=True)


def _found(job: Any, logs: Path) -> Any:
    """What a job gave; of one that was lost, a sentence."""
    try:
        return job.result()
    except Exception:  # whatever kept the function from giving or raising anything
        return None, killed(f"the Slurm job {job.job_id} was lost", logs / f"{job.job_id}_0_log.err")
