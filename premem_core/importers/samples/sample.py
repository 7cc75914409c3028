"""One row of another tool's file: a question in one of several forms, and a completion of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from premem_core.models.on_disk.run_folders import STEP
from premem_core.problems.conversations import as_turns
from premem_core.problems.rows import BadRowError, check_characters
from premem_core.records import KnownSampling

LARGEST_COUNT = 2**31 - 1  # the largest number that the store's columns hold


@dataclass(frozen=True, slots=True)
class ImportedSample:
    """One completion, or one NLL, of a question at a checkpoint. What is None is not in the file.

    Attributes:
        id: of the question.
        question: its text.
        prompt: a text that contains the question.
        completion: None where the row has only an NLL.
        step: of the checkpoint.
        score: what the tool itself says of the completion.
        nll: of the training solution, mean per target token, in nats.
        target_tokens: the number of target tokens.
        tokens: of the completion.
        finished: False where the token budget ended it.
    """

    id: str | None = None
    question: str | None = None
    prompt: str | None = None
    completion: str | None = None
    step: int | None = None
    score: float | None = None
    nll: float | None = None
    target_tokens: int | None = None
    tokens: int | None = None
    finished: bool | None = None


@dataclass(frozen=True, slots=True)
class SampleReader:
    """How the rows of one file are read.

    Attributes:
        samples: the samples of a row. It raises BadRowError where the row cannot be used.
        version: of the tool.
        score: the name of the tool's own score.
        note: a sentence about the file that a person should know.
    """

    samples: Callable[[Mapping[str, Any]], Sequence[ImportedSample]]
    tool: str
    version: str | None = None
    sampling: KnownSampling = field(default_factory=KnownSampling)
    score: str | None = None
    note: str | None = None


def completion_text(value: object) -> str:
    """A completion as text; of turns, the content of the assistant's last one.

    Raises:
        BadRowError: it is neither, or cannot be stored.
    """
    text = turn_text(value, "assistant")
    if text is None:
        raise BadRowError(f"the completion is {repr(value)[:40]}, not a text")
    check_characters(text.replace("\0", ""))
    return text


def turn_text(value: object, role: str) -> str | None:
    """A text as it is; of turns, the content of the last one of this role; None of anything else.

    >>> turn_text([{"role": "user", "content": "2+2?"}], "user")
    '2+2?'
    """
    turns = None if isinstance(value, str) else as_turns(value)
    contents = [turn["content"] for turn in turns or () if turn["role"] == role]
    text = contents[-1] if contents else value
    return text if isinstance(text, str) else None


def step_in(name: object) -> int | None:
    """The step of a checkpoint whose name is part of a text; the last one if there are several.

    >>> step_in("lm-eval/runs__lr2e-5__checkpoint-240/samples_gsm8k_2026-11-28.jsonl")
    240
    """
    found = STEP.findall(str(name))
    return checked_step(int(found[-1])) if found else None


def checked_step(value: object) -> int:
    """A step as a whole number.

    Raises:
        BadRowError: it is none.
    """
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if not 0 <= number <= LARGEST_COUNT or number != int(number):
        raise BadRowError(
            f"the step is {repr(value)[:40]}; expected a whole number from 0 to {LARGEST_COUNT}"
        )
    return int(number)


def number_or_none(value: object) -> float | None:
    """A score or a setting as a number; None if it is none."""
    try:
        return float(value) if isinstance(value, bool | int | float) and value == value else None
    except OverflowError:
        return None


def count_or_none(value: object) -> int | None:
    """A number of tokens; None if it is none that the store can hold."""
    is_count = isinstance(value, int) and 0 < value <= LARGEST_COUNT
    return int(value) if is_count else None  # type: ignore[call-overload]
