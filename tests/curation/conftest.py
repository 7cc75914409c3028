"""A store of two small runs, and what strategies read of it."""

import pytest

from premem_core.analysis import run_scores
from premem_core.curation import strategies
from premem_core.store.database import Store
from tests.helpers import planned


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    return planned.store(tmp_path_factory.mktemp("curation"), "full")


@pytest.fixture(scope="session")
def evidence(store) -> strategies.ExampleFacts:
    return strategies.read_example_facts(
        store, "toy", run_scores.read_task(store, "toy"), planned.T
    )
