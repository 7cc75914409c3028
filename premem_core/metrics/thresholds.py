"""R² of mean PM against test accuracy as an exact function of the threshold.

Mean PM is a step function of the threshold, which changes only at observed NLLs (docs/method.md,
section 4). So R² is a step function too, and sorting the NLLs gives it exactly: the best threshold,
the plateau around it, and both again when runs are weighted, left out or resampled.

Axes: R runs, K breakpoints in τ = e^t, C checkpoints and N training examples of one run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.estimators import Estimator, premem_steps
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.sample_counts import SampleCounts

Objective = Literal["identity", "linear"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
PLATEAU = 0.005  # thresholds whose R² is at most this far below the best fit about as well
CANDIDATES = 1000  # how many thresholds a resample chooses from


@dataclass(frozen=True, slots=True)
class ThresholdFit:
    """The threshold t = log log PPL with the highest R².

    Attributes:
        log_log_threshold: the middle of the best step.
        lowest, highest: the ends of that step; R² is the same at every threshold between them.
        r2: the R² of the step, by the objective.
        plateau: the lowest and the highest threshold around the step up to which R² is at most
            0.005 lower; infinite where there is no such limit.
        restricted: True where other thresholds could not be considered, because PM there depends
            on samples that were not drawn.
    """

    log_log_threshold: float
    lowest: float
    highest: float
    r2: float
    plateau: tuple[float, float]
    restricted: bool = False


@dataclass(frozen=True, slots=True)
class Steps:
    """Sums over the checkpoints of each run, at every threshold.

    A checkpoint is a point: x is its mean PM and y its test accuracy.

    Attributes:
        breakpoints: (K,) the values of τ at which a sum changes, ascending.
        run: (K,) the run whose sums change there.
        change: (4, K) the changes of Σx, Σx², Σxy and the number of unknown x.
        start: (R, 4) those sums below the first breakpoint.
        fixed: (R, 3) the number of checkpoints, Σy and Σy².
    """

    breakpoints: Floats
    run: NDArray[np.intp]
    change: Floats
    start: Floats
    fixed: Floats

    @property
    def edges(self) -> Floats:
        """(K + 2,): step k holds for τ in (edges[k], edges[k + 1]]."""
        return np.concatenate([[0.0], self.breakpoints, [np.inf]])

    def select_runs(self, selected: NDArray[np.bool_]) -> "Steps":
        """The steps of the runs for which `selected` (R,) is True."""
        kept = selected[self.run]
        return Steps(
            self.breakpoints[kept], self.run[kept], self.change[:, kept],
            self.start * selected[:, None], self.fixed * selected[:, None],
        )  # fmt: skip

    def weighted(self, weights: Floats) -> "Steps":
        """The steps with the checkpoints of each run counted `weights` (R,) times.

        The numbers of unknown x are not weighted, because a single one makes R² unknown.
        """
        change, start = self.change.copy(), self.start.copy()
        change[:3] *= weights[self.run]
        start[:, :3] *= weights[:, None]
        return Steps(self.breakpoints, self.run, change, start, self.fixed * weights[:, None])

    def r2(self, objective: Objective = "identity") -> Floats:
        """(K + 1,): R² on every step; NaN where it is undefined or a PM is unknown."""
        return _r2(objective, self.fixed.sum(axis=0), self._sums())

    def _sums(self) -> Floats:
        """(K + 1, 4): the sums over all runs on every step."""
        sums = np.empty((len(self.breakpoints) + 1, 4))
        sums[0] = self.start.sum(axis=0)
        np.cumsum(self.change.T, axis=0, out=sums[1:])
        sums[1:] += sums[0]
        return sums

    def best(self, objective: Objective = "identity") -> ThresholdFit:
        """The threshold with the highest R².

        Raises:
            ValueError: there are fewer than two different test accuracies; PM is the same at every
                threshold; or PM is unknown, for lack of samples, at every useful threshold.
        """
        if not _varies(self.fixed.sum(axis=0)):
            raise ValueError("at least two checkpoints with different test accuracies are needed")
        if not len(self.breakpoints):
            raise ValueError(
                "PM is the same at every threshold, because train accuracy is 0 everywhere"
            )
        sums, edges = self._sums(), self.edges
        r2 = _r2(objective, self.fixed.sum(axis=0), sums)
        wide = edges[1:] > edges[:-1]
        restricted = bool((wide & (sums[:, 3] >= 0.5)).any())
        score = np.where(wide & ~np.isnan(r2), r2, -np.inf)
        best = int(np.argmax(score))
        if np.isinf(score[best]) or (restricted and objective == "identity" and r2[best] <= 0):
            raise ValueError(
                "at every threshold at which PM predicts test accuracy, PM depends on samples "
                "that the sampling plan left out"
            )
        near = score >= r2[best] - PLATEAU
        worse = np.flatnonzero(~near & wide)
        next_worse = np.searchsorted(worse, best)
        first = worse[next_worse - 1] + 1 if next_worse else 0
        last = worse[next_worse] - 1 if next_worse < len(worse) else len(near) - 1
        with np.errstate(divide="ignore"):
            t = np.log(edges)
        return ThresholdFit(
            log_log_threshold=_middle(float(t[best]), float(t[best + 1])),
            lowest=float(t[best]),
            highest=float(t[best + 1]),
            r2=float(r2[best]),
            plateau=(float(t[first]), float(t[last + 1])),
            restricted=restricted,
        )

    def sums_at(self, log_log_thresholds: Floats) -> Floats:
        """(G, R, 4): the sums of each run at G thresholds t, which must be ascending."""
        step = np.searchsorted(self.breakpoints, np.exp(log_log_thresholds))
        runs = len(self.start)
        # Breakpoint i changes the sums at every threshold whose step lies beyond it.
        first = np.searchsorted(step, np.arange(len(self.breakpoints)), side="right")
        cell, shape = first * runs + self.run, (len(step) + 1, runs)
        change = [np.bincount(cell, c, np.prod(shape)).reshape(shape)[:-1] for c in self.change]
        return self.start + np.cumsum(np.stack(change, axis=-1), axis=0)


def steps(
    counts: Sequence[SampleCounts],
    nlls: Sequence[Floats],
    test_accuracies: Sequence[Floats],
    estimator: Estimator = "plain",
) -> Steps:
    """The step functions of the checkpoints of several runs.

    Args:
        counts: per run, (C, N).
        nlls: per run, (C, N) mean NLL per target token, nats.
        test_accuracies: per run, (C,); a checkpoint with NaN is left out.

    Raises:
        ValueError: as `estimators.check_counts`.
    """
    start, fixed = np.zeros((len(counts), 4)), np.zeros((len(counts), 3))
    taus, changes = [np.empty(0)], [np.empty((4, 0))]
    for run, (of_run, nll, tests) in enumerate(zip(counts, nlls, test_accuracies, strict=True)):
        tau, rank = breakpoints(nll)
        order = np.argsort(rank.T, axis=1)
        drawn = of_run.drawn if estimator == "lu" else None
        tested = np.flatnonzero(~np.isnan(tests))
        x, y = np.zeros((len(tested), len(tau) + 1)), tests[tested]
        for row, c in enumerate(tested.tolist()):
            up_to = _up_to(order, c)
            pieces = premem_steps(estimator, of_run, nll, up_to)
            ranks = np.take_along_axis(rank, up_to, axis=0)
            x[row] = mean_premem_steps(pieces, ranks, len(tau), drawn)
        unknown = np.isnan(x)
        x[unknown] = 0.0
        sums = np.stack([x.sum(axis=0), np.einsum("ck,ck->k", x, x), y @ x, unknown.sum(axis=0)])
        fixed[run] = len(y), y.sum(), y @ y
        start[run] = sums[:, 0]
        change = np.diff(sums)
        changed = change.any(axis=0)
        taus.append(tau[changed])
        changes.append(change[:, changed])
    tau = np.concatenate(taus)
    order = np.argsort(tau, kind="stable")  # fast, because those of each run are sorted already
    owner = np.repeat(np.arange(len(counts)), [len(of_run) for of_run in taus[1:]])
    return Steps(tau[order], owner[order], np.concatenate(changes, axis=1)[:, order], start, fixed)


def breakpoints(nll: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Sort a run's measured NLLs: they are the thresholds τ at which an example becomes masked.

    Args:
        nll: (C, N) nats; NaN where it was not measured.

    Returns:
        The K measured NLLs, ascending, and the rank of each pair among them, (C, N). An NLL of 0
        or below, which is memorized at every threshold, becomes 0. A NaN, which is memorized at
        no threshold, gets a rank of K or higher.

    >>> breakpoints(np.array([[0.9, np.nan], [0.01, 0.2]]))
    (array([0.01, 0.2 , 0.9 ]), array([[2, 3],
           [0, 1]]))
    """
    order = np.argsort(nll, axis=None)
    rank = np.empty(nll.size, dtype=np.intp)
    rank[order] = np.arange(nll.size)
    tau = np.maximum(nll.ravel()[order], 0.0)
    return tau[: nll.size - np.isnan(nll).sum()], rank.reshape(nll.shape)


def _up_to(order: NDArray[np.intp], last: int) -> NDArray[np.intp]:
    """(last + 1, N): the checkpoints 0 to `last` of each example, sorted as in `order`, (N, C)."""
    return np.ascontiguousarray(order[order <= last].reshape(-1, last + 1).T)


def mean_premem_steps(
    pieces: Floats, ranks: NDArray[np.intp], k: int, drawn: NDArray[np.bool_] | None = None
) -> Floats:
    """Mean PM of one checkpoint of a run as a step function of the threshold τ = e^t.

    Args:
        pieces: (L + 1, N), from `estimators.premem_steps`, for the first L checkpoints.
        ranks: (L, N) the ranks of each example's first L checkpoints, ascending: they are masked
            in this order as τ rises. From `breakpoints` of the whole run.
        k: the number of breakpoints of the run.
        drawn: (N,) the examples that stand for all (`last_unmasked`); None for all of them.

    Returns:
        (k + 1,): entry i holds for τ in (breakpoints[i − 1], breakpoints[i]]; NaN where the PM of
        an example is unknown.

    >>> pieces = np.array([[1.0], [0.6], [0.0]])
    >>> tau, rank = breakpoints(np.array([[0.9], [0.01]]))
    >>> mean_premem_steps(pieces, np.sort(rank, axis=0), 2)
    array([1. , 0.6, 0. ])
    """
    measured, n = ranks < k, ranks.shape[1]
    every = drawn is None or bool(drawn.all())
    members = np.ones(n, dtype=bool) if drawn is None else drawn

    def sum_of_steps(values: Floats) -> Floats:
        change = np.zeros(k + 1)
        change[0] = values[0].sum()
        change[1 + ranks[measured]] = np.diff(values, axis=0)[measured]
        return np.cumsum(change)

    unknown = np.isnan(pieces) & members
    total = sum_of_steps(np.where(np.isnan(pieces), 0.0, pieces))
    means = total / n if every else _stand_for_all(total, sum_of_steps, pieces.shape, members)
    if not unknown.any():
        return means
    return np.where(sum_of_steps(unknown.astype(np.float64)) < 0.5, means, np.nan)


def _stand_for_all(
    total: Floats,
    sum_of_steps: Callable[[Floats], Floats],
    shape: tuple[int, ...],
    members: NDArray[np.bool_],
) -> Floats:
    """U/N · total/D: the mean over the D members of the U examples that are not all masked."""
    unmasked = np.ones(shape)
    unmasked[-1] = 0.0
    of, drawn = sum_of_steps(unmasked).round(), sum_of_steps(unmasked * members).round()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(of > 0, of / shape[1] * total / drawn, 0.0)


@dataclass(frozen=True, slots=True)
class Resamples:
    """Both R² of B resamples of the runs, (B,); NaN where undefined."""

    identity: Floats
    linear: Floats


def resample(
    of_runs: Steps,
    objective: Objective = "identity",
    log_log_threshold: float | None = None,
    resamples: int = 1000,
) -> Resamples:
    """Bootstrap over runs, because the checkpoints of one run are not independent.

    Args:
        objective: the R² by which each resample chooses its threshold, from CANDIDATES thresholds.
        log_log_threshold: use this threshold in every resample instead of choosing one.
        resamples: B.
    """
    runs = len(of_runs.start)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(runs, np.full(runs, 1 / runs), resamples).astype(np.float64)
    t = _candidates(of_runs) if log_log_threshold is None else np.array([log_log_threshold])
    sums = np.einsum("br,grs->bgs", weights, of_runs.sums_at(t), optimize=True)
    fixed = (weights @ of_runs.fixed)[:, None]
    r2 = {name: _r2(name, fixed, sums) for name in OBJECTIVES}
    best = np.argmax(np.nan_to_num(r2[objective], nan=-np.inf), axis=1)
    rows = np.arange(resamples)
    return Resamples(r2["identity"][rows, best], r2["linear"][rows, best])


def _candidates(of_runs: Steps) -> Floats:
    """Up to CANDIDATES thresholds t, evenly spaced in the order of the breakpoints."""
    tau = of_runs.breakpoints[of_runs.breakpoints > 0]
    chosen = np.unique(tau[np.linspace(0, len(tau) - 1, CANDIDATES).astype(np.intp)])
    return np.log(chosen)


def _varies(fixed: Floats) -> bool:
    n, y, yy = fixed
    return bool(n >= 2 and yy - y * y / n > 1e-12 * n)


def _r2(objective: Objective, fixed: Floats, sums: Floats) -> Floats:
    """R² from sums over checkpoints; the last axes are (3,) and (4,)."""
    n, y, yy = np.moveaxis(fixed, -1, 0)
    x, xx, xy, unknown = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = yy - y * y / n
        if objective == "identity":
            result = 1 - (yy - 2 * xy + xx) / total
        else:
            spread = xx - x * x / n
            result = (xy - x * y / n) ** 2 / (spread * total)
            result = np.where((spread > 1e-12 * n) & (n >= 3), result, np.nan)
        return np.where((unknown < 0.5) & (total > 1e-12 * n), result, np.nan)


def _middle(low: float, high: float) -> float:
    # A step that is open on one side has no middle. A threshold 0.01 from its end is safe from
    # rounding, which the end itself is not.
    low_end = high - 0.02 if np.isinf(low) else low
    high_end = low + 0.02 if np.isinf(high) else high
    return (low_end + high_end) / 2
