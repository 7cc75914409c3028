"""Solutions token by token, on a store whose token scores are drawn here."""

import numpy as np
import pytest

from premem_core.analysis.solutions import solution_measures, solution_table, token_table
from premem_core.metrics.intervals import mean_interval
from premem_core.store.database import Store
from premem_core.store.runs import set_checkpoint_state
from premem_core.store.scores import commit_inbox
from tests.helpers.stores import register, write_targets

TRACES = {"train": [3, 0, 2, 0], "test": [0, 0]}


@pytest.fixture
def drawn(tmp_path) -> tuple[Store, dict[str, list]]:
    """A store with the scores of four training and two test solutions, and these, by split."""
    rng, store, kept = np.random.default_rng(0), Store(tmp_path), {}
    register(store)
    for split, traces in TRACES.items():
        kept[split] = [
            (-rng.exponential(0.5, n).astype(np.float32), rng.integers(0, 3, n, dtype=np.int32))
            for n in rng.integers(5, 12, len(traces))
        ]
        rows = [
            {
                "example": number + (1 if split == "train" else 11),
                "nll": -float(values.mean()),
                "tokens": len(values),
                "trace_tokens": trace,
                "top_tokens": int((ranks == 0).sum()),
                "log_probabilities": values,
                "ranks": ranks,
                "texts": [f" {place}" for place in range(len(values))] if number else None,
            }
            for number, ((values, ranks), trace) in enumerate(zip(kept[split], traces, strict=True))
        ]
        write_targets(store, "r", 10, rows, split)
    commit_inbox(store)
    set_checkpoint_state(store, "r", 10, "scored")
    return store, kept


def parts(split, kept, segment, first):
    for (values, ranks), trace in zip(kept[split], TRACES[split], strict=True):
        divided = {"target": slice(None), "trace": slice(trace), "answer": slice(trace, None)}
        part = divided[segment] if trace else slice(None)
        yield values[part][:first], ranks[part][:first]


@pytest.mark.parametrize("segment", ["target", "trace", "answer"])
@pytest.mark.parametrize("first", [None, 3, 100])
def test_measures_of_a_part_are_those_of_its_tokens(drawn, segment, first):
    store, kept = drawn
    found = solution_measures(store, "r", segment, first)
    assert found["split"].tolist() == ["train", "test"]
    for row in found.itertuples():
        members = list(parts(row.split, kept, segment, first))
        mean, half = mean_interval(np.array([-values.mean() for values, _ in members], float))
        assert (row.step, row.solutions) == (10, len(members))
        assert (row.nll, row.nll_half) == pytest.approx((mean, half), abs=1e-6)
        ranks = np.concatenate([ranks for _, ranks in members])
        assert row.token_accuracy == pytest.approx((ranks == 0).mean())


def test_a_checkpoint_without_measures_is_an_empty_row(drawn):
    table = solution_table(solution_measures(drawn[0], "r"), np.array([10, 20]))
    assert table["step"].tolist() == [10, 20]
    assert table.notna().all(axis=1).tolist() == [True, False]
    none = solution_table(solution_measures(drawn[0], "other"), np.array([10]))
    assert none.drop(columns="step").isna().all(axis=None)


def test_every_token_is_a_row_with_its_text_where_it_was_kept(drawn):
    store, kept = drawn
    table = token_table(store, "r", 10, "train")
    lengths = [len(values) for values, _ in kept["train"]]
    assert table.groupby("example").size().tolist() == lengths
    assert (
        table["log_probability"].tolist() == np.concatenate([v for v, _ in kept["train"]]).tolist()
    )
    assert table["rank"].tolist() == np.concatenate([ranks for _, ranks in kept["train"]]).tolist()
    assert table.groupby("example")["in_trace"].sum().tolist() == TRACES["train"]
    assert table.query("example == 1")["text"].isna().all()
    assert table.query("example == 2")["text"].tolist() == [f" {i}" for i in range(lengths[1])]
    assert token_table(store, "r", 20, "train").empty
