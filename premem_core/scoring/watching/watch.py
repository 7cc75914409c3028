"""Watching a run: each checkpoint is scored as soon as it is whole, while the training goes on.

A thread keeps new checkpoints (`keeper`); this module extends one job by those that are kept, and
runs it. When a checkpoint is scored, its kept weights are released. All state is in the folder of
the job, so a watch that was killed goes on where it was.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from premem_core.errors import CheckpointError, UsageError
from premem_core.metrics.sampling_plan import Plan
from premem_core.models import checkpoints
from premem_core.models.on_disk.kept_checkpoints import keeps_weights, release_weights
from premem_core.models.on_disk.run_folders import named_folders, step_in_name
from premem_core.models.on_disk.trainer_state import TrainerState, read_trainer_state
from premem_core.records import Run, Segment
from premem_core.scoring.job_files import read_job_spec
from premem_core.scoring.job_process import run_job
from premem_core.scoring.preparation.prepare import PreparedJob, prepare
from premem_core.scoring.preparation.request import (
    RequestedData,
    ScoreRequest,
    check_growing,
    read_data,
)
from premem_core.scoring.progress import Progress
from premem_core.scoring.watching.keeper import Keeper
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder
from premem_core.store.runs import read_checkpoints

SECONDS = 1.0  # between two looks for new checkpoints


@dataclass(frozen=True, slots=True)
class Patience:
    """When a watch ends, beside the step at which the trainer planned to.

    Attributes:
        idle: seconds without a new checkpoint after which the training counts as ended.
        pid: the trainer's process; None if it is not known.
    """

    idle: float = 3600.0
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Watched:
    """How a watch ended.

    Attributes:
        state: that of the job, or "waiting" if there was no checkpoint.
        message: why it failed, or what it waited for; empty if it is done.
        lost: sentences about checkpoints that could not be scored, because they are gone or not
            whole.
    """

    state: str
    message: str = ""
    lost: tuple[str, ...] = ()


@dataclass
class Watch:
    """The watch over one run.

    Args:
        request: what is scored; its run folder is the one that the trainer writes to.
        say: prints a line.
        on_progress: called with the job's progress.
        on_scored: called when checkpoints were scored.
        find_threshold: as for `prepare`.
        keep_weights: do not release the weights of checkpoints that are scored.
    """

    store: Store
    request: ScoreRequest
    say: Callable[[str], None] = print
    on_progress: Callable[[Progress], None] = lambda _: None
    on_scored: Callable[[PreparedJob], None] = lambda _: None
    find_threshold: Callable[[str, Segment, Plan], float | None] = lambda *_: None
    keep_weights: bool = False
    _tried: set[str] = field(default_factory=set, init=False)
    _end: Progress | None = field(default=None, init=False)

    @property
    def run(self) -> str:
        """The name of the run in the store."""
        return self.request.run_name

    @cached_property
    def _data(self) -> RequestedData:
        """The problems, which are read once, and a run without checkpoints."""
        return read_data(self.request, Run(self.request.run_folder, ()))

    @property
    def folder(self) -> JobFolder:
        """The folder of the job, in which checkpoints are kept."""
        return JobFolder.of(self.store, self.run)

    def watch(self, patience: Patience = Patience()) -> Watched:
        """Score each checkpoint as soon as it is whole, until the training has ended.

        Raises:
            DataError, UsageError: the problems or the options cannot be used.
            JobError: the job is running, or was created with other options.
            StoreError: the disk is full.
        """
        check_growing(self.request)
        if self.request.backend == "server":
            raise UsageError(
                "a watch scores checkpoints on this machine, and --backend server computes on "
                "another one; give --backend hf or vllm"
            )
        # Problems that cannot be read are refused at once, and not when the first checkpoint comes.
        _ = self._data
        execution = self.request.execution
        keeper = Keeper(
            self.request.run_folder, self.folder.kept, execution.steps, execution.base_folder
        )
        self.say(f"watching {self.request.run_folder}; stop with Ctrl-C")
        with keeper.looking():
            while True:
                ended = self._has_ended(keeper, patience)
                if ended:
                    keeper.look()
                if new := self._waiting(keeper):
                    self._score(new)
                    if self._end and self._end.state == "cancelled":
                        break
                elif ended:
                    break
                else:
                    time.sleep(SECONDS)
        return self._watched(keeper)

    def _waiting(self, keeper: Keeper) -> list[str]:
        """The checkpoints that are kept and neither scored nor tried in this watch."""
        names = sorted(keeper.names() - self._tried)
        return [name for name in names if keeps_weights(self.folder.kept / name)]

    def _score(self, names: list[str]) -> None:
        """Extend the job by these checkpoints and run it."""
        self._tried |= set(names)
        job = self._prepared()
        job.create(self.store, extend=True)
        self._end = run_job(self.store, self.run, self.on_progress)
        if not self.keep_weights:
            self._release(job.data.run)
        if (read_checkpoints(self.store, self.run)["state"] == "scored").any():
            self.on_scored(job)

    def _prepared(self) -> PreparedJob:
        run = self._kept_run()
        request = replace(self.request, run=self.run)
        if request.log_log_threshold is None and self.folder.holds_job:
            # A threshold that is fitted again would move with the results of this very run.
            t = read_job_spec(self.store, self.run).log_log_threshold
            request = replace(request, log_log_threshold=t)
        job = prepare(request, replace(self._data, run=run), self.find_threshold)
        return job.without(job.inspect().left_out)

    def _kept_run(self) -> Run:
        """The run with the checkpoints that are kept, also those whose weights are released."""
        execution = self.request.execution
        kept = checkpoints.read_run(
            self.folder.kept, steps=execution.steps, base=execution.base_folder, check=False
        )
        return replace(kept, path=self.request.run_folder)

    def _release(self, run: Run) -> None:
        states = read_checkpoints(self.store, self.run).set_index("step")["state"]
        for checkpoint in run.checkpoints:
            if states.get(checkpoint.step) == "scored":
                release_weights(checkpoint.path)

    def _has_ended(self, keeper: Keeper, patience: Patience) -> bool:
        if patience.pid is not None and not _is_alive(patience.pid):
            return True
        state = _newest_state(self.request.run_folder, self.folder.kept)
        if state.max_steps and (state.step or 0) >= state.max_steps:
            return True
        return time.monotonic() - keeper.changed > patience.idle

    def _watched(self, keeper: Keeper) -> Watched:
        lost = [f"{name} was deleted before it was whole" for name in sorted(keeper.lost)]
        lost += [reason for name, reason in sorted(keeper.refused.items())]
        if keeper.names():
            steps = {checkpoint.step for checkpoint in self._kept_run().checkpoints}
            lost += _missed(self.request.run_folder, self.folder.kept, steps)
        if self._end is None:
            if keeper.names() and not self._waiting(keeper):
                return Watched("done", "", tuple(lost))
            none = f"no whole checkpoint came to {self.request.run_folder}"
            return Watched("waiting", none, tuple(lost))
        return Watched(self._end.state, self._end.message, tuple(lost))


def _is_alive(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _newest_state(*folders: Path) -> TrainerState:
    """The trainer's state in the newest checkpoint that has one."""
    found = [TrainerState()]
    for folder in folders:
        for path in named_folders(folder).values():
            with suppress(CheckpointError, OSError):  # it is being written, or deleted
                changed = (path / "trainer_state.json").stat().st_mtime_ns
                found.append(_state_at(path, changed))
    return max(found, key=lambda state: state.step or 0)


@cache
def _state_at(folder: Path, changed: int) -> TrainerState:
    """The trainer's state in a folder, which is read again only where its file has changed.

    It holds the whole log of the training, and is looked at every second.
    """
    return read_trainer_state(folder)


def _missed(folder: Path, kept: Path, steps: set[int]) -> list[str]:
    """Sentences about checkpoints that the trainer saved and deleted while nobody watched.

    Args:
        steps: of the checkpoints that are kept.
    """
    state = _newest_state(folder, kept)
    every = state.save_steps
    regular = every and all(step % every == 0 for step in steps - {state.max_steps})
    if not every or not regular:
        return []
    there = {step_in_name(name) for name in named_folders(folder)}
    missing = sorted(set(range(every, max(steps) + 1, every)) - steps - there)
    return [
        f"checkpoint {step} was saved, by the trainer's plan, and deleted while nobody watched"
        for step in missing
    ]
