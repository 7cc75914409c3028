"""Examples in the store: their numbers, their texts, their perturbed forms."""

from premem_core.records import Example
from premem_core.store.database import Store
from tests.helpers.stores import add_examples, register


def test_an_example_keeps_its_number_and_the_same_id_may_stand_in_another_task(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    assert register(store) == numbers
    assert set(add_examples(store, "u", "train", [Example("0", "other", "s", "a")])) - set(numbers)
