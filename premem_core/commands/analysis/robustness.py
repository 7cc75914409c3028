"""robustness: accuracy on a run's training questions under perturbations."""

from pathlib import Path
from typing import Annotated

import typer

from premem_core.analysis import robustness as rb
from premem_core.analysis import run_scores
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    SegmentOption,
    StoreOption,
    ThresholdOption,
    existing_store,
    print_json,
    task_of,
    threshold_of,
)
from premem_core.errors import UsageError


def robustness(
    run: Annotated[str, typer.Option(help="The run's name in the store.")],
    store: StoreOption = Path("store"),
    log_log_threshold: ThresholdOption = None,
    estimator: EstimatorOption = None,
    segment: SegmentOption = "target",
    as_json: JsonOption = False,
) -> None:
    """Compare train accuracy with and without perturbations, by pre-memorization accuracy.

    It also shows how well PM and other quantities separate robust answers from brittle ones.

    Example: python -m premem_core robustness --store store --run lr2e-5 --json
    """
    home = existing_store(store)
    runs = run_scores.read_task(home, task_of(home, run), segment)
    scores = run_scores.find_run(runs, run)
    steps_of = rb.perturbed_steps(home, run)
    if scores is None or not steps_of:
        raise UsageError(
            f"the run '{run}' has no perturbed samples; score it with --perturb, or add them to "
            "its job with 'jobs extend --perturb'"
        )
    estimator = estimator or run_scores.default_estimator(runs)
    t = threshold_of(runs, log_log_threshold, estimator)
    measured = [
        rb.measure_robustness(scores, rb.read_answers(home, run, step, perturbation), t, estimator)
        for perturbation, steps in steps_of.items()
        for step in steps
    ]
    if as_json:
        perturbations = [_as_json(result) for result in measured]
        content = {"run": run, "log_log_threshold": t, "estimator": estimator, "segment": segment}
        print_json({**content, "perturbations": perturbations})
        return
    typer.echo(
        f"t = {t:.3f}{run_scores.segment_note(segment)}, {estimator} estimator; columns that "
        "end in _half are half the width of a 90 % interval over questions"
    )
    for sentence in rb.caveats(measured):
        typer.echo(f"note: {sentence}")
    typer.echo(rb.summary(measured).round(3).to_string(index=False, na_rep="–"))
    for result in measured:
        typer.echo(f"\n{result.perturbation} at checkpoint {result.step}")
        typer.echo(result.by_premem.round(3).to_string(index=False, na_rep="–"))


def _as_json(result: rb.Robustness) -> dict[str, object]:
    return {
        "perturbation": result.perturbation,
        "step": result.step,
        "examples": len(result.examples),
        "left_out": result.left_out,
        "not_asked": result.not_asked,
        "unknown": result.unknown,
        "by_premem": result.by_premem.to_dict("records"),
        "brittle": int(result.brittle.sum()),
        "robust": int((~result.brittle).sum()),
        "auroc": result.auroc.to_dict("records"),
    }
