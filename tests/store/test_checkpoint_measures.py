"""Measures of a checkpoint that need no samples."""

from premem_core.store.checkpoint_measures import add_baseline, read_baselines
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
