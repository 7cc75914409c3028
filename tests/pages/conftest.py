"""Stores that the tests of several pages read."""

import pytest

from tests.helpers import planned


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for plan in ("full", "lazy", "final"):
        planned.store(folder / plan, plan)
    return folder
