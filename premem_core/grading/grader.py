"""What a grader is: completions and references in, one grade per pair out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated, Self

from pydantic import Field

from premem_core.problems.answer_rule import AnswerRule, SlowPatternError
from premem_core.problems.thinking import Thinking, ThinkingMarks, split_thinking
from premem_core.records import Example, Grade, Graded

# The settings of graders, with what they can be.
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
AtOnce = Annotated[int, Field(ge=1, le=1024)]


class Grader(ABC):
    """Grades completions against references. As a context manager it is closed at the end.

    A subclass says which answers a text states (`extract`) and how they are compared
    (`grade_answers`). What all graders share is here: thinking traces, and a rule that the user
    gave for finding answers.

    Attributes:
        name: the grader's name, without settings.
        marks: the marks around a thinking trace; None to guess them from each text.
        rule: finds answers before the grader's own way does; None if there is no such rule.
        checked: the largest number of solutions that a check before scoring grades
            (`reference_check`); None for the usual number.
    """

    name: str
    marks: ThinkingMarks | None = None
    rule: AnswerRule | None = None
    checked: int | None = None

    def reference(self, example: Example) -> str:
        """What a completion for this example is graded against; by default its final answer."""
        return example.answer

    def grade(
        self,
        completions: Sequence[str],
        references: Sequence[str],
        *,
        opened: bool | Sequence[bool] = False,
    ) -> list[Graded]:
        """The grade of each completion against the reference at the same position.

        Thinking traces are removed first. A completion that ends inside its trace is UNPARSED,
        whatever stands in it. No text makes this raise an error.

        Args:
            opened: whether the prompt has opened the thinking trace of the completions, or of each.

        Raises:
            ValueError: there are not as many references, or values of `opened`, as completions.
            EndpointError: the grader asks a model, which does not answer.
        """
        each = [opened] * len(completions) if isinstance(opened, bool) else opened
        pairs = [
            (split_thinking(completion, self.marks, opened=begun), reference)
            for completion, reference, begun in zip(completions, references, each, strict=True)
        ]
        known = [self._known(text) for text, _ in pairs]
        rest = [pair for pair, grade in zip(pairs, known, strict=True) if grade is None]
        answers, golds = [text.answer for text, _ in rest], [self._whole(r) for _, r in rest]
        graded = iter(self.grade_answers(answers, golds))
        return [next(graded) if grade is None else grade for grade in known]

    def _known(self, text: Thinking) -> Graded | None:
        """The grade of a text that is not compared; None if it is."""
        if not text.finished:
            return UNPARSED
        try:
            self.ruled_answer(text.answer)
        except SlowPatternError:
            return Graded(Grade.TIMEOUT, None)
        return None

    def _whole(self, reference: str) -> str:
        trace: Thinking = split_thinking(reference, self.marks)
        return trace.answer if trace.trace else reference

    @abstractmethod
    def grade_answers(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """The grade of each pair of texts without thinking traces; both have the same length."""

    def ruled_answer(self, text: str) -> str | None:
        """The answer that the user's rule finds in a text; None if it finds none, or without one.

        Raises:
            SlowPatternError: the rule is a pattern that takes too long.
        """
        return self.rule.find({}, text) if self.rule else None

    def answers(self, text: str) -> list[str]:
        """The answers that a text states, the one that counts first: the rule's, then its own."""
        found = self.ruled_answer(text)
        return [*([] if found is None else [found]), *self.extract(text)]

    def extract(self, text: str) -> Sequence[str]:
        """The answers that a text states without a rule, the one that counts first."""
        return ()

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


UNPARSED = Graded(Grade.UNPARSED, None)


def compared(equal: bool, answer: str) -> Graded:
    """CORRECT if the answer that was found equals the reference, INCORRECT otherwise."""
    return Graded(Grade.CORRECT if equal else Grade.INCORRECT, answer)
