"""A scoring job's own process: it runs the job to its end."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from premem_core.errors import JobError, PrememError, StoreError
from premem_core.files import NO_SPACE, flock
from premem_core.models.backend import Resources
from premem_core.scoring.dispatcher import Dispatcher
from premem_core.scoring.executors import local
from premem_core.scoring.executors.executor import Executor
from premem_core.scoring.executors.local import LocalExecutor
from premem_core.scoring.extra_passes import measure_weights
from premem_core.scoring.job_files import (
    Execution,
    existing_job_folder,
    find_base,
    read_execution,
    read_job,
    training_problems,
)
from premem_core.scoring.jobs import all_job_progress, check_grader
from premem_core.scoring.progress import (
    Progress,
    Tracker,
    checkpoint_name,
    read_progress,
    write_progress,
)
from premem_core.scoring.served_run import server_of
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder, queue_lock
from premem_core.store.shards.committed_shards import withdraw_broken
from premem_core.store.shards.shards import ShardWriter


class Cancelled(BaseException):
    """The process was asked to stop (SIGTERM)."""


def run_job(
    store: Store,
    run: str,
    on_progress: Callable[[Progress], None] = lambda _: None,
    *,
    queue: bool = True,
    executor: Executor | None = None,
) -> Progress:
    """Do the remaining work of a job in this process and its workers; return its last state.

    A checkpoint that cannot be scored is marked as failed, with the reason. The others are scored.

    Args:
        queue: wait until the store's other jobs on this machine are done.
        executor: runs the assignments; None for the one that the job names.

    Raises:
        JobError: there is no such job, or another process is running it.
        StoreError: the disk is full; finished results are kept.
    """
    folder = existing_job_folder(store, run)
    state = folder.state
    try:
        with (
            flock(folder.lock, fcntl.LOCK_EX | fcntl.LOCK_NB),
            _sigterm_cancels(),
            _full_disk_said(store),
        ):
            # First store the id of this process, to which a cancellation is sent; the file may
            # still hold the id of a process that has ended.
            before = read_progress(state)
            queued = before.queued if before.state == "queued" else time.time()
            waiting = replace(before, state="queued", pid=os.getpid(), message="", queued=queued)
            try:  # a signal can arrive as soon as the id is stored
                write_progress(state, waiting)
                with _turn(store, waiting, on_progress) if queue else contextlib.nullcontext():
                    return _execute(store, run, on_progress, executor)
            except (Cancelled, KeyboardInterrupt):
                message = "stopped on request; resume the job to continue"
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
        if error.errno not in NO_SPACE:
            raise
        raise StoreError(
            f"the disk of {store.path} is full; finished results are kept: free space and resume"
        ) from error


@contextlib.contextmanager
def _turn(
    store: Store, waiting: Progress, on_progress: Callable[[Progress], None]
) -> Iterator[None]:
    """Wait for earlier jobs: on one machine, the jobs of a store run one after the other."""
    announced = False
    while True:
        if not _has_earlier(store, waiting):
            with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as stack:
                stack.enter_context(flock(queue_lock(store), fcntl.LOCK_EX | fcntl.LOCK_NB))
                held = stack.pop_all()
                break
        if not announced:
            announced = True
            on_progress(replace(waiting, message="waiting for an earlier job"))
        time.sleep(0.5)
    with held:
        yield


def _has_earlier(store: Store, waiting: Progress) -> bool:
    """Whether a job that was started earlier is also waiting."""
    return any(
        job.state == "queued"
        and job.pid  # it was started, not only created
        and (job.queued, job.run) < (waiting.queued, waiting.run)
        for job in all_job_progress(store)
    )


def _execute(
    store: Store,
    run: str,
    on_progress: Callable[[Progress], None],
    executor: Executor | None,
) -> Progress:
    folder = JobFolder.of(store, run)
    spec, checkpoints_of_run, queries = read_job(store, run)
    check_grader(store, spec)
    withdraw_broken(store, run)
    execution = read_execution(folder)
    resources = Resources(
        tensor_parallel=execution.tensor_parallel,
        server=server_of(execution, checkpoints_of_run) if spec.backend == "server" else None,
    )
    writer = ShardWriter(execution.shards or str(store.path.resolve()), spec.run)
    writer.sweep()
    base = find_base(spec, checkpoints_of_run, execution)
    other_base = None if base in checkpoints_of_run.checkpoints else base
    models = len(checkpoints_of_run.checkpoints) + (other_base is not None)
    executor = executor or _executor(execution, models, spec.backend)
    dispatcher = Dispatcher(
        store, spec, checkpoints_of_run, queries, executor, writer, resources, other_base
    )
    try:
        start = read_progress(folder.state)
        tracker = Tracker(folder.state, start, dispatcher.work_left(), on_progress)
        dispatcher.dispatch(tracker)
    finally:
        executor.close()
    writer.sweep()
    failed, unmeasured = dispatcher.failed, dict[int, str]()
    if execution.weights and len(failed) < len(checkpoints_of_run.checkpoints):
        origin = execution.base_folder
        problems = training_problems(queries)
        unmeasured = measure_weights(store, run, problems, spec.template, origin, say=tracker.say)
    reasons = [
        f"{checkpoint_name(step)}: {why}" for step, why in [*failed.items(), *unmeasured.items()]
    ]
    return tracker.end("failed" if failed else "done", "; ".join(reasons))


def _executor(execution: Execution, models: int, backend: str) -> Executor:
    if execution.executor == "ray":
        from premem_core.scoring.executors.ray_cluster import RayExecutor

        return RayExecutor(execution.address, execution.tensor_parallel, execution.workers)
    devices = local.devices(execution.workers, execution.tensor_parallel, backend)
    return LocalExecutor(devices[:models], backend)


@contextlib.contextmanager
def _sigterm_cancels() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Cancelled

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
