import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.analysis import curves, run_scores
from premem_core.analysis.perturbed import robustness
from premem_core.analysis.perturbed.robustness import Robustness
from premem_core.errors import JobError, UsageError
from premem_core.grading import grader_comparison, regrade
from premem_core.metrics.sample_counts import SampleCounts
from premem_core.models import checkpoints
from premem_core.problems import perturbations, user_perturbations
from premem_core.problems.examples import read_examples
from premem_core.records import Sampling
from premem_core.scoring import job_process, jobs
from premem_core.scoring.perturbed_queries import UserPerturbations
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.examples import read_perturbed_examples, read_task_examples
from premem_core.store.runs import set_checkpoint_state
from premem_core.store.scores import read_counts

SPEC = ScoringSpec(
    "sums",
    "gsm8k",
    sampling=Sampling(samples=3, max_new_tokens=30),
    perturbations=("first", "redraw", "polite"),
    perturb_controls=True,
)


@pytest.fixture(scope="module")
def store(run_dir, data, tmp_path_factory) -> Store:
    """A run scored under a prefix, redrawn numbers and a template of one's own."""
    home = Store(tmp_path_factory.mktemp("robust"))
    train, test = (read_examples(file).examples for file in data)
    own: UserPerturbations = {
        ("train", "polite"): user_perturbations.from_template("Please: {question}", train)[:10]
    }
    run = checkpoints.read_run(run_dir)
    jobs.create_job(home, SPEC, run, "sums", train, test, user_perturbations=own)
    assert job_process.run_job(home, "sums").state == "done"
    return home


def test_a_job_asks_each_query_in_the_forms_that_apply_and_grades_by_its_own_answer(store):
    first = int(read_counts(store, "sums")["step"].min())
    assert robustness.perturbed_steps(store, "sums") == {
        name: [first, 360] for name in ("first", "redraw", "polite")
    }
    texts = read_perturbed_examples(store, "sums", "redraw").set_index("example")
    originals = read_task_examples(store, "sums", "train").set_index("example")
    texts = texts[texts.index.isin(originals.index)]
    assert len(texts) > 10
    assert (texts["answer"] != originals["answer"].reindex(texts.index)).all()
    drawn = read_completions(store, "sums", 360, "train", "redraw")
    assert set(drawn["example"]) == set(texts.index)
    right = drawn["extracted"] == drawn["example"].map(texts["answer"])
    assert (right == (drawn["grade"] == 0)).all()
    assert len(read_completions(store, "sums", 360, "train", "polite")) == 10 * 3
    assert not len(read_completions(store, "sums", 360, "test", "polite"))  # as it was given
    assert len(read_completions(store, "sums", 360, "test", "first")) == 40 * 3


def test_grading_again_takes_the_answers_of_the_queries_as_they_were_asked(store):
    regrade.grade_again(store, "sums", "math")
    compared = grader_comparison.compare_graders(store, "sums", "gsm8k", "math").counts
    redrawn = compared[compared["perturbation"] == "redraw"]
    same = redrawn["grade_one"] == redrawn["grade_other"]
    assert redrawn["completions"][same].sum() >= 0.95 * redrawn["completions"].sum()


def test_a_text_that_was_asked_stays_whatever_the_generator_says_later(
    store, run_dir, data, monkeypatch
):
    before = read_perturbed_examples(store, "sums", "redraw")
    train, test = (read_examples(file).examples for file in data)
    monkeypatch.setitem(perturbations.CHANGES, "redraw", lambda example, *_: example)
    run = checkpoints.read_run(run_dir)
    jobs.create_job(store, SPEC, run, "sums", train, test, extend=True)
    after = (
        read_perturbed_examples(store, "sums", "redraw").set_index("example").loc[before["example"]]
    )
    assert after.reset_index()[before.columns].equals(before)


def test_more_perturbations_can_be_asked_of_a_job_without_its_data(store):
    jobs.extend_job(store, "sums", perturbations=(*SPEC.perturbations, "insert"))
    end = job_process.run_job(store, "sums")
    assert end.state == "done"
    assert len(read_completions(store, "sums", 360, "train", "insert")) == 48 * 3


def test_an_own_perturbation_keeps_its_texts_or_takes_another_name(store, run_dir, data):
    train, test = (read_examples(file).examples for file in data)
    run, other = checkpoints.read_run(run_dir), replace(SPEC, run="other")
    own: UserPerturbations = {
        ("train", "polite"): user_perturbations.from_template("Pray: {question}", train)[:10]
    }
    with pytest.raises(JobError, match=r"'polite' of the problem .* give this perturbation"):
        jobs.create_job(store, other, run, "sums", train, test, user_perturbations=own)
    twice = replace(other, perturbations=("first", "first"))
    with pytest.raises(UsageError, match="given twice"):
        jobs.create_job(store, twice, run, "sums", train, test)


def test_a_checkpoint_that_is_not_scored_yet_is_not_looked_at(store):
    set_checkpoint_state(store, "sums", 360, "waiting")
    try:
        steps_of = robustness.perturbed_steps(store, "sums")
        assert steps_of == {}  # what is left are controls
        with pytest.raises(UsageError, match="no samples under the perturbation 'first'"):
            robustness.read_answers(store, "sums", 360, "first")
    finally:
        set_checkpoint_state(store, "sums", 360, "scored")


def test_questions_whose_samples_a_plan_left_out_are_counted_and_said(store):
    [scores] = run_scores.read_task(store, "sums")
    counts = scores.counts
    few = SampleCounts(counts.samples.copy(), counts.correct.copy(), counts.wanted)
    few.samples[-1, :5], few.correct[-1, :5] = 1, 0
    answers = robustness.read_answers(store, "sums", 360, "first")
    partial = robustness.measure_robustness(replace(scores, counts=few), answers, -2.3)
    assert partial.unknown == 5
    assert "5 questions are not counted" in robustness.caveats([partial])[0]


def test_robustness_is_that_of_the_counts(store):
    [scores] = run_scores.read_task(store, "sums")
    answers = robustness.read_answers(store, "sums", 360, "first")
    found = robustness.measure_robustness(scores, answers, -2.3)
    counts = read_counts(store, "sums")
    counts = counts.query("step == 360 and perturbation == 'first' and split == 'train'")
    by_hand = (counts["correct"] / counts["samples"]).to_numpy()
    assert found.examples["perturbed_accuracy"].mean() == pytest.approx(by_hand.mean())
    assert found.examples["premem"].mean() == pytest.approx(curves.curve(scores, -2.3).premem[-1])
    bins = found.by_premem
    assert bins["examples"].sum() == len(found.examples) == 48
    weighted = (bins["perturbed"] * bins["examples"]).sum() / 48
    assert weighted == pytest.approx(by_hand.mean())
    right = found.examples[found.examples["train_accuracy"] > 0.5]
    assert found.brittle.sum() == (right["perturbed_accuracy"] <= 0.5).sum()


def test_what_was_not_asked_is_said(store):
    with pytest.raises(
        UsageError,
        match="no samples under the perturbation 'swap' at checkpoint 360; it has samples under",
    ):
        robustness.read_answers(store, "sums", 360, "swap")


def test_examples_that_lose_most_come_first_and_among_equals_the_highest_pm():
    examples = pd.DataFrame(
        {
            "premem": [0.2, 0.4, 0.8],
            "train_accuracy": [1.0, 0.6, 1.0],
            "perturbed_accuracy": [0.5, 0.6, 0.5],
        },
        index=[7, 8, 9],
    )
    ranked = robustness.sort_by_drop(examples)
    assert ranked.index.tolist() == [9, 7, 8]
    assert ranked["lost"].tolist() == [0.5, 0.5, 0.0]


def test_a_signal_that_tells_robust_from_brittle_has_area_one():
    examples = pd.DataFrame(
        {
            "premem": [0.2, 0.4, 0.8, 1.0, 0.0],
            "train_accuracy": [1.0, 1.0, 1.0, 1.0, 0.2],  # the last was wrong: it is neither
            "perplexity": [1.2, 1.1, 1.1, 1.2, 2.0],
            "confidence": np.nan,
            "perturbed_accuracy": [0.0, 0.2, 0.8, 1.0, 1.0],
        }
    )
    areas = Robustness("r", 1, "first", -2.3, "plain", examples, 0, 0, 0).auroc.set_index("signal")
    assert areas.loc["premem", "auroc"] == 1.0
    assert areas.loc["train_accuracy", "auroc"] == 0.5
    assert areas.loc["perplexity", "auroc"] == 0.5
    assert np.isnan(areas["auroc"]["confidence"])


def test_the_command_prints_every_perturbation(store):
    arguments = ["robustness", "--store", str(store.path), "--run", "sums"]
    done = CliRunner().invoke(app, [*arguments, "--log-log-threshold", "-2.3", "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)["perturbations"]
    assert {row["perturbation"] for row in printed} >= {"first", "redraw", "polite"}
    assert all(len(row["auroc"]) == 4 for row in printed)
    text = CliRunner().invoke(app, [*arguments, "--log-log-threshold", "-2.3"])
    assert "polite at checkpoint 360" in text.stdout
