"""The grader `number`: one number, equal within a tolerance, with its unit if that is asked for.

An answer: `The answer is 3.14 km.`; its reference: `3.1416 km`, with `number?tolerance=0.01`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from premem_core.errors import UsageError
from premem_core.grading.built_in.numbers import Quantity, quantity, stated
from premem_core.grading.grader import UNPARSED, Grader, compared
from premem_core.records import Graded

_ABOUT = re.compile(r"^\W*(?:about|approximately|approx\.?|around|roughly|nearly)\s+|[≈~]", re.I)
_PERCENT = re.compile(r"(?:%|per\s?cent\b|pct\b\.?)\s*", re.IGNORECASE)


class NumberGrader(Grader):
    """Numbers that are equal within a tolerance: `3.14` and `3.1416` with `tolerance=0.01`.

    The answer is found as by the grader `gsm8k`. A completion without a number that is stated as
    its answer is UNPARSED. If the reference is not a number, no completion is correct.

    Args:
        tolerance: the largest difference from the reference, for example 0.01.
        relative: the largest difference as a share of the reference, for example 1e-3. If both
            are given, one of them suffices.
        units: "ignore" does not look at units; "same" wants the reference's unit; a unit such as
            "km" wants this one, and takes a number without a unit for one with it. Units are
            compared as texts and not converted.
        percent: what 18% or 18 percent is: the number 18, or the fraction 0.18.

    Raises:
        UsageError: a tolerance is negative or not a number.
    """

    name = "number"

    def __init__(
        self,
        *,
        tolerance: str = "0",
        relative: str = "0",
        units: str = "ignore",
        percent: Literal["number", "fraction"] = "number",
    ) -> None:
        self._tolerance, self._relative = _share(tolerance), _share(relative)
        self._units, self._percent = units, percent

    def grade_answers(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """As `Grader.grade_answers`; a reference is an answer or a whole solution."""
        return [self._grade(c, r) for c, r in zip(completions, references, strict=True)]

    def extract(self, text: str) -> Sequence[str]:
        """As `Grader.extract`; of these, the first that is a number counts."""
        return list(stated(text.replace("≈", "=")))

    def _grade(self, completion: str, reference: str) -> Graded:
        golds = map(self._quantity, [*self.answers(reference), reference])
        gold = next((value for value in golds if value is not None), None)
        for answer in self.answers(completion):
            value = self._quantity(answer)
            if value is not None:
                return compared(gold is not None and self._equal(value, gold), answer)
        return UNPARSED

    def _quantity(self, text: str) -> Quantity | None:
        found = quantity(_ABOUT.sub("", text))
        if found and self._percent == "fraction" and (percent := _PERCENT.match(found.unit)):
            return replace(found, value=found.value / 100, unit=found.unit[percent.end() :])
        return found

    def _equal(self, answer: Quantity, gold: Quantity) -> bool:
        allowed = max(self._tolerance, self._relative * abs(gold.value))
        return abs(answer.value - gold.value) <= allowed and self._same_unit(answer, gold)

    def _same_unit(self, answer: Quantity, gold: Quantity) -> bool:
        if self._units == "ignore":
            return True
        if self._units == "same":
            return _unit(answer.unit) == _unit(gold.unit)
        return _unit(answer.unit or self._units) == _unit(self._units)


def _share(text: str) -> Fraction:
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if value < 0:
        raise UsageError(f"a tolerance must be a number from 0, not {text!r}; correct it")
    return value


def _unit(unit: str) -> str:
    """The unit as it is compared: "Miles per hour." and "mile per hour" are the same."""
    words = re.sub(r"[^\w%°/]+", " ", unit).split()
    return " ".join(word if len(word) < 4 else word.lower().removesuffix("s") for word in words)
