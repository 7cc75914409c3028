"""The interface of a grader: completions and references in, one grade per pair out."""

from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Protocol, Self

from premem_core.records import Graded


class Grader(Protocol):
    """Grades completions against references. As a context manager it is closed at the end.

    Attributes:
        name: the grader's name, as in `graders.GRADERS`.
        grades_against: the field of an `Example` that is the reference in a scoring job.
    """

    name: str
    grades_against: Literal["answer", "solution"]

    def grade(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """The grade of each completion against the reference at the same position.

        No text makes this raise an error.

        Raises:
            ValueError: there are not as many references as completions.
        """
        ...

    def close(self) -> None:
        """Stop the grader's processes, if it has any."""
        return  # most graders have none

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
