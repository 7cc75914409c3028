"""fit and replay: R² of PM against test accuracy, from all samples of a task or from fewer."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from premem_core.analysis import curves, run_scores
from premem_core.analysis.studies import leave_one_out
from premem_core.analysis.studies.calibration import calibrate
from premem_core.analysis.studies.predictors import Comparison, compare
from premem_core.analysis.studies.study import (
    Analysis,
    analyse,
    make_study,
    read_baseline_predictors,
)
from premem_core.analysis.verdict.verdict import read_verdicts
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    SegmentOption,
    StoreOption,
    existing_store,
    print_json,
    say,
    threshold_of,
    write_text,
)
from premem_core.errors import UsageError
from premem_core.metrics.sampling_plan import Plan
from premem_core.metrics.thresholds import Objective

if TYPE_CHECKING:
    from premem_core.analysis.replay import Replay

POINTS = ["run", "step", "premem", "test_accuracy", "train_accuracy", "memorized_share"]


def fit(
    task: Annotated[str, typer.Option(help="The task; all its runs are fitted together.")],
    store: StoreOption = Path("store"),
    log_log_threshold: Annotated[
        float | None,
        typer.Option(help="t = log log PPL; default: the threshold with the best R²."),
    ] = None,
    estimator: EstimatorOption = None,
    segment: SegmentOption = "target",
    objective: Annotated[
        Objective, typer.Option(help="The kind of R² by which the threshold is chosen.")
    ] = "identity",
    report: Annotated[
        Path | None,
        typer.Option(help="Write the whole analysis to this HTML file, which needs no server."),
    ] = None,
    save_calibration: Annotated[
        Path | None,
        typer.Option(
            help="Write the threshold with the best identity R² and the errors of its predictions "
            "to this calibration.json, for 'predict'."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how well pre-memorization accuracy predicts test accuracy over a task's checkpoints.

    Example: python -m premem_core fit --store store --task gsm8k --log-log-threshold -2.3 --json
    """
    home = existing_store(store)
    if log_log_threshold is not None:
        curves.check_threshold(log_log_threshold)
    runs = run_scores.read_task(home, task, segment)
    estimator = estimator or run_scores.default_estimator(runs)
    study = make_study(runs, read_baseline_predictors(home, runs), estimator, objective)
    analysis = analyse(study, log_log_threshold)
    if save_calibration:
        write_text(save_calibration, calibrate(task, runs, estimator).to_json())
        say(f"calibration written to {save_calibration}")
    if report:
        from premem_core.dashboard.figures import html_report

        labels, verdicts = run_scores.run_labels(runs), read_verdicts(home, task, runs)
        write_text(report, html_report.report(task, analysis, labels, verdicts))
        say(f"report written to {report}")
    comparison = compare(runs)
    if as_json:
        print_json(
            {"task": task, **_as_json(analysis), "predictors": _compared_as_json(comparison)}
        )
        return
    print_fit(analysis)
    for row in comparison.table.dropna(subset=["mae"]).to_dict("records"):
        typer.echo(
            f"left out, {row['predictor']} ({row['label']}): each run MAE {row['mae']:.3f}, R² "
            f"{row['r2']:.3f}; each learning rate MAE {row['rate_mae']:.3f}, R² "
            f"{row['rate_r2']:.3f}"
        )
    typer.echo(comparison.in_words())


def print_fit(analysis: Analysis) -> None:
    """Print the checkpoints, R² and the caveats of an analysis as text."""
    columns = ["run", "step", "train_accuracy", "premem", "test_accuracy", "memorized_share"]
    typer.echo(analysis.points[columns].round(3).to_string(index=False, na_rep="–"))
    for sentence in analysis.in_words():
        typer.echo(sentence)
    for sentence in analysis.caveats:
        typer.echo(f"note: {sentence}")


def _as_json(analysis: Analysis) -> dict[str, object]:
    study = analysis.study
    points = analysis.points.dropna(subset=["premem"])
    source = f"optimum of {study.objective} R²" if analysis.fitted else "given"
    return {
        "log_log_threshold": analysis.log_log_threshold,
        "threshold_source": source,
        "threshold_plateau": list(study.fit.plateau) if study.fit else None,
        "estimator": study.estimator,
        "segment": study.segment,
        "identity_r2": analysis.r2.identity,
        "identity_r2_ci90": analysis.identity_ci90,
        "linear_r2": analysis.r2.linear,
        "linear_r2_ci90": analysis.linear_ci90,
        "train_accuracy_linear_r2": analysis.train_r2.linear,
        "train_accuracy_identity_r2": analysis.train_r2.identity,
        "n_runs": points["run"].nunique(),
        "n_checkpoints": len(points),
        "leave_one_run_out": _errors_as_json(study.left_out),
        "leave_one_learning_rate_out": _errors_as_json(study.rate_left_out),
        "baselines": analysis.baselines.to_dict("records"),
        "warnings": list(analysis.caveats),
        "points": analysis.points[POINTS].to_dict("records"),
    }


def _compared_as_json(comparison: Comparison) -> dict[str, object]:
    nested = comparison.nested
    return {
        "left_out": comparison.table.to_dict("records"),
        "best": comparison.best,
        "nested": asdict(nested) if nested else None,
    }


def _errors_as_json(rows: pd.DataFrame | None) -> dict[str, object] | None:
    """The prediction errors of left-out runs, over all runs and for every run."""
    if rows is None:
        return None
    by_run = leave_one_out.errors_by_run(rows).to_dict("records")
    return {**asdict(leave_one_out.prediction_errors(rows)), "runs": by_run}


def replay(
    task: Annotated[str, typer.Option(help="The task whose runs are replayed.")],
    store: StoreOption = Path("store"),
    samples: Annotated[
        int, typer.Option(min=1, help="K: samples drawn at random from those of every example.")
    ] = 5,
    plan: Annotated[
        Plan,
        typer.Option(
            help="lazy: only the samples that PM needs; final: only those that PM of the last "
            "checkpoint needs; last: only those that last-unmasked accuracy needs; full: all."
        ),
    ] = "full",
    share: Annotated[
        float,
        typer.Option(min=0.001, max=1, help="The part of the examples that the plan last samples."),
    ] = 1.0,
    precision: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Instead of --samples and --share: the largest standard error of a checkpoint's "
            "accuracy, in points; for the plan last.",
        ),
    ] = None,
    estimator: EstimatorOption = None,
    segment: SegmentOption = "target",
    log_log_threshold: Annotated[
        float | None,
        typer.Option(help="t = log log PPL; default: the threshold with the best identity R²."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often the samples are drawn.")] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Simulate the cost and the R² of a sampling plan and an estimator on runs that are scored.

    Example: python -m premem_core replay --task gsm8k --log-log-threshold -2.3 --plan lazy
    """
    from premem_core.analysis.replay import replay

    runs = run_scores.read_task(existing_store(store), task, segment)
    estimator = estimator or ("lu" if plan == "last" else "plain")
    chosen = threshold_of(runs, task, log_log_threshold, estimator)
    if chosen.source in ("unseen", "this_run"):
        raise UsageError(
            f"replay compares with test accuracies, but no run of the task '{task}' has a test "
            "set; score one with --test"
        )
    t = chosen.log_log_threshold
    error = None if precision is None else precision / 100
    result = replay(runs, samples, plan, estimator, t, repeats, seed, share, error)
    if as_json:
        print_json(
            {
                "generations_fraction": result.generations_fraction,
                "identity_r2": result.identity_r2,
                "identity_r2_sd": result.identity_r2_sd,
                "max_abs_difference_to_full": result.max_abs_difference_to_full,
                "bias_to_all_samples": result.bias_to_all_samples,
            }
        )
        return
    drawn = f"{samples} samples" if precision is None else f"precision {precision:g} points"
    of_share = f" of {share:.0%} of the examples" if share < 1 else ""
    typer.echo(
        f"{plan} plan, {drawn}{of_share}, {estimator} estimator, t = {t:.3f}"
        f"{run_scores.segment_note(segment)}, {repeats} repeats"
    )
    _print_replay(result, samples)


def _print_replay(result: "Replay", samples: int) -> None:
    from premem_core.analysis.replay import PAPER_SAMPLES

    with_k_samples = f", {result.fraction_of_full_plan:.1%} of the full plan with {samples} samples"
    typer.echo(
        f"train generations: {result.generations_fraction:.1%} of the full plan with "
        f"{PAPER_SAMPLES} samples{with_k_samples if samples != PAPER_SAMPLES else ''}\n"
        f"identity R² {result.identity_r2:.3f} over {result.checkpoints} checkpoints, standard "
        f"deviation {result.identity_r2_sd:.3f} over repeats\n"
        "largest difference to PM of the full plan from the same samples: "
        f"{result.max_abs_difference_to_full:.3g} for one example, "
        f"{result.max_mean_difference_to_full:.2g} for the mean of a checkpoint"
    )
    if not math.isnan(result.bias_to_all_samples):
        typer.echo(
            "bias of mean PM compared with all samples, where a checkpoint has more: "
            f"{result.bias_to_all_samples:.4f} (root mean square over checkpoints)"
        )
