"""What `--workers 2` means on one GPU, and two jobs of one store that are started at once."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.gpu.sizes import DEMO, ROOT, Sizes
from premem_core.models import checkpoints
from premem_core.problems.examples import read_examples
from premem_core.records import Sampling
from premem_core.scoring import jobs
from premem_core.scoring.executors import local
from premem_core.scoring.job_files import Execution
from premem_core.scoring.progress import Progress
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store

JOBS = ("first", "second")


@dataclass(frozen=True, slots=True)
class Queue:
    """The devices of `--workers 2`, and the states of two jobs of one store, one after the other.

    A job is created until its process has begun; then it waits, runs, and is done.
    """

    devices: list[str | None]
    states: list[tuple[str, str]]
    passed: bool


def two_jobs(sizes: Sizes, device: str) -> Iterator[Queue]:
    """Two jobs that ask for two workers each, started at the same time by the command line."""
    train = read_examples(DEMO / "train_1000.jsonl").examples[: sizes.problems]
    run = checkpoints.read_run(next((DEMO / "runs").iterdir()))
    sampling = Sampling(samples=2, max_new_tokens=sizes.new_tokens)
    with tempfile.TemporaryDirectory(prefix="premem-") as folder:
        store = Store(folder)
        for name in JOBS:
            spec = ScoringSpec(run=name, grader="gsm8k", backend="hf", sampling=sampling)
            jobs.create_job(store, spec, run, "gpu", train, [], execution=Execution(workers=2))
        command = [sys.executable, "-m", "premem_core", "jobs", "run", "--store", folder]
        # In the group of this process, all of which the time limit ends.
        processes = [subprocess.Popen([*command, name], cwd=ROOT) for name in JOBS]
        seen = [states(store)]
        while any(process.poll() is None for process in processes):
            seen.append(states(store))
            time.sleep(0.2)
        seen.append(states(store))
    changes = [pair for i, pair in enumerate(seen) if i == 0 or pair != seen[i - 1]]
    devices = local.devices(2)
    yield Queue(devices, changes, took_turns(changes) and (device == "cpu" or len(devices) == 1))


def states(store: Store) -> tuple[str, str]:
    """The states of both jobs."""
    first, second = (jobs.job_progress(store, name) for name in JOBS)
    return state(first), state(second)


def state(job: Progress) -> str:
    """The state of a job; "created" before its process runs, "waiting" for its turn after that."""
    return job.state if job.state != "queued" else "waiting" if job.pid else "created"


def took_turns(changes: Sequence[tuple[str, str]]) -> bool:
    """Whether one job waited while the other ran, and both ended well."""
    waited = {("running", "waiting"), ("waiting", "running")} & set(changes)
    at_once = ("running", "running") in changes
    return bool(waited) and not at_once and changes[-1] == ("done", "done")
