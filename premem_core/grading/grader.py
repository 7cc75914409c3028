"""What every grader offers: completions and references in, one grade per pair out."""

from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Protocol, Self

from premem_core.records import Graded


class Grader(Protocol):
    """Grades completions against references; closes what it holds when used as a context manager.

    `grades_against` names the field of an `Example` that is the reference in a scoring job.
    """

    name: str
    grades_against: Literal["answer", "solution"]

    def grade(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """The grade of each completion against the reference at the same position.

        Never raises because of what a text says. ValueError: the two differ in length.
        """
        ...

    def close(self) -> None:
        """Release what the grader holds; nothing for one that grades in this process."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
