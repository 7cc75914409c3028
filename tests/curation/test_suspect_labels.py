"""Suspect labels on the shipped study, against a count over its completions one by one."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.analysis.run_scores import RunScores, read_task
from premem_core.curation import suspect_labels
from premem_core.demo import demo_study
from premem_core.errors import UsageError
from premem_core.grading import hand_grades
from premem_core.records import Grade, SampleKey
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.shards.shards import completions_folder

RUNS = ("lr1e-3_ep5_n1000", "lr3e-3_ep24_n500")
T = -2.13


@pytest.fixture
def store(tmp_path) -> Store:
    demo_study.install(tmp_path / "store")
    return Store(tmp_path / "store")


def read(store: Store, names=RUNS) -> list[RunScores]:
    return [run for run in read_task(store, demo_study.TASK) if run.run in names]


def answers_before(store: Store, run: RunScores, example: int) -> list[tuple[str | None, bool]]:
    """What was answered, and whether that was right, where exp(NLL) was not below the threshold."""
    place = run.examples.tolist().index(example)
    said = []
    for at, step in enumerate(run.steps.tolist()):
        if np.log(run.nll[at, place]) >= T:
            rows = read_completions(store, run.run, step, "train")
            rows = rows[rows["example"] == example].astype({"extracted": object})
            said += [
                (extracted if isinstance(extracted, str) else None, grade == 0)
                for extracted, grade in zip(rows["extracted"], rows["grade"], strict=True)
            ]
    return said


def test_suspicion_is_what_samples_from_before_memorization_say(store):
    runs = read(store)
    found = suspect_labels.find_suspect_labels(store, runs, T)
    assert found["suspicion"].is_monotonic_decreasing
    texts = read_task_examples(store, demo_study.TASK, "train").set_index("example")
    for example in [*found.index[:4], *found.index[-4:], *found.index[200:204]]:
        row = found.loc[example]
        said = [each for run in runs for each in answers_before(store, run, example)]
        right = sum(correct for _, correct in said)
        others = Counter(answer for answer, correct in said if answer and not correct)
        most = max(others.values(), default=0)
        assert (row["agree"], row["with_reference"], row["samples"]) == (most, right, len(said))
        assert row["suspicion"] == pytest.approx((most - right) / len(said))
        if others:
            assert row["suggested"] in {each for each, n in others.items() if n == most}
        assert row["reference"] == texts.loc[example, "answer"]
        assert row["id"] == texts.loc[example, "id"]


def test_the_more_is_memorized_the_less_is_asked(store):
    runs = read(store, RUNS[1:])
    never = suspect_labels.find_suspect_labels(store, runs, -20.0)
    assert (never["samples"] == 5 * len(runs[0].steps)).all()
    some = suspect_labels.find_suspect_labels(store, runs, T)
    assert some["samples"].sum() < never["samples"].sum()
    with pytest.raises(UsageError, match="no chosen run has completions from before"):
        suspect_labels.find_suspect_labels(store, runs, 5.0)


def test_a_grade_set_by_hand_counts(store):
    runs = read(store, RUNS[:1])
    before = suspect_labels.find_suspect_labels(store, runs, T)
    example = int(before.index[0])
    rows = read_completions(store, RUNS[0], int(runs[0].steps[-1]), "train")
    row = rows[(rows["example"] == example) & (rows["grade"] == Grade.INCORRECT)].iloc[0]
    key = SampleKey(int(row["step"]), "train", "", example, int(row["sample"]))
    hand_grades.set_grade(store, RUNS[0], key, Grade.CORRECT, "it is right", who="a test")
    after = suspect_labels.find_suspect_labels(store, runs, T)
    assert after["with_reference"][example] == before["with_reference"][example] + 1


def test_a_run_without_completions_tells_nothing_and_does_no_harm(store):
    shutil.rmtree(completions_folder(store.path, RUNS[1]))
    alone = suspect_labels.find_suspect_labels(store, read(store, RUNS[:1]), T)
    both = suspect_labels.find_suspect_labels(store, read(store), T)
    assert both.equals(alone)
    with pytest.raises(UsageError, match="scores that were imported"):
        suspect_labels.find_suspect_labels(store, read(store, RUNS[1:]), T)


def test_few_samples_per_example_are_told_of():
    few = pd.DataFrame({"samples": [1, 2, 9]})
    assert "2 of these examples have fewer than 5" in suspect_labels.few_samples_in_words(few, "r")
    assert suspect_labels.few_samples_in_words(few.assign(samples=[1, 9, 9]), "r") == ""


def test_the_command_prints_the_same(store):
    told = CliRunner().invoke(
        app,
        ["labels", "--store", str(store.path), "--log-log-threshold", str(T), "--limit", "7"]
        + [word for run in RUNS for word in ("--run", run)]
        + ["--json"],
    )
    assert told.exit_code == 0, told.output
    found = suspect_labels.find_suspect_labels(store, read(store), T)
    report = json.loads(told.stdout)
    assert report["examples"] == len(found)
    assert [each["id"] for each in report["suspects"]] == found["id"].head(7).tolist()
    everything = CliRunner().invoke(app, ["labels", "--store", str(store.path)])
    assert "500 examples have samples from before memorization" in everything.stdout


def test_spellings_of_a_number_are_one_answer(store, monkeypatch):
    [run] = read(store, RUNS[:1])
    [example, *_] = suspect_labels.find_suspect_labels(store, [run], T).index
    rows = [("1/2", 2, 0), ("0.5", 3, 0), (r"\frac{1}{2}", 1, 0), ("7", 4, 0), ("8", 9, 9)]
    rows += [("(1, 2)", 1, 0), ("(1,2)", 1, 0)]
    told = pd.DataFrame(rows, columns=["answer", "votes", "correct"])
    told = told.assign(step=run.steps[0], example=example)
    monkeypatch.setattr(suspect_labels, "_read_votes", lambda store, run: told)
    [row] = suspect_labels.find_suspect_labels(store, [replace(run, nll=run.nll + 9)], T).to_dict(
        "records"
    )
    assert (row["suggested"], row["agree"], row["with_reference"]) == ("0.5", 6, 9)
