"""predict: the expected test accuracy of a run's checkpoints."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from premem_core.analysis import run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies import prediction
from premem_core.analysis.studies.calibration import Calibration
from premem_core.commands.options import (
    JsonOption,
    StoreOption,
    existing_store,
    print_json,
    task_of,
)
from premem_core.errors import UsageError
from premem_core.metrics.estimators import Estimator
from premem_core.records import SEGMENT_NAMES, Segment


def predict(
    run: Annotated[str, typer.Option(help="The run's name in the store.")],
    store: StoreOption = Path("store"),
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="A calibration.json, made by 'fit'; default: calibrate on the other runs of the "
            "task in this store."
        ),
    ] = None,
    estimator: Annotated[
        Estimator | None,
        typer.Option(
            help="plain, jackknife or lu. Default: that of --calibration, or that of fit."
        ),
    ] = None,
    segment: Annotated[
        Segment | None,
        typer.Option(
            help="The part of a solution whose perplexity the threshold is for. Default: the whole "
            "target, or the part that --calibration is for."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the test accuracy of a run's checkpoints, and say which checkpoint to ship.

    Example: python -m premem_core predict --store store --run lr2e-5 --calibration calibration.json
    """
    home = existing_store(store)
    task = task_of(home, run)
    learned = _read_calibration(calibration, estimator, segment) if calibration else None
    segment = learned.segment if learned else segment or "target"
    runs = run_scores.read_task(home, task, segment)
    scores = run_scores.find_run(runs, run)
    if scores is None:
        raise UsageError(f"the run '{run}' has no scored checkpoint yet; score it first")
    if learned:
        rows = prediction.predict(scores, learned)
    else:
        estimator = estimator or run_scores.default_estimator(runs)
        rows, learned = prediction.predict_from_others(task, scores, runs, estimator)
    notes = prediction.notes(task, rows, learned)
    if as_json:
        print_json(_as_json(scores, rows, learned, notes))
    else:
        _print_prediction(scores, rows, learned, notes)


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


def _as_json(
    scores: RunScores, rows: pd.DataFrame, calibration: Calibration, notes: list[str]
) -> dict[str, object]:
    choice = prediction.choose(scores, calibration)
    return {
        "run": scores.run,
        "log_log_threshold": calibration.log_log_threshold,
        "estimator": calibration.estimator,
        "segment": calibration.segment,
        "calibration_runs": list(calibration.runs),
        "checkpoints": rows.drop(columns="run").to_dict("records"),
        "ship": asdict(choice) if choice else None,
        "warnings": notes,
    }


def _print_prediction(
    scores: RunScores, rows: pd.DataFrame, calibration: Calibration, notes: list[str]
) -> None:
    typer.echo(rows.drop(columns="run").round(3).to_string(index=False, na_rep="–"))
    typer.echo(
        f"90 % intervals; threshold t = {calibration.log_log_threshold:.3f}"
        f"{run_scores.segment_note(calibration.segment)}, "
        f"{calibration.estimator} estimator, calibrated on {len(calibration.runs)} runs"
    )
    choice = prediction.choose(scores, calibration)
    if choice:
        typer.echo(choice.in_words(rows))
    for sentence in notes:
        typer.echo(f"note: {sentence}")
