"""check: a gate for continuous integration, with rules about one checkpoint of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from premem_core.analysis import curves, gate, run_scores
from premem_core.analysis.curves import Curve
from premem_core.analysis.gate import Judgement, Rule
from premem_core.analysis.verdict.task_threshold import TaskThreshold
from premem_core.commands.analysis.junit import junit_report
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    SegmentOption,
    StoreOption,
    ThresholdOption,
    check_paths,
    existing_store,
    print_json,
    say,
    takes_options,
    task_of,
    threshold_of,
    write_text,
)
from premem_core.errors import UsageError
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """The options of `check`, in the order of its help."""

    run: Annotated[str, typer.Option(help="The run's name in the store.")]
    store: StoreOption = Path("store")
    min_premem: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Pre-memorization accuracy must be at least this."),
    ] = None
    max_memorized: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="The memorized share of the training examples must be at most this."
        ),
    ] = None
    min_test: Annotated[
        float | None, typer.Option(min=0, max=1, help="Test accuracy must be at least this.")
    ] = None
    no_drop: Annotated[
        bool,
        typer.Option(
            "--no-drop",
            help="Pre-memorization accuracy must not be surely below that of the best earlier "
            "checkpoint, on the same examples.",
        ),
    ] = False
    step: Annotated[
        int | None, typer.Option(help="The checkpoint's step; default: the run's last checkpoint.")
    ] = None
    strict: Annotated[
        bool, typer.Option("--strict", help="A rule that is undecided fails too.")
    ] = False
    junit: Annotated[
        Path | None, typer.Option(help="Also write the verdicts to this file, as JUnit XML.")
    ] = None
    log_log_threshold: ThresholdOption = None
    estimator: EstimatorOption = None
    segment: SegmentOption = "target"
    as_json: JsonOption = False

    def rules(self) -> list[Rule]:
        """The rules that are given.

        Raises:
            UsageError: there is none.
        """
        bounds = {
            gate.MIN_PREMEM: self.min_premem,
            gate.MAX_MEMORIZED: self.max_memorized,
            gate.MIN_TEST: self.min_test,
        }
        rules = [Rule(name, bound) for name, bound in bounds.items() if bound is not None]
        rules += [Rule(gate.NO_DROP)] if self.no_drop else []
        if not rules:
            raise UsageError(
                "there is no rule to check; give at least one of --min-premem, --max-memorized, "
                "--min-test and --no-drop"
            )
        return rules

    def judged_step(self, checkpoints: pd.DataFrame) -> int:
        """The given step, or that of the run's last checkpoint.

        Args:
            checkpoints: `read_checkpoints`, indexed by step.

        Raises:
            UsageError: the run has no such checkpoint.
        """
        steps = checkpoints.index.tolist()
        if self.step in steps or (self.step is None and steps):
            return int(steps[-1] if self.step is None else self.step)
        wanted = "" if self.step is None else f" at step {self.step}"
        named = ", ".join(map(str, steps)) or "none yet"
        raise UsageError(f"the run '{self.run}' has no checkpoint{wanted}; it has: {named}")


@takes_options(CheckOptions)
def check(options: CheckOptions) -> None:
    """Check one checkpoint of a run against rules, and fail if one is broken.

    Rules are judged on 90 % intervals, not on points. A rule has passed if the whole interval is on
    the allowed side of the bound, and failed if all of it is on the other side. If the bound lies
    within the interval, the rule is undecided, which is printed and fails only with --strict. What
    cannot be computed, because something is not scored, is unknown, and fails.

    Exit codes: 0 no rule failed, 1 a rule failed or is unknown, 2 wrong usage.

    Example: python -m premem_core check --store store --run lr2e-5 --min-premem 0.45 --no-drop
    """
    home = existing_store(options.store)
    task = task_of(home, options.run)
    rules = options.rules()
    check_paths([], [options.junit])
    checkpoints = read_checkpoints(home, options.run).set_index("step")
    step = options.judged_step(checkpoints)
    why = _why_not_scored(checkpoints, step)
    line, threshold = (None, None) if why else _curve(home, task, options)
    if line:
        judged = gate.judge(line, step, rules)
    else:
        judged = gate.unknown(rules, why or "no training example of the run is scored; score some")
    if options.junit:
        report = junit_report(options.run, step, judged, options.strict)
        write_text(options.junit, report)
    holds = all(each.holds(options.strict) for each in judged)
    if options.as_json:
        print_json(_as_json(options, step, line, threshold, judged, holds))
    else:
        _print(options, step, line, threshold, judged)
    if not holds:
        raise typer.Exit(1)


def _why_not_scored(checkpoints: pd.DataFrame, step: int) -> str | None:
    """Why nothing is known of a checkpoint; None if it is scored."""
    if (state := checkpoints["state"][step]) == "scored":
        return None
    what = "is not scored yet"
    if state == "failed":
        what = f"could not be scored ({checkpoints['reason'][step]})"
    scored = checkpoints.index[checkpoints["state"] == "scored"]
    other = f", or check the last scored one with --step {scored[-1]}" if len(scored) else ""
    return f"the checkpoint at step {step} {what}; score it{other}"


def _curve(
    store: Store, task: str, options: CheckOptions
) -> tuple[Curve, TaskThreshold] | tuple[None, None]:
    runs = run_scores.read_task(store, task, options.segment)
    scores = run_scores.find_run(runs, options.run)
    if scores is None:
        return None, None
    if skipped := scores.waiting + scores.failed:
        say(f"note: PM is without the checkpoints of the run that are not scored ({skipped})")
    estimator = options.estimator or run_scores.default_estimator(runs)
    threshold = threshold_of(runs, task, options.log_log_threshold, estimator)
    return curves.curve(scores, threshold.log_log_threshold, estimator), threshold


def _as_json(
    options: CheckOptions,
    step: int,
    line: Curve | None,
    threshold: TaskThreshold | None,
    judged: list[Judgement],
    holds: bool,
) -> dict[str, object]:
    return {
        "run": options.run,
        "step": step,
        "log_log_threshold": line.log_log_threshold if line else None,
        "threshold_source": threshold.source if threshold else None,
        "estimator": line.estimator if line else None,
        "segment": options.segment,
        "passed": holds,
        "rules": [
            {
                "rule": each.rule.name,
                "bound": each.rule.bound,
                "verdict": each.verdict,
                "value": each.value,
                "low": each.low,
                "high": each.high,
                "sentence": each.sentence,
            }
            for each in judged
        ],
    }


def _print(
    options: CheckOptions,
    step: int,
    line: Curve | None,
    threshold: TaskThreshold | None,
    judged: list[Judgement],
) -> None:
    how = ""
    if line and threshold:
        segment = run_scores.segment_note(options.segment)
        how = f"; {threshold.in_words()}{segment}; {line.estimator} estimator"
    typer.echo(f"'{options.run}' at step {step}{how}")
    for each in judged:
        typer.echo(f"{each.verdict:10} {each.rule}: {each.sentence}")
