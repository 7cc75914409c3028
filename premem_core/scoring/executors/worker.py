"""A worker and its assignments: load a checkpoint, and do all its work that can be done now.

The engine is kept for the next assignment, and its weights are replaced. Adapters over one base
model are assigned together, to a new engine that switches between them.
"""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from premem_core.errors import EndpointError, EngineError, PrememError
from premem_core.files import NO_SPACE
from premem_core.grading.grader import Grader
from premem_core.grading.graders import make_grader
from premem_core.models import load_backend
from premem_core.models.backend import Backend, Resources
from premem_core.models.checkpoints import check_checkpoint
from premem_core.models.read_ahead import read_ahead
from premem_core.records import Checkpoint
from premem_core.scoring.checkpoint import score_checkpoint
from premem_core.scoring.chunks import Chunk
from premem_core.scoring.work_left import WorkLeft
from premem_core.store.shards.shards import ShardWriter


@dataclass(frozen=True, slots=True)
class Assignment:
    """The work for one worker.

    Attributes:
        work: its copy of the work left when it was assigned.
        following: a checkpoint that will probably be assigned next, whose files are read ahead.
    """

    checkpoints: tuple[Checkpoint, ...]
    work: WorkLeft
    writer: ShardWriter
    resources: Resources
    following: Checkpoint | None = None

    @property
    def of_adapters(self) -> bool:
        """Whether the checkpoints are adapters, which need an engine that was started for them."""
        return self.checkpoints[0].adapter_base is not None


@dataclass(frozen=True, slots=True)
class Event:
    """A worker's report about a checkpoint.

    Attributes:
        kind: "memory": memory ran out. "disk": a shard could not be written, and the whole job
            should stop. "endpoint": an endpoint does not answer, and the whole job should stop.
            "lost": the worker's process died, which its executor reports, or its engine cannot load
            the checkpoint, which another one can.
        text: for "chunk", the phase of the work; for a failure, the reason.
        seconds: the time for loading libraries or weights, or for a chunk.
    """

    kind: Literal[
        "loading", "loaded", "chunk", "done", "failed", "memory", "disk", "endpoint", "lost"
    ]
    step: int
    text: str = ""
    seconds: float = 0.0


class Worker:
    """Does assignments in this process, one after the other, with one engine.

    Attributes:
        backend: the engine; None before the first checkpoint is loaded.
    """

    def __init__(self) -> None:
        self.backend: Backend | None = None
        self._adapter_base: str | None = None  # of the checkpoint that is loaded

    def work(self, assignment: Assignment, report: Callable[[Event], None]) -> bool:
        """Do an assignment. Errors are reported, not raised.

        Returns:
            Whether this worker can do another one, of whole models. It cannot after adapters, and
            after an error, which may have damaged the engine.
        """
        done = not assignment.of_adapters
        with make_grader(assignment.work.spec.grader) as grader:
            for checkpoint in assignment.checkpoints:
                end = self._end_of(checkpoint, assignment, grader, report)
                report(end)
                done = done and end.kind == "done"
                if end.kind in ("memory", "disk", "endpoint", "lost"):
                    break
        return done

    def _end_of(
        self,
        checkpoint: Checkpoint,
        assignment: Assignment,
        grader: Grader,
        report: Callable[[Event], None],
    ) -> Event:
        """Score a checkpoint, and return the last event about it."""
        step = checkpoint.step

        def on_chunk(chunk: Chunk, seconds: float) -> None:
            report(Event("chunk", step, _phase(chunk), seconds))

        report(Event("loading", step))
        try:
            started = time.perf_counter()
            backend = self._load(checkpoint, assignment)
            report(Event("loaded", step, seconds=time.perf_counter() - started))
            if assignment.following:
                read_ahead(assignment.following)
            score_checkpoint(assignment.work, step, backend, grader, assignment.writer, on_chunk)
        except MemoryError as error:
            return Event("memory", step, str(error))
        except EngineError as error:
            return Event("lost", step, str(error))
        except EndpointError as error:
            return Event("endpoint", step, str(error))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                return Event("disk", step, error.strerror or str(error))
            return Event("failed", step, _reason(error))
        return Event("done", step)

    def _load(self, checkpoint: Checkpoint, assignment: Assignment) -> Backend:
        check_checkpoint(checkpoint)
        if self.backend is None:
            name = assignment.work.spec.backend
            self.backend = load_backend.load_backend(name, checkpoint, assignment.resources)
        elif self._adapter_base != checkpoint.adapter_base:
            raise EngineError(f"{checkpoint.path} needs another engine than the loaded adapter")
        else:
            self.backend.switch(checkpoint)
        self._adapter_base = checkpoint.adapter_base
        return self.backend


def _phase(chunk: Chunk) -> str:
    if chunk.kind == "samples":
        return f"{chunk.perturbation or chunk.split} samples"
    return "perplexities" if chunk.kind == "targets" else "continuations of questions"


def _reason(error: Exception) -> str:
    """An error in one line; the traceback of an unexpected error goes to the job's log."""
    if isinstance(error, PrememError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
