"""The dispatcher of a running job, which assigns the work left to workers until it is done.

It keeps no results itself: workers write shards, and the dispatcher commits them to the store,
reads the counts again and assigns the samples that the sampling plan needs next. Therefore any
process may be killed at any time.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from premem_core.errors import EndpointError, StoreError
from premem_core.models.backend import Resources
from premem_core.models.on_disk.kept_checkpoints import keeps_weights
from premem_core.records import BASE_STEP, Checkpoint, Run
from premem_core.scoring.executors.executor import Executor
from premem_core.scoring.executors.worker import Assignment, Event
from premem_core.scoring.progress import Tracker
from premem_core.scoring.spec import Query, ScoringSpec
from premem_core.scoring.work_left import WorkLeft, find_work_left
from premem_core.store.checkpoint_measures import read_continuations
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints, set_base_scored, set_checkpoint_state
from premem_core.store.scores import commit_inbox, read_committed_shards, read_counts
from premem_core.store.shards.committed_shards import read_gaps
from premem_core.store.shards.shards import ShardWriter

ATTEMPTS = 3  # of a checkpoint whose worker dies before it finished a chunk
SMALLEST_BATCH = 64  # the largest batch divisor that is tried when memory runs out
SECONDS = 1.0  # between two commits of the inbox


@dataclass(slots=True)
class _UnderWay:
    """An assignment that a worker is doing."""

    phases: dict[int, str]  # by step, of the checkpoints that are not finished
    batch_divisor: int


class Dispatcher:
    """Assigns the work left of one job to the workers of an executor.

    Args:
        writer: writes the workers' shards.
        resources: the resources that each worker may use.
        base: the run's base model, where it is to be scored and is no checkpoint of the run.
    """

    def __init__(
        self,
        store: Store,
        spec: ScoringSpec,
        run: Run,
        queries: Sequence[Query],
        executor: Executor,
        writer: ShardWriter,
        resources: Resources = Resources(),
        base: Checkpoint | None = None,
    ) -> None:
        self.store, self.spec, self.run = store, spec, run
        self.queries, self.executor, self.writer = queries, executor, writer
        self.resources, self.base = resources, base
        self.failed: dict[int, str] = {}
        self._under_way: list[_UnderWay] = []
        self._visited: set[int] = set()
        self._version, self._work_left = -1, WorkLeft(spec, (), [])
        self._losses: Counter[int] = Counter()
        states = read_checkpoints(store, spec.run).set_index("step")
        whole = (states["state"] == "scored") & (states["samples"] == spec.sampling.samples)
        # A watch releases the weights of what is scored, so that is neither drawn from nor failed.
        self._scored_before = [
            checkpoint
            for checkpoint in run.checkpoints
            if states["state"].get(checkpoint.step) == "scored"
        ]
        self._closed = self._find_closed()
        self._scored = {*states.index[whole], *self._closed}
        self._base_is_scored = False
        self._gaps = read_gaps(store, spec.run)

    def work_left(self) -> WorkLeft:
        """Commit the shards in the inbox, and return the work left by the store's counts."""
        if self.writer.remote:
            committed = read_committed_shards(self.store, self.spec.run)
            self.writer.fetch(self.store.path / "inbox", committed)
        commit_inbox(self.store)
        if (version := self.store.version()) != self._version:
            steps = [checkpoint.step for checkpoint in self.run.checkpoints]
            counts = read_counts(self.store, self.spec.run, self.spec.segment)
            continued: set[int] = set()
            if self.spec.score_base:
                continued = set(read_continuations(self.store, self.spec.run)["example"])
            found = find_work_left(self.spec, steps, self.queries, counts, continued, self._gaps)
            self._work_left, self._version = replace(found, closed=self._closed), version
        return self._work_left

    def _find_closed(self) -> frozenset[int]:
        """The steps of the checkpoints that were scored before and cannot be loaded now."""
        return frozenset(c.step for c in self._scored_before if not self._is_there(c))

    def _is_there(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint can be loaded, as far as its weights or the server's list tell."""
        if self.resources.server is not None:
            return checkpoint.step in self.resources.server.models
        return self.executor.can_load(checkpoint.step) and keeps_weights(checkpoint.path)

    def dispatch(self, tracker: Tracker) -> None:
        """Do the work left; afterwards `failed` holds the failed checkpoints and the reasons.

        Raises:
            StoreError: the disk is full.
            EndpointError: a server that computes, or a grader's model, does not answer.
        """
        work, looked = self.work_left(), time.monotonic()
        while True:
            alive = work.without(set(self.failed))
            with_work = alive.with_work()
            self._mark_scored(alive, with_work)
            ready = self._ready(alive, with_work)
            shares = list(self._shares(ready))
            assigned = {checkpoint for share in shares for checkpoint in share}
            waiting = iter(c for c in ready if c not in assigned)
            for share in shares:
                self._begin(share, alive, next(waiting, None))
            tracker.count(work, self._phases(), self.failed)
            if not ready and not self._under_way:
                return
            self._wait(tracker, looked + SECONDS)
            work, looked = self.work_left(), time.monotonic()

    def _wait(self, tracker: Tracker, until: float) -> None:
        """Handle the workers' reports until the time `until`, or until a worker becomes free."""
        free, ended = self.executor.free, False
        while time.monotonic() < until and not ended:
            for event in self.executor.wait(SECONDS / 4):
                ended |= self._take(event, tracker)
            ended |= self.executor.free > free

    def _ready(self, alive: WorkLeft, with_work: set[int]) -> list[Checkpoint]:
        """The checkpoints with work that no worker is doing, in the plan's order.

        A checkpoint is assigned a second time only when no worker is busy, because then all
        results on which the plan's decisions depend are known.
        """
        busy = self._phases()
        ready = [
            checkpoint
            for checkpoint in self.run.checkpoints
            if checkpoint.step in with_work
            and checkpoint.step not in busy
            and not (busy and checkpoint.step in self._visited)
        ]
        if self.spec.plan == "final" and self._visited.issuperset(alive.steps):
            ready.reverse()  # this plan goes backwards from the last checkpoint
        if self.base and BASE_STEP in with_work and BASE_STEP not in busy:
            ready.append(self.base)
        return ready

    def _shares(self, ready: list[Checkpoint]) -> Iterator[tuple[Checkpoint, ...]]:
        """Divide the checkpoints among the free workers, one group per worker."""
        free = self.executor.free
        while ready and free > 0:
            share = 1
            if (base := ready[0].adapter_base) is not None:  # they share an engine
                same = [c for c in ready if c.adapter_base == base]
                ready = same + [c for c in ready if c.adapter_base != base]
                share = -(-len(same) // free)
            yield tuple(ready[:share])
            ready, free = ready[share:], free - 1

    def _begin(
        self, checkpoints: tuple[Checkpoint, ...], alive: WorkLeft, following: Checkpoint | None
    ) -> None:
        self.executor.submit(Assignment(checkpoints, alive, self.writer, self.resources, following))
        phases = {checkpoint.step: "waiting" for checkpoint in checkpoints}
        self._under_way.append(_UnderWay(phases, self.resources.batch_divisor))
        self._visited.update(checkpoint.step for checkpoint in checkpoints)

    def _take(self, event: Event, tracker: Tracker) -> bool:
        """Handle a report; return True if a worker has become free."""
        having = (under_way for under_way in self._under_way if event.step in under_way.phases)
        assignment = next(having, None)
        if assignment is None:  # the worker has reported a reason already
            return False
        tracker.add_engine_seconds(event.seconds)
        match event.kind:
            case "disk":
                raise StoreError(
                    f"the disk of {self.store.path} is full ({event.text}); finished results are "
                    "kept: free space and resume"
                )
            case "endpoint":
                raise EndpointError(event.text)
            case "loading":
                assignment.phases[event.step] = "loading"
            case "loaded":
                tracker.loaded()
            case "chunk":
                assignment.phases[event.step] = event.text
                self._losses[event.step] = 0
            case "memory" | "lost":
                self._again(event, assignment.batch_divisor)
                self._visited -= assignment.phases.keys()  # need not wait for others
                assignment.phases.clear()
            case "failed":
                self._fail(event.step, event.text)
                assignment.phases.pop(event.step)
            case "done":
                assignment.phases.pop(event.step)
        self._under_way = [under_way for under_way in self._under_way if under_way.phases]
        return event.kind in ("done", "failed", "memory", "lost")

    def _again(self, event: Event, batch_divisor: int) -> None:
        """Use smaller batches if a worker ran out of memory, or if workers died twice.

        The checkpoint fails if batches cannot be smaller, or if workers died ATTEMPTS times.
        """
        self._losses[event.step] += event.kind == "lost"
        if event.kind == "memory" or self._losses[event.step] > 1:
            divisor = max(2 * batch_divisor, self.resources.batch_divisor)
            self.resources = replace(self.resources, batch_divisor=divisor)
        if event.kind == "memory" and self.resources.batch_divisor > SMALLEST_BATCH:
            self._fail(event.step, f"memory ran out even with the smallest batches ({event.text})")
        if self._losses[event.step] >= ATTEMPTS:
            self._fail(
                event.step,
                f"its process died {ATTEMPTS} times before it finished anything ({event.text}); "
                "if memory ran out, free some memory and resume",
            )

    def _fail(self, step: int, reason: str) -> None:
        if step in (closed := self._find_closed()):  # a trainer has deleted it meanwhile
            self._closed, self._version = closed, -1
            self._scored.add(step)
            return
        self.failed[step] = reason
        self._scored.discard(step)
        set_checkpoint_state(self.store, self.spec.run, step, "failed", reason)

    def _phases(self) -> dict[int, str]:
        return {
            step: phase for under_way in self._under_way for step, phase in under_way.phases.items()
        }

    def _mark_scored(self, alive: WorkLeft, with_work: set[int]) -> None:
        """Mark each checkpoint as scored once no later result can require more samples of it."""
        under_way = self._phases()
        if self.spec.score_base and not self._base_is_scored:
            self._base_is_scored = BASE_STEP not in {*under_way, *with_work, *self.failed}
            if self._base_is_scored:
                set_base_scored(self.store, self.spec.run)
        unfinished = [step for step in alive.steps if step in under_way or step in with_work]
        whole = [step for step in alive.steps if step not in unfinished]
        if unfinished and (self.spec.plan == "final" or alive.waits_for_perplexities):
            whole = []  # samples of the checkpoints that are finished so far come last
        elif unfinished and self.spec.plan == "lazy":  # a masked pair needs earlier checkpoints
            whole = [step for step in whole if step < unfinished[0]]
        for step in whole:
            if step not in self._scored:
                self._scored.add(step)
                set_checkpoint_state(
                    self.store, self.spec.run, step, "scored", samples=self.spec.sampling.samples
                )
