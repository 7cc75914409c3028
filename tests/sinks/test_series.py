"""What a tracker gets of a run, and what is found to be missing or changed there."""

from dataclasses import replace

import numpy as np
import pytest

from premem_core.analysis import curves
from premem_core.errors import PushError
from premem_core.sinks.series import Pushed, compare, digest, make_series, refuse_changed
from tests.helpers import simulated


def test_a_series_has_the_numbers_of_the_curves_at_the_steps_of_the_checkpoints(
    series, simulated_run
):
    line = curves.curve(simulated_run, simulated.T)
    assert list(series.points) == simulated_run.steps.tolist()
    for c, values in enumerate(series.points.values()):
        assert values["premem/premem"] == line.premem[c]
        assert values["premem/premem_half"] == line.premem_half[c]
        assert values["premem/train_accuracy"] == line.train[c]
        assert values["premem/train_half"] == line.train_half[c]
        assert values["premem/memorized_share"] == line.memorized[c]
        assert values["premem/test_accuracy"] == line.test[c]
    assert series.settings["premem/log_log_threshold"] == simulated.T
    assert (series.settings["premem/estimator"], series.settings["premem/samples"]) == ("plain", 5)


def test_what_is_not_known_is_left_out(simulated_run):
    untested = replace(simulated_run, test_accuracy=np.full((5, 0), np.nan))
    [values, *_] = make_series(curves.curve(untested, simulated.T), "sums").points.values()
    assert "premem/test_accuracy" not in values
    assert np.isfinite(list(values.values())).all()


def test_a_digest_is_that_of_the_content():
    assert digest("a", {"b": 0.5}) == digest("a", {"b": 0.5})
    assert len({digest("a", "b"), digest("ab"), digest("a", ["b"]), digest("a", "b", 0.5)}) == 4


def test_missing_points_and_changed_steps_are_found(series, other_series):
    assert compare(series.points, series.points) == compare({}, {})
    assert compare(series.points, {}).missing == series.points
    some = dict(list(series.points.items())[:2])
    assert list(compare(series.points, some).missing) == [3, 4, 5]
    changed = compare(series.points, other_series.points).changed
    assert changed
    assert set(changed) == {
        step for step in series.points if series.points[step] != other_series.points[step]
    }
    with pytest.raises(PushError, match=f"other values of an earlier push at step {changed[0]}"):
        refuse_changed(compare(series.points, other_series.points), "abc")


def test_a_push_says_what_it_did():
    assert Pushed("MLflow", "abc", "here", 1).in_words() == (
        "1 checkpoint written to the run 'abc' of MLflow (here)"
    )
    again = Pushed("MLflow", "abc", "here", 0).in_words()
    assert again.endswith("has all of these points already, so nothing was written")
    replaced = Pushed("MLflow", "abc", "here", 5, replaced=True).in_words()
    assert replaced.endswith("in place of the values of an earlier push")
