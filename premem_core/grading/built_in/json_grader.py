"""The grader `json`: objects and arrays that hold the same data.

An answer: a fenced block with `{"name": "Ada", "born": 1815}`, keys in any order.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from premem_core.grading.grader import UNPARSED, Grader, compared
from premem_core.problems.final_answers import after_answer_is, after_hashes, boxed, unwrapped
from premem_core.records import Graded

_LONGEST = 200_000  # characters of a text that are read, from its end
_DEEPEST = 100  # lists inside each other
_BRACKET = re.compile(r"[{\[]")
_TRIED = 1_000  # opening brackets at which reading is tried


class JsonGrader(Grader):
    """JSON that is equal as data: keys in any order, 1 and 1.0 the same, true and 1 not.

    The answer is the completion's last object or array, also in a fenced block. Where there is
    none, what "The answer is", "Answer:", an answer tag, `####` or a box states is read as JSON. A
    completion without JSON is UNPARSED, as is one with more than 100 lists inside each other.
    """

    name = "json"

    def grade_answers(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """As `Grader.grade_answers`; a reference is JSON, or a text whose last JSON counts."""
        return [self._grade(c, r) for c, r in zip(completions, references, strict=True)]

    def extract(self, text: str) -> Sequence[str]:
        """As `Grader.extract`; of these, the first that is JSON counts."""
        text = text[-_LONGEST:]
        stated = (after_answer_is(text), after_hashes(text)[:1], boxed(text))
        return [*_last_json(text), *(answer for some in stated for answer in reversed(some))]

    def _grade(self, completion: str, reference: str) -> Graded:
        golds = [value for text in [reference, *self.answers(reference)] for value in _read(text)]
        for answer in self.answers(completion):
            for value in _read(answer):
                return compared(bool(golds) and _equal(value, golds[0]), answer)
        return UNPARSED


def _last_json(text: str) -> list[str]:
    """The last object or array in a text, as it is written."""
    decoder = json.JSONDecoder(parse_constant=_refuse)
    found: list[str] = []
    start, tried = _next_bracket(text, 0), 0
    while start < len(text) and tried < _TRIED:
        try:
            _, end = decoder.raw_decode(text, start)
            found = [text[start:end]]
        except (ValueError, RecursionError):
            end, tried = start + 1, tried + 1
        start = _next_bracket(text, end)
    return found


def _next_bracket(text: str, start: int) -> int:
    bracket = _BRACKET.search(text, start)
    return bracket.start() if bracket else len(text)


def _read(text: str) -> list[Any]:
    """The data in a text that is JSON; an empty list if it is not, or too deep."""
    try:
        value = json.loads(unwrapped(text[-_LONGEST:]), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return []
    return [value] if _depth(value) <= _DEEPEST else []


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level and depth <= _DEEPEST:
        lists = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        ]
        level, depth = [inner for some in lists for inner in some], depth + bool(lists)
    return depth


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, bool) or isinstance(b, bool):  # to Python, True is 1
        return a is b
    if isinstance(a, float) and math.isinf(a):  # a number too large for a float
        return False
    return (type(a) is type(b) and a == b) or (_is_number(a) and _is_number(b) and a == b)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
