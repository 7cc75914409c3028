"""Predictors are compared by runs that are left out, and chosen by runs that are left out."""

import numpy as np
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.analysis.studies import predictors
from premem_core.analysis.studies.leave_one_out import predict_left_out, prediction_errors
from premem_core.errors import UsageError
from premem_core.importers.published_arrays import import_published
from premem_core.metrics import threshold_rules
from premem_core.store.database import Store
from tests.helpers import simulated


@pytest.fixture(scope="module")
def runs():
    return simulated.study(5, seed=4)[0]


def test_each_predictor_has_the_errors_of_runs_that_are_left_out(runs):
    comparison = predictors.compare(runs)
    names = [run.run for run in runs]
    for one, row in zip(predictors.PREDICTORS, comparison.table.to_dict("records"), strict=True):
        scaled = [one.scores(run) for run in runs]
        steps = curves.threshold_steps(scaled, one.estimator)
        errors = prediction_errors(predict_left_out(scaled, names, steps, one.estimator))
        assert (row["predictor"], row["mae"]) == (one.name, pytest.approx(errors.mae))
        assert row["r2"] == pytest.approx(errors.r2)
    assert comparison.best == comparison.table.set_index("predictor")["mae"].idxmin()


def test_a_relative_threshold_is_one_for_all_runs_of_scaled_perplexities(runs):
    [one] = [p for p in predictors.PREDICTORS if p.relative]
    run, u = runs[0], -1.5
    t = u - threshold_rules.first_spread(run.nll[0])
    scaled = curves.curve(one.scores(run), u, "half")
    np.testing.assert_array_equal(scaled.premem, curves.curve(run, t, "half").premem)


def test_the_choice_of_a_predictor_is_judged_without_the_run_that_it_is_for(runs):
    found = predictors.compare(runs).nested
    absolute = []
    for left_out in runs:
        others = [run for run in runs if run is not left_out]
        best = predictors.predictor_named(predictors.compare(others).best)
        fitted = curves.best_threshold([best.scores(run) for run in others], best.estimator)
        line = curves.curve(best.scores(left_out), fitted.log_log_threshold, best.estimator)
        absolute.append(np.abs(line.premem - line.test).mean())
    assert found.mae == pytest.approx(np.mean(absolute))


def test_what_cannot_be_compared_is_left_empty(runs):
    alone = predictors.compare(runs[:1])
    assert alone.table["mae"].isna().all()
    assert (alone.best, alone.nested) == (None, None)
    single = predictors.compare(simulated.study(3, 1, samples=1)[0])
    known = single.table.set_index("predictor")["mae"].notna()
    assert known.to_dict() == {
        "premem": True, "lu": True, "half": False, "half-relative": False,
    }  # fmt: skip
    with pytest.raises(UsageError, match="there is no predictor 'best'; the predictors are premem"):
        predictors.predictor_named("best")


@pytest.mark.slow
def test_the_published_runs_have_the_left_out_r2_of_the_method(published, tmp_path):
    """docs/method.md, section 11."""
    store = Store(tmp_path)
    import_published(store, published)
    table = predictors.compare(run_scores.read_task(store, "gsm8k")).table.set_index("predictor")
    for name, by_run, by_rate in (
        ("premem", 0.927, 0.930), ("lu", 0.937, 0.934), ("half", 0.930, 0.934),
        ("half-relative", 0.956, 0.946),
    ):  # fmt: skip
        assert table["r2"][name] == pytest.approx(by_run, abs=0.003)
        assert table["rate_r2"][name] == pytest.approx(by_rate, abs=0.003)
