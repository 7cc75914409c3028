"""The executor of this machine: each worker a process of its own, one per GPU (or set of GPUs)."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

from premem_core.errors import JobError
from premem_core.scoring.executors import worker
from premem_core.scoring.executors.worker import Assignment, Event

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


@dataclass(slots=True)
class _Child:
    process: ForkServerProcess
    device: str | None
    reports: Connection
    starting: float  # seconds; those of the first worker include PRELOADED
    steps_left: list[int]  # steps of which neither "done" nor "failed" is reported
    finished: bool = False


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
        """The number of workers that can start now."""
        return len(self._free)

    def submit(self, assignment: Assignment) -> None:
        """Begin an assignment on the next free device."""
        device = self._free.pop(0)
        ours, theirs = self._context.Pipe()
        arguments = (assignment, device, self._threads, theirs)
        process = self._context.Process(target=_main, args=arguments)
        started = time.perf_counter()
        process.start()
        starting = time.perf_counter() - started
        theirs.close()  # so that its end of the pipe closes when it dies
        left = [checkpoint.step for checkpoint in assignment.checkpoints]
        self._children.append(_Child(process, device, ours, starting, left))

    def wait(self, seconds: float) -> list[Event]:
        """The workers' reports; a worker whose process died without a report is lost."""
        ready = wait([child.reports for child in self._children], seconds)
        reporting = [child for child in self._children if child.reports in ready]
        return [event for child in reporting for event in self._reports_of(child)]

    def _reports_of(self, child: _Child) -> list[Event]:
        events = []
        try:
            while child.reports.poll():
                event: Event | None = child.reports.recv()
                if event is None:
                    child.finished = True
                    continue
                if event.kind == "loading":
                    event = replace(event, seconds=child.starting)
                    child.starting = 0.0
                events.append(event)
                if event.kind in ("done", "failed"):
                    child.steps_left.remove(event.step)
        except (EOFError, OSError):
            self._remove(child)
            if child.steps_left and not child.finished:
                code = child.process.exitcode
                cause = f"signal {-code}" if code is not None and code < 0 else f"exit {code}"
                events.append(Event("lost", child.steps_left[0], cause))
        return events

    def _remove(self, child: _Child) -> None:
        child.process.join()
        self._children.remove(child)
        self._free.append(child.device)

    def close(self) -> None:
        """Kill the workers that are still running; their finished shards are kept."""
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.process.join()


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


def _main(assignment: Assignment, device: str | None, threads: int, reports: Connection) -> None:
    """Run a worker's process. It ends when its parent ends, whose end of the pipe then closes."""
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    elif threads:
        import torch

        torch.set_num_threads(min(threads, torch.get_num_threads()))

    def end_with_parent() -> None:
        try:
            reports.recv()
        except (EOFError, OSError):
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    threading.Thread(target=end_with_parent, daemon=True).start()
    engine = worker.work(assignment, reports.send)
    if engine is not None and assignment.resources.tensor_parallel > 1:
        engine.close()  # it has further processes
    reports.send(None)
    sys.stdout.flush()
    sys.stderr.flush()
    # Exit without waiting for threads and processes that engines leave behind.
    os._exit(0)
