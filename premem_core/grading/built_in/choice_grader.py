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
# The same for options that have digits, as some of ARC's.
_DIGIT_OPTION = re.compile(r"^[ \t>*-]*\(?([1-9])[).:](?=\s)", re.MULTILINE)
_DIGIT = re.compile(r"\(?([1-9])\)?[.:,;]?|\(?([1-9])[).:]\s*\S.*", re.DOTALL)
_KIND = re.compile(
    r"(?:the\s+)?(?:option|choice|answer|letter)s?\s+(?=\(?[A-J1-9]\b)", re.IGNORECASE
)
_LETTER = r"[(\[{]?\s*([A-J])\s*[)\]}]?"
_ONE = re.compile(rf"{_LETTER}\s*[.:,;]?|\(([a-j])\)\.?")
_SEVERAL = re.compile(rf"{_LETTER}(?:\s*(?:,|&|,?\s*\band\b)\s*{_LETTER})+")
_WITH_TEXT = re.compile(r"(?:\(([A-J])\)|([A-J])[).:])\s*(\S.*)", re.DOTALL)
# "The correct option is B" is read as "the answer is B".
_OPTION_IS = re.compile(r"\b(?:correct|right|best)[ ](?:option|choice|letter)(?=\s+is\b)", re.I)
_MARK = r"[*(]{0,3}[A-J1-9]\b[)*]{0,3}"
# A letter in prose needs the word option before it, or the begin of a clause; "plan B is best".
# All is of limited length, so that a long list does not take quadratic time.
_RIGHT = re.compile(
    rf"""(?:\b(?i:option|choice|answer)s?\s{{1,3}} | (?:^|[.,;:!?])\s{{0,3}}
        | \b(?i:so|thus|hence|therefore|then|that)\s{{1,3}})
    (?P<marks>{_MARK}(?:(?:[ ]?[,&]|,?[ ]and\b)[ ]?{_MARK}){{0,4}})
    \s{{1,3}}(?:is|are)\s{{1,3}}(?:(?:therefore|thus|then|clearly|indeed)\s{{1,3}})?
    (?:the\s{{1,3}}(?:only\s{{1,3}})?(?:(?:correct|right|best)\s{{1,3}})?(?:answer|option|choice)
        | correct\b | right\b)""",
    re.VERBOSE | re.MULTILINE,
)
_CHOSEN = re.compile(
    r"(?<!not )(?<!out )(?<!eliminate )(?<!n't )(?<!n’t )"
    r"\b(?:option|choice|choose|select|pick)s?:?\s+\**\(?([A-J])\b\)?(?=(?P<after>.{0,40}))",
    re.IGNORECASE,
)
_NOT_CHOSEN = re.compile(
    r"""[*"]*\s+(?:(?:is|was|would\s+be|seems)\s+(?:\w+ly\s+)?
        (?:not|incorrect|invalid|wrong|false|impossible|too|out|ruled\s+out|eliminated)\b
    | (?:is|does|was|ca|wo|could|would)n['’]t\b | (?:does|can|could|would|did)\s+not\b
    | cannot\b | fails\b)""",
    re.IGNORECASE | re.VERBOSE,
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
        sentences = after_answer_is(_OPTION_IS.sub("answer", text))
        stated = [sentences, boxed_lists(text), after_hashes(text)[:1], _right(text), _chosen(text)]
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
    if "1" in options:
        digit = _DIGIT.fullmatch(bare)
        label = digit and (digit[1] or digit[2])
        return label if label in options else by_text[0] if len(by_text) == 1 else None
    if one := _ONE.fullmatch(bare):
        return (one[1] or one[2]).upper()
    if _SEVERAL.fullmatch(bare):
        return ",".join(sorted(set(re.findall(r"[A-J]", bare))))
    if with_text := _WITH_TEXT.fullmatch(bare):
        return with_text[1] or with_text[2]
    return by_text[0] if len(by_text) == 1 else None


def _right(text: str) -> list[str]:
    """The letters that a text calls right: "Option B is correct", "so B is the answer"."""
    return [match["marks"].replace("*", "") for match in _RIGHT.finditer(text)]


def _chosen(text: str) -> list[str]:
    """The letters that a text names as options, but not those that it rules out."""
    named = _CHOSEN.finditer(text)
    return [match[1].upper() for match in named if not _NOT_CHOSEN.match(match["after"])]


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
    if options := _marked(example.question, _OPTION, _LETTERS):
        return options
    options = _marked(example.question, _DIGIT_OPTION, "123456789")
    return options if _letters(example.answer, options) else {}


def _marked(question: str, mark: re.Pattern[str], labels: str) -> dict[str, str]:
    """The options that marks with these labels begin, in their order; none if it is only one."""
    marks = list(mark.finditer(question))
    ends = [mark.start() for mark in marks[1:]] + [len(question)]
    options: dict[str, str] = {}
    for found, end in zip(marks, ends, strict=False):
        label = next(filter(None, found.groups()))
        if label == labels[len(options) : len(options) + 1]:
            text = question[found.end() : end].strip()
            options[label] = text.partition("\n\n")[0].strip(" ,;")
    return options if len(options) > 1 else {}


def _plain(text: str) -> str:
    bare = unwrapped(_LATEX_TEXT.sub(r"\1", text[: 2 * _LONGEST_OPTION]))
    return " ".join(bare.strip("*_ ").casefold().split())
