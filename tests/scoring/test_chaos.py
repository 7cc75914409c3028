"""Jobs at which everything goes wrong: they end as if nothing had, or say what to do."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest

from premem_core.errors import StoreError
from premem_core.files import write_json
from premem_core.models import checkpoints
from premem_core.records import Run, Sampling
from premem_core.scoring import job_files, job_process, jobs
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder
from premem_core.store.runs import read_checkpoints
from premem_core.store.scores import commit_inbox, read_committed_shards, read_counts, read_scores
from tests.helpers import tiny
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.chaos

TRAIN, TEST = tiny.sums(0, 48), tiny.sums(48, 40)
STEPS = (72, 144, 216, 288, 360)
KEY = ["step", "split", "perturbation", "example", "sample"]
TWO = job_files.Execution(workers=2)
SPEC = ScoringSpec(
    "sums",
    "gsm8k",
    sampling=Sampling(samples=4, max_new_tokens=30),
    chunk_examples=16,
    plan="lazy",
    log_log_threshold=-2.3,
    perturbations=("first",),
)


@pytest.fixture(scope="module")
def five(tmp_path_factory) -> Path:
    """A run of five checkpoints; none of the first is memorized, all of the last."""
    from premem_core.training.finetune import finetune_model

    folder = tmp_path_factory.mktemp("five")
    return finetune_model(
        tiny.save_base(folder / "base"),
        TRAIN,
        folder / "run",
        learning_rate=5e-3,
        epochs=120,
        batch_size=16,
        checkpoint_every=24,
        warmup_steps=5,
    )


def create(store: Store, run: Path | Run, spec: ScoringSpec = SPEC, **options) -> JobFolder:
    run = run if isinstance(run, Run) else checkpoints.read_run(run)
    return jobs.create_job(store, spec, run, "sums", TRAIN, TEST, execution=TWO, **options)


def finished(folder: Path, run: Path, spec: ScoringSpec = SPEC) -> Store:
    store = Store(folder)
    create(store, run, spec)
    assert job_process.run_job(store, "sums").state == "done"
    return store


@pytest.fixture(scope="module")
def whole(five, tmp_path_factory) -> Store:
    """A store with the job done in one go."""
    return finished(tmp_path_factory.mktemp("whole"), five)


def completions(store: Store) -> pd.DataFrame:
    sheets = [("train", ""), ("test", ""), ("train", "first")]
    parts = [read_completions(store, "sums", step, *sheet) for step in STEPS for sheet in sheets]
    return pd.concat(parts, ignore_index=True).sort_values(KEY, ignore_index=True)


def assert_consistent(store: Store) -> None:
    """Each completion is there once, and they are what the store's counts say."""
    drawn = completions(store)
    assert not drawn.duplicated(KEY).any()
    counts = read_counts(store, "sums").set_index(KEY[:-1]).sort_index()
    counts = counts[counts["samples"] > 0]
    by_pair = drawn.groupby(KEY[:-1])["grade"]
    assert by_pair.count().equals(counts["samples"].astype("int64").rename("grade"))
    assert by_pair.agg(lambda g: (g == 0).sum()).tolist() == counts["correct"].tolist()


def assert_same(one: Store, other: Store, last_failed: bool = False) -> None:
    """Whatever the shards are called, the two hold the same.

    Args:
        last_failed: the last checkpoint of the other one's job had failed for a time. Perturbed
            queries were then sampled at the last that had not, and those may be there too.
    """

    def without_those(rows: pd.DataFrame, perturbed: pd.Series | bool) -> pd.DataFrame:
        wanted = ~(perturbed & (rows["step"] != rows["step"].max()))
        return rows[wanted].reset_index(drop=True) if last_failed else rows

    for store in (one, other):
        assert_consistent(store)
        assert not list((store.path / "inbox").iterdir())
        files = list(store.path.glob("completions/*/*"))
        assert {file.name for file in files} == read_committed_shards(store, "sums")
    drawn = completions(other)
    drawn = without_those(drawn, drawn["perturbation"] != "")
    pd.testing.assert_frame_equal(completions(one), drawn)
    for perturbation in ("", "first"):
        scores = [read_scores(store, "sums", perturbation) for store in (one, other)]
        scores[1] = without_those(scores[1], perturbation != "")
        pd.testing.assert_frame_equal(scores[0], scores[1], check_exact=True)
    states = [
        read_checkpoints(store, "sums")[["step", "state", "reason", "samples"]]
        for store in (one, other)
    ]
    pd.testing.assert_frame_equal(states[0], states[1])


def wait_for(condition, seconds: float = 120):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "what was waited for did not happen"
        time.sleep(0.01)
    return found


def shards(store: Store) -> int:
    return len(
        {f.name for f in [*store.path.glob("inbox/*.parquet"), *store.path.glob("completions/*/*")]}
    )


# 100 kills


COMMITTER = """
import sys, time
from premem_core.store.database import Store
from premem_core.store.scores import commit_inbox
store = Store(sys.argv[1])
while True:
    commit_inbox(store)
    time.sleep(0.005)
"""


class Victims:
    """A job's process, its workers and a committer at one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.start_parent()
        self.start_committer()

    def start_parent(self) -> None:
        command = ["-m", "premem_core", "jobs", "run", "sums", "--store", str(self.store.path)]
        self.parent = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)

    def start_committer(self) -> None:
        command = [sys.executable, "-c", COMMITTER, str(self.store.path)]
        self.committer = subprocess.Popen(command)

    def workers(self) -> list[psutil.Process]:
        """The grandchildren: what the server, a child, has forked."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.parent.pid).children(recursive=True)
            return [each for each in family if each.ppid() != self.parent.pid]
        return []

    def committing(self, pid: int) -> bool:
        """True while that process holds the store's lock for writing."""
        inode = f":{(self.store.path / 'premem.lock').stat().st_ino} "
        locks = Path("/proc/locks").read_text().splitlines()
        return any(f" WRITE {pid} " in line and inode in line for line in locks)

    def kill(self, kind: str, rng: random.Random) -> str:
        """Kill one of a kind; what it was at, or "" where there is none now."""
        if kind == "worker":
            found = self.workers()
            if found:
                rng.choice(found).kill()
            return "working" if found else ""
        process = self.parent if kind == "parent" else self.committer
        at = "committing" if self.committing(process.pid) else "working"
        process.kill()
        process.wait()
        return at

    def close(self) -> None:
        for process in (self.parent, self.committer):
            process.kill()
            process.wait()


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end between the two questions
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def seconds_to_end(processes: list[psutil.Process]) -> float:
    """How long it takes until none of them is there any more."""
    began = time.monotonic()
    wait_for(lambda: not alive(processes), 20)
    return time.monotonic() - began


KILLS = {"worker": 60, "parent": 20, "committer": 20}


@pytest.mark.timeout(900)
def test_after_a_hundred_kills_a_job_has_the_results_of_an_undisturbed_one(five, tmp_path):
    spec = replace(SPEC, chunk_examples=2)
    whole = finished(tmp_path / "whole", five, spec)
    in_all = shards(whole)
    rng = random.Random(100)
    kinds = [kind for kind, n in KILLS.items() for _ in range(n)]
    rng.shuffle(kinds)
    found: Counter[str] = Counter()
    orphaned: list[float] = []
    began, job, on_disk = time.monotonic(), 0, []
    while kinds:
        job += 1
        store = Store(tmp_path / f"killed-{job}")
        create(store, five, spec)
        victims, last_failed = Victims(store), False
        try:
            while kinds:
                kind, before = kinds[-1], shards(store)
                if rng.random() < 0.75:  # the others are killed wherever they are, starting perhaps
                    wait_for(
                        lambda v=victims, n=before: (
                            shards(v.store) > n or v.parent.poll() is not None
                        )
                    )
                time.sleep(rng.uniform(0, 0.4))
                if victims.parent.poll() is not None:
                    if jobs.job_progress(store, "sums").state == "done":
                        break
                    found["restart after a failed checkpoint"] += 1
                    states = read_checkpoints(store, "sums")["state"]
                    last_failed |= states.iloc[-1] == "failed"
                    victims.start_parent()
                    continue
                workers = victims.workers()
                at = victims.kill(kind, rng)
                if not at:
                    time.sleep(0.05)
                    continue
                kinds.pop()
                on_disk.append(shards(store))
                progressed = "" if on_disk[-1] > before else ", before a chunk was finished"
                found[f"{kind} {at}{progressed}"] += 1
                if kind == "parent":
                    orphaned.append(seconds_to_end(workers))
                    victims.start_parent()
                if kind == "committer":
                    victims.start_committer()
        finally:
            victims.close()
        end = job_process.run_job(store, "sums")
        assert end.state == "done", end.message
        assert_same(whole, store, last_failed)
    print(f"\n{sum(KILLS.values())} kills over {job} jobs in {time.monotonic() - began:.0f} s")
    print(f"chunks on disk at each kill, of {in_all}: {on_disk}")
    for what, n in sorted(found.items()):
        print(f"{n:4} {what}")
    print(f"orphaned workers ended after at most {max(orphaned):.2f} s")
    finished_one = sum(n for what, n in found.items() if what.endswith("working"))
    assert finished_one > 30
    assert sum(n for what, n in found.items() if "committing" in what) > 3


# A worker with a fault


def run_with(fault: str, store: Store, log: Path) -> tuple[str, str]:
    """The job's last state and message; how often the fault struck is in `log`."""
    helpers = ROOT / "tests" / "helpers"
    done = subprocess.run(
        [sys.executable, helpers / "faults.py", fault, store.path, "sums"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{helpers}", "FAULT_LOG": str(log)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    state, message = done.stdout.splitlines()[:2]
    return state, message


def strikes(log: Path) -> list[tuple[int, int]]:
    """Which process, and what of."""
    lines = (line.split() for line in log.read_text().splitlines())
    return [(int(process), int(what)) for process, what in lines]


def test_memory_that_runs_out_within_a_batch_costs_speed_only(five, whole, tmp_path):
    store = Store(tmp_path / "store")
    create(store, five)
    assert run_with("memory_for_few", store, tmp_path / "log") == ("done", "")
    struck = strikes(tmp_path / "log")
    assert len({pid for pid, _ in struck}) == 2  # each worker, which goes on
    print(f"\nrefused {len(struck)} batches, of {min(struck)[1]} to {max(n for _, n in struck)}")
    pd.testing.assert_frame_equal(completions(store), completions(whole))
    scores, expected = (read_scores(s, "sums") for s in (store, whole))
    pd.testing.assert_frame_equal(scores, expected, rtol=1e-5)
    assert_consistent(store)


def test_a_worker_without_memory_is_started_again_with_smaller_batches(five, whole, tmp_path):
    store = Store(tmp_path / "store")
    create(store, five)
    assert run_with("memory_for_a_smaller_engine", store, tmp_path / "log") == ("done", "")
    divisors = {divisor for _, divisor in strikes(tmp_path / "log")}
    assert divisors <= {1, 2}
    assert_same(whole, store)


def test_a_checkpoint_that_kills_its_worker_fails_and_the_rest_is_scored(five, whole, tmp_path):
    store = Store(tmp_path / "store")
    create(store, five)
    state, message = run_with("killed_while_loading", store, tmp_path / "log")
    assert state == "failed"
    assert message.startswith("checkpoint 216: its process died 3 times")
    assert "signal 9" in message
    assert len(strikes(tmp_path / "log")) == 3
    states = read_checkpoints(store, "sums")
    assert states["state"].tolist() == ["scored", "scored", "failed", "scored", "scored"]
    assert_consistent(store)
    assert job_process.run_job(store, "sums").state == "done"
    assert_same(whole, store)


@pytest.mark.timeout(120)
def test_a_worker_that_is_killed_between_two_adapters_is_replaced(tmp_path):
    base = tiny.save_base(tmp_path / "base")
    for seed, step in enumerate((72, 216)):
        tiny.save_adapter(base, tmp_path / "run" / f"checkpoint-{step}", seed)
    store = Store(tmp_path / "store")
    run = checkpoints.read_run(tmp_path / "run")
    jobs.create_job(store, replace(SPEC, plan="full"), run, "sums", TRAIN[:4], TEST[:4])
    assert run_with("killed_between_adapters", store, tmp_path / "log") == ("done", "")
    assert len(strikes(tmp_path / "log")) == 1
    assert read_checkpoints(store, "sums")["state"].tolist() == ["scored", "scored"]
    assert_consistent(store)


# Broken checkpoints


def truncate(file: Path) -> str:
    file.write_bytes(file.read_bytes()[:-100])
    return "not a whole safetensors file"


def fill_with_nan(file: Path) -> str:
    from safetensors.numpy import load_file, save_file

    save_file({name: array * float("nan") for name, array in load_file(file).items()}, file)
    return "not finite"


@pytest.mark.parametrize("damage", [truncate, fill_with_nan])
def test_a_broken_third_checkpoint_of_five_costs_itself_only(five, whole, tmp_path, damage):
    run = shutil.copytree(five, tmp_path / "run")
    store = Store(tmp_path / "store")
    create(store, run)
    reason = damage(run / "checkpoint-216" / "model.safetensors")
    end = job_process.run_job(store, "sums")
    assert end.state == "failed"
    assert "checkpoint 216" in end.message
    states = read_checkpoints(store, "sums")
    assert states["state"].tolist() == ["scored", "scored", "failed", "scored", "scored"]
    print(f"\n{states['reason'][2]}")
    assert reason in states["reason"][2]
    assert_consistent(store)
    shutil.copytree(five, run, dirs_exist_ok=True)
    assert job_process.run_job(store, "sums").state == "done"
    assert_same(whole, store)


@pytest.mark.parametrize("plan", ["full", "lazy", "final"])
def test_when_every_checkpoint_is_broken_the_job_says_so(five, tmp_path, plan):
    run = shutil.copytree(five, tmp_path / "run")
    store = Store(tmp_path / "store")
    create(store, run, replace(SPEC, plan=plan))
    for step in STEPS:
        truncate(run / f"checkpoint-{step}" / "model.safetensors")
    end = job_process.run_job(store, "sums")
    assert end.state == "failed"
    assert end.message.count("not a whole safetensors file") == 5


# A full disk


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, but: int) -> None:
    """Leave only so many bytes free."""
    usage = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(usage.f_bavail * usage.f_bsize - but))


def free(disk: Path) -> None:
    (disk / "ballast").unlink()


@pytest.mark.parametrize("kilobytes", [0, 300, 1200])
def test_on_a_full_disk_a_job_stops_with_one_sentence_and_loses_nothing(
    five, whole, disk, kilobytes
):
    store = Store(disk / "store")
    create(store, five)
    fill(disk, but=kilobytes * 1024)
    command = ["-m", "premem_core", "jobs", "run", "sums", "--store", str(store.path)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = done.stderr.strip().splitlines()[-1]
    print(f"\n{kilobytes} KB: {said}")
    assert "No space left" in said or "is full" in said
    assert "free space" in said
    assert jobs.job_progress(store, "sums").state == "failed"
    assert_consistent(Store(store.path))
    free(disk)
    assert job_process.run_job(store, "sums").state == "done"
    assert_same(whole, store)


def refusal(store: Store) -> str:
    """What is said when the inbox cannot be committed."""
    try:
        commit_inbox(store)
    except StoreError as error:
        return str(error)
    return ""


def test_a_commit_for_which_the_disk_has_no_room_changes_nothing(five, whole, disk):
    prepared = Store(disk / "prepared")
    create(prepared, five)
    for shard in whole.path.glob("completions/*/*"):
        shutil.copy(shard, prepared.path / "inbox")
    said = {}
    for kilobytes in range(0, 80, 8):
        store = Store(shutil.copytree(prepared.path, disk / "store"))
        fill(disk, but=kilobytes * 1024)
        if message := refusal(store):
            said[kilobytes] = message
            assert read_counts(Store(store.path), "sums").empty
        assert_consistent(Store(store.path))
        free(disk)
        commit_inbox(store)
        pd.testing.assert_frame_equal(completions(store), completions(whole))
        assert_consistent(store)
        shutil.rmtree(store.path)
    print(f"\nrefused with {[*said]} KB: {said[0]}")
    assert 1 < len(said) < 10
    assert all("free space" in message for message in said.values())


def test_on_a_full_disk_a_jobs_state_is_as_it_was_or_as_it_should_be(disk):
    file = disk / "state.json"
    write_json(file, {"message": "was"})
    fill(disk, but=0)
    write_json(file, {"message": "failed: the disk is full"})
    assert json.loads(file.read_text()) == {"message": "failed: the disk is full"}
    with pytest.raises(OSError, match="No space left"):
        write_json(file, {"message": "long" * 10_000})
    assert json.loads(file.read_text()) == {"message": "failed: the disk is full"}
    write_json(file, {})
    assert json.loads(file.read_text()) == {}
