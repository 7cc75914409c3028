"""The data card of a selection."""

import re
from dataclasses import replace

import pandas as pd
import yaml

from premem_core.curation import data_card, quality_gates, selection
from premem_core.curation.recipe import Criterion
from tests.helpers.recipes import LOW, grouped, recipe


def test_a_data_card_says_what_was_asked_whatever_things_are_called(evidence):
    known = grouped(evidence)
    asked = replace(
        recipe(LOW, quota_field="level", quotas={"hard": 0.5}, budget=20, weights="repeat",
               gates={"leaks": 0.7}, against="more.jsonl", excused=("1",), seed=3),
        task="math: level 5\n# <b>",
    )  # fmt: skip
    chosen = selection.select(known, asked)
    found = pd.DataFrame(
        [("1", "leaks", 1.0, "", ""), ("2", "leaks", 1.0, "", "")],
        columns=list(quality_gates.COLUMNS),
    )
    card = data_card.make_data_card(chosen, asked, found, 60, 31)
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["pretty_name"] == "math: level 5 # b, 20 curated examples"
    assert "<b>" not in card
    for said in (
        "from 60 training examples",
        "31 rows",
        "Largest shares of the budget by level: hard 50%.",
        "| hard | 10 |",
        "- leaks from the test set, from 0.7: 1\n",  # the other was let through
        "a file of further problems",
        "Seed 3;",
        "By hand: 1 let pass a gate.",
    ):
        assert said in text
    bars = re.findall(r" to \S+ +(█*) ([\d,]+)$", text, re.MULTILINE)
    counts = [int(n) for _, n in bars]
    assert sum(counts) == 20
    assert [len(bar) for bar, _ in bars] == [round(40 * n / max(counts)) for n in counts]


NO_ISSUES = pd.DataFrame(columns=list(quality_gates.COLUMNS))


def card_of(evidence, asked) -> str:
    chosen = selection.select(evidence, asked)
    return data_card.make_data_card(chosen, asked, NO_ISSUES, 60, len(chosen))


def test_a_card_says_nothing_of_what_was_not_asked_for(evidence):
    card = card_of(evidence, recipe(LOW))
    for words in ("at most 20", "quality gates", "By hand", "`weight`", "repeated"):
        assert words not in card
    assert "pre-memorization accuracy (`premem`, at most 0.75)" in card
    assert "`slow`, `fast`" in card
    assert "arXiv:2411.07681" in card


def test_a_card_says_whether_all_bounds_hold_or_one_and_how_much_each_strategy_weighs(evidence):
    both = (LOW, Criterion("perplexity", above=1.1, weight=2))
    all_of_them, any_of_them = (
        card_of(evidence, recipe(*both, combine=combine)) for combine in ("all", "any")
    )
    assert "had to meet all of these criteria" in all_of_them
    assert "had to meet one of these criteria" in any_of_them
    assert ", at least 1.1, weight 2)" in all_of_them
    assert all_of_them.count("## ") == 3  # a histogram of each strategy, and how to cite


def test_the_values_of_a_strategy_that_no_example_has_are_said_to_be_missing(evidence):
    chosen = selection.select(evidence, recipe(LOW)).assign(premem=float("nan"))
    card = data_card.make_data_card(chosen, recipe(LOW), NO_ISSUES, 60, len(chosen))
    assert "No row has a value." in card


def test_a_card_names_the_column_of_weights_or_the_repeated_rows(evidence):
    assert "The column `weight` is" in card_of(evidence, recipe(LOW, weights="column"))
    assert "so the file has" in card_of(evidence, recipe(LOW, weights="repeat"))
