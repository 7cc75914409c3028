"""Progress of a scoring job: counted from the results in the store, kept in `state.json`."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from premem_core.files import write_json
from premem_core.records import BASE_STEP
from premem_core.scoring.work_left import WorkLeft


@dataclass(frozen=True, slots=True)
class CheckpointProgress:
    """Progress of one checkpoint: `state` is waiting, the phase of the work, scored or failed."""

    step: int
    state: str
    completions_done: int
    completions_total: int  # an upper bound until the plan knows the number
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """State and progress of a job.

    `state` is queued, running, done, failed, cancelled or interrupted.
    """

    run: str
    state: str = "queued"
    completions_done: int = 0
    completions_total: int = 0  # an upper bound until the plan knows the number
    completions_saved: int = 0  # not needed by the plan, as far as is known
    completions_per_second: float = 0.0
    engine_seconds: float = 0.0  # loading, perplexities and sampling, of the present process
    queued: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)
    pid: int = 0
    message: str = ""
    checkpoints: tuple[CheckpointProgress, ...] = ()

    @property
    def seconds_left(self) -> float | None:
        """The time left at the present rate; None while no rate is known."""
        if self.state != "running" or not self.completions_per_second:
            return None
        return (self.completions_total - self.completions_done) / self.completions_per_second


def checkpoint_name(step: int) -> str:
    """What messages call the checkpoint of a step; what has no step is the base model.

    >>> checkpoint_name(58), checkpoint_name(0)
    ('checkpoint 58', 'base model')
    """
    return "base model" if step == BASE_STEP else f"checkpoint {step}"


def read_progress(file: Path) -> Progress:
    """Read a `state.json`; fields that only other versions of Premem have are ignored."""
    content = json.loads(file.read_text())
    known = {name: content[name] for name in Progress.__slots__ if name in content}
    rows = tuple(CheckpointProgress(**row) for row in content.get("checkpoints", []))
    return Progress(**{**known, "checkpoints": rows})


def write_progress(file: Path, progress: Progress) -> None:
    """Write a job's progress to its `state.json`."""
    write_json(file, asdict(progress))


def _checkpoint_rows(
    work: WorkLeft, phases: Mapping[int, str], failed: Mapping[int, str]
) -> list[CheckpointProgress]:
    with_work, at_most = work.with_work(), work.without(set(failed)).at_most()
    rows = []
    for step, done in work.drawn().items():
        more = at_most.get(step, 0)
        state = "waiting" if step in with_work or more else "scored"
        if step in failed:
            state = "failed"
        rows.append(
            CheckpointProgress(
                step, phases.get(step) or state, done, done + more, failed.get(step, "")
            )
        )
    return rows


class Tracker:
    """Keeps a job's `state.json` up to date."""

    def __init__(
        self, file: Path, start: Progress, work: WorkLeft, on_progress: Callable[[Progress], None]
    ) -> None:
        self.file, self.on_progress = file, on_progress
        self.now = replace(start, state="running", message="", engine_seconds=0.0)
        # The time when sampling could begin, and the number of completions before it.
        self.began: tuple[float, int] | None = None
        self.count(work, {}, {})

    def count(self, work: WorkLeft, phases: Mapping[int, str], failed: Mapping[int, str]) -> None:
        """Count the completions that are done and those that may still be drawn.

        Args:
            phases: the phase of the work at each checkpoint that a worker has, by step.
            failed: the reason for each failed checkpoint, by step.
        """
        rows = _checkpoint_rows(work, phases, failed)
        done = sum(row.completions_done for row in rows)
        total = sum(row.completions_total for row in rows)
        total_of_alive = sum(row.completions_total for row in rows if row.step not in failed)
        rate = self.now.completions_per_second
        if self.began and done > self.began[1]:
            rate = (done - self.began[1]) / (time.monotonic() - self.began[0])
        self._write(
            completions_done=done,
            completions_total=total,
            completions_saved=work.without(set(failed)).completions_of_full_plan() - total_of_alive,
            completions_per_second=rate,
            checkpoints=tuple(rows),
        )

    def loaded(self) -> None:
        """Note that a worker can begin to sample; the rate is measured from the first time."""
        self.began = self.began or (time.monotonic(), self.now.completions_done)

    def add_engine_seconds(self, seconds: float) -> None:
        """Add to the time that engines have worked."""
        self.now = replace(self.now, engine_seconds=self.now.engine_seconds + seconds)

    def say(self, message: str) -> None:
        """Set a message about the current work."""
        self._write(message=message)

    def end(self, state: str, message: str) -> Progress:
        """Set the job's last state, and return it."""
        self._write(state=state, message=message)
        return self.now

    def _write(self, **changes: Any) -> None:
        self.now = replace(self.now, updated=time.time(), **changes)
        write_progress(self.file, self.now)
        self.on_progress(self.now)
