"""Recipes: what is written is what is read, and what is no recipe is refused."""

from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from premem_core.curation.recipe import Criterion, Recipe
from premem_core.errors import UsageError


@settings(max_examples=40)
@given(
    t=st.floats(-5, 1),
    below=st.none() | st.floats(0, 1),
    weight=st.floats(0.01, 100),
    budget=st.none() | st.integers(1, 10**6),
    names=st.lists(st.text(min_size=1).filter(str.isprintable), max_size=4),
    seed=st.integers(0, 2**32),
)
def test_a_recipe_comes_back_as_it_was_written(t, below, weight, budget, names, seed):
    written = Recipe(
        "toy", ("slow",), t, (Criterion("premem", below, weight=weight), Criterion("random")),
        budget=budget, kept=tuple(names), dropped=tuple(names[::-1]), seed=seed, store_version=3,
        quota_field="level", quotas={"hard": 0.5},
    )  # fmt: skip
    assert Recipe.from_yaml(written.to_yaml()) == written


WHOLE = """premem_recipe: 1
task: toy
runs: [slow]
log_log_threshold: -2.0
criteria: [{strategy: premem}]"""


def test_a_recipe_that_a_person_wrote_is_read():
    found = Recipe.from_yaml(WHOLE.replace("[slow]", "\n- slow\n- fast") + "\ngates: {leaks: }")
    assert found == Recipe(
        "toy", ("slow", "fast"), -2.0, (Criterion("premem"),), gates={"leaks": None}
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "is not a recipe of Premem"),
        (
            "premem_recipe: 9",
            "not have the format that this version of Premem reads, 'premem_recipe: 1'",
        ),
        ("premem_recipe: 1\ncolour: red", "a field 'colour', which recipes do not have"),
        ("premem_recipe: 1\ntask: toy", "is not a valid recipe: .* missing"),
        (f"{WHOLE}\ngates: [labels]", "gates: Input should be a valid dictionary"),
        (f"{WHOLE}\ngates: {{labels: .nan}}", "gates: Input should be a finite number"),
        (f"{WHOLE}\nkept: train-1", "kept: Input should be a valid list"),
        (f"{WHOLE}\nbudget: '5'", "budget: Input should be a valid integer"),
        (f"{WHOLE}\nbudget: 0", "the budget must be at least 1"),
        (f"{WHOLE}\nseed: -1", "the seed must be at least 0"),
        (f"{WHOLE}\nquota_field: l\nquotas: {{2: 0.5}}", "quotas: Input should be a valid string"),
        (f"{WHOLE}\nseed: 2020-13-45", "is not YAML: month must be in 1..12"),
        (f'{WHOLE}\nkept: ["\\ud800"]', "an invalid character, half of a surrogate pair"),
        (WHOLE.replace("premem}", "premem, weight: .nan}"), "weight: Input should be a finite"),
        (
            WHOLE.replace("premem}", "premem}, {strategy: premem}"),
            "a strategy is named twice in premem, premem",
        ),
        ("premem_recipe: 1\ncriteria: [x]", "criteria: fields with values are expected here"),
        ("premem_recipe: 1\nseed: " + "[" * 3000, "is not YAML: maximum recursion"),
        ("premem_recipe: 1\ntask: t\nruns: [r]\nlog_log_threshold: 0", "needs a strategy"),
        ("!!python/object/apply:os.system [true]", "is not YAML"),
    ],
)
def test_what_is_no_recipe_is_one_sentence(text, sentence):
    with pytest.raises(UsageError, match=sentence):
        Recipe.from_yaml(text)


def asked(**changes: Any) -> Recipe:
    return replace(Recipe("toy", ("slow",), -2.0, (Criterion("premem"),)), **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"criteria": ()}, "needs a strategy"),
        ({"criteria": (Criterion("premem", weight=0),)}, "must be a number above 0"),
        ({"criteria": (Criterion("premem", weight=float("inf")),)}, "must be a number above 0"),
        ({"criteria": (Criterion("premem", below=float("nan")),)}, "must be a finite number"),
        ({"log_log_threshold": float("inf")}, "must be a finite number"),
        ({"criteria": (Criterion("premem"), Criterion("premem"))}, "named twice in premem, premem"),
        ({"budget": 0}, "budget must be at least 1"),
        ({"budget": 2**53}, r"below 2\*\*53"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"against": "more.jsonl"}, "only the gate 'leaks' uses them"),
        ({"quotas": {"hard": 0.5}}, "without a metadata field"),
        ({"quota_field": "level", "quotas": {"hard": 1.1}}, "between 0 and 1"),
        ({"shape": "xml"}, "shape must be one of plain, .*, not 'xml'"),
        ({"combine": "none"}, "combine must be one of all, any, not 'none'"),
        ({"estimator": "best"}, "estimator must be one of"),
        ({"kept": ("\ud800",)}, "half of a surrogate pair"),
    ],
)
def test_values_that_no_recipe_may_have_are_one_sentence(changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        asked(**changes)


def test_yaml_leaves_out_what_is_not_given_and_keeps_what_is_zero():
    text = asked(log_log_threshold=0.0, criteria=(Criterion("premem", below=0.0),)).to_yaml()
    content = yaml.safe_load(text)
    assert content["premem_recipe"] == 1
    assert content["log_log_threshold"] == 0
    assert content["criteria"] == [{"strategy": "premem", "below": 0.0, "weight": 1.0}]
    assert not {"budget", "against", "store_version"} & set(content)


def test_an_error_in_a_file_names_the_file():
    with pytest.raises(UsageError, match=r"^hard\.yaml, criteria has a field 'color'"):
        Recipe.from_yaml("premem_recipe: 1\ncriteria: [{color: red}]", "hard.yaml")
