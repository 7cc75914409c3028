"""Controls: what a perturbation costs where no solution was copied (docs/method.md, section 14).

A perturbation may make a question harder for any model. Two controls tell: the drop in accuracy on
*test questions*, and the drop on the training questions at the *first checkpoint*. What a drop has
beyond a control is the difference in differences, drop − control.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.metrics import intervals

COLUMNS = ("original", "perturbed")


@dataclass(frozen=True, slots=True)
class Controls:
    """The answers that a drop in accuracy is compared with.

    Attributes:
        test: accuracy of each test question at the same checkpoint, with the columns original and
            perturbed, by example number; empty if no perturbed test question was asked.
        early: likewise of the training questions at `early_step`; empty if it is not sampled.
        early_step: the first checkpoint; None if that is the checkpoint itself.
    """

    test: pd.DataFrame
    early: pd.DataFrame
    early_step: int | None


NO_CONTROLS = Controls(
    pd.DataFrame(columns=list(COLUMNS), dtype=np.float64),
    pd.DataFrame(columns=list(COLUMNS), dtype=np.float64),
    None,
)


def controls_of(
    counts: pd.DataFrame, scored: Collection[int], step: int, perturbation: str
) -> Controls:
    """The controls of a perturbation at a checkpoint, as far as they are sampled.

    Args:
        counts: `read_counts` of the run.
        scored: the steps of its scored checkpoints.
    """
    first = min(scored)
    return Controls(
        both_forms(counts, "test", step, perturbation),
        both_forms(counts, "train", first, perturbation),
        first if first < step else None,
    )


def train_forms(examples: pd.DataFrame) -> pd.DataFrame:
    """The accuracies original and perturbed of training examples, as `both_forms`.

    Args:
        examples: `Robustness.examples`.
    """
    accuracies = examples[["train_accuracy", "perturbed_accuracy"]]
    return accuracies.set_axis(list(COLUMNS), axis=1)


def both_forms(counts: pd.DataFrame, split: str, step: int, perturbation: str) -> pd.DataFrame:
    """The accuracies original and perturbed of the examples that were asked in both forms.

    Args:
        counts: `read_counts` of a run.
    """
    rows = counts[
        (counts["split"] == split) & (counts["step"] == step) & (counts["samples"] > 0)
    ].set_index("example")
    accuracy = rows["correct"] / rows["samples"]
    both = pd.DataFrame(
        {
            "original": accuracy[rows["perturbation"] == ""],
            "perturbed": accuracy[rows["perturbation"] == perturbation],
        },
        columns=list(COLUMNS),
    )
    return both.dropna()


def compare(examples: pd.DataFrame, controls: Controls) -> dict[str, float]:
    """What is lost under a perturbation on training questions, beside its controls.

    Two measures: the drop in accuracy, in accuracy, and the share of right answers that are lost,
    drop ÷ accuracy. Where the accuracies without the perturbation differ, compare the shares: a
    drop cannot be larger than the accuracy. The half-widths are those of 90 % intervals that count
    questions, not samples: the samples of one question go together (clustered by question). The
    error of a share is that of the ratio of two means, linearised. Training and test questions are
    drawn apart from each other; at two checkpoints, the questions are the same.

    Args:
        examples: `Robustness.examples`.

    Returns:
        drop, test_questions, test_drop, early_drop; beyond_test = drop − test_drop and beyond_early
        = drop − early_drop, over the questions that both have; lost, test_lost, early_lost,
        beyond_test_lost and beyond_early_lost likewise; each with its `_half`. NaN where a control
        is not sampled.
    """
    train = train_forms(examples)
    early = controls.early if controls.early_step is not None else controls.early.iloc[:0]
    found: dict[str, float] = {"test_questions": len(controls.test)}
    for name, measure in (("drop", _drop), ("lost", _lost)):
        of_train, of_test, of_early = map(measure, (train, controls.test, early))
        beyond_test = (
            of_train.value - of_test.value,
            float(np.hypot(of_train.half, of_test.half)),
        )
        common = train.index.intersection(early.index)
        then, before = measure(train.loc[common]), measure(early.loc[common])
        paired = (then.questions - before.questions).to_numpy()
        beyond_early = then.value - before.value, _mean(paired)[1]
        end = "" if name == "drop" else "_lost"
        for key, (value, half) in {
            name: (of_train.value, of_train.half),
            f"test_{name}": (of_test.value, of_test.half),
            f"early_{name}": (of_early.value, of_early.half),
            f"beyond_test{end}": beyond_test,
            f"beyond_early{end}": beyond_early,
        }.items():
            found |= {key: value, f"{key}_half": half}
    return found


@dataclass(frozen=True, slots=True)
class _Measured:
    """A mean, half of its 90 % interval, and what each question adds to its error."""

    value: float
    half: float
    questions: "pd.Series[float]"


def _drop(both: pd.DataFrame) -> _Measured:
    each = both["original"] - both["perturbed"]
    return _Measured(*_mean(each.to_numpy()), each)


def _lost(both: pd.DataFrame) -> _Measured:
    each, accuracy = both["original"] - both["perturbed"], float(both["original"].mean())
    if not accuracy > 0:
        return _Measured(float("nan"), float("nan"), each * np.nan)
    share = float(each.mean()) / accuracy
    added = (each - share * both["original"]) / accuracy
    return _Measured(share, _mean(added.to_numpy())[1], added)


def limem(both: pd.DataFrame) -> tuple[float, float]:
    """Local inconsistency based memorization, and half of its 90 % interval over questions.

    LiMem = accuracy · (1 − consistency ratio), where the consistency ratio is the share of the
    solved questions that stay solved under the perturbation (arXiv 2410.23123). With several
    samples of a question it is the mean of p·(1 − q): a sample is right, and one of the perturbed
    question is wrong.

    Args:
        both: the accuracies original and perturbed of each example, as `both_forms`.
    """
    return _mean((both["original"] * (1 - both["perturbed"])).to_numpy())


def _mean(values: NDArray[Any]) -> tuple[float, float]:
    mean, half = intervals.mean_interval(np.asarray(values, dtype=np.float64))
    return float(mean), float(half)
