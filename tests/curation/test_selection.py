"""Selections: who is chosen, in what order, why."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from premem_core.curation import selection, strategies
from premem_core.curation.recipe import Criterion
from premem_core.errors import UsageError
from premem_core.metrics.sample_counts import SampleCounts
from tests.helpers.recipes import LOW, grouped, recipe


def test_low_pre_memorization_accuracy_comes_lowest_first_within_its_bound(evidence):
    chosen = selection.select(evidence, recipe(LOW))
    value = strategies.strategy_values(evidence, "premem")
    assert set(chosen.index) == set(value[value <= 0.75].index)
    assert chosen["premem"].is_monotonic_increasing
    assert chosen["rank"].tolist() == list(range(1, len(chosen) + 1))
    assert selection.reasons(chosen, recipe(LOW))[0] == f"PM {chosen['premem'].iloc[0]:.2f}"


def test_values_that_come_from_a_single_sample_are_told_of(evidence):
    ones = np.ones((3, 60), dtype=int)
    one = replace(evidence.runs[0], counts=SampleCounts.of(ones, ones, 1))
    assert selection.cautions_in_words(evidence, recipe(LOW)) == ""
    assert selection.cautions_in_words(replace(evidence, runs=(one, one)), recipe(LOW)) == ""
    alone = replace(evidence, runs=(one,))
    assert "one sample per example" in selection.cautions_in_words(alone, recipe(LOW))
    assert selection.cautions_in_words(alone, recipe(Criterion("words"))) == ""


def test_all_bounds_or_any(evidence):
    both = (LOW, Criterion("perplexity", above=1.1))
    premem, perplexity = (strategies.strategy_values(evidence, each.strategy) for each in both)
    of_all = selection.select(evidence, recipe(*both))
    of_any = selection.select(evidence, recipe(*both, combine="any"))
    assert set(of_all.index) == set(premem[(premem <= 0.75) & (perplexity >= 1.1)].index)
    assert set(of_any.index) == set(premem[(premem <= 0.75) | (perplexity >= 1.1)].index)
    assert 0 < len(of_all) < len(of_any)


def test_a_heavier_strategy_has_more_of_the_order(evidence):
    def order(weight: float) -> list[int]:
        both = Criterion("premem", weight=weight), Criterion("perplexity")
        return selection.select(evidence, recipe(*both)).index.tolist()

    def like(strategy: str, found: list[int]) -> float:
        alone = selection.select(evidence, recipe(Criterion(strategy))).index.tolist()
        return float(
            pd.Series([alone.index(each) for each in found]).corr(pd.Series(range(60)), "spearman")
        )

    assert like("premem", order(20)) > like("premem", order(1)) > like("premem", order(0.05))
    assert like("perplexity", order(0.05)) > 0.99


def test_the_budget_takes_the_first_and_quotas_bound_a_group(evidence):
    known = grouped(evidence)
    asked = recipe(LOW, budget=10, quota_field="level", quotas={"hard": 0.4})
    chosen = selection.select(known, asked)
    free = selection.select(known, recipe(LOW))
    assert len(selection.select(known, recipe(LOW, budget=10))) == 10
    assert (chosen["level"] == "hard").sum() == 4
    for value in ("easy", "hard"):  # of each group the first ones
        own = free[free["level"] == value].index
        taken = chosen[chosen["level"] == value].index
        assert taken.tolist() == own[: len(taken)].tolist()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"quota_field": "colour"}, "the field 'colour', which the data does not have"),
        (
            {"quota_field": "level", "quotas": {"odd": 0.5}},
            "given for level 'odd', but no example has this value; the values are 'easy', 'hard'",
        ),
        (
            {"quota_field": "level", "quotas": {"easy": 0, "hard": 0}},
            "are too small for any example; increase them",
        ),
    ],
)
def test_quotas_that_cannot_be_kept_are_one_sentence(evidence, asked, sentence):
    with pytest.raises(UsageError, match=sentence):
        selection.select(grouped(evidence), recipe(LOW, **asked))


def test_a_budget_in_tokens_counts_them_and_passes_over_what_is_too_large(evidence):
    def chosen(tokens, budget):
        known = replace(evidence, examples=evidence.examples.assign(tokens=tokens))
        return selection.select(known, recipe(LOW, budget=budget, budget_in="tokens"))

    order = selection.select(evidence, recipe(LOW)).index
    costs = pd.Series(50.0, evidence.examples.index)
    costs[order[0]] = 900
    assert chosen(costs, 500).index.tolist() == order[1:11].tolist()
    assert chosen(costs, 1000).index.tolist() == order[:3].tolist()
    with pytest.raises(UsageError, match=r"budget of 40 tokens .* too small for any example"):
        chosen(costs, 40)
    with pytest.raises(UsageError, match="number of tokens of some solutions is not known"):
        chosen(costs.where(costs != 900), 500)


def test_any_bound_asks_for_one_of_those_that_there_are(evidence):
    unbounded = Criterion("words")
    asked = recipe(LOW, unbounded, combine="any")
    assert set(selection.select(evidence, asked).index) == set(
        selection.select(evidence, recipe(LOW)).index
    )
    every = recipe(Criterion("premem"), unbounded, combine="any")
    assert len(selection.select(evidence, every)) == len(evidence.examples)


def test_the_seed_says_who_comes_first_among_equals(evidence):
    orders = [selection.select(evidence, recipe(LOW, seed=seed)) for seed in (0, 0, 1)]
    first, again, other = (each.index.tolist() for each in orders)
    assert first == again != other
    assert set(first) == set(other)
    # Only among equals: the values come in the same order.
    assert orders[0]["premem"].tolist() == orders[2]["premem"].tolist()
    ties = orders[0][orders[0]["premem"] == orders[0]["premem"].iloc[0]]
    assert len(ties) > 3
    assert not ties.index.is_monotonic_increasing  # not as they stand in the store


def test_what_a_person_put_in_comes_first_and_what_they_took_out_is_gone(evidence):
    free = selection.select(evidence, recipe(LOW))
    out, kept = (
        free["id"].iloc[0],
        next(i for i in evidence.examples["id"] if i not in set(free["id"])),
    )
    chosen = selection.select(evidence, recipe(LOW, kept=(kept,), dropped=(out,)))
    assert chosen["id"].iloc[0] == kept
    assert out not in set(chosen["id"])
    assert len(chosen) == len(free)
    few = selection.select(evidence, recipe(LOW, kept=(kept,), budget=1))
    assert few["id"].tolist() == [kept]
    with pytest.raises(UsageError, match="names an example 'nobody'"):
        selection.select(evidence, recipe(LOW, dropped=("nobody",)))


def test_overlap_is_the_share_that_another_selection_has_too():
    shares = selection.overlap({"a": pd.Index([1, 2, 3, 4]), "b": pd.Index([3, 4])})
    assert shares.loc["a", "b"] == 0.5
    assert shares.loc["b", "a"] == 1.0
    assert shares.loc["a", "a"] == 1.0


def test_the_overlap_with_a_strategy_is_that_of_its_own_first_choices(evidence):
    chosen = selection.select(evidence, recipe(LOW)).index
    shares = selection.overlap_with_strategies(evidence, recipe(LOW), chosen, ["premem", "words"])
    assert shares.index.tolist() == ["1", "2"]
    assert shares.columns.tolist() == ["here", "1", "2"]
    by_words = selection.select(evidence, recipe(Criterion("words"), budget=len(chosen))).index
    assert shares.loc["2", "here"] == len(by_words.intersection(chosen)) / len(chosen)
    assert shares.loc["1", "1"] == 1.0


def test_a_histogram_of_values_counts_the_known_ones_and_those_chosen():
    values = pd.Series([0.0, 0.1, 0.9, 1.0, np.nan], index=[3, 5, 7, 9, 11])
    bins = selection.value_histogram(values, pd.Index([5, 9, 11]), bins=2)
    assert bins["low"].tolist() == [0.0, 0.5]
    assert bins["high"].tolist() == [0.5, 1.0]
    assert bins["examples"].tolist() == [2, 2]
    assert bins["chosen"].tolist() == [1, 1]


def test_an_example_with_two_issues_is_removed_once_and_an_excused_one_not_at_all():
    issues = pd.DataFrame({"id": ["a", "a", "b", "c"]})
    assert selection.count_removed(issues, recipe(LOW, excused=("b",))) == 2
