"""Replays of plans and estimators, on the published arrays too (docs/method.md, section 4)."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.analysis import curves, run_scores
from premem_core.analysis.replay import draw_order, follow_plan, replay
from premem_core.errors import DataError, UsageError
from premem_core.importers.published_arrays import import_published
from premem_core.metrics import estimators
from premem_core.metrics.sample_counts import SampleCounts
from premem_core.metrics.sampling_plan import WHOLE, Share
from premem_core.store.database import Store
from tests.helpers import planned, simulated
from tests.helpers.paths import GSM8K_RUNS

T = -2.3


@pytest.fixture(scope="module")
def published_store(published, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("published") / "store")
    import_published(store, published)
    return store


@pytest.fixture(scope="module")
def runs(published_store):
    return run_scores.read_task(published_store, "gsm8k")


@pytest.fixture(scope="module")
def sliced_store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("slice") / "store")
    import_published(store, GSM8K_RUNS)
    return store


@pytest.fixture(scope="module")
def sliced(sliced_store):
    return run_scores.read_task(sliced_store, "gsm8k")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return planned.store(tmp_path_factory.mktemp("toy") / "store", "full")


def test_of_all_samples_r2_is_that_of_a_study_also_where_runs_count_differently():
    first, second, *others = simulated.study(5, seed=2)[0]
    smoke = replace(
        first, test_examples=first.test_examples[:10], test_accuracy=first.test_accuracy[:, :10]
    )
    given = [smoke, replace(second, waiting=1), *others]
    points = curves.weighted_points([curves.curve(run, T) for run in given])
    done = replay(given, simulated.SAMPLES, "full", "plain", T, repeats=1)
    assert done.checkpoints == len(points) == 4 * simulated.CHECKPOINTS
    assert done.identity_r2 == pytest.approx(curves.points_r2(points).identity)
    unfinished = replay(given[1:2], simulated.SAMPLES, "full", "plain", T)
    assert (unfinished.checkpoints, unfinished.generations_fraction) == (0, 1)
    assert np.isnan(unfinished.identity_r2)


def test_what_a_plan_costs_is_known_of_a_run_without_test_problems():
    [run] = simulated.study(1, seed=2)[0]
    untested = replace(run, test_examples=np.empty(0, int), test_accuracy=np.empty((5, 0)))
    tested, alone = (replay([r], 5, "lazy", "plain", T, repeats=2) for r in (run, untested))
    assert alone.generations_fraction == tested.generations_fraction < 1
    assert np.isnan(alone.identity_r2)


def test_the_lazy_plan_saves_27_percent_and_changes_no_pm(runs):
    lazy = replay(runs, 5, "lazy", "plain", T)
    full = replay(runs, 5, "full", "plain", T)
    assert lazy.generations_fraction == pytest.approx(0.73, abs=0.01)
    assert lazy.max_abs_difference_to_full == 0
    assert full.generations_fraction == 1
    assert (lazy.identity_r2, lazy.identity_r2_sd) == (full.identity_r2, full.identity_r2_sd)
    assert full.identity_r2 == pytest.approx(0.935, abs=0.002)


def test_on_a_slice_the_lazy_and_the_final_plan_save_as_much_and_change_no_pm(sliced):
    lazy, final, full = (replay(sliced, 5, plan, "plain", T) for plan in ("lazy", "final", "full"))
    assert lazy.generations_fraction == pytest.approx(0.73, abs=0.02)
    assert final.generations_fraction == pytest.approx(0.44, abs=0.02)
    assert (lazy.max_abs_difference_to_full, final.max_abs_difference_to_full) == (0, 0)
    assert (lazy.identity_r2, lazy.identity_r2_sd) == (full.identity_r2, full.identity_r2_sd)
    assert full.identity_r2 > 0.88
    assert final.checkpoints == 13


def test_on_a_slice_three_lazy_samples_with_the_jackknife_fit_about_as_well(sliced):
    full, cheap = replay(sliced, 5, "full", "plain", T), replay(sliced, 3, "lazy", "jackknife", T)
    assert cheap.generations_fraction <= 0.49
    assert cheap.identity_r2 == pytest.approx(full.identity_r2, abs=0.01)


def test_the_final_plan_saves_56_percent_and_changes_no_pm_of_a_last_checkpoint(runs):
    final = replay(runs, 5, "final", "plain", T)
    assert final.generations_fraction == pytest.approx(0.44, abs=0.01)
    assert final.max_abs_difference_to_full == 0
    assert final.checkpoints == 13


def test_three_lazy_samples_with_the_jackknife_fit_like_the_full_protocol_at_half_the_cost(runs):
    cheap = replay(runs, 3, "lazy", "jackknife", T)
    assert cheap.generations_fraction <= 0.49
    assert cheap.identity_r2 == pytest.approx(0.938, abs=0.004)
    assert cheap.max_mean_difference_to_full < 0.005


def test_one_sample_of_unmasked_pairs_predicts_as_well_as_the_papers_protocol(runs):
    every = replay(runs, 1, "last", "lu", -2.4)
    assert every.generations_fraction <= 0.115
    assert every.identity_r2 == pytest.approx(0.942, abs=0.004)
    assert (every.max_abs_difference_to_full, every.checkpoints) == (0, 51)
    half = replay(runs, 1, "last", "lu", -2.4, share=0.5)
    assert half.generations_fraction <= 0.062
    assert half.identity_r2 == pytest.approx(0.940, abs=0.006)
    as_precise = replay(runs, 1, "last", "lu", -2.4, standard_error=0.0082)
    assert 0.056 < as_precise.generations_fraction < 0.066  # more of the quarter runs' examples
    assert as_precise.identity_r2 == pytest.approx(0.940, abs=0.006)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_mean_over_repeats_is_lu_of_all_samples(sliced, share):
    rng, repeats, off = np.random.default_rng(0), 100, []
    for run in sliced:
        means = []
        for _ in range(repeats):
            part = Share(share, rng.random()) if share < 1 else WHOLE
            counts = follow_plan("last", -2.4, run.nll, draw_order(run.counts, 1, rng), part)
            means.append(estimators.premem_means("lu", counts, run.nll, -2.4).mean)
        expected = estimators.premem_means("lu", run.counts, run.nll, -2.4).mean
        error = np.std(means, axis=0, ddof=1) / np.sqrt(repeats)
        off.append((np.mean(means, axis=0) - expected) / error)
    in_errors = np.abs(np.concatenate(off))
    within = (in_errors <= 2).sum()
    print(f"share {share}: {within} of {len(in_errors)} checkpoints within 2 standard errors")
    # The checkpoints of a run share samples, so these are not 51 independent numbers.
    assert in_errors.max() < 4
    assert np.sqrt((in_errors**2).mean()) < 1.7


@pytest.mark.parametrize("which", ["sliced", "runs"])
def test_the_jackknife_takes_most_of_the_bias_of_five_samples_away(request, which):
    fifty = [run for run in request.getfixturevalue(which) if run.samples == 50]
    assert len(fifty) == 4
    plain, jackknife = (replay(fifty, 5, "full", e, T) for e in ("plain", "jackknife"))
    assert 0.005 < plain.bias_to_all_samples < 0.009
    assert jackknife.bias_to_all_samples <= 0.004
    lazy = replay(fifty, 5, "lazy", "jackknife", T)
    assert lazy.bias_to_all_samples == pytest.approx(jackknife.bias_to_all_samples, abs=2e-4)


@pytest.mark.parametrize(("which", "off"), [("sliced_store", 0.02), ("published_store", 0.01)])
def test_the_command_prints_the_contract(request, which, off):
    store = request.getfixturevalue(which)
    arguments = ["replay", "--store", str(store.path), "--task", "gsm8k",
                 "--samples", "5", "--plan", "lazy", "--estimator", "plain",
                 "--log-log-threshold", "-2.3", "--repeats", "2"]  # fmt: skip
    done = CliRunner().invoke(app, [*arguments, "--json"])
    result = json.loads(done.stdout)
    assert set(result) == {
        *("generations_fraction", "identity_r2", "identity_r2_sd"),
        *("max_abs_difference_to_full", "bias_to_all_samples"),
    }
    assert result["generations_fraction"] == pytest.approx(0.73, abs=off)
    shown = CliRunner().invoke(app, arguments).stdout
    assert "lazy plan, 5 samples, plain estimator, t = -2.300, 2 repeats" in shown


def test_what_is_undefined_is_null(toy):
    arguments = ["replay", "--store", str(toy.path), "--task", "toy", "--repeats", "1", "--json"]
    result = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert result["generations_fraction"] == 1
    assert result["bias_to_all_samples"] is None
    assert result["identity_r2_sd"] is None


def test_samples_are_drawn_at_random_without_replacement():
    rng = np.random.default_rng(0)
    counts = SampleCounts.of(np.full((1, 4000), 10), np.full((1, 4000), 4), 10)
    outcomes = draw_order(counts, 10, rng)
    assert (outcomes[10] == 4).all()
    each = np.diff(outcomes, axis=0).mean(axis=(1, 2))
    np.testing.assert_allclose(each, 0.4, atol=0.03)
    assert np.var(outcomes[5]) == pytest.approx(5 * 0.4 * 0.6 * 5 / 9, rel=0.1)  # hypergeometric


def test_a_seed_gives_the_same_replay(toy):
    runs = run_scores.read_task(toy, "toy")
    runs = [replace(run, counts=_thinned(run)) for run in runs]
    one, two, other = (replay(runs, 3, "lazy", "jackknife", T, 3, seed) for seed in (1, 1, 2))
    assert one == two != other


def _thinned(run):
    return SampleCounts.of(np.full(run.nll.shape, 5), np.minimum(run.counts.correct, 4), 5)


def test_a_replay_refuses_what_it_cannot_do(toy, tmp_path):
    runs = run_scores.read_task(toy, "toy")
    with pytest.raises(DataError, match=r"has only 5 samples of some examples.* give --samples 5"):
        replay(runs, 6, "full", "plain", T)
    with pytest.raises(UsageError, match="needs at least 2"):
        replay(runs, 1, "full", "jackknife", T)
    with pytest.raises(UsageError, match="give --estimator plain"):
        replay(runs, 5, "final", "jackknife", T)
    with pytest.raises(UsageError, match="give --estimator lu"):
        replay(runs, 1, "last", "plain", T)
    with pytest.raises(UsageError, match="only the plan last takes a share"):
        replay(runs, 1, "lazy", "plain", T, share=0.5)
    lazy = run_scores.read_task(planned.store(tmp_path / "lazy", "lazy"), "toy")
    with pytest.raises(DataError, match="lacks samples that its sampling plan left out"):
        replay(lazy, 5, "full", "plain", T)
