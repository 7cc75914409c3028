"""robustness: accuracy on a run's training questions under perturbations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from premem_core.analysis import run_scores
from premem_core.analysis.perturbed import robustness as rb
from premem_core.analysis.perturbed.mixed_model import MixedModel, fit_mixed_model, read_texts
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
from premem_core.errors import DataError, UsageError
from premem_core.store.database import Store

COLUMNS_IN_WORDS = (
    "original, perturbed: accuracy without and with the perturbation; drop: their difference; "
    "lost: drop ÷ original, the share of right answers that are lost, net of those that are "
    "gained; limem: how often an answer is right and that to the perturbed question is wrong; "
    "auroc_…: how well it ranks answers that stay right above those that become wrong, .5 is "
    "chance; examples: questions compared; left_out: to which the perturbation does not apply; "
    "not_asked: without perturbed samples; unknown: without all samples of their own form; _half: "
    "half of a 90 % interval over questions."
)
OF_CONTROLS = ("test_", "early_", "beyond_")  # how their columns begin


def robustness(
    run: Annotated[str, typer.Option(help="The run's name in the store.")],
    store: StoreOption = Path("store"),
    log_log_threshold: ThresholdOption = None,
    estimator: EstimatorOption = None,
    segment: SegmentOption = "target",
    mixed_model: Annotated[
        bool,
        typer.Option(
            "--mixed-model",
            help="Also fit correct ~ perturbed × memorized + size of the numbers, with a random "
            "intercept per question, at the last checkpoint (seconds per thousand questions).",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare train accuracy with and without perturbations, by pre-memorization accuracy.

    Beside each drop stand its controls: the drop on test questions, and on the training questions
    at the first checkpoint. It also shows how well PM and other quantities separate robust answers
    from brittle ones.

    Example: python -m premem_core robustness --store store --run lr2e-5 --json
    """
    home = existing_store(store)
    task = task_of(home, run)
    runs = run_scores.read_task(home, task, segment)
    scores = run_scores.find_run(runs, run)
    steps_of = rb.perturbed_steps(home, run)
    if scores is None or not steps_of:
        raise UsageError(
            f"the run '{run}' has no perturbed samples; score it with --perturb, or add them to "
            "its job with 'jobs extend --perturb'"
        )
    estimator = estimator or run_scores.default_estimator(runs)
    threshold = threshold_of(runs, task, log_log_threshold, estimator)
    t = threshold.log_log_threshold
    measured = [
        rb.measure_robustness(scores, rb.read_answers(home, run, step, perturbation), t, estimator)
        for perturbation, steps in steps_of.items()
        for step in steps
    ]
    models = _mixed_models(home, task, measured) if mixed_model else {}
    if as_json:
        perturbations = [_as_json(result, models) for result in measured]
        print_json(
            {
                "run": run,
                "log_log_threshold": t,
                "threshold_source": threshold.source,
                "estimator": estimator,
                "segment": segment,
                "perturbations": perturbations,
            }
        )
        return
    typer.echo(
        f"run '{run}'; {threshold.in_words()}{run_scores.segment_note(segment)}, {estimator} "
        f"estimator. {COLUMNS_IN_WORDS}"
    )
    for sentence in rb.caveats(measured):
        typer.echo(f"note: {sentence}")
    table = rb.summary(measured).round(3)
    controls = [name for name in map(str, table) if name.startswith(OF_CONTROLS)]
    typer.echo(table.drop(columns=controls).to_string(index=False, na_rep="–"))
    _print_controls(table.dropna(subset=["test_drop", "early_drop"], how="all"))
    for result in measured:
        typer.echo(f"\n{result.perturbation} at checkpoint {result.step}")
        typer.echo(result.by_premem.round(3).to_string(index=False, na_rep="–"))
        if model := models.get((result.perturbation, result.step)):
            typer.echo(_model_in_words(model))


def _print_controls(table: pd.DataFrame) -> None:
    """The drops, and the shares of right answers that are lost, beside those of the controls."""
    if table.empty:
        return
    typer.echo(
        "\ncontrols: the same on test questions (test_) and on the training questions at the first "
        "checkpoint (early_), and the difference to them (beyond_). Where accuracies differ "
        "without the perturbation, compare the shares of right answers that are lost."
    )
    compared = [n for n in map(str, table) if n.startswith((*OF_CONTROLS, "drop", "lost"))]
    for measure in ("drop", "lost"):
        of_lost = [name for name in compared if "lost" in name]
        names = of_lost if measure == "lost" else [n for n in compared if n not in of_lost]
        typer.echo(table[["perturbation", "step", *names]].to_string(index=False, na_rep="–"))


def _mixed_models(
    store: Store, task: str, measured: Sequence[rb.Robustness]
) -> dict[tuple[str, int], MixedModel | str]:
    """The mixed model of each perturbation at its last checkpoint, or why there is none."""
    models: dict[tuple[str, int], MixedModel | str] = {}
    last = {result.perturbation: result for result in measured}
    for name, result in last.items():
        try:
            models[name, result.step] = fit_mixed_model(result, read_texts(store, task, name))
        except DataError as error:
            models[name, result.step] = str(error)
    return models


def _model_in_words(model: MixedModel | str) -> str:
    if isinstance(model, str):
        return f"no mixed model: {model}"
    rows = model.coefficients[["label", "value", "low", "high"]].round(3)
    return (
        f"mixed model over {model.questions:,} questions, {model.memorized:,} of them memorized "
        f"(accuracy; low and high: 90 % interval){' ' if model.note else ''}{model.note}\n"
        f"{rows.to_string(index=False, na_rep='–')}"
    )


def _as_json(
    result: rb.Robustness, models: Mapping[tuple[str, int], MixedModel | str]
) -> dict[str, object]:
    [numbers] = rb.summary([result]).to_dict("records")
    content: dict[str, object] = {
        **{str(key): value for key, value in numbers.items() if "auroc_" not in str(key)},
        "by_premem": result.by_premem.to_dict("records"),
        "brittle": int(result.brittle.sum()),
        "robust": int((~result.brittle).sum()),
        "auroc": result.auroc.to_dict("records"),
    }
    model = models.get((result.perturbation, result.step))
    if isinstance(model, MixedModel):
        content["mixed_model"] = {
            "questions": model.questions,
            "memorized": model.memorized,
            "coefficients": model.coefficients.to_dict("records"),
            "note": model.note,
        }
    elif model is not None:
        content["mixed_model"] = {"why_not": model}
    return content
