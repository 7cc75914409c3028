"""predict: the verdict on a run: which checkpoint to ship, and what to expect of it."""

from pathlib import Path
from typing import Annotated

import typer

from premem_core.analysis import run_scores
from premem_core.analysis.measures import read_measures
from premem_core.analysis.studies.calibration import Calibration, calibrate
from premem_core.analysis.studies.predictors import NAMES, predictor_named
from premem_core.analysis.verdict.expectation import Kind
from premem_core.analysis.verdict.threshold import Source, choose_threshold, source_in_words
from premem_core.analysis.verdict.verdict import Verdict, read_verdict
from premem_core.commands.options import (
    JsonOption,
    StoreOption,
    existing_store,
    print_json,
    say,
    task_of,
    write_text,
)
from premem_core.errors import UsageError
from premem_core.metrics.estimators import Estimator
from premem_core.records import SEGMENT_NAMES, Segment

COLUMNS = (
    *("step", "epoch", "premem", "lu", "predicted", "low", "high", "test_accuracy"),
    "memorized_share",
)
OF_LABELS = ("labelled", "joined", "joined_low", "joined_high")
LABELS = (
    "; labelled: that again, made more certain by the perplexities of unseen solutions where these "
    "are like those of the test questions; joined: labelled and predicted together"
)
INTERVALS: dict[Kind | None, str] = {
    "90 %": "low and high its 90 % interval, for each checkpoint alone",
    "typical": "low and high typical of published runs, on another task perhaps too narrow",
    None: "without an interval",
}


def predict(
    run: Annotated[str, typer.Option(help="The run's name in the store.")],
    store: StoreOption = Path("store"),
    threshold_from: Annotated[
        Source | None,
        typer.Option(
            help="Where the threshold comes from: unseen solutions, other runs with a test set, or "
            "a rule for this run alone. Default: the first of these that is there."
        ),
    ] = None,
    log_log_threshold: Annotated[
        float | None, typer.Option(help="t = log log PPL, given instead.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="A calibration.json, made by 'fit', instead of the task's other runs."),
    ] = None,
    predictor: Annotated[
        str | None,
        typer.Option(
            help=f"With other runs: {', '.join(NAMES)}; 'fit' compares them. Default: premem, or "
            "lu where a run has only its samples."
        ),
    ] = None,
    estimator: Annotated[
        Estimator | None,
        typer.Option(
            help="plain, jackknife, lu or half. Default: the one that the run's samples are for, "
            "or that of --calibration."
        ),
    ] = None,
    segment: Annotated[
        Segment | None,
        typer.Option(
            help="The part of a solution whose perplexity the threshold is for. Default: the whole "
            "target, or the part that --calibration is for."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the verdict to this HTML file, which needs no server."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which checkpoint of a run to ship, what to expect of it on new problems, and how sure.

    It needs neither other runs nor a test set.

    Example: python -m premem_core predict --store store --run lr2e-5
    """
    home = existing_store(store)
    task = task_of(home, run)
    _check_one_source(threshold_from, log_log_threshold, calibration, predictor)
    learned = _read_calibration(calibration, estimator, segment) if calibration else None
    segment = learned.segment if learned else segment or "target"
    runs = run_scores.read_task(home, task, segment)
    scores = run_scores.find_run(runs, run)
    if scores is None:
        raise UsageError(f"the run '{run}' has no scored checkpoint yet; score it first")
    if predictor is not None:
        one = predictor_named(predictor)
        others = [other for other in runs if other.run != run]
        learned = calibrate(task, others, one.estimator, relative=one.relative)
    threshold = choose_threshold(
        task,
        scores,
        runs,
        source=threshold_from,
        given=log_log_threshold,
        calibration=learned,
        estimator=estimator,
    )
    verdict = read_verdict(home, task, scores, threshold)
    if report or as_json:
        verdict = verdict.with_measures(read_measures(home, run))
    if report:
        from premem_core.dashboard.figures import html_report

        write_text(report, html_report.verdict_report(verdict))
        say(f"report written to {report}")
    if as_json:
        print_json(verdict.as_json() | {"segment": segment})
    else:
        _print(verdict, segment)


def _check_one_source(
    source: Source | None, given: float | None, calibration: Path | None, predictor: str | None
) -> None:
    """UsageError: the options name more than one source of the threshold."""
    named: dict[str, Source] = {}
    if source is not None:
        named[f"--threshold-from {source}"] = source
    if given is not None:
        named["--log-log-threshold"] = "given"
    if calibration is not None:
        named["--calibration"] = "other_runs"
    if predictor is not None:
        named["--predictor"] = "other_runs"
    if len(set(named.values())) > 1 or {"--calibration", "--predictor"} <= named.keys():
        first, second, *_ = named
        raise UsageError(f"{first} and {second} are two sources of the threshold; give one of them")
    if source == "given" and given is None:
        raise UsageError("--threshold-from given needs the threshold too (--log-log-threshold)")


def _read_calibration(
    file: Path, estimator: Estimator | None, segment: Segment | None
) -> Calibration:
    calibration = Calibration.read(file)
    if estimator not in (None, calibration.estimator):
        raise UsageError(
            f"{file} was made with the {calibration.estimator} estimator, but --estimator is "
            f"{estimator}; omit --estimator, or make a calibration with it"
        )
    if segment not in (None, calibration.segment):
        raise UsageError(
            f"{file} is for the perplexity of {SEGMENT_NAMES[calibration.segment]}, but --segment "
            f"is {segment}; omit --segment, or make a calibration with it"
        )
    return calibration


def _print(verdict: Verdict, segment: Segment) -> None:
    labelled = verdict.checkpoints["labelled"].notna().any()
    rows = verdict.checkpoints[[*COLUMNS, *(OF_LABELS if labelled else ())]]
    typer.echo(rows.round(3).to_string(index=False, na_rep="–"))
    threshold = verdict.threshold
    typer.echo(
        "premem: pre-memorization accuracy, how often training questions were answered right "
        "before their solution was memorized; lu: the same, at the last checkpoint before; "
        f"predicted: expected test accuracy, {INTERVALS[verdict.interval]}; test_accuracy: as "
        f"measured, not used in predicted{LABELS if labelled else ''}. predicted is "
        f"pre-memorization accuracy by the {threshold.estimator} estimator. "
        f"Threshold t = {threshold.log_log_threshold:.3f}{run_scores.segment_note(segment)}, "
        f"{source_in_words(threshold.source)}."
    )
    for sentence in filter(None, verdict.in_words()):
        typer.echo(sentence)
    for sentence in verdict.cautions:
        typer.echo(f"note: {sentence}")
