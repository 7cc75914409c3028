"""The executor of this machine: each worker a process of its own, one per GPU (or set of GPUs).

A process does one assignment after another, so that its engine is started only once.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

from premem_core.errors import JobError
from premem_core.models.backend import Resources
from premem_core.scoring.executors.worker import Assignment, Event, Worker

# Loaded once, in the process from which workers are forked, because importing these takes seconds.
# None of them uses a GPU.
PRELOADED = [
    "torch",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "premem_core.scoring.executors.worker",
    "premem_core.models.transformers_backend",
]
PRELOADED_FOR_SERVER = [  # none of them needs torch
    "openai",
    "transformers.models.auto.tokenization_auto",
    "premem_core.scoring.executors.worker",
    "premem_core.models.server.server_backend",
]


SECONDS_TO_END = 30  # for an engine with further processes


@dataclass(slots=True)
class _Child:
    process: ForkServerProcess
    device: str | None
    resources: Resources
    connection: Connection
    starting: float  # seconds; those of the first worker include PRELOADED
    # Steps of its assignment of which neither "done" nor "failed" is reported.
    steps_left: list[int] = field(default_factory=list)
    idle: bool = False
    ending: bool = False


class LocalExecutor:
    """Workers as child processes.

    Args:
        devices: one entry per worker: its CUDA_VISIBLE_DEVICES, or None for one without a GPU.
        backend: the backend that the workers will load.
    """

    def __init__(self, devices: Sequence[str | None], backend: str = "hf") -> None:
        self._free = list(devices)
        # Each worker uses a part of the cores: more threads than cores slow each other down.
        several = len(devices) > 1 and backend != "server"
        self._threads = max(1, (os.cpu_count() or 1) // len(devices)) if several else 0
        self._children: list[_Child] = []
        self._context = multiprocessing.get_context("forkserver")
        # Loading vLLM may use a GPU, so it is preloaded only for workers without a GPU.
        vllm = ["vllm.entrypoints.llm"] if backend == "vllm" and None in devices else []
        preloaded = PRELOADED_FOR_SERVER if backend == "server" else [*PRELOADED, *vllm]
        self._context.set_forkserver_preload(preloaded)

    @property
    def free(self) -> int:
        """The number of assignments that can begin now."""
        return len(self._free) + sum(child.idle for child in self._children)

    def can_load(self, step: int) -> bool:
        """True: each worker loads any checkpoint."""
        return True

    def submit(self, assignment: Assignment) -> None:
        """Begin an assignment in an idle process, or on the next free device."""
        child = self._worker_for(assignment)
        child.idle = False
        child.steps_left = [checkpoint.step for checkpoint in assignment.checkpoints]
        with contextlib.suppress(OSError):  # it died, which `wait` will report
            child.connection.send(assignment)

    def _worker_for(self, assignment: Assignment) -> _Child:
        """An idle worker that can do it, or a new one, if need be in the place of another."""
        idle = [child for child in self._children if child.idle]
        fitting = [child for child in idle if child.resources == assignment.resources]
        if fitting and not assignment.of_adapters:
            return fitting[0]
        if not self._free:
            self._end(idle[0])
        return self._start(assignment.resources)

    def _start(self, resources: Resources) -> _Child:
        device = self._free.pop(0)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_main, args=(device, self._threads, theirs))
        started = time.perf_counter()
        process.start()
        starting = time.perf_counter() - started
        theirs.close()  # so that its end of the pipe closes when it dies
        child = _Child(process, device, resources, ours, starting)
        self._children.append(child)
        return child

    def wait(self, seconds: float) -> list[Event]:
        """The workers' reports; a worker whose process died without a report is lost."""
        ready = wait([child.connection for child in self._children], seconds)
        reporting = [child for child in self._children if child.connection in ready]
        return [event for child in reporting for event in self._reports_of(child)]

    def _reports_of(self, child: _Child) -> list[Event]:
        events = []
        try:
            while child.connection.poll():
                report: Event | bool = child.connection.recv()
                if isinstance(report, bool):  # the assignment is over, and it can do another one
                    child.idle, child.ending = report, not report
                    continue
                if report.kind == "loading":
                    report = replace(report, seconds=child.starting)
                    child.starting = 0.0
                events.append(report)
                if report.kind in ("done", "failed"):
                    child.steps_left.remove(report.step)
        except (EOFError, OSError):
            self._remove(child)
            if child.steps_left and not child.ending:
                code = child.process.exitcode
                cause = f"signal {-code}" if code is not None and code < 0 else f"exit {code}"
                events.append(Event("lost", child.steps_left[0], cause))
        return events

    def _end(self, child: _Child) -> None:
        """End an idle worker."""
        with contextlib.suppress(OSError):
            child.connection.send(None)
        child.process.join(SECONDS_TO_END)
        child.process.kill()
        self._remove(child)

    def _remove(self, child: _Child) -> None:
        child.process.join()
        self._children.remove(child)
        self._free.append(child.device)

    def close(self) -> None:
        """End all workers; those that are still busy are killed, their finished shards are kept."""
        for child in self._children:
            if child.steps_left:
                child.process.kill()
        for child in list(self._children):
            self._end(child)


def devices(workers: int | None, tensor_parallel: int = 1, backend: str = "hf") -> list[str | None]:
    """One entry per worker: GPUs in groups of `tensor_parallel`; without GPUs one worker.

    A worker of the backend "server" needs no GPU.

    Args:
        workers: the largest number of workers; on a machine without GPUs, the exact number.

    Raises:
        JobError: there are GPUs, but fewer than one worker needs.
    """
    if backend == "server":
        return [None] * (1 if workers is None else workers)
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    gpus = named.split(",") if named else [str(i) for i in range(count)]
    if not count:
        return [None] * (1 if workers is None else workers)
    if count < tensor_parallel:
        raise JobError(
            f"a worker needs {tensor_parallel} GPUs, but this machine has {count}; give a "
            "smaller --tensor-parallel"
        )
    groups = [
        ",".join(gpus[i : i + tensor_parallel])
        for i in range(0, len(gpus) - tensor_parallel + 1, tensor_parallel)
    ]
    return list(groups[:workers])


def _main(device: str | None, threads: int, connection: Connection) -> None:
    """Run a worker's process. It ends when its parent ends, whose end of the pipe then closes."""
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    elif threads:
        import torch

        torch.set_num_threads(min(threads, torch.get_num_threads()))
    assignments: queue.SimpleQueue[Assignment | None] = queue.SimpleQueue()

    def receive() -> None:
        try:
            while True:
                assignments.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    threading.Thread(target=receive, daemon=True).start()
    worker, further_processes = Worker(), False
    while (assignment := assignments.get()) is not None:
        further_processes = assignment.resources.tensor_parallel > 1
        can_go_on = worker.work(assignment, connection.send)
        connection.send(can_go_on)
        if not can_go_on:
            break
    if worker.backend is not None and further_processes:
        worker.backend.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Exit without waiting for threads and processes that engines leave behind.
    os._exit(0)
