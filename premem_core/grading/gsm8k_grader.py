r"""The grader `gsm8k`: answers that are one number, compared exactly (docs/method.md, 1).

An answer from GSM8K's train set: `Natalia sold 48+24 = <<48+24=72>>72 clips altogether.\n#### 72`.
"""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal

from premem_core.grading.grader import Grader
from premem_core.problems.final_answers import after_answer_is, after_hashes, boxed, unwrapped
from premem_core.records import Grade, Graded

# A longer answer is not a number; Python cannot convert one of more than 4,300 digits.
_LONGEST_ANSWER = 300

_DIGITS = r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d{1,3}(?:[ ]\d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)\s*
    (?:
        (?:(?P<whole>\d+)\s+)? (?P<top>{_DECIMAL})\s*/\s*(?P<bottom>{_DECIMAL})
      | (?P<decimal>{_DECIMAL})
        (?: [eE](?P<exponent>[-+]?\d{{1,4}}) | \s*\*\s*10\^\{{?(?P<power>[-+]?\d{{1,4}})\}}? )?
    )
    (?P<unit>[^\d=]*)
    """,
    re.VERBOSE,
)
# A dash or a bracket after a number means a range or a formula, not a unit.
_UNIT = re.compile(r"\s*(?:(?:/\s*)?[a-zA-Z%°].*)?", re.DOTALL)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_SPELLINGS = (
    (re.compile(r"[−–—]"), "-"),
    (re.compile(r"[\u00a0\u2009\u202f]"), " "),
    (re.compile(r"\\[!]|\*\*|`"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=\d)\\,(?=\d)"), ""),
    (re.compile(r"\\[td]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r" \1/\2"),
    (re.compile(r"\\[td]?frac\s*(\d)\s*(\d)"), r" \1/\2"),
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\times|\\cdot|×"), "*"),
    (re.compile(r"\^\s*(?:\{\\circ\}|\\circ)"), "°"),
    (re.compile(r"(?<=[a-zA-Z])\s*\^?\s*\{?[23²³]\}?(?![\d.])"), ""),  # cm^2, m², ft3
    (re.compile(r"\\(?=[%$])|\\[, ;]|[$€£¥₹]|\bUSD\b"), " "),
)


class Gsm8kGrader(Grader):
    """Exact comparison of numbers: `$1,000.00`, `1000 dollars` and `1e3` are the same.

    The answer is the number after `####`, or else after "The answer is", or else in a box. A
    completion without any of these is UNPARSED. Units are ignored, and "18%" is 18. If the
    reference is not a number, no completion is correct.
    """

    name = "gsm8k"
    grades_against: Literal["answer", "solution"] = "answer"

    def grade(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """As `Grader.grade`; a reference is an answer or a whole solution."""
        return [_grade(c, r) for c, r in zip(completions, references, strict=True)]


def _grade(completion: str, reference: str) -> Graded:
    gold = next((n for s in [*_stated(reference), reference] if (n := number(s)) is not None), None)
    for answer in _stated(completion):
        value = number(answer)
        if value is not None:
            return Graded(Grade.CORRECT if value == gold else Grade.INCORRECT, answer)
    return Graded(Grade.UNPARSED, None)


def _stated(text: str) -> Iterator[str]:
    # The first ####, because a completion that does not stop goes on with another question. But
    # the last sentence or box, because intermediate results come before the final one.
    yield from after_hashes(text)
    yield from reversed(after_answer_is(text))
    yield from reversed(boxed(text))


def number(text: str) -> Fraction | None:
    r"""The exact value of an answer that is one number with an optional unit, or None.

    >>> number("$1,000.50"), number(r"2\frac{1}{2} cups"), number("1.5 million"), number("7 or 8")
    (Fraction(2001, 2), Fraction(5, 2), Fraction(1500000, 1), None)
    """
    if len(text) > _LONGEST_ANSWER:
        return None
    text = unwrapped(text)
    for pattern, plain in _SPELLINGS:
        text = pattern.sub(plain, text)
    text = text.rpartition("=")[2].strip().rstrip(".,;:!?)").lstrip("(").strip()
    match = _NUMBER.fullmatch(text)
    if match is None or not _UNIT.fullmatch(match["unit"]):
        return None
    value = _value(match)
    if value is None:
        return None
    scale = next(
        (_SCALES[word] for word in match["unit"].lower().split()[:1] if word in _SCALES), 1
    )
    return value * scale * (-1 if match["sign"] == "-" else 1)


def _value(match: re.Match[str]) -> Fraction | None:
    if match["top"] is None:
        exponent = int(match["exponent"] or match["power"] or 0)
        return _plain(match["decimal"]) * Fraction(10) ** exponent
    bottom = _plain(match["bottom"])
    return _plain(match["whole"] or "0") + _plain(match["top"]) / bottom if bottom else None


def _plain(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", "").removesuffix("."))
