"""The grader `exact`: texts that are equal after a normalisation that the user can choose.

An answer: `The answer is Paris.`; its reference: `paris`.
"""

import re
import string
import unicodedata
from collections.abc import Callable, Sequence

from premem_core.errors import UsageError
from premem_core.grading.grader import UNPARSED, Grader, compared
from premem_core.problems.final_answers import after_answer_is, after_hashes, boxed_lists, unwrapped
from premem_core.records import Graded

_LONGEST_ALONE = 100  # characters of a line that is an answer although nothing states it
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}‘’“”…–—]")

_STEPS: dict[str, Callable[[str], str]] = {
    "unicode": lambda text: unicodedata.normalize("NFKC", text),
    "case": str.casefold,
    "period": lambda text: text.rstrip().removesuffix("."),
    "punctuation": lambda text: _PUNCTUATION.sub(" ", text),
    "articles": lambda text: re.sub(r"\b(?:a|an|the)\b", " ", text, flags=re.IGNORECASE),
    "space": lambda text: " ".join(text.split()),
}
_USUAL = "unicode,case,period,space"


class ExactGrader(Grader):
    """Equal texts after `normalise`: unicode, case, period, space; also punctuation, articles.

    The answer is what "The answer is", "Answer:", an answer tag, `####` or a box states, without
    `\\text{…}` around all of it. Where nothing states one, a text of one line with at most 100
    characters is itself the answer; a longer one is UNPARSED. A completion that equals the whole
    reference is always CORRECT.

    Args:
        normalise: names with commas, or "none".

    Raises:
        UsageError: there is no such normalisation.
    """

    name = "exact"

    def __init__(self, *, normalise: str = _USUAL) -> None:
        names = [name.strip() for name in normalise.split(",")] if normalise != "none" else []
        for name in names:
            if name not in _STEPS:
                raise UsageError(
                    f"the grader 'exact' has no normalisation {name!r}; choose some of "
                    f"{', '.join(_STEPS)}, with commas between them, or none"
                )
        self._steps = [step for name, step in _STEPS.items() if name in names]

    def grade_answers(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """As `Grader.grade_answers`; a reference is an answer or a whole solution."""
        return [self._grade(c, r) for c, r in zip(completions, references, strict=True)]

    def extract(self, text: str) -> Sequence[str]:
        """As `Grader.extract`: at most one answer."""
        for stated in (after_answer_is(text)[-1:], after_hashes(text)[:1], boxed_lists(text)[-1:]):
            if stated:
                return boxed_lists(stated[0])[-1:] or stated
        line = text.strip()
        return [line] if line and "\n" not in line and len(line) <= _LONGEST_ALONE else []

    def _grade(self, completion: str, reference: str) -> Graded:
        whole = self._normalised(completion)
        if whole and whole == self._normalised(reference):
            return compared(True, completion.strip())
        answer = next(iter(self.answers(completion)), None)
        if answer is None:
            return UNPARSED
        golds = [reference, *self.answers(reference)]
        equal = self._normalised(_bare(answer)) in {self._normalised(_bare(g)) for g in golds}
        return compared(equal, answer)

    def _normalised(self, text: str) -> str:
        for step in self._steps:
            text = step(text)
        return text


def _bare(answer: str) -> str:
    r"""The answer without delimiters around it, and without LaTeX's text around all of it.

    >>> _bare(r"$\text{Paris}$.")
    'Paris'
    """
    bare = unwrapped(answer)
    text = _LATEX_TEXT.fullmatch(bare)
    return unwrapped(text[1]) if text else bare
