"""Wording: how numbers and texts are written on pages."""

import re

import numpy as np
import pandas as pd

from premem_core.metrics.r2 import identity_r2

WHAT_IT_IS = (
    "Pre-memorization accuracy (PM) is how often the model was right on its training questions "
    "*before* it began to copy their solutions; it estimates accuracy on new problems without a "
    "test set."
)


def plain(text: object) -> str:
    """A text inside Markdown that means nothing but itself."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$<>:&])", r"\\\1", str(text).replace("\n", " "))


def count(n: int, noun: str) -> str:
    """'1 run', '13 runs'."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def percent(value: float, half: float | None = None) -> str:
    """'41.2 %' or '41.2 ± 1.6 %'; '–' for what is undefined."""
    if np.isnan(value):
        return "–"
    interval = "" if half is None or np.isnan(half) else f" ± {half * 100:.1f}"
    return f"{value * 100:.1f}{interval} %"


def perplexity(t: float) -> str:
    """The perplexity that t = log log PPL stands for."""
    return f"{np.exp(np.exp(t)):.4f}"


def signed(value: float, digits: int = 3) -> str:
    """A number with a real minus sign; '–' for what is undefined."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def interval(ends: tuple[float, float] | None) -> str:
    """'90 %: 0.882 to 0.959', or why there is none."""
    if ends is None:
        return "no interval: few runs, or samples missing"
    return f"90 %: {signed(ends[0])} to {signed(ends[1])}"


def fit_in_words(points: pd.DataFrame, estimator: str, interval_of_r2: str = "") -> str:
    """How well PM gives the test accuracy over these checkpoints, or why that cannot be said.

    Args:
        points: `curves.weighted_points`.
        estimator: of PM.
        interval_of_r2: of identity R², where there is one.
    """
    known = points.dropna(subset=["premem"])
    runs = known["run"].nunique()
    where = f"{count(len(known), 'checkpoint')} of {count(runs, 'run')}"
    if runs < 2:
        return (
            f"With {where} there is too little to say how well pre-memorization accuracy predicts "
            "test accuracy: the threshold is fitted to the same checkpoints, so R² over them would "
            "be no test."
        )
    premem, train, test, weights = (
        known[name].to_numpy() for name in ("premem", "train_accuracy", "test_accuracy", "weight")
    )
    in_brackets = f"{interval_of_r2}; {estimator}" if interval_of_r2 else estimator
    among = int((~np.isnan(train)).sum())
    among_them = "" if among == len(train) else f", known at {among} of them"
    return (
        f"Over {where}, pre-memorization accuracy equals test accuracy with identity R² "
        f"**{signed(identity_r2(premem, test, weights))}** ({in_brackets} estimator); plain train "
        f"accuracy{among_them}: {signed(identity_r2(train, test, weights))}."
    )
