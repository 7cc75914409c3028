"""The executor of a loaded model: its one checkpoint is scored in this process, at once."""

from collections import deque

from premem_core.grading.graders import make_grader
from premem_core.models.backend import Backend
from premem_core.scoring.checkpoint import score_checkpoint
from premem_core.scoring.chunks import Chunk
from premem_core.scoring.executors.worker import Assignment, Event


class InProcessExecutor:
    """Scores the checkpoint at a step with a model that is loaded already.

    Errors while it is scored are raised, not reported.

    Args:
        backend: the model.
        step: of the checkpoint whose weights it has.
    """

    def __init__(self, backend: Backend, step: int) -> None:
        self._backend, self._step = backend, step
        self._events: deque[Event] = deque()

    @property
    def free(self) -> int:
        """1: an assignment has ended when `submit` returns."""
        return 1

    def can_load(self, step: int) -> bool:
        """True for the checkpoint whose model this is."""
        return step == self._step

    def submit(self, assignment: Assignment) -> None:
        """Do an assignment; checkpoints other than the loaded one fail."""
        for checkpoint in assignment.checkpoints:
            if self.can_load(checkpoint.step):
                self._score(assignment)
                self._events.append(Event("done", self._step))
            else:
                reason = "its model is not loaded here; premem jobs run scores what is missing"
                self._events.append(Event("failed", checkpoint.step, reason))

    def _score(self, assignment: Assignment) -> None:
        def on_chunk(chunk: Chunk, seconds: float) -> None:
            self._events.append(Event("chunk", self._step, "scoring", seconds))

        with make_grader(assignment.work.spec.grader) as grader:
            score_checkpoint(
                assignment.work, self._step, self._backend, grader, assignment.writer, on_chunk
            )

    def wait(self, seconds: float) -> list[Event]:
        """The events of the assignments so far."""
        events, self._events = list(self._events), deque()
        return events

    def close(self) -> None:
        """Nothing is left to stop; the model belongs to the caller."""
