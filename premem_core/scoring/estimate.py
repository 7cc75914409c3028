"""What a job will take, from a short run of its own: a few problems at one checkpoint."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from premem_core.errors import JobError
from premem_core.models.backend import Resources
from premem_core.problems import examples
from premem_core.records import Example, Run
from premem_core.scoring import jobs, work_left
from premem_core.scoring.executors.local import LocalExecutor
from premem_core.scoring.executors.worker import Assignment, Event
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from premem_core.store.shards import ShardWriter

PROBLEMS = 32


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will take at most; a larger batch than the short run's is often faster."""

    completions: int
    seconds: float
    bytes_on_disk: float
    bytes_free: int
    load_seconds: float  # of one checkpoint
    completions_per_second: float  # of one worker

    @property
    def fits(self) -> bool:
        """Whether the disk has room for it, and half as much again."""
        return self.bytes_free > 1.5 * self.bytes_on_disk


def estimate_job(
    spec: ScoringSpec,
    run: Run,
    train: Sequence[Example],
    test: Sequence[Example],
    store: Path,
    devices: Sequence[str | None],
) -> Estimate:
    """Score a few problems at the last checkpoint, keep nothing, and extrapolate.

    Args:
        store: where the job will write.
        devices: as for `Processes`; one worker is measured, all of them counted on.

    Raises:
        JobError: the checkpoint cannot be scored, for the reason given.
    """
    checkpoint = run.checkpoints[-1]
    few = examples.draw(train, min(PROBLEMS, len(train)), spec.sampling.seed)
    small = replace(spec, plan="full", perturbations=(), chunk_examples=len(few))
    with tempfile.TemporaryDirectory(prefix="premem-") as scratch:
        (Path(scratch) / "inbox").mkdir()
        board = work_left.all_work(small, [checkpoint.step], few, ())
        shelf = ShardWriter(scratch, spec.run)
        assignment = Assignment((checkpoint,), board, shelf, Resources())
        events = _run(assignment, LocalExecutor(devices[:1], spec.backend))
        sizes = [
            (file.stat().st_size, ".samples." in file.name)
            for file in (Path(scratch) / "inbox").glob("*.parquet")
        ]
    load = sum(event.seconds for event in events if event.kind == "loaded")
    targets = sum(e.seconds for e in events if e.text == "perplexities")
    samples = sum(e.seconds for e in events if e.text == "train samples")
    drawn = len(few) * spec.sampling.samples
    completions = work_left.most_completions(spec, [c.step for c in run.checkpoints], train, test)
    perplexities = len(run.checkpoints) * len(train)
    workers = min(len(devices), len(run.checkpoints))
    seconds = (
        len(run.checkpoints) * load
        + perplexities * targets / len(few)
        + completions * samples / drawn
    ) / workers
    return Estimate(
        completions=completions,
        seconds=seconds,
        bytes_on_disk=completions * sum(s for s, is_samples in sizes if is_samples) / drawn
        + perplexities * sum(s for s, is_samples in sizes if not is_samples) / len(few),
        bytes_free=shutil.disk_usage(_existing_part(store)).free,
        load_seconds=load,
        completions_per_second=drawn / samples if samples else float("inf"),
    )


def estimate_apart(
    store: Path, spec: ScoringSpec, run: Run, train: Sequence[Example], test: Sequence[Example]
) -> Estimate:
    """`estimate` for all of this machine's GPUs, in a process of its own.

    For the dashboard: its own process must neither load a model nor fork.

    Raises:
        JobError: the checkpoint cannot be scored, for the reason given.
    """
    with tempfile.TemporaryDirectory(prefix="premem-") as scratch:
        jobs.create_job(Store(scratch), spec, run, "estimate", train, test)
        command = ["jobs", "estimate", spec.run, "--store", scratch, "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "premem_core", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            raise JobError(reason[-1].removeprefix("error: ") if reason else done.stderr[-300:])
        found = Estimate(**json.loads(done.stdout))
    return replace(found, bytes_free=shutil.disk_usage(store).free)


def _run(assignment: Assignment, executor: LocalExecutor) -> list[Event]:
    events: list[Event] = []
    executor.submit(assignment)
    while not executor.free:
        events += executor.wait(1.0)
    if wrong := [e for e in events if e.kind in ("failed", "memory", "disk", "lost")]:
        raise JobError(f"checkpoint {wrong[0].step} cannot be scored: {wrong[0].text}")
    return events


def _existing_part(path: Path) -> Path:
    return next(part for part in (path.resolve(), *path.resolve().parents) if part.exists())
