"""The verdict on one run: the checkpoint to ship, what to expect of it, and whether to train on."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.base_model import BaseModel, read_base_model
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies import prediction
from premem_core.analysis.studies.prediction import Choice
from premem_core.analysis.verdict.cautions import EVERYTHING, run_cautions
from premem_core.analysis.verdict.expectation import (
    WITHHELD,
    Kind,
    expect,
    first_memorized,
    interval_kind,
)
from premem_core.analysis.verdict.labels import Decision, decide, join_labels
from premem_core.analysis.verdict.threshold import Threshold, choose_threshold, source_in_words
from premem_core.errors import DataError
from premem_core.files import json_text
from premem_core.metrics import intervals, pre_memorization, threshold_rules
from premem_core.store.database import Store
from premem_core.store.scores import read_lengths

BEGUN = 0.05  # memorized share from which memorizing has begun
WORTH = 0.01  # a gain below a point is not worth another epoch
# Standard deviation of the error of a difference of two checkpoints of a published run.
TYPICAL_DIFFERENCE = 0.022
PUBLISHED_RUNS = 13


@dataclass(frozen=True)
class Verdict:
    """What is known of one run.

    Attributes:
        threshold: with its source.
        checkpoints: `expect`, and the columns of `join_labels` and, once they are joined, of
            `read_measures`.
        interval: what the intervals of `checkpoints` are called; None where there are none.
        ship: the checkpoint to ship, by labels and prediction where test questions are labelled;
            None where nothing can be predicted.
        decision: what the labels say about it and the second best; None without labels.
        memorizes_from: the first step at which at least BEGUN of the examples are memorized; None
            if there is none.
        false_alarms: the share of unseen solutions that count as memorized, over all checkpoints;
            NaN where none is measured.
        gain, gain_half: how PM changed over the last epoch, or since the checkpoint before where
            the epochs are not known, and the half-width of its 90 % interval; NaN where unknown.
        gain_from: the step that the gain is counted from; None with one checkpoint.
        never_right: the share of examples that no sample answered right before they were memorized.
        cautions: sentences about what makes these numbers doubtful.
    """

    run: str
    threshold: Threshold
    checkpoints: pd.DataFrame
    interval: Kind | None
    ship: Choice | None
    decision: Decision | None
    memorizes_from: int | None
    false_alarms: float
    gain: float
    gain_half: float
    gain_from: int | None
    never_right: float
    cautions: tuple[str, ...]

    def with_measures(self, measures: pd.DataFrame) -> "Verdict":
        """The verdict with the columns of `read_measures` in `checkpoints`."""
        return replace(self, checkpoints=self.checkpoints.merge(measures, "left", on="step"))

    def as_json(self) -> dict[str, Any]:
        """The verdict as plain values."""
        calibration = self.threshold.calibration
        return {
            "run": self.run,
            "log_log_threshold": self.threshold.log_log_threshold,
            "threshold_source": self.threshold.source,
            "threshold_reason": self.threshold.why,
            "false_alarms": self.false_alarms,
            "estimator": self.threshold.estimator,
            "interval": self.interval,
            "calibration_runs": list(calibration.runs) if calibration else [],
            "checkpoints": self.checkpoints.drop(columns="run").to_dict("records"),
            "ship": asdict(self.ship) if self.ship else None,
            "labels": asdict(self.decision) if self.decision else None,
            "memorizes_from": self.memorizes_from,
            "gain": self.gain,
            "gain_half": self.gain_half,
            "gain_from": self.gain_from,
            "never_right": self.never_right,
            "sentences": [sentence for sentence in self.in_words() if sentence],
            "caveats": list(self.cautions),
            "warnings": list(self.cautions),
        }

    def to_json(self) -> str:
        """`as_json` as a text."""
        return json_text(self.as_json())

    def in_words(self) -> list[str]:
        """The verdict in sentences, without the cautions."""
        t = self.threshold
        source = (
            f"Memorized is a solution with a perplexity below "
            f"{np.exp(np.exp(t.log_log_threshold)):.4f} (t, its log log, is "
            f"{t.log_log_threshold:.3f}; {source_in_words(t.source)}). {t.why}"
        )
        if not np.isnan(self.false_alarms):
            source += (
                f" As a check, {self.false_alarms:.1%} of the run's own unseen solutions lie below "
                "it: false alarms."
            )
        return [
            self._ship_in_words(),
            self._labels_in_words(),
            self._memorizing_in_words(),
            self._training_in_words(),
            source,
        ]

    def expectation_in_words(self, step: int) -> str | None:
        """The accuracy to expect of a checkpoint, such as '41.2 % (typically 35.0 to 47.4 %)'.

        Where test questions are labelled, it is the joined one.
        """
        row = self._at(step)
        if np.isnan(row["joined"]):
            return self._predicted_in_words(row)
        low, high = 100 * row["joined_low"], 100 * row["joined_high"]
        labels = f"with {row['labels']:,} labelled test questions"
        return f"{100 * row['joined']:.1f} % ({self._called} {low:.1f} to {high:.1f} %, {labels})"

    @property
    def _called(self) -> str:
        return "typically" if self.interval == "typical" else "90 % interval"

    def _at(self, step: int) -> dict[Hashable, Any]:
        [row] = self.checkpoints[self.checkpoints["step"] == step].to_dict("records")
        return row

    def _predicted_in_words(self, row: Mapping[Hashable, Any]) -> str | None:
        predicted, low, high = (100 * row[name] for name in ("predicted", "low", "high"))
        if np.isnan(predicted):
            return None
        if self.interval is None or np.isnan(low):
            return f"{predicted:.1f} % (how far that is off is not known)"
        return f"{predicted:.1f} % ({self._called} {low:.1f} to {high:.1f} %)"

    def _ship_in_words(self) -> str:
        if self.ship is None:
            return "Which checkpoint to ship, and what to expect of it, cannot be said."
        expected = self.expectation_in_words(self.ship.step)
        first = f"Ship step {self.ship.step}: expect {expected} on new problems."
        return f"{first} {self.ship.lead_in_words()}".rstrip()

    def _labels_in_words(self) -> str:
        """What the labels and the prediction say, each alone; "" without labels."""
        if self.ship is None or np.isnan((row := self._at(self.ship.step))["joined"]):
            return ""
        of_unseen = (
            f" and the perplexities of {row['unseen_used']:,} unseen solutions"
            if row["unseen_used"]
            else ""
        )
        said = (
            f"By its {row['labels']:,} labelled test questions{of_unseen} alone, step "
            f"{self.ship.step} has {100 * row['labelled']:.1f} ± {100 * row['labelled_half']:.1f} "
            f"%; predicted without them is {self._predicted_in_words(row) or 'nothing'}"
        )
        if row["disagree"]:
            said += ". The two disagree by more than their errors allow, so the labels count alone"
        return f"{said}. {self.decision.in_words() if self.decision else ''}".rstrip()

    def _test_change(self) -> str:
        """How the accuracy by the labels changed from `gain_from` to the end; "" without labels."""
        if self.gain_from is None:
            return ""
        labelled = self.checkpoints.set_index("step")["labelled"]
        change = 100 * (labelled.iloc[-1] - labelled[self.gain_from])
        return "" if np.isnan(change) else f": the labelled ones say {change:+.1f} points"

    def _memorizing_in_words(self) -> str:
        shares = self.checkpoints.set_index("step")["memorized_share"]
        at_end = f"{shares.iloc[-1]:.0%} of the training examples are memorized"
        if self.memorizes_from is None:
            return f"At the end, {at_end}: memorizing has hardly begun."
        before = shares[shares.index < self.memorizes_from]
        until = f"step {self.memorizes_from} ({shares[self.memorizes_from]:.0%} memorized)"
        if before.empty:
            return f"Memorizing began before the first checkpoint, {until}; at the end, {at_end}."
        return (
            f"Memorizing began between step {before.index[-1]} ({before.iloc[-1]:.0%}) and "
            f"{until}; at the end, {at_end}."
        )

    def _training_in_words(self) -> str:
        if self.gain_from is None or np.isnan(self.gain):
            return ""
        low, high = 100 * (self.gain - self.gain_half), 100 * (self.gain + self.gain_half)
        change = (
            f"From step {self.gain_from} to the end, pre-memorization accuracy changed by "
            f"{100 * self.gain:+.1f} points (90 % interval over the same questions {low:+.1f} to "
            f"{high:+.1f})"
        )
        never = (
            f"{self.never_right:.0%} of the training questions were never answered right without "
            "having been memorized"
        )
        if self.checkpoints["memorized_share"].iloc[-1] >= EVERYTHING:
            return (
                f"{change}, but nearly everything is memorized, so only test questions can tell "
                f"whether training on helps{self._test_change()}. {never}; other data may help "
                "with these."
            )
        if self.gain > max(self.gain_half, WORTH):
            return f"{change}: training on may still help. {never}."
        if self.gain < -self.gain_half:
            return f"{change}: it trained too long."
        return (
            f"{change}: another epoch would hardly help. {never}; other data may help with these."
        )


def make_verdict(
    task: str,
    run: RunScores,
    threshold: Threshold,
    base: BaseModel | None = None,
    trace_tokens: float = 0.0,
) -> Verdict:
    """The verdict on a run at a threshold (`choose_threshold`).

    Args:
        base, trace_tokens: as for `run_cautions`.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    t = threshold.log_log_threshold
    rows = expect(run, threshold)
    rows = pd.concat([rows, join_labels(run, threshold, rows)], axis=1)
    ship, decision = _ship(run, threshold, rows)
    begun = rows.loc[rows["memorized_share"] >= BEGUN, "step"]
    gain, gain_half, gain_from = _gain(run, threshold)
    unseen = (
        threshold_rules.false_alarms(run.unseen_nll, t) if run.unseen_nll.size else np.array([])
    )
    return Verdict(
        run=run.run,
        threshold=threshold,
        checkpoints=rows,
        interval=interval_kind(threshold),
        ship=ship,
        decision=decision,
        memorizes_from=int(begun.iloc[0]) if len(begun) else None,
        false_alarms=float(np.nanmean(unseen)) if len(unseen) else float("nan"),
        gain=gain,
        gain_half=gain_half,
        gain_from=gain_from,
        never_right=_never_right(run, t),
        cautions=tuple(run_cautions(task, run, threshold, base, trace_tokens)),
    )


def read_verdict(store: Store, task: str, run: RunScores, threshold: Threshold) -> Verdict:
    """`make_verdict`, with what the store has of the run's base model and traces."""
    base = read_base_model(store, run.run, run.segment)
    lengths = read_lengths(store, task)
    of_run = lengths[(lengths["run"] == run.run) & (lengths["split"] == "train")]
    return make_verdict(task, run, threshold, base, float(of_run["trace_tokens"].max()))


def read_verdicts(store: Store, task: str, runs: Sequence[RunScores]) -> list[Verdict]:
    """The verdicts on these runs by the best evidence; those for which there is none are left out.

    Args:
        runs: all scored runs of the task.
    """
    verdicts = []
    for run in runs:
        try:
            verdicts.append(read_verdict(store, task, run, choose_threshold(task, run, runs)))
        except DataError:
            continue
    return verdicts


def _ship(
    run: RunScores, threshold: Threshold, rows: pd.DataFrame
) -> tuple[Choice | None, Decision | None]:
    """The checkpoint to ship: by labels and prediction where there are labels."""
    spread, freedom = difference_error(threshold)
    t = threshold.log_log_threshold
    joined = rows.set_index("step")["joined"].dropna().sort_values(ascending=False, kind="stable")
    if joined.empty:
        if first_memorized(run, t) > WITHHELD:
            return None, None
        return prediction.choose_at(run, t, threshold.estimator, spread, freedom), None
    if len(joined) == 1:
        return Choice(int(joined.index[0]), float(joined.iloc[0]), None, None, None), None
    best = int(joined.index[0]), int(joined.index[1])
    if rows["predicted"].isna().any() or rows["disagree"].any():
        spread = None  # where predictions are withheld or wrong, so are their differences
    decision = decide(run, threshold, best, spread)
    step, other = (decision.step, decision.next_step) if decision else best
    confidence = decision.confidence if decision else None
    return Choice(step, float(joined[step]), other, float(joined[other]), confidence), decision


def difference_error(threshold: Threshold) -> tuple[float | None, int]:
    """The error of predicted differences between checkpoints, and its degrees of freedom.

    None where it is not known.
    """
    calibration = threshold.calibration
    if threshold.source == "given":
        return None, 0
    if calibration is None:
        return TYPICAL_DIFFERENCE, PUBLISHED_RUNS - 1
    return calibration.difference_sd, len(calibration.runs) - 1


def _gain(run: RunScores, threshold: Threshold) -> tuple[float, float, int | None]:
    """`Verdict.gain`, `gain_half` and `gain_from`."""
    last = len(run.steps) - 1
    if last == 0:
        return np.nan, np.nan, None
    before = np.flatnonzero(run.epoch[:last] <= run.epoch[last] - 1)
    other = int(before[-1]) if before.size else last - 1
    gain, error = curves.premem_change(
        run, threshold.log_log_threshold, threshold.estimator, last, other
    )
    return gain, intervals.Z90 * error, int(run.steps[other])


def _never_right(run: RunScores, log_log_threshold: float) -> float:
    """The share of the sampled examples without a right sample at any unmasked checkpoint."""
    unmasked = ~pre_memorization.memorized(run.nll, log_log_threshold)
    right = np.asarray(((run.counts.correct > 0) & unmasked).any(axis=0))
    drawn = run.counts.drawn
    return float((~right[drawn]).mean()) if drawn.any() else float("nan")
