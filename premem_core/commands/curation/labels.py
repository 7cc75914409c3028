"""labels: training solutions whose answer may be wrong."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from premem_core.analysis import run_scores
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    SegmentOption,
    StoreOption,
    ThresholdOption,
    existing_store,
    print_json,
    say,
    task_of,
    threshold_of,
)
from premem_core.curation import suspect_labels
from premem_core.errors import UsageError
from premem_core.store.database import Store
from premem_core.store.runs import read_runs


def labels(
    store: StoreOption = Path("store"),
    run: Annotated[
        list[str] | None,
        typer.Option(
            help="A run whose samples are used; several runs of one task count together. Default: "
            "all runs."
        ),
    ] = None,
    log_log_threshold: ThresholdOption = None,
    estimator: EstimatorOption = None,
    segment: SegmentOption = "target",
    limit: Annotated[int, typer.Option(min=1, help="The largest number of examples to show.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List training solutions whose answer may be wrong.

    Before memorization, the model's samples of these questions agree on another answer.

    Example: python -m premem_core labels --store store --json
    """
    home = existing_store(store)
    task = _choose_task(home, run or [])
    runs = run_scores.read_task(home, task, segment) if task else []
    chosen = [scores for scores in runs if not run or scores.run in run]
    if not chosen:
        raise UsageError(f"the store {home.path} has no scored run; score a run first")
    threshold = threshold_of(runs, task, log_log_threshold, estimator)
    t = threshold.log_log_threshold
    suspects = suspect_labels.find_suspect_labels(home, chosen, t)
    shown = suspects.head(limit)
    if as_json:
        print_json(
            {
                "task": task,
                "runs": [scores.run for scores in chosen],
                "log_log_threshold": t,
                "threshold_source": threshold.source,
                "examples": len(suspects),
                "suspects": shown.to_dict("records"),
            }
        )
        return
    typer.echo(
        f"{len(suspects):,} examples have samples from before memorization "
        f"({threshold.in_words()}); the most suspect come first"
    )
    if few := suspect_labels.few_samples_in_words(suspects, chosen[0].run):
        say(f"note: {few}")
    columns = ["id", "reference", "suggested", "agree", "with_reference", "samples"]
    typer.echo(shown[columns].to_string(index=False, na_rep="–"))


def _choose_task(store: Store, runs: Sequence[str]) -> str:
    """The task of the given runs, or of all scored runs; empty if there is no scored run."""
    if runs:
        [task, *more_tasks] = sorted({task_of(store, name) for name in runs})
    else:
        scored = read_runs(store)
        [task, *more_tasks] = sorted(scored.loc[scored["scored"] > 0, "task"].unique()) or [""]
    if more_tasks:
        raise UsageError(
            f"there are runs of the tasks '{task}' and '{more_tasks[0]}', but labels are compared "
            "within one task; choose runs with --run"
        )
    return task
