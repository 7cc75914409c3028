"""Each strategy's value against a plain computation of it, example by example."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis import run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.curation import collection_plan, selection, strategies
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.curation.strategies import ExampleFacts
from premem_core.errors import UsageError
from premem_core.metrics.sample_counts import SampleCounts
from premem_core.records import Example
from premem_core.store.database import Store
from premem_core.store.examples import add_examples, read_example_sizes
from tests.helpers import planned

T = -2.3
STEPS = np.array([10, 20, 30])
CORRECT = np.array([[0, 4, 5, 1], [4, 1, 5, 2], [5, 5, 1, 0]])
NLL = np.array([[0.9, 0.9, 0.05, 0.9], [0.5, 0.8, 0.04, 0.8], [0.01, 0.7, 0.01, 0.7]])


def run(name="r", correct=CORRECT, examples=(3, 5, 7, 9)) -> RunScores:
    return RunScores(
        name, 1e-3, 3, 4, STEPS, STEPS / 10, np.array(examples),
        SampleCounts.of(np.full((3, 4), 5), correct, 5), NLL, np.empty(0, int), np.empty((3, 0)),
    )  # fmt: skip


def evidence(*runs: RunScores) -> ExampleFacts:
    sizes = pd.DataFrame(
        {"id": list("abcde"), "lines": [1, 2, 3, 1, 1], "words": [5, 9, 2, 2, 7],
         "level": ["Level 5", "Level 1", "Level 2", "Level ?", None]},
        index=[3, 5, 7, 9, 11],
    )  # fmt: skip
    known = sorted({number for each in runs for number in each.examples})
    return ExampleFacts(
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
        ("premem", [0.8, 1.0, 0.0, 0.0]),  # docs/method.md, section 1, by hand
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
    found = strategies.strategy_values(evidence(run()), strategy)
    np.testing.assert_allclose(found, wanted)
    assert found.index.tolist() == [3, 5, 7, 9]


def test_a_value_is_the_mean_over_the_runs_that_know_it():
    other = run("other", CORRECT[:, ::-1], (5, 7, 9, 11))
    found = strategies.strategy_values(evidence(run(), other), "accuracy")
    # run: 3 → 1, 5 → 1, 7 → .2, 9 → 0; other: 5 → 0, 7 → .2, 9 → 1, 11 → 1
    assert found.tolist() == pytest.approx([1, 0.5, 0.2, 0.5, 1])


def unconditional_nll(**nll) -> Callable[[RunScores], pd.DataFrame]:
    """NLL of the solutions without their questions at the first checkpoint, by run and example."""
    return lambda run: pd.DataFrame(
        [(10, example, value) for example, value in nll[run.run].items()],
        columns=["step", "example", "nll"],
    )


def test_instruction_following_difficulty_is_a_ratio_of_losses_and_none_above_one():
    known = replace(
        evidence(run()), unconditional_nll=unconditional_nll(r={3: 1.8, 5: 0.6, 7: 0.1, 9: 0.9})
    )
    np.testing.assert_allclose(strategies.strategy_values(known, "ifd"), [0.5, np.nan, 0.5, 1.0])


def test_the_ratios_of_several_runs_are_averaged_before_those_above_one_are_dropped():
    two = evidence(run(), run("other"))
    losses = {"r": {3: 0.3, 5: 0.9}, "other": {3: 0.95, 5: 1.8}}  # of .9 with the question
    known = replace(two, unconditional_nll=unconditional_nll(**losses))
    found = strategies.strategy_values(known, "ifd")
    assert np.isnan(found.loc[3])  # (3 + .947) / 2
    assert found.loc[5] == pytest.approx((1 + 0.5) / 2)


@pytest.mark.parametrize(
    ("strategy", "first"),
    [("premem", 7), ("accuracy", 9), ("perplexity", 5), ("hard", 9), ("easy", 7),
     ("ambiguous", 3), ("forgetting", 5), ("brittle", 5), ("lines", 7), ("words", 5)],
)  # fmt: skip
def test_what_is_wanted_most_is_the_end_of_the_values_that_the_name_says(strategy, first):
    """By hand from CORRECT, NLL and the sizes: which example each would collect for first."""
    known = evidence(run())
    chosen = selection.select(known, Recipe("t", ("r",), T, (Criterion(strategy),)))
    best = chosen[chosen[strategy] == chosen[strategy].iloc[0]].index
    assert first in best


@pytest.mark.parametrize(
    ("value", "number"),
    [("Level-5", 5), ("1,250 words", 1250), (1e-05, 1e-05), (1e16, 1e16), ("-3", -3), (7, 7),
     ("x -2.5", -2.5), (True, np.nan), (float("inf"), np.nan), (None, np.nan), ("Level 4", 4)],
)  # fmt: skip
def test_a_field_of_the_metadata_is_read_as_the_number_in_it(value, number):
    known = evidence(run())
    known = replace(known, examples=known.examples.assign(field=pd.Series([value, 1], [3, 5])))
    np.testing.assert_allclose(strategies.strategy_values(known, "metadata:field").loc[3], number)


def test_an_example_without_a_field_has_a_value_that_says_so(tmp_path):
    home = planned.store(tmp_path, "full")
    with home.writing() as connection:
        connection.execute(
            'UPDATE examples SET metadata = \'{"level": "hard", "score": 1}\' '
            "WHERE id IN ('1', '2', '3') AND split = 'train'"
        )
    runs = run_scores.read_task(home, "toy")
    known = strategies.read_example_facts(home, "toy", runs, planned.T)
    assert known.fields["level"] == ["hard", "none"]
    assert "score" not in known.fields  # ours; theirs has another name
    asked = Recipe("toy", ("slow", "fast"), planned.T, (Criterion("premem"),))
    without_hard = replace(asked, quota_field="level", quotas={"hard": 0.0})
    assert len(selection.select(known, without_hard)) == 57
    planned_new = collection_plan.plan_collection(selection.select(known, asked), 20, "level")
    assert planned_new["new"].sum() == 20
    assert set(planned_new["group"]) == {"hard", "none"}


def test_a_field_of_any_name_is_told_of():
    known = evidence(run())
    known = replace(known, examples=known.examples.assign(**{"cost {usd}": [1, 2, 3, 4]}))
    asked = Recipe("t", ("r",), T, (Criterion("metadata:cost {usd}"),))
    assert selection.reasons(selection.select(known, asked), asked)[0] == "cost {usd} 4"


def test_a_sample_that_a_plan_left_out_leaves_its_value_unknown():
    counts = run().counts
    fewer = counts.samples.copy()
    fewer[2, 1] = 2
    partial = replace(
        run(), counts=replace(counts, samples=fewer, correct=np.minimum(CORRECT, fewer))
    )
    assert np.isnan(strategies.strategy_values(evidence(partial), "accuracy").loc[5])
    assert np.isnan(strategies.strategy_values(evidence(partial), "forgetting").loc[5])


def test_the_random_order_is_the_seeds():
    first, again, other = (
        strategies.strategy_values(evidence(run()), "random", n) for n in (1, 1, 2)
    )
    assert first.equals(again)
    assert not first.equals(other)


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        ("best", "no strategy 'best'; the strategies are 'premem'"),
        ("metadata:topic", "no field 'topic'; its fields are: 'level'"),
    ],
)
def test_what_there_is_not_is_one_sentence(strategy, sentence):
    with pytest.raises(UsageError, match=sentence):
        strategies.strategy_values(evidence(run()), strategy)


def test_what_no_example_has_says_what_it_needs():
    bare = replace(evidence(run()), accuracy_lost=lambda _: pd.Series(dtype=float))
    with pytest.raises(
        UsageError, match=r"'brittle' has no value for any of these examples; it needs perturbed"
    ):
        strategies.strategy_values(bare, "brittle")


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
    add_examples(
        store, "t", "train", [Example("a", "q", solution, "4", {"level": 3, "tags": ["x"]})]
    )
    [row] = read_example_sizes(store, "t", "train").to_dict("records")
    assert row["words"] == len(solution.split())
    assert row["lines"] == len(solution.strip().split("\n"))
    assert json.loads(row["metadata"])["level"] == 3
