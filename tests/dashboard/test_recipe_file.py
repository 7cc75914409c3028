"""A recipe that is opened on the Curate page: what its controls cannot show is refused."""

import pytest

from premem_core.curation.recipe import Criterion, Recipe
from premem_core.dashboard import cached_reads, recipe_file
from premem_core.errors import UsageError
from premem_core.store.database import Store
from tests.helpers import planned


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Store:
    return planned.store(tmp_path_factory.mktemp("recipe") / "store", "full", levels=3)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"log_log_threshold": -9.0}, "no control for a threshold outside"),
        ({"criteria": (Criterion("premem", weight=0.001),)}, "no control for a weight below 0.01"),
        ({"criteria": (Criterion("metadata:foo"),)}, "uses the strategy 'metadata:foo'"),
        ({"quota_field": "foo"}, "no control for quotas of 'foo'"),
        ({"quota_field": "level", "quotas": {"x": 0.5}}, "a quota of a value of 'level'"),
        ({"gates": {"duplicates": 0.01}}, "takes a value from 0.05 to 1"),
        ({"runs": ("other",)}, "judges examples by the run 'other'"),
        ({"task": "other"}, "for the task 'other'"),
    ],
)
def test_a_recipe_that_the_page_cannot_show_is_refused(home, monkeypatch, asked, sentence):
    monkeypatch.setenv("PREMEM_STORE", str(home.path))
    cached_reads.store.clear()
    recipe = Recipe(**{"task": "toy", "runs": ("slow",), "log_log_threshold": -2.3,
                       "criteria": (Criterion("premem"),)} | asked)  # fmt: skip
    with pytest.raises(UsageError, match=sentence):
        recipe_file._check(recipe)
