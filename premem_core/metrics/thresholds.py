"""R² of mean PM against test accuracy as an exact function of the threshold.

Mean PM is a step function of the threshold that changes only at observed NLLs (docs/method.md,
section 4), so R² is one too, and sorting the NLLs gives all of it: the optimum, the plateau around
it, and the same for any weighting of the runs, which is how runs are left out or resampled.

Axes: R runs, K breakpoints in τ = e^t, C checkpoints and N training examples of one run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.estimators import Estimator, SampleCounts, premem_steps
from premem_core.metrics.pre_memorization import Floats

Objective = Literal["identity", "linear"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
PLATEAU = 0.005  # below the best R²: thresholds that fit about as well
CANDIDATES = 1000  # thresholds that a resample chooses among


@dataclass(frozen=True, slots=True)
class ThresholdFit:
    """The threshold t = log log PPL with the highest R², exactly.

    Attributes:
        log_log_threshold: the middle of the best step.
        lowest, highest: the step, over which nothing changes.
        r2: there, by the objective.
        plateau: the thresholds around it with R² at most PLATEAU less; infinite where open.
        restricted: chosen among those thresholds at which no sample is missing that matters.
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

    Attributes:
        at: (K,) ascending breakpoints τ.
        run: (K,) whose mean PM changes there.
        change: (4, K) by which Σx, Σx², Σxy and the number of unknown x change, x the mean PM of a
            checkpoint and y its test accuracy.
        start: (R, 4) those sums below the first breakpoint.
        fixed: (R, 3) the number of checkpoints, Σy and Σy².
    """

    at: Floats
    run: NDArray[np.intp]
    change: Floats
    start: Floats
    fixed: Floats

    @property
    def edges(self) -> Floats:
        """(K + 2,): step k is τ in (edges[k], edges[k + 1]]."""
        return np.concatenate([[0.0], self.at, [np.inf]])

    def only(self, runs: NDArray[np.bool_]) -> "Steps":
        """Of some of the runs, (R,) true where one stays."""
        kept = runs[self.run]
        return Steps(
            self.at[kept], self.run[kept], self.change[:, kept], self.start * runs[:, None],
            self.fixed * runs[:, None],
        )  # fmt: skip

    def weighted(self, weights: Floats) -> "Steps":
        """The same with each run's checkpoints counted `weights` (R,) times.

        The numbers of unknown x stay whole: one is enough to leave a threshold out.
        """
        change, start = self.change.copy(), self.start.copy()
        change[:3] *= weights[self.run]
        start[:, :3] *= weights[:, None]
        return Steps(self.at, self.run, change, start, self.fixed * weights[:, None])

    def r2(self, objective: Objective = "identity") -> Floats:
        """(K + 1,): R² on every step, NaN where it is undefined or a PM is not known."""
        return _r2(objective, self.fixed.sum(axis=0), self._sums())

    def _sums(self) -> Floats:
        sums = np.empty((len(self.at) + 1, 4))
        sums[0] = self.start.sum(axis=0)
        np.cumsum(self.change.T, axis=0, out=sums[1:])
        sums[1:] += sums[0]
        return sums

    def best(self, objective: Objective = "identity") -> ThresholdFit:
        """The threshold with the highest R².

        Raises:
            ValueError: fewer than two different test accuracies; no threshold changes anything; or
                samples are missing at every threshold that predicts anything.
        """
        if not _varies(self.fixed.sum(axis=0)):
            raise ValueError("at least two checkpoints with different test accuracies are needed")
        if not len(self.at):
            raise ValueError("no threshold changes anything, for train accuracy is 0 everywhere")
        sums, edges = self._sums(), self.edges
        r2 = _r2(objective, self.fixed.sum(axis=0), sums)
        wide = edges[1:] > edges[:-1]
        restricted = bool((wide & (sums[:, 3] >= 0.5)).any())
        score = np.where(wide & ~np.isnan(r2), r2, -np.inf)
        best = int(np.argmax(score))
        if np.isinf(score[best]) or (restricted and objective == "identity" and r2[best] <= 0):
            raise ValueError(
                "at every threshold that predicts anything, samples are missing that the plan "
                "left out"
            )
        near = score >= r2[best] - PLATEAU
        worse = np.flatnonzero(~near & wide)
        at = np.searchsorted(worse, best)
        first = worse[at - 1] + 1 if at else 0
        last = worse[at] - 1 if at < len(worse) else len(near) - 1
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

    def on(self, log_log_thresholds: Floats) -> Floats:
        """(G, R, 4): each run's sums at these thresholds, ascending."""
        step, runs = np.searchsorted(self.at, np.exp(log_log_thresholds)), len(self.start)
        # Breakpoint i counts from the first threshold on whose step is beyond it.
        first = np.searchsorted(step, np.arange(len(self.at)), side="right")
        cell, shape = first * runs + self.run, (len(step) + 1, runs)
        change = [np.bincount(cell, of, np.prod(shape)).reshape(shape)[:-1] for of in self.change]
        return self.start + np.cumsum(np.stack(change, axis=-1), axis=0)


def steps(
    counts: Sequence[SampleCounts],
    nlls: Sequence[Floats],
    test_accuracies: Sequence[Floats],
    estimator: Estimator = "plain",
) -> Steps:
    """The step functions of several runs' checkpoints.

    Args:
        counts: per run (C, N).
        nlls: per run (C, N), nats.
        test_accuracies: per run (C,); NaN leaves a checkpoint out.

    Raises:
        ValueError: no estimate from these counts.
    """
    start, fixed = np.zeros((len(counts), 4)), np.zeros((len(counts), 3))
    ats, changes = [np.empty(0)], [np.empty((4, 0))]
    for run, (of_run, nll, tests) in enumerate(zip(counts, nlls, test_accuracies, strict=True)):
        at, rank = breakpoints(nll)
        order = np.argsort(rank.T, axis=1)
        tested = np.flatnonzero(~np.isnan(tests))
        x, y = np.zeros((len(tested), len(at) + 1)), tests[tested]
        for row, c in enumerate(tested.tolist()):
            up_to = _up_to(order, c)
            pieces = premem_steps(estimator, of_run, nll, up_to)
            place = np.take_along_axis(rank, up_to, axis=0)
            x[row] = mean_premem_steps(pieces, place, len(at))
        unknown = np.isnan(x)
        x[unknown] = 0.0
        sums = np.stack([x.sum(axis=0), np.einsum("ck,ck->k", x, x), y @ x, unknown.sum(axis=0)])
        fixed[run] = len(y), y.sum(), y @ y
        start[run] = sums[:, 0]
        change = np.diff(sums)
        moves = change.any(axis=0)
        ats.append(at[moves])
        changes.append(change[:, moves])
    at = np.concatenate(ats)
    order = np.argsort(at, kind="stable")  # a merge, for each run's are in order
    owner = np.repeat(np.arange(len(counts)), [len(of_run) for of_run in ats[1:]])
    return Steps(at[order], owner[order], np.concatenate(changes, axis=1)[:, order], start, fixed)


def breakpoints(nll: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """A run's measured NLLs (C, N) in order, (K,), and the place of each pair in it, (C, N).

    An NLL of 0 or below is memorized at every threshold; one that was not measured, at none: its
    place is beyond the K.

    >>> breakpoints(np.array([[0.9, np.nan], [0.01, 0.2]]))
    (array([0.01, 0.2 , 0.9 ]), array([[2, 3],
           [0, 1]]))
    """
    order = np.argsort(nll, axis=None)
    rank = np.empty(nll.size, dtype=np.intp)
    rank[order] = np.arange(nll.size)
    at = np.maximum(nll.ravel()[order], 0.0)
    return at[: nll.size - np.isnan(nll).sum()], rank.reshape(nll.shape)


def _up_to(order: NDArray[np.intp], last: int) -> NDArray[np.intp]:
    """(last + 1, N): of each example's checkpoints, (N, C), those up to `last`, in their order."""
    return np.ascontiguousarray(order[order <= last].reshape(-1, last + 1).T)


def mean_premem_steps(pieces: Floats, place: NDArray[np.intp], k: int) -> Floats:
    """Mean PM of a run's last given checkpoint as a step function of the threshold τ = e^t.

    Args:
        pieces: (C + 1, N), `estimators.premem_steps` of the checkpoints up to that one.
        place: (C, N), of the same checkpoints, rising: as τ rises, an example's are masked in this
            order. From the whole run's `breakpoints`.
        k: how many those are.

    Returns:
        (k + 1,): entry i holds for τ in (breakpoints[i − 1], breakpoints[i]], NaN where a PM is not
        known.

    >>> pieces = np.array([[1.0], [0.6], [0.0]])
    >>> at, rank = breakpoints(np.array([[0.9], [0.01]]))
    >>> mean_premem_steps(pieces, np.sort(rank, axis=0), 2)
    array([1. , 0.6, 0. ])
    """
    n = place.shape[1]
    measured = place < k

    def running(values: Floats) -> Floats:
        change = np.zeros(k + 1)
        change[0] = values[0].sum()
        change[1 + place[measured]] = np.diff(values, axis=0)[measured]
        return np.cumsum(change)

    unknown = np.isnan(pieces)
    if not unknown.any():
        return running(pieces) / n
    means = running(np.where(unknown, 0.0, pieces)) / n
    return np.where(running(unknown.astype(np.float64)) < 0.5, means, np.nan)


@dataclass(frozen=True, slots=True)
class Resamples:
    """(B,) each: both R² of resampled runs, NaN where undefined."""

    identity: Floats
    linear: Floats


def resample(
    of_runs: Steps,
    objective: Objective = "identity",
    log_log_threshold: float | None = None,
    resamples: int = 1000,
) -> Resamples:
    """Bootstrap over runs: they, not their checkpoints, are the independent units.

    Args:
        objective: by which each resample chooses its threshold, among CANDIDATES.
        log_log_threshold: in force in every resample instead.
    """
    runs = len(of_runs.start)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(runs, np.full(runs, 1 / runs), resamples).astype(np.float64)
    t = _candidates(of_runs) if log_log_threshold is None else np.array([log_log_threshold])
    sums = np.einsum("br,grs->bgs", weights, of_runs.on(t), optimize=True)
    fixed = (weights @ of_runs.fixed)[:, None]
    r2 = {name: _r2(name, fixed, sums) for name in OBJECTIVES}
    best = np.argmax(np.nan_to_num(r2[objective], nan=-np.inf), axis=1)
    rows = np.arange(resamples)
    return Resamples(r2["identity"][rows, best], r2["linear"][rows, best])


def _candidates(of_runs: Steps) -> Floats:
    """Some of the breakpoints, as thresholds t: dense where breakpoints are."""
    at = of_runs.at[of_runs.at > 0]
    chosen = np.unique(at[np.linspace(0, len(at) - 1, CANDIDATES).astype(np.intp)])
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
    # A step that is open on one side has no middle; its end itself could be lost to rounding.
    low_end = high - 0.02 if np.isinf(low) else low
    high_end = low + 0.02 if np.isinf(high) else high
    return (low_end + high_end) / 2
