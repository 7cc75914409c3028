"""What a plan and an estimator would have cost and said, replayed over runs that are scored.

Each replay draws K of a pair's samples at random without replacement, in random order (never the
first K: docs/method.md, section 3), and lets the plan see only those that it asks for.

Axes: C checkpoints of one run in training order, N training examples, R repeats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from premem_core.analysis.run_scores import RunScores
from premem_core.errors import DataError, UsageError
from premem_core.metrics import estimators, intervals, r2
from premem_core.metrics.estimators import Estimator, SampleCounts
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.sampling_plan import Ints, Plan, to_draw

PAPER_SAMPLES = 5  # per pair: what a cost is compared with


@dataclass(frozen=True, slots=True)
class Replay:
    """Cost and outcome, over all repeats; what is undefined is NaN.

    Attributes:
        generations_fraction: train samples drawn ÷ those of the full plan with the paper's 5.
        own_fraction: the same ÷ those of the full plan with this K.
        identity_r2, identity_r2_sd: mean and standard deviation over repeats.
        max_abs_difference_to_full: the largest |PM − PM by the full plan from the same samples| of
            any pair (`final`: of the last checkpoint).
        max_mean_difference_to_full: the same of the means over a checkpoint's examples.
        bias_to_all_samples: root mean square, over the checkpoints scored with more than K
            samples, of (mean PM over repeats − plain mean PM from all samples).
        checkpoints: on which R² rests.
    """

    generations_fraction: float
    own_fraction: float
    identity_r2: float
    identity_r2_sd: float
    max_abs_difference_to_full: float
    max_mean_difference_to_full: float
    bias_to_all_samples: float
    checkpoints: int


def replay(
    runs: Sequence[RunScores],
    samples: int,
    plan: Plan,
    estimator: Estimator,
    log_log_threshold: float,
    repeats: int = 20,
    seed: int = 0,
) -> Replay:
    """Replay a plan with K = `samples` over runs that hold at least K samples of every pair.

    Raises:
        DataError: a run holds too few samples, or the estimator is not defined for K.
        UsageError: the final plan with the jackknife, which needs samples that it leaves out.
    """
    if plan == "final" and estimator == "jackknife":
        raise UsageError(
            "the final plan leaves out samples that the jackknife needs; use --plan lazy with the "
            "jackknife, or --estimator plain"
        )
    if estimator == "jackknife" and samples < 2:
        raise UsageError(f"the jackknife needs at least 2 samples of every example, not {samples}")
    for run in runs:
        _check(run, samples)
    rng = np.random.default_rng(seed)
    replays = [
        _replay_run(run, samples, plan, estimator, log_log_threshold, repeats, rng) for run in runs
    ]
    tests = np.concatenate(
        [intervals.mean_interval(run.test_accuracy)[0][_at(plan)] for run in runs]
    )
    means = np.concatenate([r.means for r in replays], axis=1)
    r2s = np.array([r2.identity_r2(of_repeat, tests) for of_repeat in means])
    bias = np.concatenate([r.bias for r in replays])
    pairs = sum(run.nll.size for run in runs)
    drawn = sum(r.drawn for r in replays) / repeats
    return Replay(
        generations_fraction=drawn / (PAPER_SAMPLES * pairs),
        own_fraction=drawn / (samples * pairs),
        identity_r2=float(r2s.mean()),
        identity_r2_sd=float(r2s.std(ddof=1)) if repeats > 1 else float("nan"),
        max_abs_difference_to_full=max(r.difference for r in replays),
        max_mean_difference_to_full=max(r.mean_difference for r in replays),
        bias_to_all_samples=float(np.sqrt(np.mean(bias**2))) if len(bias) else float("nan"),
        checkpoints=int((~np.isnan(tests)).sum()),
    )


@dataclass(frozen=True, slots=True)
class _RunReplay:
    means: Floats  # (R, checkpoints that the plan is about)
    drawn: int  # over all repeats
    difference: float
    mean_difference: float
    bias: Floats  # (checkpoints with more than K samples,)


def _check(run: RunScores, samples: int) -> None:
    if run.counts.partial.any():
        raise DataError(
            f"run '{run.run}' was not sampled in full, for its plan did not need it; "
            "a replay needs runs that were scored with the full plan"
        )
    fewest = int(run.counts.samples.min())
    if fewest < samples:
        raise DataError(
            f"run '{run.run}' holds {fewest} samples of an example; give --samples {fewest} or less"
        )


def _at(plan: Plan) -> slice:
    """The checkpoints whose PM the plan is about."""
    return slice(-1, None) if plan == "final" else slice(None)


def _replay_run(
    run: RunScores,
    samples: int,
    plan: Plan,
    estimator: Estimator,
    t: float,
    repeats: int,
    rng: np.random.Generator,
) -> _RunReplay:
    at = _at(plan)
    means, drawn, difference, mean_difference = [], 0, 0.0, 0.0
    for _ in range(repeats):
        outcomes = draw_order(run.counts, samples, rng)
        full = SampleCounts.of(np.full(run.nll.shape, samples), outcomes[-1], samples)
        seen = full if plan == "full" else follow(plan, t, run.nll, outcomes)
        premem = estimators.premem(estimator, seen, run.nll, t)[at]
        reference = estimators.premem(estimator, full, run.nll, t)[at]
        means.append(premem.mean(axis=1))
        drawn += int(seen.samples.sum())
        apart = premem - reference
        difference = max(difference, float(np.abs(apart).max()))
        mean_difference = max(mean_difference, float(np.abs(apart.mean(axis=1)).max()))
    everything = estimators.premem("plain", run.counts, run.nll, t)[at].mean(axis=1)
    more = np.all(run.counts.samples > samples, axis=1)[at]
    bias = (np.mean(means, axis=0) - everything)[more]
    return _RunReplay(np.array(means), drawn, difference, mean_difference, bias)


def draw_order(counts: SampleCounts, samples: int, rng: np.random.Generator) -> Ints:
    """K samples of each pair in random order, as running counts of correct ones.

    Returns:
        (K + 1, C, N): how many of the first k drawn are correct, k = 0 … K.
    """
    outcomes = np.zeros((samples + 1, *counts.samples.shape), dtype=np.int64)
    for k in range(samples):
        # Without replacement: the next one is correct with the share of correct ones left.
        correct_left = counts.correct - outcomes[k]
        hit = rng.random(correct_left.shape) * (counts.samples - k) < correct_left
        outcomes[k + 1] = outcomes[k] + hit
    return outcomes


def follow(plan: Plan, log_log_threshold: float, nll: Floats, outcomes: Ints) -> SampleCounts:
    """What a plan has drawn when it is complete.

    Args:
        nll: (C, N), nats.
        outcomes: (K + 1, C, N), `draw_order`.
    """
    wanted = len(outcomes) - 1
    samples = np.zeros(nll.shape, dtype=np.int64)
    correct = np.zeros(nll.shape, dtype=np.int64)
    open_: NDArray[np.intp] = np.arange(nll.shape[1])  # examples are independent of each other
    while len(open_):
        more = to_draw(
            plan, wanted, log_log_threshold, nll[:, open_], samples[:, open_], correct[:, open_]
        )
        open_, more = open_[more.any(axis=0)], more[:, more.any(axis=0)]
        samples[:, open_] += more
        correct[:, open_] = np.take_along_axis(
            outcomes[:, :, open_], samples[None, :, open_], axis=0
        )[0]
    return SampleCounts.of(samples, correct, wanted)
