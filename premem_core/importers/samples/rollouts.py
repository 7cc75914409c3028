"""The completions that a trainer of reinforcement learning logs: TRL's and verl's rollouts.

    TRL, `log_completions=True`    completions/completions_<step>.parquet: step, prompt, completion,
                                   one column per reward function, advantage
    verl, `rollout_data_dir`       <step>.jsonl: input, output, gts, score, step, and more
    verl, `validation_data_dir`    the same, of the validation

A rollout of step s is drawn before the weights are updated in that step, so it belongs to the
checkpoint of step s − 1. verl validates after the update.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from premem_core.importers.samples.sample import (
    ImportedSample,
    SampleReader,
    checked_step,
    completion_text,
    number_or_none,
    turn_text,
)

TRL_COLUMNS = {"step", "prompt", "completion", "advantage"}
VERL_COLUMNS = {"step", "input", "output", "score"}
_BEFORE = (
    "a rollout is drawn before the update of the step that logs it, so it counts for the step "
    "before"
)


def read_trl(file: Path, first: Mapping[str, Any]) -> SampleReader:
    """How a file of TRL's GRPO trainer is read; its score is the first reward.

    Args:
        first: its first row.
    """
    rewards = [name for name in first if name not in TRL_COLUMNS]
    return _reader("trl", "prompt", "completion", rewards[0] if rewards else None, lag=1)


def read_verl_rollouts(file: Path, first: Mapping[str, Any]) -> SampleReader:
    """How a file of verl's rollouts is read."""
    return _reader("verl", "input", "output", "score", lag=1)


def read_verl_validation(file: Path, first: Mapping[str, Any]) -> SampleReader:
    """How a file of verl's validation is read."""
    return _reader("verl", "input", "output", "score", lag=0)


def _reader(tool: str, prompt: str, completion: str, score: str | None, lag: int) -> SampleReader:
    def samples(row: Mapping[str, Any]) -> Sequence[ImportedSample]:
        return [
            ImportedSample(
                prompt=turn_text(row.get(prompt), "user"),
                completion=completion_text(row.get(completion)),
                step=max(checked_step(row.get("step")) - lag, 0),
                score=number_or_none(row.get(score)) if score else None,
            )
        ]

    return SampleReader(samples, tool, score=score, note=_BEFORE if lag else None)
