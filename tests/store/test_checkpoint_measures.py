"""Measures of a checkpoint that need no samples."""

import pandas as pd

from premem_core.store.checkpoint_measures import (
    add_baseline,
    add_unconditional_nll,
    read_baselines,
    read_unconditional_nll,
)
from premem_core.store.database import Store
from tests.helpers.stores import register


def test_a_baseline_takes_the_place_of_the_former_one(tmp_path):
    store = Store(tmp_path)
    register(store)
    before = store.version()
    for value in (1.0, 2.0):
        add_baseline(store, "r", 10, "distance", value, f"from base{value:.0f}")
    assert store.version() == before + 2
    assert read_baselines(store, "r").to_dict("records") == [
        {"run": "r", "step": 10, "name": "distance", "value": 2.0, "settings": "from base2"}
    ]
    assert read_baselines(store, "other").empty


def test_baselines_come_by_name_and_in_training_order(tmp_path):
    store = Store(tmp_path)
    for name, step in (("variance", 20), ("distance", 20), ("variance", 10)):
        add_baseline(store, "r", step, name, float(step))
    rows = read_baselines(store, "r")
    assert rows[["name", "step"]].to_numpy().tolist() == [
        ["distance", 20],
        ["variance", 10],
        ["variance", 20],
    ]


def test_unconditional_nlls_are_kept_by_checkpoint_and_example_and_replaced(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    add_unconditional_nll(store, "r", 20, pd.Series([0.5, 0.6], numbers[:2]))
    add_unconditional_nll(store, "r", 10, pd.Series([0.9], numbers[:1]))
    add_unconditional_nll(store, "r", 20, pd.Series([0.7, 0.8], numbers[1:3]))
    assert read_unconditional_nll(store, "r").to_numpy().tolist() == [
        [10, numbers[0], 0.9],
        [20, numbers[0], 0.5],
        [20, numbers[1], 0.7],
        [20, numbers[2], 0.8],
    ]
    assert read_unconditional_nll(store, "other").empty
