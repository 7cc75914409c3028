import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.analysis.studies import study
from premem_core.demo import demo_study, pretraining
from premem_core.errors import StoreError
from premem_core.grading.graders import make_grader
from premem_core.metrics import estimators, r2
from premem_core.models import checkpoints, gradient_variance
from premem_core.problems import examples
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Grade
from premem_core.scoring import job_process, jobs
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import read_checkpoints
from premem_core.store.scores import read_committed_shards, read_scores


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("demo") / "store"
    demo_study.install(folder)
    return Store(folder)


def test_the_shipped_study_is_as_large_as_it_says(store):
    runs = run_scores.read_task(store, demo_study.TASK)
    assert len(runs) == len(demo_study.SETTINGS) >= 4
    assert all(len(run.steps) >= 5 for run in runs)
    assert all(len(run.examples) >= 500 and run.test_accuracy.shape[1] >= 300 for run in runs)
    assert all(run.samples >= 5 for run in runs)
    sizes = {f: f.stat().st_size for f in demo_study.SHIPPED.rglob("*") if f.is_file()}
    of_store = sum(size for f, size in sizes.items() if demo_study.SHIPPED / "store" in f.parents)
    assert of_store < 25 * 10**6
    assert sum(sizes.values()) < 35 * 10**6


def test_in_the_shipped_study_premem_accuracy_predicts_and_train_accuracy_does_not(store):
    runs = run_scores.read_task(store, demo_study.TASK)
    best = curves.best_threshold(runs)
    points = curves.points([curves.curve(run, best.log_log_threshold) for run in runs])
    premem, train, test = (
        points[c].to_numpy() for c in ("premem", "train_accuracy", "test_accuracy")
    )
    assert r2.identity_r2(premem, test) > 0.85
    assert r2.linear_r2(premem, test) > r2.linear_r2(train, test) + 0.2
    assert r2.identity_r2(train, test) < 0


def test_the_shipped_scores_are_those_of_the_shipped_completions(store):
    """Grading the completions again gives every count of the store."""
    setting = demo_study.SETTINGS[demo_study.SHIPPED_RUN]
    step = read_checkpoints(store, setting.name)["step"].iloc[-1]
    rows = read_completions(store, setting.name, step, "train")
    answers = read_task_examples(store, demo_study.TASK, "train").set_index("example")["answer"]
    with make_grader("gsm8k") as grader:
        grades = grader.grade(rows["completion"].tolist(), answers[rows["example"]].tolist())
    assert [g.grade for g in grades] == rows["grade"].tolist()
    scores = read_scores(store, demo_study.TASK).query("run == @setting.name and step == @step")
    correct = rows[rows["grade"] == Grade.CORRECT].groupby("example").size()
    train = scores[scores["split"] == "train"].set_index("example")["correct"]
    assert correct.reindex(train.index, fill_value=0).tolist() == train.tolist()


def test_the_shipped_run_can_be_scored_from_its_folder():
    setting = demo_study.SETTINGS[demo_study.SHIPPED_RUN]
    run = checkpoints.read_run(demo_study.SHIPPED / "runs" / setting.name)
    assert len(run.checkpoints) >= 5
    assert run.learning_rate == pytest.approx(setting.learning_rate)
    train = examples.read_examples(demo_study.SHIPPED / f"train_{setting.problems}.jsonl")
    assert [e.id for e in train.examples] == [
        e.id for e in demo_study.problems()[0][: setting.problems]
    ]


def test_the_shipped_study_has_every_predictor_computed_of_its_weights(
    store,
):
    runs = run_scores.read_task(store, demo_study.TASK)
    known = study.read_baseline_predictors(store, runs)
    assert not known.isna().any(axis=None)
    setting = demo_study.SETTINGS[demo_study.SHIPPED_RUN]
    last = checkpoints.read_run(demo_study.SHIPPED / "runs" / setting.name).checkpoints[-1]
    scored = demo_study.problems()[0][: demo_study.SCORED_PROBLEMS]
    expected = gradient_variance.measure_gradient_variance(last, scored, PromptTemplate())
    assert known.loc[(setting.name, last.step), "gradient_variance"] == pytest.approx(expected)


def test_nothing_of_the_machine_that_made_it_is_shipped():
    for file in demo_study.SHIPPED.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert str(Path.home()).encode() + b"/" not in content
            assert str(demo_study.SHIPPED.parents[1]).encode() not in content
            assert b"/tmp/" not in content


def test_the_demo_never_overwrites_a_store(store, tmp_path):
    with pytest.raises(StoreError, match="not empty"):
        demo_study.install(store.path)
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(StoreError, match="something else"):
        demo_study.ship(store, tmp_path)
    assert (tmp_path / "precious.txt").exists()


@pytest.mark.slow
def test_a_rebuild_makes_what_is_shipped_and_a_second_one_adds_nothing(tmp_path, monkeypatch):
    """The same code with a base that saw little and two short runs."""
    settings = tuple(demo_study.Setting(rate, 1, 500, 1) for rate in (3e-3, 1e-3))
    monkeypatch.setattr(demo_study, "SETTINGS", settings)
    monkeypatch.setattr(demo_study, "problems", partial(_problems, demo_study.problems()))
    monkeypatch.setattr(demo_study, "pretrain", partial(pretraining.pretrain, steps=40))
    store = Store(tmp_path / "store")
    spec = replace(demo_study.SPEC, sampling=replace(demo_study.SAMPLING, samples=1))
    demo_study.rebuild(store, spec=spec)
    runs = run_scores.read_task(store, demo_study.TASK)
    assert [(r.run, len(r.steps), len(r.examples)) for r in runs] == [
        (s.name, 1, demo_study.SCORED_PROBLEMS) for s in reversed(settings)
    ]
    assert json.loads((store.path / "demo/test.jsonl").read_text().splitlines()[0])["question"]
    shards = {s.name: read_committed_shards(store, s.name) for s in settings}
    demo_study.rebuild(store, spec=spec)
    assert {s.name: read_committed_shards(store, s.name) for s in settings} == shards
    demo_study.ship(store, tmp_path / "shipped")
    assert (tmp_path / "shipped" / "store" / "premem.duckdb").exists()


def _problems(problems):
    return problems


@pytest.mark.slow
def test_lazy_and_full_plans_over_the_shipped_checkpoints_give_the_same_pm(tmp_path):
    [folder] = (demo_study.SHIPPED / "runs").iterdir()
    train = examples.read_examples(demo_study.SHIPPED / "train_1000.jsonl").examples[:150]
    spec = ScoringSpec(folder.name, "gsm8k", sampling=demo_study.SAMPLING, log_log_threshold=-2.133)
    scored = {}
    for plan in ("full", "lazy", "final"):
        store = Store(tmp_path / plan)
        run = checkpoints.read_run(folder)
        jobs.create_job(store, replace(spec, plan=plan), run, demo_study.TASK, train, ())
        assert job_process.run_job(store, folder.name).state == "done"
        [scored[plan]] = run_scores.read_task(store, demo_study.TASK)
    pm = {
        plan: estimators.premem("plain", run.counts, run.nll, -2.133)
        for plan, run in scored.items()
    }
    drawn = {plan: int(run.counts.samples.sum()) for plan, run in scored.items()}
    np.testing.assert_array_equal(pm["lazy"], pm["full"])
    np.testing.assert_array_equal(pm["final"][-1], pm["full"][-1])
    print(f"{pm['full'].size} pairs with the same PM; completions drawn: {drawn}")
    assert drawn["final"] < drawn["lazy"] < drawn["full"]
