import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from premem_core.store.database import Store
from premem_core.store.scores import commit_inbox
from premem_core.store.shards.shards import column_bytes
from premem_core.store.token_scores import read_token_scores, read_token_texts, rounded
from tests.helpers.stores import EARLIER_TARGETS, register, write_targets

logs = st.floats(-2000, 0, width=32).map(lambda x: -abs(x))


@given(arrays.arrays(np.float64, st.integers(1, 50), elements=logs))
def test_a_rounded_value_keeps_1e_4_and_its_order_of_magnitude(values):
    kept = rounded(values).astype(np.float64)
    error = np.abs(kept - values)
    assert (error <= 2.0**-14).all()
    assert (error <= np.abs(values) / 128).all()
    assert abs(kept.mean() - values.mean()) < 1e-4


def test_token_scores_of_several_shards_are_read_by_example_beside_those_without(tmp_path):
    store = Store(tmp_path)
    register(store)
    scored = {"trace_tokens": 0, "log_probabilities": [-0.5, -0.25], "ranks": [3, 0]}
    longer = {"trace_tokens": 1, "log_probabilities": [-1.0, 0.0, -2.0], "ranks": [0, 0, 70_000]}
    write_targets(store, "r", 10, [{"example": 4, **longer, "texts": ["a", " b", "\ufffd"]}])
    write_targets(store, "r", 10, [{"example": 2, **scored}, {"example": 3, "trace_tokens": 0}])
    write_targets(store, "r", 10, [{"example": 1}], schema=EARLIER_TARGETS)
    write_targets(store, "r", 20, [{"example": 1, **scored}])
    write_targets(store, "r", 10, [{"example": 7, **scored}], split="test")
    commit_inbox(store)
    found = read_token_scores(store, "r", 10)
    assert found.examples.tolist() == [2, 4]
    assert found.offsets.tolist() == [0, 2, 5]
    assert found.trace_tokens.tolist() == [0, 1]
    assert found.log_probabilities.tolist() == [-0.5, -0.25, -1.0, 0.0, -2.0]
    assert found.ranks.tolist() == [3, 0, 0, 0, 70_000]
    assert read_token_texts(store, "r") == {4: ["a", " b", "\ufffd"]}
    assert read_token_scores(store, "r", 10, "test").examples.tolist() == [7]


def test_a_run_without_token_scores_has_none(tmp_path):
    store = Store(tmp_path)
    register(store)
    write_targets(store, "r", 10, [{"example": 1}], schema=EARLIER_TARGETS)
    commit_inbox(store)
    found = read_token_scores(store, "r", 10)
    assert [len(found.examples), found.offsets.tolist(), len(found.ranks)] == [0, [0], 0]
    assert read_token_texts(store, "r") == {}


def test_rounded_numbers_take_at_most_two_thirds_of_the_space_of_unrounded_ones(tmp_path):
    drawn = -(np.random.default_rng(0).exponential(0.3, (100, 200)) ** 3)
    sizes = []
    for step, values in enumerate((drawn.astype(np.float32), rounded(drawn))):
        rows = [{"example": n, "log_probabilities": row} for n, row in enumerate(values)]
        file = write_targets(Store(tmp_path), "r", step, rows)
        sizes.append(column_bytes(file, ["log_probabilities"]) / drawn.size)
    assert sizes[1] < 2 / 3 * sizes[0]
