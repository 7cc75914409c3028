"""Wording: how pages write numbers and texts."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from premem_core.analysis.curves import no_r2_in_words, points_r2

WHAT_IT_IS = (
    "Pre-memorization accuracy (PM) is how often the model was right on its training questions "
    "*before* it began to copy their solutions; it estimates accuracy on new problems without a "
    "test set."
)

PERTURB_CONTROLS = (
    "Controls: also perturb test problems, and training queries at the first checkpoint"
)
SCORE_CONTROLS = {
    "--answer": "Final answer",
    "--base": "Folder of the base model",
    "--chat": "Chat template",
    "--chat-template": "Another chat template",
    "--grader": "Grader",
    "--log-log-threshold": "Memorized below t = log log PPL",
    "--max-length": "Cut texts after tokens",
    "--plain": "Plain text",
    "--question": "Question",
    "--run": "Name of the run",
    "--score-base": "Also score the base model",
    "--skip-bad": "Leave bad rows out",
    "--solution": "Solution",
    "--system": "System prompt",
    "--template-argument": "Arguments of the chat template",
    "--thinking": "Marks of thinking traces",
}
"""Option of `premem score` → the (beginning of the) label of its control on the Score page."""


def plain(text: object) -> str:
    """The text with its Markdown characters escaped, so that it is shown as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$<>:&])", r"\\\1", str(text).replace("\n", " "))


def error_in_words(error: object, controls: Mapping[str, str] | None = None) -> str:
    """What an error says, as it is: it may repeat a text of a file, of an address or of a person.

    Shown as Markdown, such a text would format the message, or fetch a picture from a host that it
    names.

    Args:
        controls: option of the command line → the label of the page's control that stands for it.
            An option that is given a value is a part of a command, and stays.
    """

    def label(option: re.Match[str]) -> str:
        name = (controls or {}).get(option[0])
        return option[0] if name is None else f"“{name}”"

    return plain(re.sub(r"--[a-z-]+(?=[),;:.]|$| or )", label, str(error)))


def count(n: int, noun: str) -> str:
    """'1 run', '13 runs'."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def percent(value: float, half: float | None = None) -> str:
    """'41.2 %' or '41.2 ± 1.6 %'; '–' for an undefined value."""
    if np.isnan(value):
        return "–"
    interval = "" if half is None or np.isnan(half) else f" ± {half * 100:.1f}"
    return f"{value * 100:.1f}{interval} %"


def points(value: float, half: float) -> str:
    """'4.2 ± 1.6', in points of accuracy; '–' for an undefined value."""
    if np.isnan(value):
        return "–"
    return signed(100 * value, 1) + ("" if np.isnan(half) else f" ± {100 * half:.1f}")


def nats(value: float) -> str:
    """'0.183'; '–' for an undefined value."""
    return "–" if np.isnan(value) else f"{value:.3f}"


def whole(value: float) -> str:
    """'1,024'; '–' for an undefined value."""
    return "–" if np.isnan(value) else f"{value:,.0f}"


def perplexity(t: float) -> str:
    """The perplexity that t = log log PPL stands for."""
    return f"{np.exp(np.exp(t)):.4f}"


def signed(value: float, digits: int = 3) -> str:
    """A number with a real minus sign; '–' for an undefined value."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def interval(ends: tuple[float, float] | None) -> str:
    """'90 % interval 0.882 to 0.959', or why there is none."""
    if ends is None:
        return "no interval: too few runs, or missing samples"
    return f"90 % interval {signed(ends[0])} to {signed(ends[1])}"


def fit_in_words(points: pd.DataFrame, estimator: str, interval_of_r2: str = "") -> str:
    """How well PM predicts test accuracy over these checkpoints, or why that is not known.

    Args:
        points: `curves.weighted_points`.
        estimator: the estimator of PM.
        interval_of_r2: the interval of identity R² in words; "" where there is none.
    """
    checkpoints = points.dropna(subset=["premem"])
    if why_not := no_r2_in_words(checkpoints):
        return why_not
    runs = checkpoints["run"].nunique()
    where = f"{count(len(checkpoints), 'checkpoint')} of {count(runs, 'run')}"
    premem, train = (points_r2(checkpoints, name) for name in ("premem", "train_accuracy"))
    in_brackets = f"{interval_of_r2}; {estimator}" if interval_of_r2 else estimator
    n_train = int(checkpoints["train_accuracy"].notna().sum())
    where_known = "" if n_train == len(checkpoints) else f" (known at {n_train} of them)"
    return (
        f"Over {where}, pre-memorization accuracy predicts test accuracy with identity R² "
        f"**{signed(premem.identity)}** ({in_brackets} estimator). Train "
        f"accuracy{where_known} has identity R² {signed(train.identity)}."
    )
