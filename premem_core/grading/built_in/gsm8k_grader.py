r"""The grader `gsm8k`: answers that are one number, compared exactly (docs/method.md, 1).

An answer from GSM8K's train set: `Natalia sold 48+24 = <<48+24=72>>72 clips altogether.\n#### 72`.
"""

from collections.abc import Sequence

from premem_core.grading.built_in.numbers import number, stated
from premem_core.grading.grader import UNPARSED, Grader, compared
from premem_core.records import Graded


class Gsm8kGrader(Grader):
    """Exact comparison of numbers: `$1,000.00`, `1000 dollars` and `1e3` are the same.

    The answer is the number after `####`, or else after "The answer is" or "Answer:", or else in a
    box, or else on the right side of an equation that is the last line. A completion without any of
    these is UNPARSED. Units are ignored, and "18%" is 18. If the reference is not a number, no
    completion is correct.
    """

    name = "gsm8k"

    def grade_answers(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """As `Grader.grade_answers`; a reference is an answer or a whole solution."""
        return [self._grade(c, r) for c, r in zip(completions, references, strict=True)]

    def extract(self, text: str) -> Sequence[str]:
        """As `Grader.extract`; of these, the first that is a number counts."""
        return list(stated(text))

    def _grade(self, completion: str, reference: str) -> Graded:
        golds = map(number, [*self.answers(reference), reference])
        gold = next((value for value in golds if value is not None), None)
        for answer in self.answers(completion):
            value = number(answer)
            if value is not None:
                return compared(value == gold, answer)
        return UNPARSED
