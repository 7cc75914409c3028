"""The executor of a Ray cluster: each worker a Ray actor.

Ray places the actors, gives them their GPUs, and restarts those whose node or process died, with
their assignment; a restarted one reads the shards that its predecessor left instead of computing
them again. An actor does one assignment after another, so that its engine is started only once.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import premem_core
from premem_core.errors import JobError
from premem_core.models.backend import Resources
from premem_core.scoring.executors.worker import Assignment, Event, Worker

RETRIES = 3
SECONDS_TO_CONNECT = 10


@dataclass(frozen=True, slots=True)
class _Running:
    actor: Any
    assignment: Assignment


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
        self._running: dict[Any, _Running] = {}
        self._idle: list[tuple[Any, Resources]] = []
        self._actor: Callable[[], Any] = ray.remote(
            num_cpus=1,
            num_gpus=self._gpus,
            max_restarts=RETRIES,
            max_task_retries=RETRIES,
        )(_Actor).remote

    @property
    def free(self) -> int:
        """The number of further assignments that the cluster can run now."""
        resources = self._ray.cluster_resources()
        room = resources.get("GPU", 0) // self._gpus if self._gpus else resources.get("CPU", 1)
        most = max(1, int(room)) if self._workers is None else self._workers
        return max(0, most - len(self._running))

    def can_load(self, step: int) -> bool:
        """True: each worker loads any checkpoint."""
        return True

    def submit(self, assignment: Assignment) -> None:
        """Hand an assignment to an idle actor that can do it, or to a new one."""
        fitting = [a for a, resources in self._idle if resources == assignment.resources]
        actor = fitting[0] if fitting and not assignment.of_adapters else self._actor()
        self._idle = [each for each in self._idle if each[0] is not actor]
        self._running[actor.work.remote(assignment)] = _Running(actor, assignment)

    def wait(self, seconds: float) -> list[Event]:
        """The reports of the assignments that ended; one that Ray gave up is lost."""
        # An idle actor keeps its CPU or GPU from one that is restarted on another node.
        for actor, _ in self._idle:
            self._ray.kill(actor)
        self._idle = []
        if not self._running:
            return []
        ended, _ = self._ray.wait(list(self._running), timeout=seconds)
        return [event for task in ended for event in self._reports_of(task)]

    def _reports_of(self, task: Any) -> list[Event]:
        running = self._running.pop(task)
        try:
            events, can_go_on = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            reason = f"Ray: {(str(error).splitlines() or [type(error).__name__])[0]}"
            lost = Event("lost", running.assignment.checkpoints[0].step, reason)
            events, can_go_on = [lost], False
        if can_go_on:
            self._idle.append((running.actor, running.assignment.resources))
        else:
            self._ray.kill(running.actor)
        return list(events)

    def close(self) -> None:
        """Kill the actors, and disconnect from the cluster."""
        for running in self._running.values():
            self._ray.kill(running.actor)
        for actor, _ in self._idle:
            self._ray.kill(actor)
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


class _Actor:
    def __init__(self) -> None:
        self._worker = Worker()

    def work(self, assignment: Assignment) -> tuple[list[Event], bool]:
        """Do an assignment; its events, and whether this actor can do another one."""
        events: list[Event] = []
        # Objects from Ray's object store are read-only; the worker fills in its own copy.
        assignment = replace(assignment, work=assignment.work.copy())
        can_go_on = self._worker.work(assignment, events.append)
        return events, can_go_on
