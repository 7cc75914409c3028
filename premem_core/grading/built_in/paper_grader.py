r"""The grader `paper`: the answer check of the published code, including its faults.

Source: katiekang1998/reasoning_generalization at b933853, the evaluation scripts for GSM8K and for
MATH. Their string normalisation is `math_equivalence.is_equiv` of Hendrycks et al. (MATH, 2021).
This is a new implementation; docs/method.md, section 8, lists the faults.
"""

import re
from collections.abc import Sequence

from premem_core.grading.grader import UNPARSED, Grader, compared
from premem_core.records import Example, Graded

_MATH_PHRASES = ("FINAL ANSWER", "answer is", "ANSWER", "Final Answer", "is:", "Answer", "answer")


class PaperGrader(Grader):
    r"""String comparison after normalisation, as published.

    If the reference holds `\boxed` or `\fbox`, the completion is graded as in the MATH script, and
    otherwise as in the GSM8K script. In the latter no completion is ever unparsed: without a
    `#### ` it grades the text after the fourth character.
    """

    name = "paper"

    def reference(self, example: Example) -> str:
        """The whole solution: which script grades a completion depends on its marks."""
        return example.solution

    def grade_answers(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """As `Grader.grade_answers`; a reference is a whole solution."""
        return [self._grade(c, r) for c, r in zip(completions, references, strict=True)]

    def _grade(self, completion: str, reference: str) -> Graded:
        gold, answer = (next(iter(self.answers(text)), None) for text in (reference, completion))
        if "\\boxed" in reference or "\\fbox" in reference:
            of_reference, of_completion = _last_box, _math_answer
        else:
            of_reference, of_completion = _after_hashes, _gsm8k_answer
        gold = of_reference(reference) if gold is None else gold
        answer = of_completion(completion) if answer is None else answer
        return UNPARSED if answer is None else compared(is_equiv(gold, answer), answer)


def _after_hashes(text: str) -> str:
    # Without a mark find() is -1, and the slice starts at 4. The published code does the same.
    return text[text.find("#### ") + len("#### ") :].replace(",", "")


def _gsm8k_answer(text: str) -> str:
    mark = text.rfind("The answer is")
    if mark < 0:
        return _after_hashes(text)
    # The published code skips a colon even where there is none: "The answer is 18" gives "8".
    return _cleaned(text[mark + len("The answer is: ") :]).replace(",", "")


def _math_answer(text: str) -> str | None:
    box = _last_box(text)
    if box is not None:
        return box
    for phrase in _MATH_PHRASES:
        _, phrase_in_text, rest = text.rpartition(phrase)
        if phrase_in_text:
            return _cleaned(rest.replace("\n", ""))
    return None


def _cleaned(rest: str) -> str:
    rest = rest.replace(":", "").replace("$", "").strip().removesuffix(".")
    if rest.startswith("\\boxed{") and rest.endswith("}"):
        return rest[len("\\boxed{") : -1]
    return rest


def _last_box(text: str) -> str | None:
    start = text.rfind("\\boxed")
    if start < 0:
        start = text.rfind("\\fbox")
    if start < 0:
        return None
    depth = 0
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            box = text[start : start + brace.end()]
            # The published code finds a \fbox, but does not take the answer out of it.
            return box[len("\\boxed{") : -1] if box.startswith("\\boxed{") else None
    return None


def is_equiv(gold: str | None, answer: str | None) -> bool:
    r"""True if two answers are the same string after normalisation (Hendrycks et al., 2021).

    >>> is_equiv(r"\frac{1}{2}", "0.5"), is_equiv(r"\frac{1}{4}", "0.25")
    (True, False)
    """
    if gold is None or answer is None:
        return gold is answer
    try:
        return _normalised(gold) == _normalised(answer)
    except _CannotNormaliseError:
        return gold == answer


class _CannotNormaliseError(ValueError):
    """The published normalisation raises an error for this text; the raw strings are compared."""


_BEFORE_UNITS = (
    ("\n", ""),
    ("\\!", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("\\$", ""),
)
_AFTER_UNITS = (("\\%", ""), (" .", " 0."), ("{.", "{0."))


def _normalised(text: str) -> str:
    text = _replaced(text, _BEFORE_UNITS)
    number, *units = text.split("\\text{ ")
    if len(units) > 1:
        raise _CannotNormaliseError
    text = _replaced(number, _AFTER_UNITS)
    if text.startswith("."):
        text = "0" + text
    left, *right = text.split("=")
    if len(right) == 1 and len(left) <= 2:
        text = right[0]
    text = _braced_fractions(_braced_roots(text).replace(" ", ""))
    if text == "0.5":
        text = "\\frac{1}{2}"
    return _slash_as_fraction(text)


def _replaced(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _braced_roots(text: str) -> str:
    head, *pieces = text.split("\\sqrt")
    if "" in pieces:
        raise _CannotNormaliseError
    return head + "".join(
        "\\sqrt" + (piece if piece.startswith("{") else f"{{{piece[0]}}}{piece[1:]}")
        for piece in pieces
    )


def _braced_fractions(text: str) -> str:
    r"""The text with braces in `\frac12` and `\frac1{72}`; unchanged if a denominator is absent."""
    braced, *pieces = text.split("\\frac")
    for piece in pieces:
        if not piece:
            raise _CannotNormaliseError
        if piece.startswith("{"):
            braced += "\\frac" + piece
        elif len(piece) < 2:
            return text
        elif piece[1] == "{":
            braced += f"\\frac{{{piece[0]}}}{piece[1:]}"
        else:
            braced += f"\\frac{{{piece[0]}}}{{{piece[1]}}}{piece[2:]}"
    return braced


def _slash_as_fraction(text: str) -> str:
    top, *bottom = text.split("/")
    if len(bottom) != 1:
        return text
    try:
        a, b = int(top), int(bottom[0])
    except ValueError:
        return text
    return f"\\frac{{{a}}}{{{b}}}" if text == f"{a}/{b}" else text
