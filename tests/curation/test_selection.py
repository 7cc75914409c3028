"""Selections: who is chosen, in what order, why; and the recipe that rebuilds them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from premem_core.analysis import run_scores
from premem_core.curation import data_card, export, quality_gates, selection, strategies
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.errors import UsageError
from premem_core.store.database import Store
from tests.helpers import planned


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return planned.store(tmp_path_factory.mktemp("curation"), "full")


@pytest.fixture(scope="module")
def evidence(store) -> strategies.ExampleFacts:
    return strategies.read_example_facts(
        store, "toy", run_scores.read_task(store, "toy"), planned.T
    )


def recipe(*criteria: Criterion, **others) -> Recipe:
    return Recipe("toy", ("slow", "fast"), planned.T, criteria, **others)


LOW = Criterion("premem", below=0.75)


def test_low_pre_memorization_accuracy_comes_lowest_first_within_its_bound(evidence):
    chosen = selection.select(evidence, recipe(LOW))
    value = strategies.strategy_values(evidence, "premem")
    assert set(chosen.index) == set(value[value <= 0.75].index)
    assert chosen["premem"].is_monotonic_increasing
    assert chosen["rank"].tolist() == list(range(1, len(chosen) + 1))
    assert selection.reasons(chosen, recipe(LOW))[0] == f"PM {chosen['premem'].iloc[0]:.2f}"


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


def grouped(evidence) -> strategies.ExampleFacts:
    level = np.where(np.arange(60) % 3 == 0, "easy", "hard")
    return replace(evidence, examples=evidence.examples.assign(level=level))


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
        ({"quota_field": "colour"}, "no field 'colour'"),
        (
            {"quota_field": "level", "quotas": {"odd": 0.5}},
            "no example has level 'odd', which has a quota; there are 'easy', 'hard'",
        ),
        (
            {"quota_field": "level", "quotas": {"easy": 0, "hard": 0}},
            "have room for no example; give more",
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
    with pytest.raises(UsageError, match=r"budget of 40 tokens .* room for no example"):
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
        ("premem_recipe: 9", "not of the format that this Premem reads, 'premem_recipe: 1'"),
        ("premem_recipe: 1\ncolour: red", "a field 'colour' that no recipe has"),
        ("premem_recipe: 1\ntask: toy", "is not a whole recipe: .* missing"),
        (f"{WHOLE}\ngates: [labels]", "gates: Input should be a valid dictionary"),
        (f"{WHOLE}\ngates: {{labels: .nan}}", "gates: Input should be a finite number"),
        (f"{WHOLE}\nkept: train-1", "kept: Input should be a valid list"),
        (f"{WHOLE}\nbudget: '5'", "budget: Input should be a valid integer"),
        (f"{WHOLE}\nbudget: 0", "the budget must be at least 1"),
        (f"{WHOLE}\nseed: -1", "the seed must be at least 0"),
        (f"{WHOLE}\nquota_field: l\nquotas: {{2: 0.5}}", "quotas: Input should be a valid string"),
        (f"{WHOLE}\nseed: 2020-13-45", "is not YAML: month must be in 1..12"),
        (f'{WHOLE}\nkept: ["\\ud800"]', "half a character"),
        (WHOLE.replace("premem}", "premem, weight: .nan}"), "weight: Input should be a finite"),
        (
            WHOLE.replace("premem}", "premem}, {strategy: premem}"),
            "a strategy is named twice in premem, premem",
        ),
        ("premem_recipe: 1\ncriteria: [x]", "criteria: not fields with values"),
        ("premem_recipe: 1\nseed: " + "[" * 3000, "is not YAML: maximum recursion"),
        ("premem_recipe: 1\ntask: t\nruns: [r]\nlog_log_threshold: 0", "needs a strategy"),
        ("!!python/object/apply:os.system [true]", "is not YAML"),
    ],
)
def test_what_is_no_recipe_is_one_sentence(text, sentence):
    with pytest.raises(UsageError, match=sentence):
        Recipe.from_yaml(text)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_recipe_rebuilds_the_same_file_byte_for_byte(store, evidence, tmp_path, name):
    asked = recipe(LOW, Criterion("random"), seed=5)
    files = [tmp_path / "first" / name, tmp_path / "again" / name]
    for file, each in zip(files, (asked, Recipe.from_yaml(asked.to_yaml())), strict=True):
        file.parent.mkdir()
        export.export_file(store, selection.select(evidence, each), each, file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("shape", export.SHAPES)
@pytest.mark.parametrize("kind", export.KINDS)
def test_a_file_has_the_texts_in_the_shape_that_was_asked_for(
    store, evidence, tmp_path, shape, kind
):
    chosen = selection.select(evidence, recipe(LOW))
    file = tmp_path / f"out{kind}"
    if (kind, shape) == (".csv", "messages"):
        with pytest.raises(UsageError, match="do not go into CSV"):
            export.export_file(store, chosen, recipe(LOW, shape=shape), file)
        assert list(tmp_path.iterdir()) == []
        return
    export.export_file(store, chosen, recipe(LOW, shape=shape), file)
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    rows = read(file).to_dict("records")
    assert [str(row["id"]) for row in rows] == chosen["id"].tolist()
    number = rows[0]["id"]
    question, solution = f"train {number}?", f"#### {number}"
    assert {
        "plain": lambda row: (row["question"], row["solution"]),
        "prompt-completion": lambda row: (row["prompt"], row["completion"]),
        "messages": lambda row: tuple(each["content"] for each in row["messages"]),
        "alpaca": lambda row: (row["instruction"], row["output"]),
    }[shape](rows[0]) == (question, solution)
    assert rows[0]["reasons"].startswith("PM ")
    assert [row["premem"] for row in rows] == pytest.approx(chosen["premem"].tolist())


def test_weights_are_scores_over_their_mean_in_a_column_or_by_repetition(store, evidence, tmp_path):
    chosen = selection.select(evidence, recipe(LOW))
    weight = (chosen["score"] / chosen["score"].mean()).to_numpy()
    column, repeat = tmp_path / "column.jsonl", tmp_path / "repeat.jsonl"
    n = export.export_file(store, chosen, recipe(LOW, weights="column"), column)
    assert (n, len(read(column))) == (len(chosen), len(chosen))
    np.testing.assert_allclose(read(column)["weight"], weight, atol=1e-6)
    n = export.export_file(store, chosen, recipe(LOW, weights="repeat"), repeat)
    often = read(repeat)["id"].value_counts()
    assert n == often.sum() > len(chosen)
    assert often[chosen["id"]].tolist() == np.maximum(1, np.round(weight)).tolist()


def test_a_value_that_the_first_rows_lack_is_written_all_the_same(
    store, evidence, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "BATCH", 10)
    lost = pd.Series(0.5, evidence.examples.index[40:])
    known = replace(evidence, lost=lambda run: lost)
    asked = recipe(Criterion("premem", below=0.75), Criterion("brittle"), combine="any")
    chosen = selection.select(known, asked).sort_values("brittle", na_position="first")
    for kind in export.KINDS:
        export.export_file(store, chosen, asked, tmp_path / f"out{kind}")
        found = read(tmp_path / f"out{kind}")["brittle"]
        np.testing.assert_array_equal(found, chosen["brittle"])
        assert found.isna().head(10).all()
        assert found.notna().any()


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
        "Of level at most: hard 50%.",
        "| hard | 10 |",
        "- leaks from the test set, from 0.7: 1\n",  # the other was let through
        "a file of further problems",
        "Seed 3;",
        "By hand: 1 let through a gate.",
    ):
        assert said in text
    bars = re.findall(r" to \S+ +(█*) ([\d,]+)$", text, re.MULTILINE)
    counts = [int(n) for _, n in bars]
    assert sum(counts) == 20
    assert [len(bar) for bar, _ in bars] == [round(40 * n / max(counts)) for n in counts]


def read(file: Path) -> pd.DataFrame:
    if file.suffix == ".jsonl":
        return pd.read_json(file, lines=True, dtype={"id": str})
    return pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)


def test_the_data_s_own_fields_are_in_the_file(store, evidence, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "BATCH", 10)
    n = len(evidence.examples)
    fields = {
        "level": [strategies.NO_VALUE] * (n - 20) + ["Level 5", 5] * 10,  # text and numbers: text
        "points": [strategies.NO_VALUE] * (n - 20) + [2, 2.5] * 10,
        "year": [2020, 2021] * (n // 2),
        "hash": [2**70] * n,
        "answer": ["B"] * n,
    }
    own = pd.DataFrame(fields, evidence.examples.index, dtype=object)
    known = replace(evidence, examples=evidence.examples.assign(**own))
    asked = recipe(Criterion("random"))
    chosen = selection.select(known, asked).sort_index()
    for kind in export.KINDS:
        export.export_file(store, chosen, asked, tmp_path / f"out{kind}")
        found = read(tmp_path / f"out{kind}")
        assert found["level"].fillna("").tolist() == [""] * (n - 20) + ["Level 5", "5"] * 10
        assert found["points"].isna().head(n - 20).all()
        assert found["points"].tail(20).tolist() == [2.0, 2.5] * 10
        assert found["year"].tolist() == fields["year"]
        assert found["answer (metadata)"].tolist() == ["B"] * n
        assert found["answer"].astype(str).tolist() == found["id"].astype(str).tolist()
    assert found["hash"].tolist() == [str(2**70)] * n  # Parquet has no integer as large


def test_a_file_of_no_known_kind_or_of_nothing_is_refused(store, evidence, tmp_path):
    chosen = selection.select(evidence, recipe(LOW))
    with pytest.raises(UsageError, match="must end in one of"):
        export.export_file(store, chosen, recipe(LOW), tmp_path / "a.txt")
    with pytest.raises(UsageError, match="no example is chosen"):
        export.export_file(store, chosen.head(0), recipe(LOW), tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="cannot write"):
        export.export_file(store, chosen, recipe(LOW), tmp_path / "nowhere" / "a.jsonl")


def test_a_hundred_thousand_rows_are_exported_in_little_memory(tmp_path):
    from benchmarks.export import build, curate

    home, out = Store(tmp_path / "store"), tmp_path / "out.jsonl"
    build(home, 100_000)
    _, peak, told = curate(home, out)
    assert told.startswith("100,000 of 100,000 examples")
    with out.open(encoding="utf-8") as lines:
        assert sum(1 for _ in lines) == 100_000
    assert peak < 320  # MB; 130 are Python, pandas and DuckDB
