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


def train_r2(points: pd.DataFrame) -> str:
    """Identity R² of plain train accuracy, in the words that end a headline."""
    train = points["train_accuracy"].to_numpy()
    known = int((~np.isnan(train)).sum())
    among = "" if known == len(train) else f", known at {known} of them"
    r2 = identity_r2(train, points["test_accuracy"].to_numpy())
    return f"plain train accuracy{among}: {signed(r2)}"
