"""Watching a run that still trains: a copier plays the trainer; tests/training has real ones."""

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from premem_core.analysis import run_scores
from premem_core.errors import CheckpointError, DataError, UsageError
from premem_core.models.checkpoints import read_run
from premem_core.models.on_disk import kept_checkpoints
from premem_core.models.on_disk.json_files import read_json
from premem_core.models.on_disk.kept_checkpoints import keep_checkpoint
from premem_core.records import Sampling
from premem_core.scoring import job_process, jobs
from premem_core.scoring.preparation.prepare import prepare
from premem_core.scoring.preparation.request import ScoreRequest, read_requested_data, with_kept
from premem_core.scoring.watching import keeper
from premem_core.scoring.watching.keeper import Keeper
from premem_core.scoring.watching.watch import Patience, Watch
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints
from premem_core.training.live_results import LiveResults
from tests.helpers import tiny

SHORT = Sampling(samples=1, max_new_tokens=16)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(keeper, "SECONDS", 0.05)


def steps_of(folder: Path) -> list[int]:
    return sorted(int(p.name.rpartition("-")[2]) for p in folder.glob("checkpoint-*"))


class Trainer(threading.Thread):
    """Writes the checkpoints of a run slowly, file by file, and keeps only the last one."""

    def __init__(self, made: Path, out: Path, seconds: float = 0.15) -> None:
        super().__init__()
        self.made, self.out, self.seconds = made, out, seconds

    def run(self) -> None:
        before = None
        for step in steps_of(self.made):
            self.save(step)
            if before is not None:
                shutil.rmtree(self.out / f"checkpoint-{before}")
            before = step

    def save(self, step: int) -> None:
        folder = self.out / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        files = sorted(
            (self.made / folder.name).iterdir(), key=lambda f: f.name == "trainer_state.json"
        )
        for file in files:
            content = file.read_bytes()
            half = len(content) // 2
            with (folder / file.name).open("wb") as handle:
                handle.write(content[:half])
                handle.flush()
                time.sleep(self.seconds / len(files))
                handle.write(content[half:])
        time.sleep(self.seconds)


def request(run, data, **changes):
    return ScoreRequest(run, data[0], backend="hf", sampling=SHORT, run="sums", task="t", **changes)


def drawn(store):
    steps = read_checkpoints(store, "sums")["step"]
    return {
        step: read_completions(store, "sums", step, "train")["completion"].tolist()
        for step in steps
    }


@pytest.fixture(scope="module")
def whole(run_dir, data, tmp_path_factory):
    """The run scored after its training."""
    store = Store(tmp_path_factory.mktemp("whole"))
    prepare(request(run_dir, data)).create(store)
    assert job_process.run_job(store, "sums").state == "done"
    return drawn(store)


def test_each_checkpoint_is_scored_also_those_that_the_trainer_deletes(
    run_dir, data, whole, tmp_path
):
    store, out = Store(tmp_path / "store"), tmp_path / "run"
    trainer = Trainer(run_dir, out)
    watch = Watch(store, request(out, data), say=lambda _: None)
    trainer.start()
    end = watch.watch()
    trainer.join()
    assert (end.state, end.message, end.lost) == ("done", "", ())
    assert drawn(store) == whole
    assert steps_of(out) == steps_of(run_dir)[-1:]
    assert steps_of(watch.folder.kept) == steps_of(run_dir)
    assert not list(watch.folder.kept.rglob("*.safetensors"))


def test_a_watch_that_is_started_again_goes_on_where_it_was(run_dir, data, whole, tmp_path):
    store, out = Store(tmp_path / "store"), tmp_path / "run"
    first, second, last = steps_of(run_dir)
    trainer = Trainer(run_dir, out, seconds=0)
    trainer.save(first)
    one = Watch(store, request(out, data), say=lambda _: None)
    assert one.watch(Patience(idle=0.0)).state == "done"
    trainer.save(second)
    Keeper(out, one.folder.kept).look()  # and then it is killed
    shutil.rmtree(out / f"checkpoint-{second}")
    trainer.save(last)
    again = Watch(store, request(out, data), say=lambda _: None)
    assert again.watch().lost == ()
    assert drawn(store) == whole
    third = Watch(store, request(out, data), say=lambda _: None)  # nothing is left to do
    assert third.watch().state == "done"
    assert drawn(store) == whole


def test_a_watched_run_is_extended_from_its_own_folder(run_dir, data, tmp_path):
    store, out = Store(tmp_path / "store"), tmp_path / "run"
    trainer = Trainer(run_dir, out, seconds=0)
    first, second, last = steps_of(run_dir)
    for step in (first, second):
        trainer.save(step)
        Watch(store, request(out, data), say=lambda _: None).watch(Patience(idle=0.0))
    shutil.rmtree(out / f"checkpoint-{first}")
    before = drawn(store)
    trainer.save(last)
    more = replace(request(out, data), sampling=replace(SHORT, samples=2))
    found = with_kept(more, read_requested_data(more), store.path)
    prepare(more, found).create(store, extend=True)
    assert job_process.run_job(store, "sums").state == "done"
    samples = {step: len(texts) / 48 for step, texts in drawn(store).items()}
    assert samples == {first: 1, second: 2, last: 2}  # the weights of the first are gone
    assert drawn(store)[first] == before[first]
    assert read_checkpoints(store, "sums")["state"].tolist() == ["scored"] * 3


def test_a_scored_run_can_be_watched(run_dir, data, whole, tmp_path):
    store, out = Store(tmp_path / "store"), tmp_path / "run"
    trainer = Trainer(run_dir, out, seconds=0)
    first, *others = steps_of(run_dir)
    trainer.save(first)
    prepare(request(out, data)).create(store)
    assert job_process.run_job(store, "sums").state == "done"
    for step in others:
        trainer.save(step)
    end = Watch(store, request(out, data), say=lambda _: None).watch()
    assert (end.state, end.lost, drawn(store)) == ("done", (), whole)


def test_live_results_are_of_the_part_that_the_threshold_is_for(run_dir, tmp_path):
    store, file = Store(tmp_path / "store"), tmp_path / "train.jsonl"
    rows = [
        {"question": f"{a} + {b} =", "solution": f"<think>{a}, {b}</think>{a + b}\n#### {a + b}"}
        for a in range(3) for b in range(4)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    last = run_dir / f"checkpoint-{steps_of(run_dir)[-1]}"
    shares = {}
    for part in ("target", "answer"):
        asked = ScoreRequest(last, file, backend="hf", sampling=SHORT, run=part, task=part)
        asked = replace(asked, segment=part, plan="last", log_log_threshold=0.0)
        prepare(asked).create(store)
        assert job_process.run_job(store, part).state == "done"
        nll = np.log(run_scores.read_task(store, part, part)[0].nll)
        if part == "target":
            t = float(np.median(nll))  # below which lies half of the whole targets
        [(logs, _)] = LiveResults(store, part, t).new()
        shares[part] = logs["premem/memorized_share"]
        assert shares[part] == np.mean(nll < t)
    assert shares["target"] == 0.5 != shares["answer"]


def test_a_released_checkpoint_stays_scored_whatever_is_asked_of_it_later(run_dir, data, tmp_path):
    store, out = Store(tmp_path / "store"), tmp_path / "run"
    trainer = Trainer(run_dir, out, seconds=0)
    for step, t in zip(steps_of(run_dir)[:2], (9.0, -9.0), strict=True):  # all memorized, then none
        trainer.save(step)
        asked = request(out, data, plan="last", log_log_threshold=t)
        end = Watch(store, asked, say=lambda _: None).watch(Patience(idle=0.0))
        assert (end.state, end.message) == ("done", "")
        shutil.rmtree(out / f"checkpoint-{step}")
    assert read_checkpoints(store, "sums")["state"].tolist() == ["scored", "scored"]
    assert [len(found) for found in drawn(store).values()] == [0, 48]


def test_the_threshold_of_the_first_checkpoint_is_that_of_the_following_ones(
    run_dir, data, tmp_path
):
    store, out = Store(tmp_path / "store"), tmp_path / "run"
    trainer, fitted = Trainer(run_dir, out, seconds=0), iter([-2.0, -1.0])
    asked = request(out, data, plan="last")
    watch = Watch(store, asked, find_threshold=lambda *_: next(fitted))
    used = []
    for step in steps_of(run_dir)[:2]:
        trainer.save(step)
        Keeper(out, watch.folder.kept).look()
        job = watch._prepared()
        job.create(store, extend=True)
        used.append(job.spec.log_log_threshold)
    assert used == [-2.0, -2.0]


@pytest.mark.slow
def test_a_kept_adapter_names_its_base_model_where_the_run_has_it(tmp_path):
    run, kept = tmp_path / "run", tmp_path / "kept"
    tiny.save_adapter(tiny.save_base(run / "base"), run / "checkpoint-1")
    config = run / "checkpoint-1" / "adapter_config.json"
    config.write_text(json.dumps(read_json(config) | {"base_model_name_or_path": "base"}))
    (run / "checkpoint-1" / "trainer_state.json").write_text('{"global_step": 1}')
    Keeper(run, kept).look()
    [checkpoint] = read_run(kept).checkpoints
    assert checkpoint.adapter_base == str(run / "base")
    assert read_json(config)["base_model_name_or_path"] == "base"  # the run's own file


def test_a_watch_that_is_stopped_before_a_checkpoint_is_scored_has_no_results_to_tell(
    run_dir, data, tmp_path
):
    def stop(progress):
        if progress.state == "running":
            jobs.cancel_job(store, watch.run)

    store = Store(tmp_path / "store")
    told: list[object] = []
    watch = Watch(store, request(run_dir, data), lambda _: None, stop, told.append)
    assert watch.watch(Patience(idle=0.0)).state == "cancelled"
    assert not told
    assert set(read_checkpoints(store, watch.run)["state"]) == {"waiting"}


def test_what_cannot_be_read_is_refused_before_a_checkpoint_comes(data, tmp_path):
    store = Store(tmp_path / "store")
    asked = request(tmp_path / "run", (tmp_path / "nowhere.jsonl", data[1]))
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        Watch(store, asked, say=lambda _: None).watch(Patience(idle=0.0))
    with pytest.raises(UsageError, match="a watch scores checkpoints on this machine"):
        Watch(store, replace(request(tmp_path / "run", data), backend="server")).watch()


def test_a_folder_to_which_no_checkpoint_came_is_named(data, tmp_path):
    store, folder = Store(tmp_path / "store"), tmp_path / "none"
    watched = Watch(store, request(folder, data), say=lambda _: None).watch(Patience(idle=0.0))
    assert watched.state == "waiting"
    assert watched.message == f"no whole checkpoint came to {folder}"


def test_what_was_deleted_or_never_whole_is_named(run_dir, data, tmp_path):
    store, out = Store(tmp_path / "store"), tmp_path / "run"
    trainer = Trainer(run_dir, out, seconds=0)
    _, second, last = steps_of(run_dir)
    half = out / "checkpoint-7"
    half.mkdir(parents=True)
    (half / "config.json").write_text("{}")
    looks = Keeper(out, tmp_path / "kept")
    looks.look()
    shutil.rmtree(half)
    looks.look()
    assert looks.lost == {"checkpoint-7"}
    trainer.save(last)
    broken = out / f"checkpoint-{second}"
    shutil.copytree(run_dir / broken.name, broken)
    (broken / "model.safetensors").write_bytes(b"broken")
    end = Watch(store, request(out, data), say=lambda _: None).watch()
    assert end.state == "done"
    [reason] = end.lost
    assert f"checkpoint-{second}/model.safetensors is not a whole safetensors file" in reason


def test_without_links_files_are_copied_and_a_full_disk_leaves_nothing(
    run_dir, tmp_path, monkeypatch
):
    folder = run_dir / f"checkpoint-{steps_of(run_dir)[0]}"

    def no_link(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(kept_checkpoints.os, "link", no_link)
    keep_checkpoint(folder, tmp_path / "kept" / "checkpoint-1")
    same = (tmp_path / "kept/checkpoint-1/model.safetensors").read_bytes()
    assert same == (folder / "model.safetensors").read_bytes()

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_checkpoints.shutil, "copyfile", no_space)
    with pytest.raises(CheckpointError, match="cannot be kept"):
        keep_checkpoint(folder, tmp_path / "kept" / "checkpoint-2")
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["checkpoint-1"]
