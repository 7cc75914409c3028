"""The executor of a Ray cluster: each worker a Ray task.

Ray places the tasks, gives them their GPUs and retries those whose node or process died; a retried
task reads the shards that its predecessor left instead of computing them again.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import premem_core
from premem_core.errors import JobError
from premem_core.scoring.executors.worker import Assignment, Event, Worker

RETRIES = 3
SECONDS_TO_CONNECT = 10


class RayExecutor:
    """Workers on a Ray cluster.

    Args:
        address: of the cluster; None for the cluster of this machine, or else a new one here.
        tensor_parallel: GPUs per worker, on a cluster that has GPUs.
        workers: the largest number at the same time; None for as many as GPUs, or CPUs, allow.

    Raises:
        JobError: Ray is not installed, there is no cluster at the address, or it has too few GPUs.
    """

    def __init__(self, address: str | None, tensor_parallel: int, workers: int | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise JobError(
                "Ray is not installed; run pip install 'premem[ray]', or use the local executor"
            ) from error
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            _check_listening(address)
            # Every node gets this package; what it needs must be installed there.
            package = str(Path(premem_core.__file__).parent)
            with _signals_kept():
                ray.init(
                    address=address,
                    runtime_env={"py_modules": [package]},
                    include_dashboard=None if address else False,
                    configure_logging=False,
                )
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise JobError(
                f"no Ray cluster answers at {address or 'this machine'} ({reason}); start one "
                "(ray start --head), or check --address"
            ) from error
        self._ray = ray
        gpus = int(ray.cluster_resources().get("GPU", 0))
        self._gpus = tensor_parallel if gpus else 0
        if gpus < self._gpus:
            ray.shutdown()
            raise JobError(
                f"a worker needs {tensor_parallel} GPUs, but the cluster has {gpus}; give a "
                "smaller --tensor-parallel"
            )
        self._workers = workers
        self._running: dict[Any, Assignment] = {}
        self._task: Callable[..., Any] = ray.remote(
            num_cpus=1,
            num_gpus=self._gpus,
            max_retries=RETRIES,
            max_calls=1,  # end its process, too: a closed engine often keeps GPU memory
        )(_work).remote

    @property
    def free(self) -> int:
        """The number of further tasks that the cluster can run now."""
        resources = self._ray.cluster_resources()
        room = resources.get("GPU", 0) // self._gpus if self._gpus else resources.get("CPU", 1)
        most = max(1, int(room)) if self._workers is None else self._workers
        return max(0, most - len(self._running))

    def submit(self, assignment: Assignment) -> None:
        """Hand an assignment to Ray."""
        self._running[self._task(assignment)] = assignment

    def wait(self, seconds: float) -> list[Event]:
        """The reports of the tasks that ended; a task that Ray gave up is lost."""
        if not self._running:
            return []
        ended, _ = self._ray.wait(list(self._running), timeout=seconds)
        events = []
        for task in ended:
            assignment = self._running.pop(task)
            try:
                events += self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                reason = f"Ray: {(str(error).splitlines() or [type(error).__name__])[0]}"
                events += [Event("lost", c.step, reason) for c in assignment.checkpoints[:1]]
        return events

    def close(self) -> None:
        """Cancel the running tasks, and disconnect from the cluster."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._ray.shutdown()


def _check_listening(address: str | None) -> None:
    """Check that the address accepts connections, because Ray itself would retry for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_CONNECT).close()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep Premem's SIGTERM handler, which cancels the job; Ray would replace it."""
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)


def _work(assignment: Assignment) -> list[Event]:
    events: list[Event] = []
    # Objects from Ray's object store are read-only; the worker fills in its own copy.
    assignment = replace(assignment, work=assignment.work.copy())
    Worker().work(assignment, events.append)
    return events
