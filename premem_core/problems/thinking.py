"""Thinking traces: the part of a text in which a model thinks before it gives its answer."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from premem_core.errors import UsageError


@dataclass(frozen=True, slots=True)
class ThinkingMarks:
    """The marks around a thinking trace.

    >>> str(ThinkingMarks("<think>", "</think>"))
    '<think>…</think>'
    """

    opening: str
    closing: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The marks that are written as `OPENING…CLOSING`; three dots do as well.

        Raises:
            UsageError: `text` is not of this form.
        """
        opening, _, closing = text.replace("...", "…").partition("…")
        if not opening.strip() or not closing.strip() or opening == closing:
            raise UsageError(
                f"{text!r} does not give the two marks of a thinking trace; write them as "
                "<think>…</think>"
            )
        return cls(opening, closing)

    def __str__(self) -> str:
        return f"{self.opening}…{self.closing}"


# The first is that of DeepSeek-R1, Qwen3, SmolLM3 and OLMo; the others that of the model named.
KNOWN_MARKS = (
    ThinkingMarks("<think>", "</think>"),
    ThinkingMarks("[THINK]", "[/THINK]"),  # Magistral
    ThinkingMarks("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    ThinkingMarks("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
    ThinkingMarks("<|im_start|>think", "<|im_start|>answer"),  # s1
    ThinkingMarks("◁think▷", "◁/think▷"),  # Kimi
    ThinkingMarks("<seed:think>", "</seed:think>"),  # Seed-OSS
    ThinkingMarks("<thinking>", "</thinking>"),
    ThinkingMarks("<thought>", "</thought>"),
    ThinkingMarks("<reasoning>", "</reasoning>"),
)


@dataclass(frozen=True, slots=True)
class Thinking:
    """A text divided into its thinking trace and its answer.

    Attributes:
        trace: the text up to the last closing mark, marks included; "" if there is no trace.
        answer: the text after it; "" if the trace is not finished.
        finished: False if the text ends inside a trace. Whatever stands in such a trace is not
            an answer (docs/method.md, section 14).
    """

    trace: str
    answer: str
    finished: bool = True


def find_marks(texts: Iterable[str]) -> ThinkingMarks | None:
    """The first marks of KNOWN_MARKS whose closing mark occurs in one of the texts.

    The texts may be training solutions or a chat template.
    """
    texts = list(texts)
    found = (m for m in KNOWN_MARKS if any(m.closing in text for text in texts))
    return next(found, None)


def split_thinking(
    text: str, marks: ThinkingMarks | None = None, *, opened: bool = False
) -> Thinking:
    """Divide a text into its thinking trace and its answer.

    A trace inside a trace must be closed too. A closing mark without an opening one ends a trace
    that the prompt opened.

    Args:
        marks: by default the first of KNOWN_MARKS that occurs in the text.
        opened: whether the prompt has opened the trace.

    >>> split_thinking("<think>7? No.</think>\\nIt is 8.")
    Thinking(trace='<think>7? No.</think>', answer='\\nIt is 8.', finished=True)
    >>> split_thinking("<think>The answer is 7").finished
    False
    >>> split_thinking("2 or 3? 3.</think>3").answer
    '3'
    """
    if marks is None:
        marks = _first_marks(text)
        if marks is None:
            return Thinking("" if not opened else text, text if not opened else "", not opened)
    end, depth = 0, int(opened)
    pattern = f"{re.escape(marks.opening)}|{re.escape(marks.closing)}"
    for match in re.finditer(pattern, text):
        if match[0] == marks.closing:
            depth, end = max(depth - 1, 0), match.end()
        elif not (opened and not text[: match.start()].strip()):
            # A model that repeats the mark with which its prompt ends opens the trace only once.
            depth += 1
    if depth:
        return Thinking(text, "", finished=False)
    return Thinking(text[:end], text[end:])


def is_opened(
    completions: Sequence[str],
    trace_tokens: Sequence[int | None],
    marks: ThinkingMarks | None = None,
) -> list[bool]:
    """Whether the prompt opened the thinking trace of each of these completions of one template.

    It did where a completion has a trace, but no opening mark. One that has both is taken to be
    like those: a model may repeat the mark.

    Args:
        trace_tokens: the tokens of each completion's trace, as they were counted when it was
            drawn; None where that is not known.
    """
    openings = [m.opening for m in ((marks,) if marks else KNOWN_MARKS)]
    has_mark = [any(opening in text for opening in openings) for text in completions]
    some = any(n and not mark for n, mark in zip(trace_tokens, has_mark, strict=True))
    return [bool(n) and (some or not mark) for n, mark in zip(trace_tokens, has_mark, strict=True)]


def _first_marks(text: str) -> ThinkingMarks | None:
    places = [
        (min(place for place in (text.find(m.opening), text.find(m.closing)) if place >= 0), m)
        for m in KNOWN_MARKS
        if m.opening in text or m.closing in text
    ]
    return min(places, key=lambda item: item[0])[1] if places else None
