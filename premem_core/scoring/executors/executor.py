"""Executor: where the workers of a job run."""

from typing import Protocol

from premem_core.scoring.executors.worker import Assignment, Event


class Executor(Protocol):
    """Where assignments are done."""

    @property
    def free(self) -> int:
        """How many more assignments can begin."""

    def submit(self, assignment: Assignment) -> None:
        """Begin an assignment; there must be room for it."""

    def wait(self, seconds: float) -> list[Event]:
        """What happened; waits for something at most that long."""

    def close(self) -> None:
        """Stop what is still under way."""
