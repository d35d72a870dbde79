"""Jobs as tasks of a Ray cluster: one that runs already, or one that is started on this machine."""

import contextlib
import dataclasses
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rnnatlas.errors import RNNAtlasError, SettingsError, reason, warn
from rnnatlas.executors.base import Executor, Submit
from rnnatlas.executors.calls import Call, killed, missing, settle
from rnnatlas.settings import settings

STORE = 2**27
"""Bytes of the object store of a cluster that is started here; jobs exchange files, not objects."""


class Ray(Executor):
    """Tasks of a Ray cluster, which restarts those whose worker or machine is lost."""

    @settings
    class Settings(Executor.Settings):
        """Which cluster, and what each job has there.

        Args:
            address: Of a running cluster, or "local" for a new one on this machine; without it that which
                RAY_ADDRESS names or `ray start` began here, or else a new one.
            dashboard: Whether a cluster that is started here has Ray's dashboard.
            gpus: Of each job, where jobs compute on GPUs; a share such as 0.5 lets two jobs have one.
            restarts: How often Ray starts a job again whose worker or machine was lost.
            options: Other options of Ray's tasks, such as `{scheduling_strategy: SPREAD}`.
        """

        address: str | None = None
        dashboard: bool = True
        gpus: float = 1.0
        restarts: int = 3
        options: dict[str, Any] = dataclasses.field(default_factory=dict)

    gpus = 0.0

    @property
    def workers(self) -> int:
        """Jobs at a time: as many as the cluster's processors can do."""
        return self.asked or max(1, int(self._connected().cluster_resources().get("CPU", 1)) // self.threads)

    def choose(self, device: str) -> str:
        """See `Executor.choose`; "auto" is a GPU where the cluster has one."""
        there = device != "cpu" and self._connected().cluster_resources().get("GPU", 0) > 0
        if device == "cuda" and not there:
            raise SettingsError(
                "this Ray cluster has no machine with a GPU; add one, or use --device cpu or auto"
            )
        self.gpus = self.settings.gpus if there else 0.0
        return "cuda" if there else "cpu"

    def _connected(self) -> Any:
        """Ray, once it is connected to a cluster, as it then stays until this process ends."""
        try:
            import ray
        except ImportError:
            raise missing("ray", "Ray") from None
        if not ray.is_initialized():
            _connect(ray, self.settings, (self.asked or 0) * self.threads)
        return ray

    def again(self, error: Exception) -> int:
        """See `Executor.again`."""
        return self.settings.restarts if isinstance(error, Lost) else 0

    @contextmanager
    def pool(self, workers: int, folder: Path) -> Iterator[Submit]:
        """See `Executor.pool`."""
        ray = self._connected()
        task = ray.remote(_do).options(
            num_cpus=self.threads,
            num_gpus=self.gpus,
            max_retries=self.settings.restarts,
            **self.settings.options,
        )
        running: dict[Future[bool], Any] = {}

        def submit(work: Callable[..., bool], *arguments: Any) -> "Future[bool]":
            future: Future[bool] = Future()
            running[future] = task.remote(Call.of(work, *arguments))
            running[future].future().add_done_callback(lambda raw: arrived(future, raw))
            return future

        def arrived(future: "Future[bool]", raw: "Future[Any]") -> None:
            if running.pop(future, None) is None:  # given up
                return
            error = raw.exception()
            settle(future, raw.result() if error is None else (None, _said(error)))

        try:
            yield submit
        finally:
            for reference in [running.pop(future, None) for future in list(running)]:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)


class Lost(RNNAtlasError):
    """A machine was lost with a job that Ray does not start again by itself."""


def _connect(ray: Any, chosen: Any, processors: int) -> None:
    """Joins the cluster that there is, or starts one on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray remarks on a future default
    # Ray answers SIGTERM by ending the process at once, where ours is to clean up
    handler = signal.getsignal(signal.SIGTERM)
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if there := _address(chosen.address):
            try:
                context = ray.init(address=there, **quiet)
            except (OSError, RuntimeError) as error:  # something else answers there
                raise _no_cluster(there, error) from None
        else:
            context = ray.init(
                address="local",
                num_cpus=processors or None,
                include_dashboard=None if chosen.dashboard else False,
                object_store_memory=STORE,
                **quiet,
            )
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread, where no handler was set
            signal.signal(signal.SIGTERM, handler)
    if context.dashboard_url:
        warn(f"Ray's dashboard: http://{context.dashboard_url}")


def _address(chosen: str | None) -> str | None:
    """Where the cluster is that is to be joined; None where one is to be started.

    Ray ends the process where nothing answers there, so that is found out before.
    """
    from ray._private.utils import read_ray_address

    if chosen == "local":
        return None
    named = chosen or os.environ.get("RAY_ADDRESS")
    address = named or read_ray_address()
    if address is None:
        return None
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        socket.create_connection((parts.hostname, parts.port or 6379), timeout=10).close()
    except (OSError, ValueError) as error:
        if named is None:  # one that was stopped since
            return None
        raise _no_cluster(named, error) from None
    return address


def _no_cluster(address: str, error: Exception) -> SettingsError:
    return SettingsError(
        f"there should be a Ray cluster at {address}, found none ({reason(error)}); start one with "
        "`ray start --head`, or leave the address out"
    )


def _do(call: Call) -> Any:
    """What a task of Ray does."""
    return call()


def _said(error: BaseException) -> Exception:
    """What Ray says of a job that came to no end of its own, as one sentence."""
    from ray.exceptions import (
        LocalRayletDiedError,
        NodeDiedError,
        ObjectLostError,
        OutOfMemoryError,
        RayTaskError,
        WorkerCrashedError,
    )

    if isinstance(error, (LocalRayletDiedError, NodeDiedError, ObjectLostError)):
        return Lost(str(killed("a machine of the Ray cluster was lost")))
    if isinstance(error, (WorkerCrashedError, OutOfMemoryError)):
        return killed("a Ray worker was killed")
    if isinstance(error, RayTaskError):  # what is around the job failed, such as unpickling it
        return error.cause  # type: ignore[attr-defined]
    return killed(f"Ray lost a job ({reason(error) if isinstance(error, Exception) else error})")
