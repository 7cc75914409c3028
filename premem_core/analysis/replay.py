"""Replay: the cost and the results of a sampling plan and an estimator, simulated on scored runs.

A pair is one example at one checkpoint. Each repeat draws K of a pair's samples at random, without
replacement and in random order, because the stored order is not random (docs/method.md, section 3).
The plan then uses only the samples that it would have drawn.

Axes: C checkpoints of one run in training order, N training examples, R repeats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.calibrating_runs import calibrating_runs, run_weights
from premem_core.errors import DataError, UsageError
from premem_core.metrics import estimators, intervals, r2
from premem_core.metrics.estimators import Estimator, SampleCounts
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.sampling_plan import Ints, Plan, to_draw

PAPER_SAMPLES = 5  # the paper's number of samples per pair, with which costs are compared


@dataclass(frozen=True, slots=True)
class Replay:
    """The cost and the results over all repeats; an undefined number is NaN.

    Attributes:
        generations_fraction: train samples drawn ÷ train samples of the full plan with K = 5.
        fraction_of_full_plan: train samples drawn ÷ train samples of the full plan with this K.
        identity_r2, identity_r2_sd: mean and standard deviation over repeats.
        max_abs_difference_to_full: the largest |PM − PM of the full plan from the same samples|
            over all pairs; with the plan `final`, over the pairs of the last checkpoint.
        max_mean_difference_to_full: the same for the means over a checkpoint's examples.
        bias_to_all_samples: root mean square of (mean PM over repeats − plain mean PM from all
            samples) over the checkpoints that have more than K samples.
        checkpoints: how many checkpoints R² is computed over.
    """

    generations_fraction: float
    fraction_of_full_plan: float
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
    """Replay a plan with K = `samples` over runs that have at least K samples of every pair.

    Costs and differences are those of all runs. R² is that of the runs that take part in a study
    (`calibrating_runs`), each point weighted as there.

    Args:
        repeats: how often the samples are drawn.

    Raises:
        DataError: a run has too few samples, or the estimator is not defined for K.
        UsageError: the plan and the estimator cannot be combined.
    """
    if plan == "final" and estimator == "jackknife":
        raise UsageError(
            "the final plan leaves out samples that the jackknife needs; use --plan lazy with the "
            "jackknife, or --estimator plain"
        )
    if estimator == "jackknife" and samples < 2:
        raise UsageError(f"the jackknife needs at least 2 samples of every example, not {samples}")
    for run in runs:
        _check_samples(run, samples)
    rng = np.random.default_rng(seed)
    replays = [
        _replay_run(run, samples, plan, estimator, log_log_threshold, repeats, rng) for run in runs
    ]
    tests = np.concatenate(
        [intervals.mean_interval(run.test_accuracy)[0][_measured(plan)] for run in runs]
    )
    means = np.concatenate([r.means for r in replays], axis=1)
    taking_part = calibrating_runs(runs)
    weight_of = dict(zip((r.run for r in taking_part), run_weights(taking_part), strict=True))
    weights = np.repeat(
        [weight_of.get(run.run, np.nan) for run in runs], [r.means.shape[1] for r in replays]
    )
    tests = np.where(np.isnan(weights), np.nan, tests)
    r2s = np.array([r2.identity_r2(means_of_repeat, tests, weights) for means_of_repeat in means])
    bias = np.concatenate([r.bias for r in replays])
    pairs = sum(run.nll.size for run in runs)
    drawn = sum(r.drawn for r in replays) / repeats
    return Replay(
        generations_fraction=drawn / (PAPER_SAMPLES * pairs),
        fraction_of_full_plan=drawn / (samples * pairs),
        identity_r2=float(r2s.mean()),
        identity_r2_sd=float(r2s.std(ddof=1)) if repeats > 1 else float("nan"),
        max_abs_difference_to_full=max(r.difference for r in replays),
        max_mean_difference_to_full=max(r.mean_difference for r in replays),
        bias_to_all_samples=float(np.sqrt(np.mean(bias**2))) if len(bias) else float("nan"),
        checkpoints=int((~np.isnan(tests)).sum()),
    )


@dataclass(frozen=True, slots=True)
class _RunReplay:
    """One run's part of a `Replay`.

    Attributes:
        means: (R, measured checkpoints), mean PM.
        drawn: samples drawn over all repeats.
        difference, mean_difference: as `max_abs_difference_to_full` and
            `max_mean_difference_to_full`.
        bias: (measured checkpoints with more than K samples,).
    """

    means: Floats
    drawn: int
    difference: float
    mean_difference: float
    bias: Floats


def _check_samples(run: RunScores, samples: int) -> None:
    """DataError: the run has not all samples, or fewer than `samples` of an example."""
    if run.counts.partial.any():
        raise DataError(
            f"run '{run.run}' lacks samples that its sampling plan left out; a replay needs runs "
            "that were scored with the full plan: score it again with --extend --plan full"
        )
    fewest = int(run.counts.samples.min())
    if fewest < samples:
        raise DataError(
            f"run '{run.run}' has only {fewest} samples of some examples, and a replay with "
            f"{samples} was requested; give --samples {fewest} or less"
        )


def _measured(plan: Plan) -> slice:
    """The checkpoints for which the plan determines PM."""
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
    measured = _measured(plan)
    means, drawn, difference, mean_difference = [], 0, 0.0, 0.0
    for _ in range(repeats):
        outcomes = draw_order(run.counts, samples, rng)
        full = SampleCounts.of(np.full(run.nll.shape, samples), outcomes[-1], samples)
        counts = full if plan == "full" else follow_plan(plan, t, run.nll, outcomes)
        premem = estimators.premem(estimator, counts, run.nll, t)[measured]
        reference = estimators.premem(estimator, full, run.nll, t)[measured]
        means.append(premem.mean(axis=1))
        drawn += int(counts.samples.sum())
        differences = premem - reference
        difference = max(difference, float(np.abs(differences).max()))
        mean_difference = max(mean_difference, float(np.abs(differences.mean(axis=1)).max()))
    from_all_samples = estimators.premem("plain", run.counts, run.nll, t)[measured].mean(axis=1)
    has_more = np.all(run.counts.samples > samples, axis=1)[measured]
    bias = (np.mean(means, axis=0) - from_all_samples)[has_more]
    return _RunReplay(np.array(means), drawn, difference, mean_difference, bias)


def draw_order(counts: SampleCounts, samples: int, rng: np.random.Generator) -> Ints:
    """Draw K samples of each pair in random order, as running counts of correct samples.

    Returns:
        (K + 1, C, N): how many of the first k samples are correct, for k = 0 … K.
    """
    outcomes = np.zeros((samples + 1, *counts.samples.shape), dtype=np.int64)
    for k in range(samples):
        # Drawing without replacement: the next sample is correct with a probability equal to the
        # share of correct samples among those that are left.
        correct_left = counts.correct - outcomes[k]
        hit = rng.random(correct_left.shape) * (counts.samples - k) < correct_left
        outcomes[k + 1] = outcomes[k] + hit
    return outcomes


def follow_plan(plan: Plan, log_log_threshold: float, nll: Floats, outcomes: Ints) -> SampleCounts:
    """The samples that a plan has drawn when it is complete.

    Args:
        nll: (C, N), nats.
        outcomes: (K + 1, C, N), `draw_order`.
    """
    k = len(outcomes) - 1
    samples = np.zeros(nll.shape, dtype=np.int64)
    correct = np.zeros(nll.shape, dtype=np.int64)
    unfinished: NDArray[np.intp] = np.arange(nll.shape[1])  # examples do not affect one another
    while len(unfinished):
        more = to_draw(
            plan,
            k,
            log_log_threshold,
            nll[:, unfinished],
            samples[:, unfinished],
            correct[:, unfinished],
        )
        unfinished, more = unfinished[more.any(axis=0)], more[:, more.any(axis=0)]
        samples[:, unfinished] += more
        correct[:, unfinished] = np.take_along_axis(
            outcomes[:, :, unfinished], samples[None, :, unfinished], axis=0
        )[0]
    return SampleCounts.of(samples, correct, k)
