"""A worker's assignment: load a checkpoint once, and do all that can be done at it.

Several checkpoints go to one worker only when they are adapters over one base model: the engine is
loaded once and the adapters are swapped.
"""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from premem_core.errors import PrememError
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
    """What one worker is to do. `work` is its copy of what was left when it was made."""

    checkpoints: tuple[Checkpoint, ...]
    work: WorkLeft
    writer: ShardWriter
    resources: Resources


@dataclass(frozen=True, slots=True)
class Event:
    """What a worker reports of a checkpoint. `seconds` is what its engine took: its libraries,
    its weights, its work.

    loading; loaded; chunk (`text` says of what); done; failed (`text` says why); memory: it ran
    out; disk: a shard could not be written, and the whole job should stop; lost: its process died,
    as its executor reports.
    """

    kind: Literal["loading", "loaded", "chunk", "done", "failed", "memory", "disk", "lost"]
    step: int
    text: str = ""
    seconds: float = 0.0


def work(assignment: Assignment, report: Callable[[Event], None]) -> Backend | None:
    """Do an assignment in this process. Whatever goes wrong is reported, not raised.

    Returns:
        The engine: vLLM takes a second to drop one, which a process that ends need not wait for.
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
    """Premem's own errors are sentences; of others the job's log keeps the traceback."""
    if isinstance(error, PrememError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
