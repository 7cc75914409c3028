"""Records that cross rooms; names are those of the paper (arXiv 2411.07681, §3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any


class Grade(IntEnum):
    """What became of one completion; 0, 1 and 2 are the codes of the published arrays."""

    CORRECT = 0
    INCORRECT = 1
    UNPARSED = 2
    TIMEOUT = 3


@dataclass(frozen=True, slots=True)
class Graded:
    """One completion's grade and the answer that was found in it (None: no answer found)."""

    grade: Grade
    extracted: str | None


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Which of a run's completions; `example` is the store's number, `sample` counts from 0."""

    step: int
    split: str
    perturbation: str
    example: int
    sample: int


@dataclass(frozen=True, slots=True)
class Example:
    """One problem: its question x_i, solution trace y_i and final answer a_i."""

    id: str
    question: str
    solution: str
    answer: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn; the defaults are the paper's for GSM8K (METHOD: section 1)."""

    samples: int = 5
    temperature: float = 0.8
    top_p: float = 0.95
    max_new_tokens: int = 512
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled continuation of a prompt, cut before the stop string."""

    text: str
    tokens: int
    finished: bool  # False: the token budget ran out first


@dataclass(frozen=True, slots=True)
class TargetScore:
    """Mean negative log-likelihood per target token, in nats, and how many target tokens."""

    nll: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One saved state of a fine-tuning run; what `trainer_state.json` does not say is None."""

    path: Path
    step: int
    epoch: float | None = None
    learning_rate: float | None = None
    adapter_base: str | None = None  # set when the folder holds a PEFT adapter


@dataclass(frozen=True, slots=True)
class Run:
    """One fine-tuning run: its checkpoints in training order and what its logs say of it."""

    path: Path
    checkpoints: tuple[Checkpoint, ...]
    learning_rate: float | None = None  # peak, per the log history
    epochs: float | None = None
    batch_size: int | None = None  # per device, as the Trainer records it


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the store knows of a run; `source` is "scored" (by Premem) or "published"."""

    run: str
    task: str
    source: str
    learning_rate: float | None
    epochs: float | None
    batch_size: int | None
    train_examples: int
    grader: str | None = None  # whose grades its counts are; None: not known (an import)
