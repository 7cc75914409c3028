"""fit, replay: what scored runs say."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from premem_core import curves, fits
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    StoreOption,
    existing_store,
    print_json,
)
from premem_core.curves import RunScores
from premem_core.estimators import Estimator
from premem_core.sampling_plan import Plan
from premem_core.store import Store


def fit(
    task: Annotated[str, typer.Option(help="The task whose runs are fitted together.")],
    store: StoreOption = Path("store"),
    log_log_threshold: Annotated[
        float | None, typer.Option(help="t = log log PPL; default: the optimum of identity R².")
    ] = None,
    estimator: EstimatorOption = "plain",
    as_json: JsonOption = False,
) -> None:
    """How well pre-memorization accuracy predicts test accuracy over a task's checkpoints.

    Example: python -m premem_core fit --store store --task gsm8k --log-log-threshold -2.3 --json
    """
    print_fit(existing_store(store), task, log_log_threshold, estimator, as_json)


def replay(
    task: Annotated[str, typer.Option(help="The task whose runs are replayed.")],
    store: StoreOption = Path("store"),
    samples: Annotated[int, typer.Option(min=1, help="K, drawn at random of each example's.")] = 5,
    plan: Annotated[
        Plan,
        typer.Option(help="lazy: what PM of every checkpoint needs; final: of the last; or full."),
    ] = "full",
    estimator: EstimatorOption = "plain",
    log_log_threshold: Annotated[
        float | None, typer.Option(help="t = log log PPL; default: the optimum of identity R².")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often the samples are drawn.")] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """What a sampling plan and an estimator would have cost and said on data that is scored.

    Example: python -m premem_core replay --task gsm8k --log-log-threshold -2.3 --plan lazy
    """
    from premem_core.replay import PAPER_SAMPLES, replay

    runs = curves.read_task(existing_store(store), task)
    threshold = _threshold(runs, log_log_threshold, estimator)
    done = replay(runs, samples, plan, estimator, threshold, repeats, seed)
    if as_json:
        print_json(
            {
                "generations_fraction": done.generations_fraction,
                "identity_r2": done.identity_r2,
                "identity_r2_sd": done.identity_r2_sd,
                "max_abs_difference_to_full": done.max_abs_difference_to_full,
                "bias_to_all_samples": done.bias_to_all_samples,
            }
        )
        return
    own = f", {done.own_fraction:.1%} of its with {samples}" if samples != PAPER_SAMPLES else ""
    typer.echo(
        f"{plan} plan, {samples} samples, {estimator} estimator, t = {threshold:.3f}, "
        f"{repeats} repeats\n"
        f"train generations: {done.generations_fraction:.1%} of the full plan's with "
        f"{PAPER_SAMPLES} samples{own}\n"
        f"identity R² {done.identity_r2:.3f}, standard deviation {done.identity_r2_sd:.3f} over "
        f"repeats, on {done.checkpoints} checkpoints\n"
        f"largest difference to the full plan's PM from the same samples: "
        f"{done.max_abs_difference_to_full:.3g} of one example, "
        f"{done.max_mean_difference_to_full:.2g} of a checkpoint's mean"
    )
    if not math.isnan(done.bias_to_all_samples):
        typer.echo(
            "bias of mean PM against all samples, where there are more: "
            f"{done.bias_to_all_samples:.4f} (root mean square over checkpoints)"
        )


def _threshold(runs: Sequence[RunScores], given: float | None, estimator: Estimator) -> float:
    return curves.best_threshold(runs, estimator).log_log_threshold if given is None else given


def print_fit(
    store: Store, task: str, log_log_threshold: float | None, estimator: Estimator, as_json: bool
) -> None:
    """R² of PM against test accuracy over a task's checkpoints, and the points behind it."""
    runs = curves.read_task(store, task)
    threshold = _threshold(runs, log_log_threshold, estimator)
    lines = [curves.curve(run, threshold, estimator) for run in runs]
    points = curves.points(lines)
    x, y, train = (
        points[name].to_numpy() for name in ("premem", "test_accuracy", "train_accuracy")
    )
    known = points.dropna(subset=["premem"])
    result = {
        "task": task,
        "log_log_threshold": threshold,
        "threshold_source": "optimum of identity R²" if log_log_threshold is None else "given",
        "estimator": estimator,
        "identity_r2": fits.identity_r2(x, y),
        "linear_r2": fits.linear_r2(x, y),
        "train_accuracy_linear_r2": fits.linear_r2(train, y),
        "train_accuracy_identity_r2": fits.identity_r2(train, y),
        "n_runs": known["run"].nunique(),
        "n_checkpoints": len(known),
        "points": points[
            ["run", "step", "premem", "test_accuracy", "train_accuracy", "memorized_share"]
        ].to_dict("records"),
    }
    if as_json:
        print_json(result)
        return
    typer.echo(
        points[["run", "step", "train_accuracy", "premem", "test_accuracy", "memorized_share"]]
        .round(3)
        .to_string(index=False, na_rep="–")
    )
    typer.echo(
        f"threshold t = {threshold:.3f} ({result['threshold_source']}); {estimator} estimator; "
        f"{result['n_checkpoints']} checkpoints of {result['n_runs']} runs\n"
        f"identity R² of PM {result['identity_r2']:.3f}, linear R² {result['linear_r2']:.3f}; "
        f"linear R² of plain train accuracy {result['train_accuracy_linear_r2']:.3f}"
    )
    if not_known := curves.not_known(lines):
        typer.echo(not_known)
