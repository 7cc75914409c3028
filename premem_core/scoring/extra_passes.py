"""Extra passes over a scored run: measures of the weights, and NLLs without the question.

The NLL of a solution without its question in the prompt is a part of instruction-following
difficulty (docs/method.md, section 6).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from premem_core.errors import CheckpointError, DataError, UsageError
from premem_core.models import gradient_variance, load_backend, weight_distance
from premem_core.models.encoding.encoder import make_encoder
from premem_core.problems.prompts import Template
from premem_core.records import Checkpoint, Example
from premem_core.scoring.job_files import read_checkpoint
from premem_core.store.checkpoint_measures import (
    add_baseline,
    add_unconditional_nll,
    read_baselines,
    read_unconditional_nll,
)
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import read_checkpoints, read_runs

Measure = Literal["distance", "gradient_variance"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


def measure_weights(
    store: Store,
    run: str,
    examples: Sequence[Example],
    template: Template,
    base: Path | None,
    measures: Sequence[Measure] = MEASURES,
    say: Callable[[str], None] = lambda _: None,
) -> dict[int, str]:
    """Measure the weights of a run's scored checkpoints, whose folders the store must know.

    Args:
        examples: training examples, for the gradient.
        template: how an example becomes text.
        base: the folder of the run's base model; by default, adapters have that of their job.
        say: called with a message before each measurement.

    Returns:
        By step, the reasons for which measurements of a checkpoint failed.

    Raises:
        UsageError: as `scored_folders`; or `base` is missing for the distance of a whole model.
    """
    known = read_baselines(store, run).set_index(["step", "name"]).index
    failed: dict[int, str] = {}
    for step in scored_folders(store, run):
        for measure in measures:
            if (step, measure) in known:
                continue
            say(f"checkpoint {step}: {measure.replace('_', ' ')}")
            try:
                checkpoint = read_checkpoint(store, run, step, base)
                value, settings = _measured(measure, checkpoint, examples, template, base)
            except (CheckpointError, DataError, MemoryError) as error:
                failed[step] = str(error)
                continue
            add_baseline(store, run, step, measure, value, settings)
    return failed


def _measured(
    measure: Measure,
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    template: Template,
    base: Path | None,
) -> tuple[float, str]:
    """The value of a measure at one checkpoint, and the settings of the measurement."""
    if measure == "distance":
        return weight_distance.distance(checkpoint, base), _origin(checkpoint, base)
    value = gradient_variance.measure_gradient_variance(checkpoint, examples, template)
    return value, gradient_variance.settings(checkpoint, len(examples))


def _origin(checkpoint: Checkpoint, base: Path | None) -> str:
    return f"from {base.resolve().name}" if base and not checkpoint.adapter_base else "of ΔW"


def scored_folders(store: Store, run: str) -> dict[int, str]:
    """The folders of a run's scored checkpoints, by step.

    Raises:
        UsageError: no checkpoint is scored, or the store does not know their folders.
    """
    found = read_checkpoints(store, run).query("state == 'scored'")
    if found.empty:
        raise UsageError(f"the run '{run}' has no scored checkpoint yet; score it first")
    if found["path"].isna().all():
        raise UsageError(
            f"the run '{run}' was imported, so the store does not know the folders of its "
            "checkpoints; score the run from its own folder, under another name"
        )
    return dict(zip(found["step"].tolist(), found["path"], strict=True))


COMMIT_EVERY = 512  # solutions between two commits


def measure_unconditional_nll(
    store: Store,
    run: str,
    examples: Sequence[Example],
    template: Template,
    backend: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    base: Path | None = None,
) -> int:
    """Measure the NLL of solutions without the question, at the first scored checkpoint.

    Results are stored every COMMIT_EVERY solutions, and are not measured again.

    Args:
        examples: the examples that the run was scored on.
        template: how an example becomes text.
        backend: by default the one that is installed.
        say: called with a message before the measurement.
        base: the folder of the base model of adapters; by default that of their job.

    Returns:
        The number of solutions whose NLL is known now.

    Raises:
        UsageError: as `scored_folders`.
        CheckpointError: the checkpoint cannot be loaded.
        DataError: a solution has no token that can be scored without the question.
    """
    step = min(scored_folders(store, run))
    task = read_runs(store).set_index("run")["task"][run]
    numbers = read_task_examples(store, task, "train").set_index("id")["example"]
    known = set(read_unconditional_nll(store, run).query("step == @step")["example"])
    missing = [example for example in examples if numbers[example.id] not in known]
    if missing:
        say(f"checkpoint {step}: {len(missing):,} solutions without their question")
        checkpoint = read_checkpoint(store, run, step, base)
        model = load_backend.load_backend(backend or load_backend.default_backend(), checkpoint)
        try:
            encoder = make_encoder(template, model.tokenizer, model.end_tokens)
            for start in range(0, len(missing), COMMIT_EVERY):
                chunk = missing[start : start + COMMIT_EVERY]
                targets = [encoder.unconditional_target(example) for example in chunk]
                found = model.target_scores(targets)
                values = [-float(scores.log_probabilities.mean()) for scores in found]
                index = [int(numbers[example.id]) for example in chunk]
                add_unconditional_nll(store, run, step, pd.Series(values, index))
        finally:
            model.close()
    return len(known) + len(missing)
