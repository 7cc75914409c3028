import numpy as np
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.errors import DataError
from premem_core.store.database import Store
from tests.helpers import planned


@pytest.fixture(scope="module")
def studies(stores):
    return {
        plan: run_scores.read_task(Store(stores / plan), "toy")
        for plan in ("full", "lazy", "final")
    }


def drawn(runs):
    return sum(int(run.counts.samples.sum()) for run in runs)


def test_a_lazy_run_has_the_curve_of_a_full_one_at_its_threshold_and_above(studies):
    assert drawn(studies["lazy"]) < drawn(studies["full"])
    for t in (planned.T, planned.T + 0.4):
        for full, lazy in zip(studies["full"], studies["lazy"], strict=True):
            one, other = curves.curve(full, t), curves.curve(lazy, t)
            np.testing.assert_array_equal(one.premem, other.premem)
            np.testing.assert_array_equal(one.masked, other.masked)
            assert (other.missing.at_least, other.missing.at_most) == (0, 0)


def test_what_a_plan_left_out_is_not_known_and_said(studies):
    lazy = [curves.curve(run, planned.T) for run in studies["lazy"]]
    assert np.isnan(lazy[0].train).any()
    assert curves.missing_in_words(lazy).startswith("Train accuracy is not known at")
    lower = [curves.curve(run, planned.T - 1) for run in studies["lazy"]]
    unknown = np.array([c.unknown > 0 for c in lower])
    np.testing.assert_array_equal(np.isnan([c.premem for c in lower]), unknown)
    assert unknown.any()
    assert all(0 < c.missing.at_least <= c.missing.at_most for c in lower)
    assert "left out samples that it needs at this threshold" in curves.missing_in_words(lower)
    assert curves.missing_in_words([curves.curve(run, planned.T) for run in studies["full"]]) == ""


def test_a_final_run_knows_pm_of_its_last_checkpoint_and_of_no_other(studies):
    for full, final in zip(studies["full"], studies["final"], strict=True):
        expected, got = (curves.curve(run, planned.T).premem for run in (full, final))
        assert got[-1] == expected[-1]
        assert np.isnan(got[:-1]).all()


def test_the_best_threshold_of_a_lazy_run_is_one_at_which_nothing_is_missing(studies):
    full, lazy = (curves.best_threshold(studies[plan]) for plan in ("full", "lazy"))
    assert (full.restricted, lazy.restricted) == (False, True)
    assert lazy.highest > planned.T
    lines = [curves.curve(run, lazy.log_log_threshold) for run in studies["lazy"]]
    assert not any(c.unknown.any() for c in lines)
    assert lazy.r2 <= full.r2


def test_no_threshold_is_chosen_where_only_what_predicts_nothing_is_known(studies):
    with pytest.raises(DataError, match="PM depends on samples that the sampling plan left out"):
        curves.best_threshold(studies["final"])


def test_the_jackknife_of_a_lazy_run_is_known_wherever_plain_pm_is(studies):
    for run in studies["lazy"]:
        both = [curves.curve(run, planned.T, e) for e in ("plain", "jackknife")]
        assert not np.isnan(both[1].premem).any()
        assert both[0].premem[-1] != both[1].premem[-1]


def test_the_jackknife_of_single_samples_is_refused_in_a_sentence(studies):
    from dataclasses import replace

    from premem_core.metrics.sample_counts import SampleCounts

    run = studies["full"][0]
    one = np.ones(run.nll.shape, dtype=int)
    with pytest.raises(DataError, match=r"run 'slow'.* at least 2 samples .* plain estimator"):
        curves.curve(replace(run, counts=SampleCounts(one, one, one)), -2.3, "jackknife")


def test_the_table_names_the_estimator_in_force(studies):
    table = curves.table([curves.curve(run, -2.3, "jackknife") for run in studies["full"]])
    assert set(table["estimator"]) == {"jackknife"}
