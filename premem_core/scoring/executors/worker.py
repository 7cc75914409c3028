"""A worker's assignment: load a checkpoint once, and do all its work that can be done now.

Several checkpoints go to one worker only when they are adapters over one base model: the engine is
loaded once and the adapters are swapped.
"""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from premem_core.errors import EndpointError, PrememError
from premem_core.files import NO_SPACE
from premem_core.grading.graders import make_grader
from premem_core.models import load_backend
from premem_core.models.backend import Backend, Resources
from premem_core.models.checkpoints import check_checkpoint
from premem_core.records import Checkpoint
from premem_core.scoring.checkpoint import score_checkpoint
from premem_core.scoring.work_left import Chunk, WorkLeft
from premem_core.store.shards import ShardWriter


@dataclass(frozen=True, slots=True)
class Assignment:
    """The work for one worker. `work` is its copy of the work left when it was assigned."""

    checkpoints: tuple[Checkpoint, ...]
    work: WorkLeft
    writer: ShardWriter
    resources: Resources


@dataclass(frozen=True, slots=True)
class Event:
    """A worker's report about a checkpoint.

    Attributes:
        kind: "memory": memory ran out. "disk": a shard could not be written, and the whole job
            should stop. "endpoint": an endpoint does not answer, and the whole job should stop.
            "lost": the worker's process died, which its executor reports.
        text: for "chunk", the phase of the work; for a failure, the reason.
        seconds: the time for loading libraries or weights, or for a chunk.
    """

    kind: Literal[
        "loading", "loaded", "chunk", "done", "failed", "memory", "disk", "endpoint", "lost"
    ]
    step: int
    text: str = ""
    seconds: float = 0.0


def work(assignment: Assignment, report: Callable[[Event], None]) -> Backend | None:
    """Do an assignment in this process. Errors are reported, not raised.

    Returns:
        The engine, still loaded: closing vLLM takes a second, which a process that ends can save.
    """
    backend: Backend | None = None
    with make_grader(assignment.work.spec.grader) as grader:
        for checkpoint in assignment.checkpoints:
            step = checkpoint.step

            def on_chunk(chunk: Chunk, seconds: float, step: int = step) -> None:
                report(Event("chunk", step, _phase(chunk), seconds))

            report(Event("loading", step))
            try:
                started = time.perf_counter()
                check_checkpoint(checkpoint)
                if backend is None:
                    spec = assignment.work.spec
                    backend = load_backend.load_backend(
                        spec.backend, checkpoint, assignment.resources
                    )
                else:
                    backend.switch(checkpoint)
                report(Event("loaded", step, seconds=time.perf_counter() - started))
                score_checkpoint(
                    assignment.work, step, backend, grader, assignment.writer, on_chunk
                )
            except MemoryError as error:
                report(Event("memory", step, str(error)))
                break
            except EndpointError as error:
                report(Event("endpoint", step, str(error)))
                break
            except Exception as error:
                if isinstance(error, OSError) and error.errno in NO_SPACE:
                    report(Event("disk", step, error.strerror or str(error)))
                    break
                report(Event("failed", step, _reason(error)))
            else:
                report(Event("done", step))
    return backend


def _phase(chunk: Chunk) -> str:
    if not chunk.numbers:
        return "perplexities"
    return f"{chunk.perturbation or chunk.split} samples"


def _reason(error: Exception) -> str:
    """An error in one line; the traceback of an unexpected error goes to the job's log."""
    if isinstance(error, PrememError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
