"""Each strategy's value against a plain computation of it, example by example."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from premem_core import rankings
from premem_core.curves import RunScores
from premem_core.errors import UsageError
from premem_core.estimators import SampleCounts
from premem_core.rankings import Evidence
from premem_core.store import Store
from premem_core.types import Example

T = -2.3
STEPS = np.array([10, 20, 30])
CORRECT = np.array([[0, 4, 5, 1], [4, 1, 5, 2], [5, 5, 1, 0]])
NLL = np.array([[0.9, 0.9, 0.05, 0.9], [0.5, 0.8, 0.04, 0.8], [0.01, 0.7, 0.01, 0.7]])


def run(name="r", correct=CORRECT, examples=(3, 5, 7, 9)) -> RunScores:
    return RunScores(
        name, 1e-3, 3, 4, STEPS, STEPS / 10, np.array(examples),
        SampleCounts.of(np.full((3, 4), 5), correct, 5), NLL, np.empty(0, int), np.empty((3, 0)),
    )  # fmt: skip


def evidence(*runs: RunScores) -> Evidence:
    sizes = pd.DataFrame(
        {"id": list("abcde"), "lines": [1, 2, 3, 1, 1], "words": [5, 9, 2, 2, 7],
         "level": ["Level 5", "Level 1", "Level 2", "Level ?", None]},
        index=[3, 5, 7, 9, 11],
    )  # fmt: skip
    known = sorted({number for each in runs for number in each.examples})
    return Evidence(
        runs,
        sizes.loc[known],
        lambda _: pd.Series([0.4, -0.2], [5, 9]),
        lambda _: pd.DataFrame(),
        T,
        "plain",
    )


def probability(example: int, step: int) -> float:
    return float(np.exp(-NLL[step, example]))


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("premem", [0.8, 1.0, 0.0, 0.0]),  # METHOD, section 2, by hand
        ("accuracy", [1.0, 1.0, 0.2, 0.0]),
        ("perplexity", [np.exp(nll) for nll in NLL[-1]]),
        ("hard", [np.mean([probability(i, c) for c in range(3)]) for i in range(4)]),
        ("ambiguous", [np.std([probability(i, c) for c in range(3)]) for i in range(4)]),
        ("forgetting", [0, 1, 1, 0]),
        ("brittle", [np.nan, 0.4, np.nan, -0.2]),
        ("lines", [1, 2, 3, 1]),
        ("words", [5, 9, 2, 2]),
        ("metadata:level", [5, 1, 2, np.nan]),
    ],
)
def test_a_strategys_value_is_what_its_source_says(strategy, wanted):
    found = rankings.values(evidence(run()), strategy)
    np.testing.assert_allclose(found, wanted)
    assert found.index.tolist() == [3, 5, 7, 9]


def test_a_value_is_the_mean_over_the_runs_that_know_it():
    other = run("other", CORRECT[:, ::-1], (5, 7, 9, 11))
    found = rankings.values(evidence(run(), other), "accuracy")
    # run: 3 → 1, 5 → 1, 7 → .2, 9 → 0; other: 5 → 0, 7 → .2, 9 → 1, 11 → 1
    assert found.tolist() == pytest.approx([1, 0.5, 0.2, 0.5, 1])


def test_a_sample_that_a_plan_left_out_leaves_its_value_unknown():
    counts = run().counts
    fewer = counts.samples.copy()
    fewer[2, 1] = 2
    partial = replace(
        run(), counts=replace(counts, samples=fewer, correct=np.minimum(CORRECT, fewer))
    )
    assert np.isnan(rankings.values(evidence(partial), "accuracy").loc[5])
    assert np.isnan(rankings.values(evidence(partial), "forgetting").loc[5])


def test_the_random_order_is_the_seeds():
    first, again, other = (rankings.values(evidence(run()), "random", n) for n in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        ("best", "no strategy 'best'; there are 'premem'"),
        ("metadata:topic", "no field 'topic'; it has: 'level'"),
    ],
)
def test_what_there_is_not_is_one_sentence(strategy, sentence):
    with pytest.raises(UsageError, match=sentence):
        rankings.values(evidence(run()), strategy)


def test_what_no_example_has_says_what_it_needs():
    bare = replace(evidence(run()), lost=lambda _: pd.Series(dtype=float))
    with pytest.raises(UsageError, match=r"'brittle' is known of no example .* needs perturbed"):
        rankings.values(bare, "brittle")


@pytest.mark.parametrize(
    "solution",
    [
        "one",
        "one two\nthree",
        " \n one\n\n two \n",
        "",
        "a\tb  c\n#### 4",
        "عدد 3\n= 4",
        "x" * 5000,
    ],
)
def test_the_store_sizes_texts_as_python_does(tmp_path, solution):
    store = Store(tmp_path)
    store.add_examples(
        "t", "train", [Example("a", "q", solution, "4", {"level": 3, "tags": ["x"]})]
    )
    [row] = store.example_sizes("t", "train").to_dict("records")
    assert row["words"] == len(solution.split())
    assert row["lines"] == len(solution.strip().split("\n"))
    assert json.loads(row["metadata"])["level"] == 3
