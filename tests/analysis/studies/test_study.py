import dataclasses

import numpy as np
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.analysis.studies.study import analyse, make_study, read_baseline_predictors
from premem_core.errors import DataError
from premem_core.metrics.r2 import linear_r2
from premem_core.store.database import Store
from tests.helpers import planned, simulated


def studied(runs, tmp_path, **options):
    return make_study(runs, read_baseline_predictors(Store(tmp_path), runs), **options)


def untested(run):
    return dataclasses.replace(run, test_accuracy=np.empty((5, 0)), test_examples=np.empty(0, int))


def test_runs_without_a_test_set_change_nothing(tmp_path):
    runs, _ = simulated.study(9, seed=1)
    several = [*runs[:4], *map(untested, runs[4:])]
    alone, among = (analyse(studied(r, tmp_path)) for r in (runs[:4], several))
    assert among.identity_ci90 == alone.identity_ci90
    assert among.points.equals(alone.points)
    with pytest.raises(DataError, match="no run of this task has test problems"):
        studied(several[4:], tmp_path)


def test_a_given_threshold_is_kept_in_every_resample_and_the_best_is_chosen_anew(tmp_path):
    runs, _ = simulated.study(5, seed=2)
    study = studied(runs, tmp_path)
    t = study.fit.log_log_threshold
    best, given, rounded = (
        analyse(study), analyse(study, t), analyse(study, t, fitted=True)
    )  # fmt: skip
    assert (best.fitted, given.fitted) == (True, False)
    assert best.identity_ci90 == rounded.identity_ci90
    assert given.identity_ci90[0] < best.identity_ci90[0]
    assert "(given)" in given.in_words()[0]


def test_runs_of_one_learning_rate_are_left_out_together(tmp_path):
    runs, _ = simulated.study(4, seed=1)
    runs[1] = dataclasses.replace(runs[1], learning_rate=runs[0].learning_rate)
    rows = studied(runs, tmp_path).rate_left_out
    others = curves.best_threshold(runs[2:]).log_log_threshold
    together = rows[rows["run"].isin(["run 0", "run 1"])]
    assert together["log_log_threshold"].tolist() == pytest.approx([others] * 10)


def test_the_linear_objective_has_the_higher_linear_r2(tmp_path):
    runs, _ = simulated.study(5, seed=4)
    identity, linear = (
        analyse(studied(runs, tmp_path, objective=objective))
        for objective in ("identity", "linear")
    )
    assert linear.r2.linear > identity.r2.linear
    assert identity.r2.identity > linear.r2.identity
    points = linear.points
    r2 = linear_r2(points["premem"].to_numpy(), points["test_accuracy"].to_numpy())
    assert linear.study.fit.r2 == pytest.approx(r2)


@pytest.mark.parametrize("objective", ["identity", "linear"])
def test_samples_that_a_plan_left_out_restrict_the_choice_and_are_said(objective, tmp_path):
    store = planned.store(tmp_path / "lazy", "lazy")
    study = studied(run_scores.read_task(store, "toy"), tmp_path, objective=objective)
    assert study.fit.restricted
    assert any("left samples out" in sentence for sentence in analyse(study).caveats)


def test_baselines_that_were_measured_in_several_ways_are_said_not_to_compare(tmp_path):
    runs, _ = simulated.study(3, seed=1)
    others = read_baseline_predictors(Store(tmp_path), runs)
    others["gradient_variance_settings"] = [f"5 mini-batches of {n}" for n in [100] * 10 + [8] * 5]
    done = analyse(make_study(runs, others))
    assert any("5 mini-batches of 100, 5 mini-batches of 8" in each for each in done.caveats)
