"""Robustness: accuracy on training questions under a perturbation, by PM (docs/method.md, 5).

Axes: N training examples of one checkpoint to which a perturbation applies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.perturbed.controls import (
    NO_CONTROLS,
    Controls,
    compare,
    controls_of,
    limem,
    train_forms,
)
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

BINS = 5  # PM is rounded to a multiple of 1/5, as in the paper
# Quantities that may separate robust answers from brittle ones: higher should mean more robust.
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
        examples: premem, train_accuracy, perplexity, confidence (NaN without completions) and
            perturbed_accuracy, indexed by the store's example number. It has only the examples
            to which the perturbation applies and whose samples were all drawn.
        left_out: number of examples to which the perturbation does not apply.
        not_asked: number of examples to which it applies, but of which no perturbed sample was
            drawn (yet).
        unknown: number of examples with perturbed samples for which a sampling plan left out
            samples that PM or train accuracy needs. If it is not 0, `examples` is not a random
            part of all examples.
        controls: what to compare the drop with.
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
    controls: Controls = NO_CONTROLS

    @cached_property
    def by_premem(self) -> pd.DataFrame:
        """Mean accuracies of the examples in each PM bin, one row per bin.

        Columns: premem (the bin, to the nearest fifth), examples, original and perturbed (mean
        accuracies), original_half and perturbed_half (half-widths of their 90 % intervals over
        questions).
        """
        rows = []
        nearest_fifth = np.rint(self.examples["premem"].to_numpy() * BINS) / BINS
        for value, group in self.examples.groupby(nearest_fifth):
            original, original_half = intervals.mean_interval(group["train_accuracy"].to_numpy())
            perturbed, half = intervals.mean_interval(group["perturbed_accuracy"].to_numpy())
            rows.append(
                {
                    "premem": float(value),
                    "examples": len(group),
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
        """Whether each example that is right without the perturbation is wrong under it.

        An example is right if more than half of its samples are correct. The index holds only
        examples that are right without the perturbation.
        """
        right = self.examples[self.examples["train_accuracy"] > 0.5]
        return right["perturbed_accuracy"] <= 0.5

    @cached_property
    def auroc(self) -> pd.DataFrame:
        """How well each of SIGNALS separates robust examples from brittle ones.

        Columns: signal, auroc, and low and high, the ends of its 90 % interval.
        """
        brittle = self.brittle
        rows = []
        for signal in SIGNALS:
            values = self.examples.loc[brittle.index, signal].to_numpy(float)
            has_value = ~np.isnan(values)
            area, half = auroc(values[has_value], ~brittle.to_numpy()[has_value])
            low, high = np.clip([area - half, area + half], 0, 1)
            rows.append({"signal": signal, "auroc": area, "low": float(low), "high": float(high)})
        return pd.DataFrame(rows)


def perturbed_steps(store: Store, run: str) -> dict[str, list[int]]:
    """The steps of the scored checkpoints with perturbed samples, by name of the perturbation.

    The first of several checkpoints does not count alone: while a job runs, it has controls only.
    """
    return _perturbed_steps(read_counts(store, run), read_checkpoints(store, run))


def _perturbed_steps(counts: pd.DataFrame, states: pd.DataFrame) -> dict[str, list[int]]:
    """`perturbed_steps` of `read_counts` and `read_checkpoints`."""
    perturbed = counts[
        (counts["perturbation"] != "")
        & (counts["split"] == "train")
        & (counts["samples"] > 0)
        & counts["step"].isin(_scored(states))
    ]
    steps_of = {
        str(name): sorted(rows["step"].unique().tolist())
        for name, rows in perturbed.groupby("perturbation", sort=False)
    }
    control_only = [int(states["step"].min())] if len(states) > 1 else None
    return {name: steps for name, steps in steps_of.items() if steps != control_only}


def _scored(states: pd.DataFrame) -> list[int]:
    """The steps of the scored checkpoints."""
    steps: list[int] = states.loc[states["state"] == "scored", "step"].tolist()
    return steps


@dataclass(frozen=True, slots=True)
class Answers:
    """A checkpoint's answers to its training questions, with and without a perturbation.

    Attributes:
        perturbed: accuracy under the perturbation, by example number; only examples with perturbed
            samples.
        confidence: share of the samples that agree, without the perturbation, by example number;
            empty without completions.
        applies: the examples that the perturbation changes; empty if the store has no texts.
        controls: what to compare the answers with.
    """

    perturbation: str
    step: int
    perturbed: pd.Series
    confidence: pd.Series
    applies: pd.Series
    controls: Controls


def read_answers(store: Store, run: str, step: int, perturbation: str) -> Answers:
    """Read a checkpoint's answers with and without a perturbation.

    Raises:
        UsageError: the checkpoint has no samples under the perturbation.
    """
    counts, states = read_counts(store, run), read_checkpoints(store, run)
    steps_of = _perturbed_steps(counts, states)
    if step not in steps_of.get(perturbation, ()):
        listed = "; ".join(
            f"{name} at {', '.join(map(str, steps))}" for name, steps in steps_of.items()
        )
        raise UsageError(
            f"run '{run}' has no samples under the perturbation '{perturbation}' at checkpoint "
            f"{step}; it has samples under: {listed or 'none (score it with --perturb)'}"
        )
    rows = counts[
        (counts["step"] == step)
        & (counts["split"] == "train")
        & (counts["perturbation"] == perturbation)
        & (counts["samples"] > 0)
    ].set_index("example")
    task = str(read_runs(store).set_index("run")["task"][run])
    return Answers(
        perturbation=perturbation,
        step=step,
        perturbed=rows["correct"] / rows["samples"],
        confidence=read_agreement(store, run, "train", step).set_index("example")["agreement"],
        applies=read_perturbed_examples(store, task, perturbation)["example"],
        controls=controls_of(counts, _scored(states), step, perturbation),
    )


def measure_robustness(
    scores: RunScores,
    answers: Answers,
    log_log_threshold: float,
    estimator: Estimator = "plain",
) -> Robustness:
    """Compare a checkpoint's training accuracy with and without a perturbation.

    Args:
        answers: `read_answers` of the run.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
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
    with_samples = int(table["perturbed_accuracy"].notna().sum())
    complete = table.dropna(subset=["premem", "train_accuracy", "perturbed_accuracy"])
    changed = answers.applies
    applies = int(table.index.isin(changed).sum()) if len(changed) else len(table)
    return Robustness(
        run=scores.run,
        step=answers.step,
        perturbation=answers.perturbation,
        log_log_threshold=log_log_threshold,
        estimator=estimator,
        examples=complete,
        left_out=len(table) - applies,
        not_asked=applies - with_samples,
        unknown=with_samples - len(complete),
        controls=answers.controls,
    )


def caveats(measured: Sequence[Robustness]) -> list[str]:
    """Sentences that say which questions these numbers leave out; empty where there are none."""
    sentences = []
    for result in measured:
        if result.unknown:
            sentences.append(
                f"{result.perturbation}: {result.unknown:,} questions are not counted, because the "
                "sampling plan left out samples of their unperturbed form. The questions that are "
                "counted are not a random part of all."
            )
        if result.not_asked:
            sentences.append(
                f"{result.perturbation}: {result.not_asked:,} questions have no perturbed samples "
                "(yet)."
            )
    return sentences


def bins(measured: Sequence[Robustness]) -> pd.DataFrame:
    """The rows of `Robustness.by_premem` together, with the columns perturbation and step."""
    return pd.concat(
        [
            result.by_premem.assign(perturbation=result.perturbation, step=result.step)
            for result in measured
        ],
        ignore_index=True,
    )


def sort_by_drop(examples: pd.DataFrame) -> pd.DataFrame:
    """The rows of `Robustness.examples` by the accuracy that the perturbation costs, most first.

    Returns:
        The same columns, and lost: train_accuracy − perturbed_accuracy. Among rows that lose the
        same, the one with the highest PM comes first.
    """
    lost = examples["train_accuracy"] - examples["perturbed_accuracy"]
    return examples.assign(lost=lost).sort_values(
        ["lost", "premem"], ascending=[False, False], kind="stable"
    )


def summary(measured: Sequence[Robustness]) -> pd.DataFrame:
    """One row per perturbation and checkpoint.

    Columns: perturbation, step, examples, left_out, not_asked, unknown, original and perturbed
    (mean accuracies), those of `controls.compare`, limem and limem_half (`controls.limem`), and
    auroc_<signal> for each of SIGNALS.
    """
    rows = []
    for result in measured:
        areas = result.auroc.set_index("signal")["auroc"]
        memorized, half = limem(train_forms(result.examples))
        rows.append(
            {
                "perturbation": result.perturbation,
                "step": result.step,
                "examples": len(result.examples),
                "left_out": result.left_out,
                "not_asked": result.not_asked,
                "unknown": result.unknown,
                "original": float(result.examples["train_accuracy"].mean()),
                "perturbed": float(result.examples["perturbed_accuracy"].mean()),
                **compare(result.examples, result.controls),
                "limem": memorized,
                "limem_half": half,
                **{f"auroc_{signal}": float(areas[signal]) for signal in SIGNALS},
            }
        )
    return pd.DataFrame(rows)
