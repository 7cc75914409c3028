import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis import example_table, run_scores
from premem_core.analysis.example_table import cells, sort_examples
from premem_core.analysis.run_scores import RunScores
from premem_core.metrics import pre_memorization
from premem_core.metrics.sample_counts import SampleCounts
from tests.helpers import planned

T = -2.3
STEPS = np.array([10, 20, 30])


def run() -> RunScores:
    """Four examples: learned then memorized, never learned, memorized at once, right and back."""
    correct = np.array([[0, 0, 5, 4], [4, 1, 5, 1], [5, 2, 5, 5]])
    nll = np.array([[0.9, 0.9, 0.05, 0.9], [0.5, 0.8, 0.04, 0.8], [0.01, 0.7, 0.01, 0.7]])
    return RunScores(
        "r", 1e-3, 3, 4, STEPS, STEPS / 10, np.array([3, 5, 7, 9]),
        SampleCounts.of(np.full((3, 4), 5), correct, 5), nll, np.empty(0, int), np.empty((3, 0)),
    )  # fmt: skip


def texts(**metadata) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "example": [3, 5, 7, 9],
            "id": list("abcd"),
            "question": ["q a", "q b", "q c", "q d"],
            "solution": ["one two", "one", "one two three", ""],
            "metadata": [json.dumps({k: v[i] for k, v in metadata.items()}) for i in range(4)],
        }
    )


def table_of(**metadata) -> pd.DataFrame:
    described = example_table.describe_examples(run(), texts(**metadata))
    return example_table.make_example_table(run(), described, T)


def test_each_example_says_when_it_was_learned_and_when_memorized():
    table = table_of(level=[1, 2, 2, 1]).set_index("id")
    assert table["learned"].tolist()[:1] == [20]
    assert np.isnan(table["learned"]["b"])
    assert table["memorized"].fillna(0).tolist() == [30, 0, 10, 0]
    assert table["flips"].tolist() == [1, 0, 0, 2]
    assert table["premem"].tolist() == pytest.approx([0.8, 0.4, 0.0, 1.0])
    assert table["accuracies"]["d"] == [0.8, 0.2, 1.0]
    assert table["words"].tolist() == [2, 1, 3, 0]
    assert table["level"].tolist() == [1, 2, 2, 1]


def test_shares_learned_and_memorized_are_counted_and_unknown_where_samples_are_missing():
    shares = example_table.learned_shares(run(), table_of())
    assert (shares.learned, shares.memorized, shares.memorized_first) == (0.75, 0.5, 0.25)
    counts = SampleCounts.of(np.full((3, 4), 4), np.zeros((3, 4), int), 5)
    partial = example_table.learned_shares(replace(run(), counts=counts), table_of())
    assert np.isnan([partial.learned, partial.memorized_first]).all()
    assert partial.memorized == 0.5


def test_metadata_takes_no_other_columns_name_and_holds_no_lists():
    table = table_of(flips=[9] * 4, tags=[["x"]] * 4)
    assert table["flips"].tolist() == [1, 0, 0, 2]
    assert table["flips (metadata)"].tolist() == [9] * 4
    assert "tags" not in table
    both = table_of(**{"id": [1] * 4, "id (metadata)": [2] * 4, "value": [4, 3, 2, 1]})
    assert example_table.metadata_fields(both) == [
        "id (metadata) (metadata)",
        "id (metadata)",
        "value",
    ]
    assert both["id (metadata) (metadata)"].tolist() == [1] * 4
    assert sort_examples(both, "value")["id"].tolist() == list("dcba")


@pytest.mark.parametrize("by", example_table.SORTS)
def test_every_order_holds_every_example_and_what_has_no_value_comes_last(by):
    table = sort_examples(table_of(), by)
    assert sorted(table["id"]) == list("abcd")
    values = table[by].to_numpy(float)
    known = values[~np.isnan(values)]
    assert (np.diff(known) >= 0).all()
    assert np.isnan(values[len(known) :]).all()


def test_cells_are_the_means_of_their_members(tmp_path):
    [scores, _] = run_scores.read_task(planned.store(tmp_path, "full", n=50), "toy")
    order = np.random.default_rng(0).permutation(scores.examples)
    found = cells(scores, order.tolist(), T, columns=7)
    assert np.concatenate(found.members).tolist() == order.tolist()
    at = np.searchsorted(scores.examples, found.members[2])
    assert found.accuracy[1, 2] == pytest.approx(scores.accuracy[1, at].mean())
    assert found.memorized[2, 2] == pytest.approx(
        pre_memorization.memorized(scores.nll, T)[2, at].mean()
    )
    assert len(cells(scores, order[:3].tolist(), T).members) == 3


def test_metadata_sorts_numbers_as_numbers_and_words_as_words():
    levels = table_of(level=[10, 9, None, 2], kind=["b", "a", "c", None])
    assert sort_examples(levels, "level")["id"].tolist() == ["d", "b", "a", "c"]
    assert sort_examples(levels, "kind")["id"].tolist() == ["b", "a", "c", "d"]


def test_examples_are_found_by_the_grades_of_their_completions():
    graded = pd.DataFrame({"correct": [5, 0, 3], "unparsed": [0, 1, 2]}, index=[3, 5, 7])
    for grades, ids in ((["unparsed"], ["b", "c"]), (["correct", "unparsed"], list("abc"))):
        found = example_table.filter_examples(table_of(), grades=grades, graded=graded)
        assert found["id"].tolist() == ids
