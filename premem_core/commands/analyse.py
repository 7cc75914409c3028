"""robustness: how a run's answers hold when its training queries are perturbed."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from premem_core.analysis import curves, leave_one_out, prediction, run_scores
from premem_core.analysis import robustness as rb
from premem_core.analysis.calibration import Calibration, calibrate
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.study import analyse, make_study, read_baseline_predictors
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    StoreOption,
    ThresholdOption,
    existing_store,
    print_json,
    say,
    task_of,
    threshold_of,
    write_text,
)
from premem_core.errors import UsageError
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.sampling_plan import Plan
from premem_core.metrics.thresholds import Objective
from premem_core.store.database import Store


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
    runs = run_scores.read_task(home, task_of(home, run))
    scores = next((each for each in runs if each.run == run), None)
    asked = rb.perturbed_steps(home, run)
    if scores is None or not asked:
        raise UsageError(
            f"the run '{run}' has no perturbed scores; score it with --perturb, or ask more of its "
            "job: jobs extend --perturb"
        )
    t = threshold_of(runs, log_log_threshold, estimator)
    found = [
        rb.measure_robustness(scores, rb.read_answers(home, run, step, perturbation), t, estimator)
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


def fit(
    task: Annotated[str, typer.Option(help="The task whose runs are fitted together.")],
    store: StoreOption = Path("store"),
    log_log_threshold: Annotated[
        float | None, typer.Option(help="t = log log PPL; default: the optimum by --objective.")
    ] = None,
    estimator: EstimatorOption = "plain",
    objective: Annotated[
        Objective, typer.Option(help="The R² that a threshold is chosen by.")
    ] = "identity",
    report: Annotated[
        Path | None,
        typer.Option(help="Write the whole analysis to this HTML file, which opens anywhere."),
    ] = None,
    save_calibration: Annotated[
        Path | None,
        typer.Option(
            help="Write what these runs teach, at their optimum of identity R², to this "
            "calibration.json, for 'predict'."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How well pre-memorization accuracy predicts test accuracy over a task's checkpoints.

    Example: python -m premem_core fit --store store --task gsm8k --log-log-threshold -2.3 --json
    """
    print_fit(
        existing_store(store),
        task,
        log_log_threshold,
        estimator,
        as_json,
        objective,
        save_calibration,
        report,
    )


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
    from premem_core.analysis.replay import PAPER_SAMPLES, replay

    runs = run_scores.read_task(existing_store(store), task)
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
    store: Store,
    task: str,
    log_log_threshold: float | None,
    estimator: Estimator,
    as_json: bool,
    objective: Objective = "identity",
    save_calibration: Path | None = None,
    report: Path | None = None,
) -> None:
    """R² of PM against test accuracy over a task's checkpoints, and the points behind it."""
    if log_log_threshold is not None and not math.isfinite(log_log_threshold):
        raise UsageError(f"the threshold t = log log PPL is a number, not {log_log_threshold}")
    runs = run_scores.read_task(store, task)
    others = read_baseline_predictors(store, runs)
    study = make_study(runs, others, estimator, objective)
    done = analyse(study, log_log_threshold)
    if save_calibration:
        calibration = calibrate(task, runs, estimator)
        write_text(save_calibration, calibration.to_json())
        say(f"calibration written to {save_calibration}")
    if report:
        from premem_core.dashboard.figures import html_report

        write_text(report, html_report.report(task, done))
        say(f"report written to {report}")
    known = done.points.dropna(subset=["premem"])
    n_runs, n_checkpoints = known["run"].nunique(), len(known)
    train_identity_r2, train_linear_r2 = done.train_accuracy_r2()
    if as_json:
        print_json(
            {
                "task": task,
                "log_log_threshold": done.log_log_threshold,
                "threshold_source": f"optimum of {objective} R²" if done.fitted else "given",
                "threshold_plateau": list(study.fit.plateau) if study.fit else None,
                "estimator": estimator,
                "identity_r2": done.identity_r2,
                "identity_r2_ci90": done.identity_ci90,
                "linear_r2": done.linear_r2,
                "linear_r2_ci90": done.linear_ci90,
                "train_accuracy_linear_r2": train_linear_r2,
                "train_accuracy_identity_r2": train_identity_r2,
                "n_runs": n_runs,
                "n_checkpoints": n_checkpoints,
                "leave_one_run_out": _left_out(study.left_out),
                "leave_one_learning_rate_out": _left_out(study.rate_left_out),
                "baselines": done.baselines.to_dict("records"),
                "warnings": list(done.caveats),
                "points": done.points[
                    ["run", "step", "premem", "test_accuracy", "train_accuracy", "memorized_share"]
                ].to_dict("records"),
            }
        )
        return
    typer.echo(
        done.points[["run", "step", "train_accuracy", "premem", "test_accuracy", "memorized_share"]]
        .round(3)
        .to_string(index=False, na_rep="–")
    )
    for sentence in done.in_words():
        typer.echo(sentence)
    for sentence in done.caveats:
        typer.echo(f"note: {sentence}")


def _left_out(rows: pd.DataFrame | None) -> dict[str, object] | None:
    if rows is None:
        return None
    by_run = leave_one_out.errors_by_run(rows).to_dict("records")
    return {**asdict(leave_one_out.errors(rows)), "runs": by_run}


def predict(
    run: Annotated[str, typer.Option(help="The run, as it is named in the store.")],
    store: StoreOption = Path("store"),
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="A calibration.json, with its own estimator; default: from the other runs of its "
            "task in this store."
        ),
    ] = None,
    estimator: Annotated[
        Estimator | None, typer.Option(help="Default: plain, or the calibration's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The test accuracy to expect of a run's checkpoints, and which one to ship.

    Example: python -m premem_core predict --store store --run lr2e-5 --calibration calibration.json
    """
    home = existing_store(store)
    task = task_of(home, run)
    runs = run_scores.read_task(home, task)
    own = next((each for each in runs if each.run == run), None)
    if own is None:
        raise UsageError(f"the run '{run}' has no scored checkpoint yet; score it first")
    if calibration:
        learned = Calibration.read(calibration)
        if estimator not in (None, learned.estimator):
            raise UsageError(
                f"{calibration} was made with the {learned.estimator} estimator, and {estimator} "
                "is asked for; leave --estimator out, or calibrate again"
            )
        rows = prediction.predict(own, learned)
    else:
        rows, learned = prediction.predict_from_others(task, own, runs, estimator or "plain")
    choice = prediction.choose(own, learned)
    if as_json:
        print_json(
            {
                "run": run,
                "log_log_threshold": learned.log_log_threshold,
                "estimator": learned.estimator,
                "calibration_runs": list(learned.runs),
                "checkpoints": rows.drop(columns="run").to_dict("records"),
                "ship": asdict(choice) if choice else None,
                "warnings": prediction.notes(task, rows, learned),
            }
        )
        return
    typer.echo(rows.drop(columns="run").round(3).to_string(index=False, na_rep="–"))
    typer.echo(
        f"90 % intervals; threshold t = {learned.log_log_threshold:.3f}, {learned.estimator} "
        f"estimator, calibrated on {len(learned.runs)} runs"
    )
    if choice:
        typer.echo(choice.in_words(rows))
    for sentence in prediction.notes(task, rows, learned):
        typer.echo(f"note: {sentence}")
