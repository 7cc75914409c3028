"""Records that several packages use; the names are those of the paper (arXiv 2411.07681, §3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, get_args

# The part of a target whose NLL is compared with the threshold: all of it, its thinking trace, or
# the answer after the trace. A target without a trace is an answer, and its own trace.
Segment = Literal["target", "trace", "answer"]
SEGMENTS: tuple[Segment, ...] = get_args(Segment)
SEGMENT_NAMES: dict[Segment, str] = {
    "target": "the whole target",
    "trace": "the thinking trace",
    "answer": "the answer after the trace",
}


BASE_STEP = 0  # the step under which the results of a run's base model are stored


class Grade(IntEnum):
    """The grade of one completion; 0, 1 and 2 are the codes of the published arrays."""

    CORRECT = 0
    INCORRECT = 1
    UNPARSED = 2
    TIMEOUT = 3


@dataclass(frozen=True, slots=True)
class Graded:
    """One completion's grade and the answer that was found in it (None if there was none)."""

    grade: Grade
    extracted: str | None


@dataclass(frozen=True, slots=True)
class SampleKey:
    """The key of one completion of a run.

    Attributes:
        perturbation: the name of the question's perturbation; "" for the question as it is.
        example: the example's number in the store.
        sample: the completion's number among those of the same question, from 0.
    """

    step: int
    split: str
    perturbation: str
    example: int
    sample: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of a chat up to the assistant's turn that is the target.

    A turn has a `role` ("system", "user", "assistant", "tool" …) and a `content`, which is text,
    and may have what chat templates know besides, such as `reasoning_content` or `tool_calls`.

    Attributes:
        context: the turns before the target; the last turn of the user is the question.
        target: the assistant's turn.
        tools: the tools' JSON schemas, where the model could call some.
    """

    context: tuple[Mapping[str, Any], ...]
    target: Mapping[str, Any]
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """One problem: its question x_i, solution trace y_i and final answer a_i.

    Attributes:
        conversation: the chat that it comes from; None where the data has question and solution
            only. The question is that of the user's last turn, the solution the target's text.
    """

    id: str
    question: str
    solution: str
    answer: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    conversation: Conversation | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are sampled; the defaults are the paper's for GSM8K (docs/method.md, 1).

    Attributes:
        max_thinking_tokens: a completion that is still inside its thinking trace after this many
            tokens ends there, unfinished; None for no such limit.
    """

    samples: int = 5
    temperature: float = 0.8
    top_p: float = 0.95
    max_new_tokens: int = 512
    seed: int = 0
    max_thinking_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class KnownSampling:
    """What is known of how completions were sampled that Premem did not sample; None is unknown."""

    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None

    @classmethod
    def of(cls, sampling: Sampling) -> "KnownSampling":
        """The settings of a scoring job."""
        return cls(sampling.temperature, sampling.top_p, sampling.max_new_tokens)

    def differences(self, other: "KnownSampling") -> list[str]:
        """The settings that both know and that differ, in words.

        >>> KnownSampling(0.0, None, 512).differences(KnownSampling(0.8, 0.95, 512))
        ['temperature 0 and 0.8']
        """
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return [
            f"{name.replace('_', '-')} {one:g} and {another:g}"
            for name, one, another in pairs
            if one is not None and another is not None and one != another
        ]

    def in_words(self) -> str:
        """Such as "temperature 0.8, top-p unknown, max-new-tokens 40"."""
        values = ((name.replace("_", "-"), getattr(self, name)) for name in self.__slots__)
        return ", ".join(f"{n} {'unknown' if v is None else format(v, 'g')}" for n, v in values)


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled continuation of a prompt, which ends before the stop string."""

    text: str
    tokens: int
    finished: bool  # False where the token budget ran out first


@dataclass(frozen=True, slots=True)
class TargetScore:
    """The NLL of a target.

    Attributes:
        nll: mean per target token, in nats.
        tokens: the number of target tokens.
        trace_nll: the same over the tokens of the thinking trace; None if there is none.
        trace_tokens: their number, a part of `tokens`.
        top_tokens: the number of tokens of rank 0, which are the model's first choice.
    """

    nll: float
    tokens: int
    trace_nll: float | None = None
    trace_tokens: int = 0
    top_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One saved state of a fine-tuning run; a value missing in `trainer_state.json` is None."""

    path: Path
    step: int
    epoch: float | None = None
    learning_rate: float | None = None
    adapter_base: str | None = None  # the base model, where the folder holds a PEFT adapter
    tokenizer: Path | None = None  # the folder of its tokenizer, where that is another one


@dataclass(frozen=True, slots=True)
class SkippedCheckpoint:
    """A folder of a run that looks like a checkpoint and cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """One fine-tuning run: its checkpoints in training order, and the settings in its logs.

    Attributes:
        skipped: what was left out.
        notes: sentences that say what had to be chosen where no file says it.
        rewarded: whether the log has rewards: it learned from these, or from preferences.
    """

    path: Path
    checkpoints: tuple[Checkpoint, ...]
    learning_rate: float | None = None  # the highest one in the log history
    epochs: float | None = None
    batch_size: int | None = None  # per device, as transformers' Trainer records it
    skipped: tuple[SkippedCheckpoint, ...] = ()
    notes: tuple[str, ...] = ()
    rewarded: bool = False


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the store records it.

    Attributes:
        source: "scored" by a job of the store; "imported": it has no job, only completions that
            another tool sampled; "published": imported score arrays, without completions.
    """

    run: str
    task: str
    source: str
    learning_rate: float | None
    epochs: float | None
    batch_size: int | None
    train_examples: int
    grader: str | None = None  # the grader behind its counts; None for an imported run
