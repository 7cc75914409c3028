r"""The grader `choice`: the letters of a multiple-choice question, or the texts of its options.

A question: `Which is prime? (A) 4 (B) 5`; solutions: `The answer is (B).`, `\boxed{B}`, `5`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from premem_core.grading.grader import UNPARSED, Grader, compared
from premem_core.problems.final_answers import after_answer_is, after_hashes, boxed_lists, unwrapped
from premem_core.records import Example, Graded

_LETTERS = "ABCDEFGHIJ"
_LONGEST_OPTION = 300
# An option begins a line or stands in brackets; "A train" in the question is none.
_OPTION = re.compile(r"(?:^|(?<=\s))\(([A-J])\)|^[ \t>*-]*([A-J])[.):](?=\s|\S)", re.MULTILINE)
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|rm|bf)\s*\{([^{}]*)\}")
_KIND = re.compile(r"(?:the\s+)?(?:option|choice|answer|letter)s?\s+(?=\(?[A-J]\b)", re.IGNORECASE)
_LETTER = r"[(\[{]?\s*([A-J])\s*[)\]}]?"
_ONE = re.compile(rf"{_LETTER}\s*[.:,;]?|\(([a-j])\)\.?")
_SEVERAL = re.compile(rf"{_LETTER}(?:\s*(?:,|&|,?\s*\band\b)\s*{_LETTER})+")
_WITH_TEXT = re.compile(r"(?:\(([A-J])\)|([A-J])[).:])\s*(\S.*)", re.DOTALL)
_CHOSEN = re.compile(
    r"\b(?:option|choice|choose|select|pick)s?:?\s+\**\(?([A-J])\b\)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Reference:
    letters: str | None  # "B", or "A,C" where several are right
    options: Mapping[str, str] = field(default_factory=dict)  # letter → normalised text
    text: str = ""


class ChoiceGrader(Grader):
    r"""Letters of options: `B`, `(B)`, `B) 120 km`, `\boxed{B}`, `**B**`; or an option's text.

    The answer is what an answer tag, "The answer is", "Answer:", a box or `####` states, or else a
    letter that stands alone in the first or last line. A letter in prose ("A train goes", "I
    think") is none. Where the question lists its options, their texts count as well. "A and C" is
    right where both are. A completion without a letter or an option's text is UNPARSED.
    """

    name = "choice"

    def reference(self, example: Example) -> str:
        """The answer as JSON with the options that the question lists; the plain answer if none.

        >>> example = Example("1", "Which is prime? (A) 4 (B) 5", "It is 5.", "B")
        >>> ChoiceGrader().reference(example)
        '{"answer": "B", "options": {"A": "4", "B": "5"}}'
        """
        options = _listed(example)
        if not options:
            return example.answer
        return json.dumps({"answer": example.answer, "options": options}, ensure_ascii=False)

    def grade_answers(self, completions: Sequence[str], references: Sequence[str]) -> list[Graded]:
        """As `Grader.grade_answers`; a reference is what `reference` gives, or an answer."""
        return [
            self._grade(completion, self._read(reference))
            for completion, reference in zip(completions, references, strict=True)
        ]

    def extract(self, text: str) -> Sequence[str]:
        """As `Grader.extract`; of these, the first that is a letter or an option counts."""
        chosen = [match[1].upper() for match in _CHOSEN.finditer(text)]
        stated = [after_answer_is(text), boxed_lists(text), after_hashes(text)[:1], chosen]
        return [*(answer for some in stated for answer in reversed(some)), *_alone(text)]

    def _grade(self, completion: str, reference: _Reference) -> Graded:
        for answer in self.answers(completion):
            letters = _letters(answer, reference.options)
            if letters is not None:
                return compared(letters == reference.letters, letters)
            # Without options, an answer may be the text that the reference is.
            if reference.text and _plain(answer) == reference.text:
                return compared(True, answer)
        return UNPARSED

    def _read(self, reference: str) -> _Reference:
        """The reference's letters and options; a reference may also be a whole solution."""
        answer, options = reference, {}
        try:
            content = json.loads(reference)
            answer = str(content["answer"])
            options = {letter: _plain(str(text)) for letter, text in content["options"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
        for stated in [answer, *self.answers(answer)]:
            if (letters := _letters(stated, options)) is not None:
                return _Reference(letters, options)
        return _Reference(None, options, _plain(answer))


def _letters(answer: str, options: Mapping[str, str]) -> str | None:
    """The letters that an answer names, or that of the option whose text it is, or None."""
    if len(answer) > _LONGEST_OPTION:
        return None
    by_text = [letter for letter, text in options.items() if text and text == _plain(answer)]
    bare = unwrapped(_LATEX_TEXT.sub(r"\1", answer)).strip("*_ ")
    bare = _KIND.sub("", bare, count=1)
    if one := _ONE.fullmatch(bare):
        return (one[1] or one[2]).upper()
    if _SEVERAL.fullmatch(bare):
        return ",".join(sorted(set(re.findall(r"[A-J]", bare))))
    if with_text := _WITH_TEXT.fullmatch(bare):
        return with_text[1] or with_text[2]
    return by_text[0] if len(by_text) == 1 else None


def _alone(text: str) -> list[str]:
    """A letter that is the last or the first line, or an option that is the whole text."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if len(lines) == 1:
        return lines
    return [line for line in [*lines[-1:], *lines[:1]] if len(unwrapped(line).strip("*_ ()")) == 1]


def _listed(example: Example) -> dict[str, str]:
    """The options of a question by letter, from the data's own columns or from its text."""
    for name in ("options", "choices"):
        given = example.metadata.get(name)
        if isinstance(given, Mapping) and isinstance(given.get("text"), Sequence):
            given = given["text"]  # as in ARC: {"label": […], "text": […]}
        if isinstance(given, Sequence) and not isinstance(given, str) and given:
            texts = [_OPTION.sub("", str(text), count=1).strip() for text in given]
            return dict(zip(_LETTERS, texts, strict=False))
    marks = list(_OPTION.finditer(example.question))
    ends = [mark.start() for mark in marks[1:]] + [len(example.question)]
    options: dict[str, str] = {}
    for mark, end in zip(marks, ends, strict=False):
        letter = mark[1] or mark[2]
        if letter == _LETTERS[len(options) : len(options) + 1]:
            text = example.question[mark.end() : end].strip()
            options[letter] = text.partition("\n\n")[0].strip(" ,;")
    return options if len(options) > 1 else {}


def _plain(text: str) -> str:
    bare = unwrapped(_LATEX_TEXT.sub(r"\1", text[: 2 * _LONGEST_OPTION]))
    return " ".join(bare.strip("*_ ").casefold().split())
