"""Running a scoring job, in the job's own process."""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from premem_core.errors import JobError, PrememError, StoreError
from premem_core.files import flock
from premem_core.models.backend import Resources
from premem_core.records import Run
from premem_core.scoring.dispatcher import Dispatcher
from premem_core.scoring.executors import local
from premem_core.scoring.executors.executor import Executor
from premem_core.scoring.executors.local import LocalExecutor
from premem_core.scoring.executors.worker import DISK_FULL
from premem_core.scoring.extra_passes import measure_weights
from premem_core.scoring.job_files import (
    Execution,
    existing_job_folder,
    read_job,
    training_problems,
)
from premem_core.scoring.jobs import all_job_progress, check_grader
from premem_core.scoring.progress import Progress, Tracker, read_progress, write_progress
from premem_core.store.database import Store
from premem_core.store.shards import ShardWriter


class Cancelled(BaseException):
    """The process was asked to stop (SIGTERM)."""


def run_job(
    store: Store,
    run: str,
    on_progress: Callable[[Progress], None] = lambda _: None,
    *,
    queue: bool = True,
) -> Progress:
    """Do what is left of a job, in this process and its workers; its last state.

    A checkpoint that cannot be scored is marked failed with its reason and the rest goes on.

    Args:
        queue: wait until the store's other jobs on this machine are done.

    Raises:
        JobError: there is no such job, or another process is running it.
        StoreError: the disk is full; what was finished is kept.
    """
    folder = existing_job_folder(store, run)
    state = folder / "state.json"
    try:
        with (
            flock(folder / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB),
            _sigterm_cancels(),
            _full_disk_said(store),
        ):
            # First of all who to signal: the file may still name a process that is gone.
            was = read_progress(state)
            queued = was.queued if was.state == "queued" else time.time()
            ours = replace(was, state="queued", pid=os.getpid(), message="", queued=queued)
            try:  # from here on it is known whom to signal
                write_progress(state, ours)
                with _turn(store, ours, on_progress) if queue else contextlib.nullcontext():
                    return _execute(store, run, on_progress)
            except (Cancelled, KeyboardInterrupt):
                message = "stopped on request; resume continues where it stopped"
                return _end(state, "cancelled", message, on_progress)
    except BlockingIOError as error:
        raise JobError(f"the job '{run}' is running already in another process") from error
    except PrememError as error:
        _end(state, "failed", str(error), on_progress)
        raise
    except Exception as error:
        _end(state, "failed", f"{type(error).__name__}: {error}", on_progress)
        raise


def _end(file: Path, state: str, message: str, on_progress: Callable[[Progress], None]) -> Progress:
    ended = replace(read_progress(file), state=state, message=message, updated=time.time())
    with contextlib.suppress(OSError):  # on a full disk; the error itself is what matters
        write_progress(file, ended)
    on_progress(ended)
    return ended


@contextlib.contextmanager
def _full_disk_said(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise StoreError(
            f"the disk of {store.path} is full; what was finished is kept: free space and resume"
        ) from error


@contextlib.contextmanager
def _turn(store: Store, ours: Progress, on_progress: Callable[[Progress], None]) -> Iterator[None]:
    """Jobs of a store run one after the other on this machine: first come, first served."""
    told = False
    while True:
        earlier = any(
            other.state == "queued"
            and other.pid  # it was started, not only created
            and (other.queued, other.run) < (ours.queued, ours.run)
            for other in all_job_progress(store)
        )
        if not earlier:
            with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as stack:
                stack.enter_context(
                    flock(store.path / "jobs" / "turn.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
                )
                held = stack.pop_all()
                break
        if not told:
            told = True
            on_progress(replace(ours, message="waiting for the job before it"))
        time.sleep(0.5)
    with held:
        yield


def _execute(store: Store, name: str, on_progress: Callable[[Progress], None]) -> Progress:
    folder = store.job_folder(name)
    spec, run, queries = read_job(store, name)
    check_grader(store, spec)
    execution = Execution(**json.loads((folder / "execution.json").read_text()))
    shelf = ShardWriter(execution.shards or str(store.path.resolve()), spec.run)
    shelf.sweep()
    executor = _executor(execution, run, spec.backend)
    dispatcher = Dispatcher(
        store,
        spec,
        run,
        queries,
        executor,
        shelf,
        Resources(tensor_parallel=execution.tensor_parallel),
    )
    try:
        start = read_progress(folder / "state.json")
        tracker = Tracker(folder / "state.json", start, dispatcher.known(), on_progress)
        dispatcher.work(tracker)
    finally:
        executor.close()
    shelf.sweep()
    failed = dispatcher.failed
    unmeasured = {}
    if execution.weights and len(failed) < len(run.checkpoints):
        base = Path(execution.base) if execution.base else None
        problems = training_problems(queries)
        unmeasured = measure_weights(store, name, problems, spec.template, base, say=tracker.say)
    reasons = [f"checkpoint {step}: {why}" for step, why in [*failed.items(), *unmeasured.items()]]
    return tracker.end("failed" if failed else "done", "; ".join(reasons))


def _executor(execution: Execution, run: Run, backend: str) -> Executor:
    if execution.executor == "ray":
        from premem_core.scoring.executors.ray_cluster import RayExecutor

        return RayExecutor(execution.address, execution.tensor_parallel, execution.workers)
    devices = local.devices(execution.workers, execution.tensor_parallel)
    return LocalExecutor(devices[: len(run.checkpoints)], backend)


@contextlib.contextmanager
def _sigterm_cancels() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Cancelled

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
