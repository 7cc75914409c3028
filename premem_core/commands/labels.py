"""labels: training solutions whose answer is suspect."""

from pathlib import Path
from typing import Annotated

import typer

from premem_core.analysis import run_scores
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    StoreOption,
    ThresholdOption,
    existing_store,
    print_json,
    task_of,
    threshold_of,
)
from premem_core.curation import suspect_labels
from premem_core.errors import UsageError
from premem_core.store.runs import read_runs


def labels(
    store: StoreOption = Path("store"),
    run: Annotated[
        list[str] | None,
        typer.Option(help="A run to ask; several of one task are pooled; default: all."),
    ] = None,
    log_log_threshold: ThresholdOption = None,
    estimator: EstimatorOption = "plain",
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Training solutions whose answer is suspect: before memorization, samples agree on another.

    Example: python -m premem_core labels --store store --json
    """
    home = existing_store(store)
    if run:
        [task, *others] = sorted({task_of(home, each) for each in run})
    else:
        scored = read_runs(home)
        [task, *others] = sorted(scored.loc[scored["scored"] > 0, "task"].unique()) or [""]
    if others:
        raise UsageError(f"there are runs of '{task}' and of '{others[0]}'; choose with --run")
    runs = run_scores.read_task(home, task) if task else []
    asked = [each for each in runs if not run or each.run in run]
    if not asked:
        raise UsageError(f"nothing is scored in {home.path}; score a run first")
    t = threshold_of(runs, log_log_threshold, estimator)
    found = suspect_labels.find_suspect_labels(home, asked, t)
    first = found.head(limit)
    if as_json:
        print_json(
            {
                "task": task,
                "runs": [each.run for each in asked],
                "log_log_threshold": t,
                "examples": len(found),
                "suspects": first.to_dict("records"),
            }
        )
        return
    typer.echo(
        f"{len(found):,} examples were asked before they were memorized (t = {t:.3f}); "
        "the most suspect first"
    )
    told = first[["id", "reference", "suggested", "agree", "with_reference", "samples"]]
    typer.echo(told.to_string(index=False, na_rep="–"))
