"""Live results: what a store knows of a run that still trains, as a trainer logs it."""

from collections.abc import Iterator, Mapping, Sequence

from premem_core.analysis import curves, gate, run_scores
from premem_core.analysis.curves import Curve
from premem_core.analysis.gate import Judgement, Rule
from premem_core.analysis.solutions import solution_measures
from premem_core.errors import PrememError
from premem_core.records import SEGMENTS
from premem_core.scoring import job_files
from premem_core.sinks.series import PREFIX, make_series
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder
from premem_core.store.runs import read_checkpoints, read_runs

Logs = Mapping[str, float]
CHECKPOINT = PREFIX + "checkpoint"


class LiveResults:
    """The results of one run, each of which is given out once.

    Args:
        log_log_threshold: t; None for that of the plan of the run's job.
    """

    def __init__(self, store: Store, run: str, log_log_threshold: float | None = None) -> None:
        self._store, self._run, self._threshold = store, run, log_log_threshold
        self._version = -1
        self._given: set[int] = set()

    def new(self, rules: Sequence[Rule] = ()) -> Iterator[tuple[Logs, list[Judgement]]]:
        """The numbers of each newly scored checkpoint, and the rules that it certainly breaks.

        Nothing is given where the run is not in the store yet, or lacks a threshold.
        """
        if (version := self._store.version()) == self._version:
            return
        self._version = version
        states = read_checkpoints(self._store, self._run)
        if self._given.issuperset(states.loc[states["state"] == "scored", "step"]):
            return  # while a checkpoint is scored, the version rises every second
        task = str(read_runs(self._store).set_index("run")["task"][self._run])
        if (line := self._curve(task)) is None:
            return
        series = make_series(line, task, solution_measures(self._store, self._run))
        for step, values in series.points.items():
            if step not in self._given:
                self._given.add(step)
                broken = [j for j in gate.judge(line, step, rules) if j.verdict == "failed"]
                yield {CHECKPOINT: float(step), **values}, broken

    def _curve(self, task: str) -> Curve | None:
        threshold, segment = self._threshold, SEGMENTS[0]
        if JobFolder.of(self._store, self._run).holds_job:
            spec = job_files.read_job_spec(self._store, self._run)
            segment = spec.segment
            threshold = spec.log_log_threshold if threshold is None else threshold
        if threshold is None:
            return None
        try:
            of_task = run_scores.read_task(self._store, task, segment)
            scores = run_scores.find_run(of_task, self._run)
        except PrememError:
            return None
        if scores is None:  # only its test problems are scored
            return None
        return curves.curve(scores, threshold, run_scores.default_estimator([scores]))
