"""Scoring on a Ray cluster: two nodes on this machine, and one that dies."""

import os
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from premem_core.errors import JobError
from premem_core.models import checkpoints
from premem_core.records import Sampling
from premem_core.scoring import job_files, job_process, jobs
from premem_core.scoring.executors.ray_cluster import RayExecutor
from premem_core.scoring.progress import Progress
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints
from premem_core.store.scores import read_committed_shards, read_counts, read_scores
from tests.helpers import tiny

pytestmark = pytest.mark.ray

TRAIN, TEST = tiny.sums(0, 48), tiny.sums(48, 40)
KEY = ["step", "split", "perturbation", "example", "sample"]
SPEC = ScoringSpec(
    "sums",
    "gsm8k",
    sampling=Sampling(samples=4, max_new_tokens=30),
    chunk_examples=2,
    plan="lazy",
    log_log_threshold=-2.3,
    perturbations=("first",),
)


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each; nothing is reported to anyone."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    nodes = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield nodes
    nodes.shutdown()


@pytest.fixture
def second(cluster):
    """The second node of that cluster."""
    node = cluster.add_node(num_cpus=1)
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


def create(store: Store, run_dir: Path, execution: job_files.Execution, spec: ScoringSpec = SPEC):
    run = checkpoints.read_run(run_dir)
    jobs.create_job(store, spec, run, "sums", TRAIN, TEST, execution=execution)


@pytest.fixture(scope="module")
def local(run_dir, tmp_path_factory) -> Store:
    """The same job, done on this machine."""
    store = Store(tmp_path_factory.mktemp("local"))
    create(store, run_dir, job_files.Execution(workers=2))
    assert job_process.run_job(store, "sums").state == "done"
    return store


def completions(store: Store) -> pd.DataFrame:
    sheets = [("train", ""), ("test", ""), ("train", "first")]
    steps = read_checkpoints(store, "sums")["step"]
    parts = [read_completions(store, "sums", step, *sheet) for step in steps for sheet in sheets]
    return pd.concat(parts, ignore_index=True).sort_values(KEY, ignore_index=True)


def assert_same(one: Store, other: Store) -> None:
    assert not completions(one).duplicated(KEY).any()
    pd.testing.assert_frame_equal(completions(one), completions(other))
    for perturbation in ("", "first"):
        scores = [read_scores(store, "sums", perturbation) for store in (one, other)]
        pd.testing.assert_frame_equal(scores[0], scores[1], check_exact=True)
    for store in (one, other):
        assert not list((store.path / "inbox").iterdir())
        files = list(store.path.glob("completions/*/*"))
        assert {file.name for file in files} == read_committed_shards(store, "sums")


def test_a_job_on_a_cluster_ends_like_one_on_this_machine_with_an_engine_for_each_worker(
    cluster, second, local, run_dir, tmp_path, monkeypatch
):
    store, submit, actors = Store(tmp_path), RayExecutor.submit, []

    def watched(executor, assignment):
        submit(executor, assignment)
        actors.append(list(executor._running.values())[-1].actor)

    monkeypatch.setattr(RayExecutor, "submit", watched)
    create(store, run_dir, job_files.Execution("ray", address=cluster.address))
    end = job_process.run_job(store, "sums")
    assert end.state == "done", end.message
    assert_same(store, local)
    assert len(set(actors)) < len(actors)


def test_a_node_that_is_killed_in_the_middle_of_a_checkpoint_costs_nothing(
    cluster, second, local, run_dir, tmp_path
):
    store = Store(tmp_path)
    create(store, run_dir, job_files.Execution("ray", address=cluster.address))
    raylet = second.all_processes["raylet"][0].process.pid
    killed: list[int] = []

    def kill_in_the_middle(progress: Progress) -> None:
        workers = [p for p in psutil.Process(raylet).children(recursive=True) if working(p)]
        under_way = [c for c in progress.checkpoints if c.completions_done > 0]
        if not killed and workers and under_way and progress.completions_done > 40:
            killed.append(progress.completions_done)
            for process in [psutil.Process(raylet), *workers]:
                process.kill()

    began = time.monotonic()
    end = job_process.run_job(
        store, "sums", lambda p: kill_in_the_middle(p) if not killed else None
    )
    assert end.state == "done", end.message
    print(
        f"\nnode killed at {killed[0]} of {end.completions_done} completions; "
        f"done after {time.monotonic() - began:.0f} s"
    )
    assert killed[0] < end.completions_done
    assert_same(store, local)


def working(process: psutil.Process) -> bool:
    return "ray::_Actor.work" in " ".join(process.cmdline())


def test_shards_come_from_a_prefix_where_nodes_do_not_see_the_store(
    cluster, local, run_dir, tmp_path
):
    store = Store(tmp_path / "store")
    prefix = f"file://{tmp_path}/prefix"
    create(store, run_dir, job_files.Execution("ray", address=cluster.address, shards=prefix))
    assert job_process.run_job(store, "sums").state == "done"
    assert_same(store, local)
    left = {file.name for file in (tmp_path / "prefix" / "sums").iterdir()}
    assert left == read_committed_shards(store, "sums")


def test_a_cluster_that_does_not_answer_is_one_sentence(run_dir, tmp_path):
    store = Store(tmp_path)
    create(store, run_dir, job_files.Execution("ray", address="127.0.0.1:1"))
    began = time.monotonic()
    with pytest.raises(JobError, match=r"no Ray cluster answers at 127.0.0.1:1 .*; start one"):
        job_process.run_job(store, "sums")
    assert time.monotonic() - began < 30
    assert jobs.job_progress(store, "sums").state == "failed"
    assert read_counts(store, "sums").empty


def test_an_executor_of_no_worker_has_room_for_none(cluster):
    executor = RayExecutor(cluster.address, 1, 0)
    try:
        assert executor.free == 0
    finally:
        executor.close()


def test_cancelling_stops_a_job_on_a_cluster_and_it_resumes_here(cluster, local, run_dir, tmp_path):
    store = Store(tmp_path)
    create(store, run_dir, job_files.Execution("ray", address=cluster.address))
    asked: list[int] = []

    def cancel(progress: Progress) -> None:
        if progress.completions_done and not asked:
            asked.append(progress.completions_done)
            jobs.cancel_job(store, "sums")

    assert job_process.run_job(store, "sums", cancel).state == "cancelled"
    run = checkpoints.read_run(run_dir)
    jobs.create_job(store, SPEC, run, "sums", TRAIN, TEST, resume=True)
    assert job_process.run_job(store, "sums").state == "done"
    assert_same(store, local)
