"""How answers hold when the training query is perturbed, by PM (docs/method.md, section 5).

Axes: N training examples of one checkpoint to which a perturbation applies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.run_scores import RunScores
from premem_core.errors import UsageError
from premem_core.metrics import intervals
from premem_core.metrics.auroc import auroc
from premem_core.metrics.estimators import Estimator
from premem_core.store.completions import read_agreement
from premem_core.store.database import Store
from premem_core.store.examples import read_perturbed_examples
from premem_core.store.runs import read_checkpoints, read_runs
from premem_core.store.scores import read_counts

BINS = 5  # of pre-memorization accuracy: 0, .2, .4, .6, .8, 1, as the paper has them
# What might tell a robust answer from a brittle one, the more so the higher it is.
SIGNALS = {
    "premem": "pre-memorization accuracy",
    "train_accuracy": "train accuracy",
    "perplexity": "perplexity of the solution",
    "confidence": "share of samples that agree",
}


@dataclass(frozen=True)
class Robustness:
    """One checkpoint's training examples under one perturbation.

    Attributes:
        examples: indexed by the store's example number: premem, train_accuracy, perplexity,
            confidence (NaN without completions), perturbed_accuracy. Only those to which the
            perturbation applies and whose samples were all drawn.
        left_out: how many examples it does not apply to.
        not_asked: how many it applies to that were not asked (yet).
        unknown: how many were asked, but a sampling plan left out samples that PM or train
            accuracy needs; those in `examples` are then no random part of all.
    """

    run: str
    step: int
    perturbation: str
    log_log_threshold: float
    estimator: Estimator
    examples: pd.DataFrame
    left_out: int
    not_asked: int
    unknown: int

    @cached_property
    def by_premem(self) -> pd.DataFrame:
        """premem (the bin, to the nearest fifth), examples, and the mean accuracies with the half-

        width of their 90 % intervals over questions: original, original_half, perturbed,
        perturbed_half.
        """
        rows = []
        bins = np.rint(self.examples["premem"].to_numpy() * BINS) / BINS
        for value, own in self.examples.groupby(bins):
            original, original_half = intervals.mean_interval(own["train_accuracy"].to_numpy())
            perturbed, half = intervals.mean_interval(own["perturbed_accuracy"].to_numpy())
            rows.append(
                {
                    "premem": float(value),
                    "examples": len(own),
                    "original": float(original),
                    "original_half": float(original_half),
                    "perturbed": float(perturbed),
                    "perturbed_half": float(half),
                }
            )
        columns = ["premem", "examples", "original", "original_half", "perturbed", "perturbed_half"]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def brittle(self) -> pd.Series:
        """True where an answer that was right, in most samples, is not under the perturbation.

        Only examples that were right.
        """
        right = self.examples[self.examples["train_accuracy"] > 0.5]
        return right["perturbed_accuracy"] <= 0.5

    @cached_property
    def auroc(self) -> pd.DataFrame:
        """signal, auroc, low, high: how well each tells robust from brittle right answers."""
        brittle = self.brittle
        rows = []
        for signal in SIGNALS:
            values = self.examples.loc[brittle.index, signal].to_numpy(float)
            known = ~np.isnan(values)
            area, half = auroc(values[known], ~brittle.to_numpy()[known])
            low, high = np.clip([area - half, area + half], 0, 1)
            rows.append({"signal": signal, "auroc": area, "low": float(low), "high": float(high)})
        return pd.DataFrame(rows)


def perturbed_steps(store: Store, run: str) -> dict[str, list[int]]:
    """Which perturbations a run's training queries were asked under, and at which checkpoints."""
    counts, states = read_counts(store, run), read_checkpoints(store, run)
    scored = states.loc[states["state"] == "scored", "step"]
    asked = counts[(counts["perturbation"] != "") & (counts["samples"] > 0)]
    asked = asked[asked["step"].isin(scored)]
    return {
        str(name): sorted(rows["step"].unique().tolist())
        for name, rows in asked.groupby("perturbation", sort=False)
    }


@dataclass(frozen=True, slots=True)
class Answers:
    """What a checkpoint answered to its training questions, perturbed and as they are.

    Attributes:
        perturbed: example → accuracy under the perturbation, of those that were asked.
        confidence: example → share of the samples that agree, of the questions as they are; empty
            without completions.
        applies: the examples that the perturbation changes; empty where the store has no texts.
    """

    perturbation: str
    step: int
    perturbed: pd.Series
    confidence: pd.Series
    applies: pd.Series


def read_answers(store: Store, run: str, step: int, perturbation: str) -> Answers:
    """Read what a checkpoint answered under a perturbation.

    Raises:
        UsageError: it was not asked under it.
    """
    had = perturbed_steps(store, run)
    if step not in had.get(perturbation, ()):
        listed = "; ".join(f"{name} at {', '.join(map(str, steps))}" for name, steps in had.items())
        raise UsageError(
            f"run '{run}' was not asked under '{perturbation}' at checkpoint {step}; it was "
            f"under: {listed or 'no perturbation (score it with --perturb)'}"
        )
    counts = read_counts(store, run)
    asked = counts[
        (counts["step"] == step)
        & (counts["split"] == "train")
        & (counts["perturbation"] == perturbation)
        & (counts["samples"] > 0)
    ].set_index("example")
    task = str(read_runs(store).set_index("run")["task"][run])
    return Answers(
        perturbation=perturbation,
        step=step,
        perturbed=asked["correct"] / asked["samples"],
        confidence=read_agreement(store, run, "train", step).set_index("example")["agreement"],
        applies=read_perturbed_examples(store, task, perturbation)["example"],
    )


def measure_robustness(
    scores: RunScores,
    answers: Answers,
    log_log_threshold: float,
    estimator: Estimator = "plain",
) -> Robustness:
    """How the training examples of a checkpoint fare under a perturbation.

    Raises:
        DataError: the estimator is not defined for these counts.
    """
    row = int(np.flatnonzero(scores.steps == answers.step)[0])
    table = pd.DataFrame(
        {
            "premem": curves.premem(scores, log_log_threshold, estimator)[row],
            "train_accuracy": scores.accuracy[row],
            "perplexity": np.exp(scores.nll[row]),
            "confidence": answers.confidence.reindex(scores.examples).to_numpy(float),
        },
        index=pd.Index(scores.examples, name="example"),
    )
    table["perturbed_accuracy"] = answers.perturbed
    was_asked = table["perturbed_accuracy"].notna()
    known = table.dropna(subset=["premem", "train_accuracy", "perturbed_accuracy"])
    kept = answers.applies
    applies = int(table.index.isin(kept).sum()) if len(kept) else len(table)
    return Robustness(
        run=scores.run,
        step=answers.step,
        perturbation=answers.perturbation,
        log_log_threshold=log_log_threshold,
        estimator=estimator,
        examples=known,
        left_out=len(table) - applies,
        not_asked=applies - int(was_asked.sum()),
        unknown=int(was_asked.sum()) - len(known),
    )


def caveats(several: Sequence[Robustness]) -> list[str]:
    """Of whom these numbers do not speak, in sentences."""
    found = []
    for each in several:
        if each.unknown:
            found.append(
                f"{each.perturbation}: {each.unknown:,} questions are not counted, for the "
                "sampling plan left out samples of them as they are; the others are no random part."
            )
        if each.not_asked:
            found.append(f"{each.perturbation}: {each.not_asked:,} questions were not asked (yet).")
    return found


def bins(several: Sequence[Robustness]) -> pd.DataFrame:
    """`by_premem` of several: perturbation and step beside it."""
    return pd.concat(
        [each.by_premem.assign(perturbation=each.perturbation, step=each.step) for each in several],
        ignore_index=True,
    )


def summary(several: Sequence[Robustness]) -> pd.DataFrame:
    """One row per perturbation and checkpoint: perturbation, step, examples, left_out, original,

    perturbed (mean accuracies), drop and drop_half (of the paired difference), auroc of PM.
    """
    rows = []
    for each in several:
        drop, half = intervals.mean_interval(
            (each.examples["train_accuracy"] - each.examples["perturbed_accuracy"]).to_numpy()
        )
        areas = each.auroc.set_index("signal")["auroc"]
        rows.append(
            {
                "perturbation": each.perturbation,
                "step": each.step,
                "examples": len(each.examples),
                "left_out": each.left_out,
                "not_asked": each.not_asked,
                "unknown": each.unknown,
                "original": float(each.examples["train_accuracy"].mean()),
                "perturbed": float(each.examples["perturbed_accuracy"].mean()),
                "drop": float(drop),
                "drop_half": float(half),
                **{f"auroc_{signal}": float(areas[signal]) for signal in SIGNALS},
            }
        )
    return pd.DataFrame(rows)
