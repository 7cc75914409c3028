"""Reference check: can a grader read the training data's own solutions?

A model that repeats its training solutions must be graded correct. So before anything is scored,
each solution is graded as a completion against its own reference. The same tells which grader fits
the data.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from premem_core.errors import DataError, UsageError
from premem_core.grading.built_in.numbers import number
from premem_core.grading.grader import Grader
from premem_core.grading.grader_texts import grader_label, with_settings
from premem_core.grading.graders import make_grader
from premem_core.problems.conversations import separate_answer
from premem_core.problems.fields import AnswerRule
from premem_core.records import Example, Grade

SAMPLE = 500  # examples that are graded
READABLE = 0.5  # smallest share of solutions that a grader must read
_LONGEST_SHOWN = 200  # characters of a text that a message repeats
_WORDS = re.compile(r"[^\d\\^=]*[^\W\d_]{2}[^\d\\^=]*")
_LETTERS = re.compile(r"\(?[A-J]\)?\.?")


@dataclass(frozen=True, slots=True)
class ReferenceCheck:
    """How many solutions a grader calls correct against their own references.

    Attributes:
        grader: its text.
        n: the number of solutions that were graded.
        failed: the number of those that are not correct.
        example: the first of those; None if all are correct.
        extracted: what the grader found in its solution; None for nothing.
    """

    grader: str
    n: int
    failed: int
    example: Example | None = None
    extracted: str | None = None

    @property
    def share(self) -> float:
        """The share of solutions that the grader calls correct; 1 if none was graded."""
        return 1 - self.failed / self.n if self.n else 1.0


def check_references(
    grader: str,
    examples: Sequence[Example],
    *,
    allow_code: bool = False,
    make: Callable[..., Grader] = make_grader,
) -> ReferenceCheck:
    """Grade solutions against their own references: at most SAMPLE, drawn with a fixed seed.

    A grader that takes long is given fewer (`Grader.checked`), and a judge none.

    Args:
        grader: the grader's text.
        allow_code: as in `make_grader`.

    Raises:
        UsageError: as `make_grader`; or the grader's pattern is slow on a solution.
    """
    with make(grader, allow_code=allow_code) as made:
        sample = _sample(examples, SAMPLE if made.checked is None else made.checked)
        texts = [separate_answer(example) or example.solution for example in sample]
        for text in texts:  # at a slow pattern it stops at the first, which grading does not
            made.ruled_answer(text)
        graded = made.grade(texts, [made.reference(example) for example in sample])
    failed = [
        (example, result.extracted)
        for example, result in zip(sample, graded, strict=True)
        if result.grade is not Grade.CORRECT
    ]
    return ReferenceCheck(grader, len(sample), len(failed), *(failed[0] if failed else ()))


def require_readable(check: ReferenceCheck) -> None:
    """Refuse a grader that cannot read the training data's own solutions.

    Raises:
        DataError: it calls fewer than half of them correct.
    """
    if check.share >= READABLE or check.example is None:
        return
    last = check.example.solution.strip().rpartition("\n")[2][-_LONGEST_SHOWN:]
    found = "no answer" if check.extracted is None else repr(check.extracted[:_LONGEST_SHOWN])
    raise DataError(
        f"the grader {grader_label(check.grader)} calls only {check.n - check.failed:,} of "
        f"{check.n:,} training solutions correct against their own answers: the solution of "
        f"example {check.example.id!r} ends with {last!r}, where it finds {found}, and its answer "
        f"is {check.example.answer[:_LONGEST_SHOWN]!r}; give another --grader, or say where the "
        "answer is with --answer"
    )


def guess_grader(examples: Sequence[Example], rule: AnswerRule | None = None) -> str:
    """The text of the grader that reads the most solutions of these examples.

    Of graders that read all, or equally many, the first counts, in an order that fits the answers:
    `choice` for letters, `math` for boxes, `gsm8k` for numbers, `exact` for words.

    Args:
        rule: how the user found the answers in the solutions, if the user said so; a grader then
            reads completions by the same rule.

    Raises:
        UsageError: there are no examples.
    """
    if not examples:
        raise UsageError("there are no examples to choose a grader for; name one")
    sample = _sample(examples, SAMPLE)
    own = str(rule) if rule and rule.kind != "field" else None
    best: ReferenceCheck | None = None
    for name in _likely(sample):
        check = check_references(with_settings(name, rule=own), sample)
        if best is None or check.share > best.share:
            best = check
        if not check.failed:
            break
    assert best is not None
    return best.grader


def _likely(examples: Sequence[Example]) -> list[str]:
    """The graders that may suit these examples, the likeliest first."""
    answers = [example.answer.strip() for example in examples]
    numbers = all(number(answer) is not None for answer in answers)
    boxes = sum(r"\boxed" in example.solution for example in examples)
    first = [
        *(["choice"] if all(map(_LETTERS.fullmatch, answers)) else []),
        *(["math"] if boxes > len(examples) / 2 else []),
        *(["gsm8k"] if numbers else []),
        *(["exact"] if all(map(_WORDS.fullmatch, answers)) else []),
    ]
    # "choice" reads any short last line that is the reference; other numbers would be unparsed.
    others = ["math", "gsm8k", *([] if numbers and not _options_listed(examples) else ["choice"])]
    return list(dict.fromkeys([*first, *others, "exact"]))


def _options_listed(examples: Sequence[Example]) -> bool:
    """Whether most questions list options, which the reference of `choice` then repeats."""
    with make_grader("choice") as choice:
        listed = sum(choice.reference(example) != example.answer for example in examples)
    return listed > len(examples) / 2


def _sample(examples: Sequence[Example], size: int) -> list[Example]:
    """At most `size` examples, in their order; the same each time."""
    if len(examples) <= size:
        return list(examples)
    numbers = sorted(random.Random(0).sample(range(len(examples)), size))
    return [examples[number] for number in numbers]
