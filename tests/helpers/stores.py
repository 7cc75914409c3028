"""Stores that tests fill directly."""

from collections.abc import Sequence

from premem_core.records import Example
from premem_core.store.database import Store
from premem_core.store.examples import examples_frame, insert_examples


def add_examples(store: Store, task: str, split: str, examples: Sequence[Example]) -> list[int]:
    """Add examples that no run is scored on; their numbers."""
    with store.writing() as connection:
        return insert_examples(connection, examples_frame(task, split, examples))
