"""robustness: how a run's answers hold when its training queries are perturbed."""

from pathlib import Path
from typing import Annotated

import typer

from premem_core import curves
from premem_core import robustness as rb
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
from premem_core.errors import UsageError


def robustness(
    run: Annotated[str, typer.Option(help="The run, as it is named in the store.")],
    store: StoreOption = Path("store"),
    log_log_threshold: ThresholdOption = None,
    estimator: EstimatorOption = "plain",
    as_json: JsonOption = False,
) -> None:
    """Accuracy under each perturbation by pre-memorization accuracy, and what foretells it.

    Example: python -m premem_core robustness --store store --run lr2e-5 --json
    """
    home = existing_store(store)
    runs = curves.read_task(home, task_of(home, run))
    scores = next((each for each in runs if each.run == run), None)
    asked = rb.perturbed_steps(home, run)
    if scores is None or not asked:
        raise UsageError(
            f"the run '{run}' has no perturbed scores; score it with --perturb, or ask more of its "
            "job: jobs extend --perturb"
        )
    t = threshold_of(runs, log_log_threshold, estimator)
    found = [
        rb.robustness(scores, rb.read_answers(home, run, step, perturbation), t, estimator)
        for perturbation, steps in asked.items()
        for step in steps
    ]
    if as_json:
        print_json(
            {
                "run": run,
                "log_log_threshold": t,
                "estimator": estimator,
                "perturbations": [
                    {
                        "perturbation": each.perturbation,
                        "step": each.step,
                        "examples": len(each.examples),
                        "left_out": each.left_out,
                        "not_asked": each.not_asked,
                        "unknown": each.unknown,
                        "by_premem": each.by_premem.to_dict("records"),
                        "brittle": int(each.brittle.sum()),
                        "robust": int((~each.brittle).sum()),
                        "auroc": each.auroc.to_dict("records"),
                    }
                    for each in found
                ],
            }
        )
        return
    typer.echo(f"t = {t:.3f}, {estimator} estimator; ± is half of a 90 % interval over questions")
    for sentence in rb.caveats(found):
        typer.echo(f"note: {sentence}")
    typer.echo(rb.summary(found).round(3).to_string(index=False, na_rep="–"))
    for each in found:
        typer.echo(f"\n{each.perturbation} at checkpoint {each.step}")
        typer.echo(each.by_premem.round(3).to_string(index=False, na_rep="–"))
