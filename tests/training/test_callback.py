"""The callback in real training: what it logs, what it leaves alone, when it stops a training."""

import os
import signal
import time

import numpy as np
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.analysis.gate import Rule
from premem_core.analysis.solutions import solution_measures
from premem_core.errors import UsageError
from premem_core.problems import examples
from premem_core.records import Sampling
from premem_core.scoring import job_process
from premem_core.scoring.executors import in_process
from premem_core.scoring.preparation.prepare import prepare
from premem_core.scoring.preparation.request import ScoreRequest
from premem_core.scoring.watching.watch import Watch
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder
from premem_core.training import PrememCallback
from tests.helpers import tiny
from tests.helpers.trainers import make_trainer

T = -1.0
SHORT = Sampling(samples=1, max_new_tokens=16)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save_base(tmp_path_factory.mktemp("base") / "base")


def logged(trainer, name):
    """The numbers of one name that were logged, by the step of their checkpoint."""
    rows = [row for row in trainer.state.log_history if "premem/checkpoint" in row]
    return {int(row["premem/checkpoint"]): row.get(f"premem/{name}") for row in rows}


def losses(trainer):
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_in_place_each_checkpoint_is_scored_and_logged_and_the_training_is_the_same(
    base, data, tmp_path
):
    plain = make_trainer(base, tmp_path / "plain")
    plain.train()
    store = tmp_path / "store"
    trainer = make_trainer(base, tmp_path / "run", save_total_limit=1)
    trainer.add_callback(
        PrememCallback(
            trainer, store, train=data[0], test=data[1], examples=20,
            log_log_threshold=T, sampling=SHORT,
        )
    )  # fmt: skip
    trainer.train()
    assert losses(trainer) == losses(plain)
    [run] = run_scores.read_task(Store(store), data[0].parent.name)
    line = curves.curve(run, T, "lu")
    assert run.steps.tolist() == [10, 20, 30]
    assert list(logged(trainer, "memorized_share").values()) == line.memorized.tolist()
    assert list(logged(trainer, "premem").values()) == line.premem.tolist()
    assert list(logged(trainer, "test_accuracy").values()) == line.test.tolist()
    held_out = solution_measures(Store(store), "run").query("split == 'test'")["nll"]
    assert list(logged(trainer, "held_out_nll").values()) == held_out.tolist()
    assert held_out.notna().all()
    # Only the last checkpoint is left of the training, and no weights of it are kept.
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-30"]
    assert not list(JobFolder.of(Store(store), "run").kept.rglob("*.safetensors"))
    # The numbers are those of the checkpoint in its folder.
    request = ScoreRequest(
        tmp_path / "run", data[0], backend="hf", train_sample=20, sampling=SHORT, plan="last",
        log_log_threshold=T,
    )  # fmt: skip
    prepare(request).create(Store(tmp_path / "again"))
    assert job_process.run_job(Store(tmp_path / "again"), "run").state == "done"
    [again] = run_scores.read_task(Store(tmp_path / "again"), data[0].parent.name)
    np.testing.assert_allclose(run.nll[-1], again.nll[-1], atol=1e-6)
    np.testing.assert_array_equal(run.counts.correct[-1], again.counts.correct[-1])


def test_a_training_ends_when_a_rule_certainly_fails(base, data, tmp_path):
    trainer = make_trainer(base, tmp_path / "run", max_steps=90, save_steps=30)
    callback = PrememCallback(
        trainer, tmp_path / "store", train=data[0], examples=48, log_log_threshold=1.5,
        sampling=SHORT, stop_when=[Rule("max-memorized", 0.5)],
    )  # fmt: skip
    trainer.add_callback(callback)
    trainer.train()
    shares = logged(trainer, "memorized_share")
    assert trainer.state.global_step == max(shares) < 90
    assert [share > 0.5 for share in shares.values()] == [False] * (len(shares) - 1) + [True]


def test_handed_over_a_checkpoint_is_kept_whatever_the_trainer_deletes(base, data, tmp_path):
    store = tmp_path / "store"
    trainer = make_trainer(base, tmp_path / "run", save_total_limit=1)
    trainer.add_callback(PrememCallback(trainer, store))
    trainer.train()
    kept = JobFolder.of(Store(store), "run").kept
    assert sorted(p.name for p in kept.iterdir()) == [f"checkpoint-{n}" for n in (10, 20, 30)]
    assert (kept / "checkpoint-10" / "model.safetensors").exists()
    assert not list(kept.rglob("*.pt"))
    assert logged(trainer, "checkpoint") == {}  # there is no watcher


def test_what_goes_wrong_here_does_not_stop_the_training(base, data, tmp_path, caplog):
    file = tmp_path / "train.jsonl"
    file.write_text('{"nothing": 1}\n')
    trainer = make_trainer(base, tmp_path / "run", max_steps=10)
    trainer.add_callback(
        PrememCallback(trainer, tmp_path / "store", train=file, log_log_threshold=T)
    )
    trainer.train()
    assert trainer.state.global_step == 10
    assert logged(trainer, "checkpoint") == {}
    assert examples.read_examples(data[0]).examples  # and a good file can be read


def test_ctrl_c_while_a_checkpoint_is_scored_ends_the_training_too(
    base, data, tmp_path, monkeypatch
):
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(in_process, "score_checkpoint", interrupted)
    trainer = make_trainer(base, tmp_path / "run")
    trainer.add_callback(
        PrememCallback(trainer, tmp_path / "store", train=data[0], log_log_threshold=T)
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.state.global_step == 10


def test_a_number_of_generations_in_all_is_refused_for_a_run_that_grows(base, data, tmp_path):
    trainer = make_trainer(base, tmp_path / "run")
    with pytest.raises(UsageError, match="for a finished run"):
        PrememCallback(trainer, tmp_path / "store", train=data[0], generations=100)
    request = ScoreRequest(tmp_path / "run", data[0], plan="last", generations=100)
    with pytest.raises(UsageError, match="for a finished run"):
        Watch(Store(tmp_path / "store"), request).watch()
