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
from premem_core.metrics import budget, estimators, intervals, r2
from premem_core.metrics.budget import Design
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.sample_counts import Ints, SampleCounts
from premem_core.metrics.sampling_plan import WHOLE, Plan, Share, to_draw

PAPER_SAMPLES = 5  # the paper's number of samples per pair, with which costs are compared


@dataclass(frozen=True, slots=True)
class Replay:
    """The cost and the results over all repeats; an undefined number is NaN.

    PM is that of the estimator, so last-unmasked accuracy where that is `lu`.

    Attributes:
        generations_fraction: train samples drawn ÷ train samples of the full plan with K = 5.
        fraction_of_full_plan: train samples drawn ÷ train samples of the full plan with this K.
        identity_r2, identity_r2_sd: mean and standard deviation over repeats.
        max_abs_difference_to_full: the largest |PM − PM of the full plan from the same samples|
            over all pairs; with the plan `final`, over the pairs of the last checkpoint.
        max_mean_difference_to_full: the same for the means over a checkpoint's examples.
        bias_to_all_samples: root mean square of (mean PM over repeats − mean PM from all samples)
            over the checkpoints that have more than K samples. The latter is by the estimator lu
            where that is replayed, else by plain.
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
    share: float = 1.0,
    standard_error: float | None = None,
) -> Replay:
    """Replay a plan with K = `samples` over runs that have at least K samples of every pair.

    Costs and differences are those of all runs. R² is that of the runs that take part in a study
    (`calibrating_runs`), each point weighted as there.

    Args:
        repeats: how often the samples, and the examples of a share, are drawn.
        share: the part of the examples that the plan `last` samples.
        standard_error: instead of K and a share: they are chosen for each run so that the standard
            error of its checkpoints is at most this (`budget`); from 0 to 1.

    Raises:
        DataError: a run has too few samples, or the estimator is not defined for K.
        UsageError: the plan and the estimator cannot be combined.
    """
    _check_combination(plan, estimator, samples, share, standard_error)
    designs = [_design(run, samples, share, standard_error) for run in runs]
    for run, design in zip(runs, designs, strict=True):
        _check_samples(run, design.samples)
    rng = np.random.default_rng(seed)
    replays = [
        _replay_run(run, design, plan, estimator, log_log_threshold, repeats, rng)
        for run, design in zip(runs, designs, strict=True)
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
    full_plan = sum(d.samples * run.nll.size for run, d in zip(runs, designs, strict=True))
    drawn = sum(r.drawn for r in replays) / repeats
    return Replay(
        generations_fraction=drawn / (PAPER_SAMPLES * pairs),
        fraction_of_full_plan=drawn / full_plan,
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


def _check_combination(
    plan: Plan, estimator: Estimator, samples: int, share: float, standard_error: float | None
) -> None:
    """UsageError: the plan leaves out samples that the estimator needs, or takes no share."""
    if plan == "final" and estimator != "plain":
        raise UsageError(
            f"the final plan leaves out samples that the estimator {estimator} needs; give "
            "--estimator plain, or another plan"
        )
    if plan == "last" and estimator != "lu":
        raise UsageError(
            "the plan last draws only the samples that last-unmasked accuracy needs; give "
            "--estimator lu, or another plan"
        )
    if plan != "last" and (share != 1 or standard_error is not None):
        raise UsageError("only the plan last takes a share or a precision; give --plan last")
    if estimator == "jackknife" and samples < 2:
        raise UsageError(f"the jackknife needs at least 2 samples of every example, not {samples}")


def _design(run: RunScores, samples: int, share: float, standard_error: float | None) -> Design:
    examples = len(run.examples)
    if standard_error is not None:
        return budget.for_precision(standard_error, examples)
    return Design(examples, Share(share).size(examples), samples)


def _replay_run(
    run: RunScores,
    design: Design,
    plan: Plan,
    estimator: Estimator,
    t: float,
    repeats: int,
    rng: np.random.Generator,
) -> _RunReplay:
    measured, samples = _measured(plan), design.samples
    means, drawn, difference, mean_difference = [], 0, 0.0, 0.0
    for _ in range(repeats):
        outcomes = draw_order(run.counts, samples, rng)
        full = SampleCounts.of(np.full(run.nll.shape, samples), outcomes[-1], samples)
        share = Share(design.fraction, rng.random()) if design.fraction < 1 else WHOLE
        counts = full if plan == "full" else follow_plan(plan, t, run.nll, outcomes, share)
        premem, reference = (
            estimators.premem(estimator, c, run.nll, t)[measured] for c in (counts, full)
        )
        means.append(estimators.premem_means(estimator, counts, run.nll, t).mean[measured])
        drawn += int(counts.samples.sum())
        difference = max(difference, float(np.nanmax(np.abs(premem - reference))))
        of_means = np.abs(means[-1] - reference.mean(axis=1))
        mean_difference = max(mean_difference, float(of_means.max()))
    from_all_samples = estimators.premem_means(
        "lu" if estimator == "lu" else "plain", run.counts, run.nll, t
    ).mean[measured]
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


def follow_plan(
    plan: Plan, log_log_threshold: float, nll: Floats, outcomes: Ints, share: Share = WHOLE
) -> SampleCounts:
    """The samples that a plan has drawn when it is complete.

    Args:
        nll: (C, N), nats.
        outcomes: (K + 1, C, N), `draw_order`.
        share: the examples that the plan `last` samples.
    """
    k = len(outcomes) - 1
    if plan == "last":  # a share depends on all examples, and no sample on another's outcome
        none = np.zeros(nll.shape, dtype=np.int64)
        samples = to_draw(plan, k, log_log_threshold, nll, none, none, share)
        correct = np.take_along_axis(outcomes, samples[None], axis=0)[0]
        return SampleCounts.of(samples, correct, k)
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
