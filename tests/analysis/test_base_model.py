"""A base model's numbers and what is said of them, from stores that tests fill."""

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis import caveats, curves, example_table, run_scores
from premem_core.analysis.base_model import (
    KnownShare,
    base_in_words,
    read_base_model,
)
from premem_core.dashboard.figures import LIGHT, curves_figure
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from tests.helpers import planned
from tests.helpers.base_models import with_base


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return with_base(tmp_path_factory.mktemp("base"), known=12)


def test_a_base_model_has_its_accuracy_and_the_share_of_questions_that_it_knows(store):
    base = read_base_model(store, "slow")
    assert (base.train, base.test) == (0.5, 0.5)
    assert base.known_train == KnownShare(known=12, asked=59, too_short=1)
    assert base.known_test == KnownShare(known=0, asked=59, too_short=1)
    assert base.known_train.contaminated
    assert not base.known_test.contaminated
    assert (base.path, base.is_checkpoint) == ("base", False)
    assert read_base_model(store, "fast") is None


def test_what_is_said_has_shares_with_intervals(store):
    assert base_in_words(read_base_model(store, "slow")) == [
        "The base model answers 50.0% ± 10.7% of the training questions and 50.0% ± 10.7% of the "
        "test questions.",
        "It completes 20.3% (13.1% to 30.2%) of 59 training questions word by word; 1 is too "
        "short to tell.",
        "It completes 0.0% (0.0% to 4.4%) of 59 test questions word by word; 1 is too short to "
        "tell.",
        "So it saw them before fine-tuning, perhaps with their solutions. Then its own accuracy, "
        "and that of early checkpoints, is partly memory.",
    ]


@pytest.mark.parametrize(
    ("known", "asked", "expected"), [(0, 0, False), (3, 100, False), (6, 100, True), (1, 50, False)]
)
def test_a_base_model_is_called_contaminated_only_where_the_interval_leaves_no_doubt(
    known, asked, expected
):
    assert KnownShare(known, asked, 0).contaminated is expected


def test_a_base_model_changes_no_curve_no_study_and_no_threshold(store, tmp_path):
    without = planned.store(tmp_path, "full")
    with_, of_run = (
        [curves.curve(run, -2.3) for run in run_scores.read_task(home, "toy")]
        for home in (store, without)
    )
    pd.testing.assert_frame_equal(curves.table(with_), curves.table(of_run))
    fits = [
        curves.best_threshold(run_scores.read_task(home, "toy")).log_log_threshold
        for home in (store, without)
    ]
    assert fits[0] == fits[1]


def test_base_relative_nll_and_knowledge_are_columns_of_the_example_table(store):
    scores = next(run for run in run_scores.read_task(store, "toy") if run.run == "slow")
    base = read_base_model(store, "slow")
    described = example_table.describe_examples(scores, read_task_examples(store, "toy", "train"))
    table = example_table.make_example_table(scores, described, -2.3, base=base)
    np.testing.assert_allclose(table["relative_nll"], scores.nll[-1] - 0.75)
    assert table["known"].sum() == 12
    assert table["known"].isna().sum() == 1
    assert not {"relative_nll", "known"} & set(example_table.metadata_fields(table))
    assert "known" not in example_table.make_example_table(scores, described, -2.3)


def test_the_curves_mark_the_base_models_accuracies_at_0_and_only_of_runs_that_have_one(store):
    lines = [curves.curve(run, -2.3) for run in run_scores.read_task(store, "toy")]
    bases = {"slow": read_base_model(store, "slow")}
    names = [line.scores.run for line in lines]
    chart = curves_figure(lines, names, LIGHT, by_epoch=True, bases=bases)
    marks = [trace for trace in chart.to_dict()["data"] if trace.get("name") == "base model"]
    assert [len(trace["y"]) for trace in marks] == [2]
    assert list(marks[0]["y"]) == [0.5, 0.5]
    plain = curves_figure(lines, names, LIGHT, by_epoch=True)
    assert len(plain.to_dict()["data"]) == len(chart.to_dict()["data"]) - 1


def test_a_contaminated_base_model_is_a_caveat_said_once(store, tmp_path):
    base = read_base_model(store, "slow")
    [sentence] = caveats.base_caveats([base], {"slow": "Slow"})
    assert sentence == (
        "The base model completes 20.3% (13.1% to 30.2%) of the training questions word by word, "
        "so it saw them before fine-tuning, perhaps with their solutions. Then its own accuracy, "
        "and that of early checkpoints, is partly memory."
    )
    assert caveats.base_caveats([], {}) == []
    clean = read_base_model(with_base(tmp_path, known=1), "slow")
    assert caveats.base_caveats([clean], {"slow": "Slow"}) == []
