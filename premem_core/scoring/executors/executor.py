"""Executor: the interface of the classes that run the workers of a job."""

from typing import Protocol

from premem_core.scoring.executors.worker import Assignment, Event


class Executor(Protocol):
    """Runs the assignments of a job."""

    @property
    def free(self) -> int:
        """The number of assignments that can begin now."""

    def can_load(self, step: int) -> bool:
        """Whether the workers can load the checkpoint at a step, if its weights are there."""

    def submit(self, assignment: Assignment) -> None:
        """Begin an assignment; a worker must be free."""

    def wait(self, seconds: float) -> list[Event]:
        """The new events; waits at most this long for the first."""

    def close(self) -> None:
        """Stop the assignments that are not finished."""
