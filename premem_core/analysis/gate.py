"""The gate: whether one checkpoint of a run keeps given rules, such as a least PM.

A rule compares its bound with a 90 % interval, not with a point. Its *verdict* is

    passed     the whole interval lies on the allowed side of the bound.
    failed     the whole interval lies on the other side.
    undecided  the bound lies within the interval: more data would decide.
    unknown    the value cannot be computed, because something is not scored.

The rule against a drop asks for the absence of a certain drop, so it is never undecided.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from premem_core.analysis import curves
from premem_core.analysis.curves import Curve
from premem_core.metrics import pre_memorization

Verdict = Literal["passed", "failed", "undecided", "unknown"]
MIN_PREMEM, MAX_MEMORIZED, MIN_TEST, NO_DROP = "min-premem", "max-memorized", "min-test", "no-drop"
PREMEM, TEST = "pre-memorization accuracy", "test accuracy"
ROUNDING = 1e-9  # a mean of fractions may miss its bound by this much


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a gate; `bound` is NaN for `no-drop`, which has none."""

    name: str
    bound: float = math.nan

    def __str__(self) -> str:
        return self.name if math.isnan(self.bound) else f"{self.name} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule says about a checkpoint.

    Attributes:
        sentence: the value with its interval, how it lies to the bound, and what would decide.
        value: for `no-drop`, the difference to the best earlier checkpoint.
        low, high: the ends of the 90 % interval; as `value`, NaN where unknown.
    """

    rule: Rule
    verdict: Verdict
    sentence: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def holds(self, strict: bool = False) -> bool:
        """Whether the gate stays open; an undecided rule closes it only if `strict`."""
        return self.verdict == "passed" or (self.verdict == "undecided" and not strict)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A mean and its 90 % interval, from `examples` of at most `available` there are."""

    what: str
    value: float
    low: float
    high: float
    examples: int
    available: float
    kind: str  # such as "training examples"

    def in_words(self) -> str:
        interval = f" (90 % interval {self.low:.3f} to {self.high:.3f})"
        return f"{self.what} is {self.value:.3f}{interval if self.low < self.high else ''}"

    def what_would_decide(self, bound: float) -> str:
        """How much more data, if the value stays: an interval narrows with the root of N."""
        reach = self.high - self.value if bound > self.value else self.value - self.low
        distance = abs(bound - self.value)
        needed = math.ceil(self.examples * (reach / distance) ** 2) if distance else math.inf
        if self.examples < needed <= self.available and needed < math.inf:
            return f"About {needed:,} {self.kind} instead of {self.examples:,} would decide it."
        return (
            f"The value is too close to the bound for any number of {self.kind} that there is; "
            "more samples of each question help a little."
        )


def judge(line: Curve, step: int, rules: Sequence[Rule]) -> list[Judgement]:
    """Apply the rules to one checkpoint.

    Args:
        line: the run's curve.
        step: of the checkpoint, which is unknown where it has no scored training example.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    if step not in line.scores.steps:
        return unknown(rules, f"no training example is scored at step {step}; score some")
    c = int(np.flatnonzero(line.scores.steps == step)[0])
    judges = {
        MIN_PREMEM: _judge_premem,
        MAX_MEMORIZED: _judge_memorized,
        MIN_TEST: _judge_test,
        NO_DROP: _judge_drop,
    }
    return [judges[rule.name](line, c, rule) for rule in rules]


def unknown(rules: Sequence[Rule], why: str) -> list[Judgement]:
    """The judgements where nothing can be computed, for one reason."""
    return [Judgement(rule, "unknown", why) for rule in rules]


def _judge_premem(line: Curve, c: int, rule: Rule) -> Judgement:
    if line.unknown[c]:
        return Judgement(rule, "unknown", _premem_unknown(line, [c]))
    available = max(line.scores.trained_on, len(line.scores.examples))
    n = int(line.scores.counts.drawn.sum()) if line.estimator == "lu" else len(line.scores.examples)
    low, high = _ends(line.premem[c], line.premem_half[c])
    measured = _Measured(
        PREMEM, float(line.premem[c]), low, high, n, available, "training examples"
    )
    return _at_least(rule, measured)


def _judge_test(line: Curve, c: int, rule: Rule) -> Judgement:
    problems = int((~np.isnan(line.scores.test_accuracy[c])).sum())
    if not problems:
        why = f"{TEST} is not known: score the run with test problems (--test)"
        return Judgement(rule, "unknown", why)
    low, high = _ends(line.test[c], line.test_half[c])
    measured = _Measured(TEST, float(line.test[c]), low, high, problems, math.inf, "test problems")
    return _at_least(rule, measured)


def _ends(mean: float, half: float) -> tuple[float, float]:
    low, high = np.clip([mean - half, mean + half], 0.0, 1.0)
    return float(low), float(high)


def _at_least(rule: Rule, measured: _Measured) -> Judgement:
    if math.isnan(measured.low):
        why = f"{measured.what} has no interval: only one of the {measured.kind} is scored"
        return Judgement(rule, "unknown", why)
    if measured.low >= rule.bound - ROUNDING:
        return _decided(rule, "passed", measured, "at least")
    if measured.high < rule.bound - ROUNDING:
        return _decided(rule, "failed", measured, "below")
    return _undecided(rule, measured)


def _judge_memorized(line: Curve, c: int, rule: Rule) -> Judgement:
    """The share is exact where all training examples are scored; else its interval is binomial."""
    from scipy import stats

    nll = line.scores.nll[c]
    n, trained_on = len(nll), max(line.scores.trained_on, len(nll))
    if missing := int(np.isnan(nll).sum()):
        why = (
            f"the memorized share is not known: the perplexity of {missing:,} of {n:,} training "
            "solutions is not measured; score the run again with --resume"
        )
        return Judgement(rule, "unknown", why)
    count = int(pre_memorization.memorized(nll, line.log_log_threshold).sum())
    low = high = count / n
    if n < trained_on:
        low, high = map(float, stats.binomtest(count, n).proportion_ci(0.9, method="exact"))
    what, kind = f"the memorized share of {n:,} training examples", "training examples"
    measured = _Measured(what, count / n, low, high, n, trained_on, kind)
    if high <= rule.bound + ROUNDING:
        return _decided(rule, "passed", measured, "at most")
    if low > rule.bound + ROUNDING:
        return _decided(rule, "failed", measured, "above")
    return _undecided(rule, measured)


def _judge_drop(line: Curve, c: int, rule: Rule) -> Judgement:
    """Whether PM is surely below that of the best earlier checkpoint, on the same examples.

    The best of several means is high partly by chance. So the interval is as wide as if each
    earlier checkpoint were compared, and one of them were to fail by chance once in twenty gates
    (Bonferroni's correction).
    """
    from scipy import stats

    if c == 0:
        return Judgement(rule, "unknown", "there is no earlier scored checkpoint to compare with")
    if line.unknown[: c + 1].any():
        return Judgement(rule, "unknown", _premem_unknown(line, range(c + 1)))
    best = int(np.argmax(line.premem[:c]))
    mean, error = curves.premem_change(line.scores, line.log_log_threshold, line.estimator, c, best)
    half = float(error * stats.norm.ppf(1 - 0.05 / c))
    low, high = mean - half, mean + half
    if math.isnan(half):
        why = f"the change of {PREMEM} has no interval: only one training example is scored"
        return Judgement(rule, "unknown", why)
    said = (
        f"{PREMEM} is {line.premem[c]:.3f}, {mean:+.3f} against the best earlier checkpoint, step "
        f"{line.scores.steps[best]} (90 % interval of the change {low:+.3f} to {high:+.3f})"
    )
    if high < -ROUNDING:
        return Judgement(rule, "failed", f"{said}: a drop", mean, low, high)
    return Judgement(rule, "passed", f"{said}: no certain drop", mean, low, high)


def _decided(rule: Rule, verdict: Verdict, measured: _Measured, relation: str) -> Judgement:
    whole = "all of it is " if measured.low < measured.high else ""
    return _judgement(rule, verdict, measured, f"{whole}{relation} {rule.bound:g}")


def _undecided(rule: Rule, measured: _Measured) -> Judgement:
    end = f"{rule.bound:g} lies within it. {measured.what_would_decide(rule.bound)}"
    return _judgement(rule, "undecided", measured, end)


def _judgement(rule: Rule, verdict: Verdict, measured: _Measured, end: str) -> Judgement:
    said = f"{measured.in_words()}: {end}"
    return Judgement(rule, verdict, said, measured.value, measured.low, measured.high)


def _premem_unknown(line: Curve, checkpoints: Sequence[int]) -> str:
    steps = [int(line.scores.steps[c]) for c in checkpoints if line.unknown[c]]
    plan = "last" if line.estimator == "lu" else "lazy"
    named = ", ".join(map(str, steps[:3])) + (" …" if len(steps) > 3 else "")
    return (
        f"{PREMEM} is not known at step {named}: samples that this threshold needs are missing; "
        f"'premem jobs extend {line.scores.run} --plan {plan} --log-log-threshold "
        f"{line.log_log_threshold:.3f}' draws them"
    )
