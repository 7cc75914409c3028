"""Controls: what a perturbation costs where no solution was copied (docs/method.md, section 14).

A perturbation may make a question harder for any model. Two controls tell: the drop in accuracy on
*test questions*, and the drop on the training questions at the *first checkpoint*. The part of a
drop that neither has is the difference in differences, drop − control.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from premem_core.metrics import intervals
from premem_core.store.database import Store
from premem_core.store.scores import read_counts

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


def read_controls(store: Store, run: str, step: int, perturbation: str) -> Controls:
    """The controls of a perturbation at a checkpoint, as far as they are sampled."""
    counts = read_counts(store, run)
    first = int(counts["step"].min())
    return Controls(
        both_forms(counts, "test", step, perturbation),
        both_forms(counts, "train", first, perturbation),
        first if first < step else None,
    )


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
    """A drop on training questions beside those of its controls.

    The half-widths are those of 90 % intervals that count questions, not samples: the samples of
    one question go together (clustered by question). Training and test questions are drawn apart
    from each other; at two checkpoints, the questions are the same.

    Args:
        examples: `Robustness.examples`.

    Returns:
        drop; test_questions and test_drop; early_drop; beyond_test = drop − test_drop; beyond_early
        = drop − early_drop, over the questions that both have; each drop and difference with its
        `_half`. NaN where a control is not sampled.
    """
    lost = examples["train_accuracy"] - examples["perturbed_accuracy"]
    drop, half = _mean(lost)
    test_drop, test_half = _mean(controls.test["original"] - controls.test["perturbed"])
    early_lost = controls.early["original"] - controls.early["perturbed"]
    if controls.early_step is None:
        early_lost = early_lost.iloc[:0]
    early_drop, early_half = _mean(early_lost)
    beyond_early, beyond_early_half = _mean((lost - early_lost).dropna())
    return {
        "drop": drop,
        "drop_half": half,
        "test_questions": len(controls.test),
        "test_drop": test_drop,
        "test_drop_half": test_half,
        "early_drop": early_drop,
        "early_drop_half": early_half,
        "beyond_test": drop - test_drop,
        "beyond_test_half": float(np.hypot(half, test_half)),
        "beyond_early": beyond_early,
        "beyond_early_half": beyond_early_half,
    }


def limem(both: pd.DataFrame) -> tuple[float, float]:
    """Local inconsistency based memorization, and half of its 90 % interval over questions.

    LiMem = accuracy · (1 − consistency ratio), where the consistency ratio is the share of the
    solved questions that stay solved under the perturbation (arXiv 2410.23123). With several
    samples of a question it is the mean of p·(1 − q): a sample is right, and one of the perturbed
    question is wrong.

    Args:
        both: the accuracies original and perturbed of each example, as `both_forms`.
    """
    return _mean(both["original"] * (1 - both["perturbed"]))


def _mean(values: "pd.Series[float]") -> tuple[float, float]:
    mean, half = intervals.mean_interval(np.asarray(values, dtype=np.float64))
    return float(mean), float(half)
