"""The data card of a selection."""

import re
from dataclasses import replace

import pandas as pd
import yaml

from premem_core.curation import data_card, quality_gates, selection
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
