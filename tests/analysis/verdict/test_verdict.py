"""The verdict on one run: where its threshold comes from, what is expected, what is withheld."""

from dataclasses import replace

import numpy as np
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies import prediction
from premem_core.analysis.studies.calibration import calibrate
from premem_core.analysis.verdict.expectation import expect
from premem_core.analysis.verdict.threshold import choose_threshold
from premem_core.analysis.verdict.verdict import difference_error, make_verdict
from premem_core.errors import DataError, UsageError
from premem_core.importers.published_arrays import import_published
from premem_core.metrics import r2, threshold_rules
from premem_core.metrics.sample_counts import SampleCounts
from premem_core.store.database import Store
from tests.helpers import simulated


@pytest.fixture(scope="module")
def runs() -> list[RunScores]:
    return simulated.study(6, seed=3)[0]


def with_unseen(run: RunScores, solutions: int, seed: int = 0) -> RunScores:
    """The run, with the NLLs of solutions that it was not trained on."""
    rng = np.random.default_rng(seed)
    return replace(run, unseen_nll=np.exp(rng.normal(-1.0, 0.6, (len(run.steps), solutions))))


def without_test(run: RunScores) -> RunScores:
    return replace(run, test_examples=np.empty(0, int), test_accuracy=np.empty((len(run.steps), 0)))


def test_the_best_evidence_that_is_there_gives_the_threshold(runs):
    lone = without_test(runs[0])
    accuracy = lone.accuracy[0].mean()
    alone = choose_threshold("t", lone, [lone])
    assert alone.source == "this_run"
    assert alone.log_log_threshold == pytest.approx(
        -2.42 - 0.25 * np.log(accuracy / (1 - accuracy))
    )
    others = choose_threshold("t", lone, [lone, *runs[1:]])
    assert others.source == "other_runs"
    best = curves.best_threshold(runs[1:])
    assert others.log_log_threshold == pytest.approx(best.log_log_threshold)
    few = with_unseen(lone, 999)
    assert choose_threshold("t", few, [few, *runs[1:]]).source == "other_runs"
    many = with_unseen(lone, 1000)
    unseen = choose_threshold("t", many, [many, *runs[1:]])
    assert unseen.source == "unseen"
    assert np.mean(many.unseen_nll < np.exp(unseen.log_log_threshold)) == pytest.approx(0.008)
    assert choose_threshold("t", many, [many], given=-2.0).source == "given"
    # Where the run has none of its own, those of other runs of the task serve, if one asks for it.
    with_others = [lone, with_unseen(runs[1], 1000), runs[2]]
    assert choose_threshold("t", lone, with_others).source == "other_runs"
    borrowed = choose_threshold("t", lone, with_others, source="unseen")
    assert "that other runs of the task were not trained on" in borrowed.why


def test_a_source_that_is_not_there_is_refused_with_the_reason(runs):
    lone = with_unseen(without_test(runs[0]), 20)
    with pytest.raises(DataError, match="20 unseen solutions is measured, and at least 1,000"):
        choose_threshold("t", lone, [lone], source="unseen")
    with pytest.raises(DataError, match="no other run of the task"):
        choose_threshold("t", lone, [lone], source="other_runs")
    with pytest.raises(UsageError, match="must be a finite number"):
        choose_threshold("t", lone, [lone], given=float("inf"))


def test_the_predictions_by_other_runs_are_those_of_the_calibration(runs):
    threshold = choose_threshold("t", runs[0], runs)
    rows = expect(runs[0], threshold)
    expected = prediction.predict(runs[0], calibrate("t", runs[1:]))
    for name in ("predicted", "low", "high", "test_accuracy", "memorized_share"):
        np.testing.assert_array_equal(rows[name], expected[name])
    verdict = make_verdict("t", without_test(runs[0]), threshold)
    assert verdict.interval == "90 %"
    best = verdict.checkpoints.set_index("step")["predicted"].idxmax()
    assert (verdict.ship.step, verdict.ship.predicted) == (
        best, verdict.checkpoints["predicted"].max()
    )  # fmt: skip
    spread, freedom = difference_error(threshold)
    assert (spread, freedom) == (threshold.calibration.difference_sd, 4)
    assert rows["band_low"].isna().all()


def test_a_run_alone_has_a_typical_interval_and_the_band_over_thresholds(runs):
    run = replace(without_test(runs[0]), counts=many_right(runs[0]))
    rows = expect(run, choose_threshold("t", run, [run]))
    line = curves.curve(run, choose_threshold("t", run, [run]).log_log_threshold)
    half = np.hypot(0.095 * np.sqrt(line.premem * (1 - line.premem)), line.premem_half)
    np.testing.assert_allclose(rows["high"], np.clip(line.premem + half, 0, 1))
    at = [curves.curve(run, t).premem for t in np.linspace(-2.5, -1.6, 10)]
    np.testing.assert_allclose(rows["band_low"], np.clip(np.min(at, axis=0) - 0.02, 0, 1))
    verdict = make_verdict("t", run, choose_threshold("t", run, [run]))
    assert verdict.interval == "typical"
    assert "typically" in verdict.in_words()[0]
    assert verdict.as_json()["threshold_source"] == "this_run"


def many_right(run: RunScores) -> SampleCounts:
    """Counts of a run that answers half of its questions, whatever it has memorized."""
    correct = np.broadcast_to(np.arange(len(run.examples)) % 2 * 5, run.counts.samples.shape)
    return SampleCounts.of(run.counts.samples, correct, 5)


@pytest.mark.parametrize(("share", "predicted", "said"), [
    (0.1, True, ""), (0.3, True, "are too low then"), (0.5, False, "so none is given"),
])  # fmt: skip
def test_a_first_checkpoint_that_comes_too_late_is_told_of_and_withholds_predictions(
    runs, share, predicted, said
):
    nll = np.full(runs[0].nll.shape, 0.5)
    nll[:, : int(share * nll.shape[1])] = 0.01
    run = without_test(replace(runs[0], nll=nll))
    verdict = make_verdict("t", run, choose_threshold("t", run, [run], given=-2.3))
    assert verdict.checkpoints["predicted"].notna().all() == predicted
    assert verdict.checkpoints["premem"].notna().all()
    assert (verdict.ship is not None) == predicted
    late = [sentence for sentence in verdict.cautions if "comes too late" in sentence]
    assert bool(late) == bool(said)
    if late:
        assert said in late[0]
        assert "save checkpoints within the first epoch" in late[0]


def test_what_makes_numbers_doubtful_is_said_with_figures(runs):
    nll = np.full(runs[0].nll.shape, 0.5)
    nll[-2:] = 0.01
    run = replace(runs[0], nll=nll)
    given = choose_threshold("t", run, [run], given=-2.3)
    verdict = make_verdict("t", run, given, trace_tokens=4000)
    said = " ".join(verdict.cautions)
    assert f"From step {run.steps[-2]} on, at least 100% of the training examples" in said
    assert "only test questions can tell" in verdict.in_words()[3]
    assert "thinking traces have 4,000 tokens" in said
    assert "probably not those" not in said
    also_copied = replace(run, unseen_nll=nll[:, :50])
    said = " ".join(make_verdict("t", also_copied, given).cautions)
    assert "100% of the named training rows" in said
    assert "probably not those" in said


def test_a_run_that_learned_from_rewards_is_marked_as_untested(runs):
    threshold = choose_threshold("t", runs[0], [runs[0]], given=-2.3)
    said = "learned from rewards or preferences"
    assert not any(said in sentence for sentence in make_verdict("t", runs[0], threshold).cautions)
    [caution] = make_verdict("t", replace(runs[0], rewarded=True), threshold).cautions
    assert said in caution
    assert "pass@k" in caution


def test_a_gain_of_less_than_a_point_is_not_worth_another_epoch(runs):
    nll, counts = np.full((2, 400), 0.5), np.zeros((2, 400), dtype=int)
    for gained, expected in ((60, "may still help"), (0, "would hardly help"), (-60, "too long")):
        counts[0, :200], counts[1] = 1, 0
        counts[1, : 200 + gained] = 1
        run = replace(
            runs[0], steps=np.array([1, 2]), epoch=np.array([1.0, 2.0]), nll=nll,
            examples=np.arange(400), counts=SampleCounts.of(np.ones((2, 400), int), counts, 1),
            test_accuracy=runs[0].test_accuracy[:2],
        )  # fmt: skip
        verdict = make_verdict("t", run, choose_threshold("t", run, [run], given=-2.3))
        assert verdict.gain == pytest.approx(gained / 400)
        assert expected in verdict.in_words()[3]
        assert verdict.never_right == pytest.approx(1 - max(200, 200 + gained) / 400)


@pytest.mark.slow
def test_published_runs_alone_are_predicted_as_the_method_says(published, tmp_path):
    """docs/method.md, section 12; the rules were fitted with these runs."""
    store = Store(tmp_path)
    import_published(store, published)
    runs = run_scores.read_task(store, "gsm8k")
    rows = [expect(run, choose_threshold("gsm8k", run, [run], source="this_run")) for run in runs]
    unseen = np.concatenate([run.unseen_nll.reshape(1, -1) for run in runs], axis=1)
    predicted = np.concatenate([row["predicted"] for row in rows])
    test = np.concatenate([run.test_accuracy.mean(axis=1) for run in runs])
    assert r2.identity_r2(predicted, test) == pytest.approx(0.958, abs=0.001)
    assert np.abs(predicted - test).mean() <= 0.025
    low, high = (np.concatenate([row[name] for row in rows]) for name in ("band_low", "band_high"))
    assert np.mean((low <= test) & (test <= high)) >= 0.95
    for quantile in (0.007, 0.009):
        t = threshold_rules.from_unseen(unseen, quantile)
        premem = np.concatenate([curves.curve(run, t).premem for run in runs])
        assert r2.identity_r2(premem, test) >= 0.87


def test_unseen_solutions_that_are_alike_give_a_threshold_only_where_one_asks(runs):
    rng = np.random.default_rng(0)
    alike = np.exp(rng.normal(-1.1, 0.2, (len(runs[0].steps), 1000)))
    run = replace(runs[0], unseen_nll=alike)
    chosen = choose_threshold("t", run, [run])
    assert chosen.source == "this_run"
    said = " ".join(make_verdict("t", run, chosen).cautions)
    assert "it was taken from elsewhere" in said
    asked = choose_threshold("t", run, [run], source="unseen")
    assert asked.log_log_threshold == pytest.approx(np.log(np.quantile(alike, 0.008)))
    said = " ".join(make_verdict("t", run, asked).cautions)
    assert "this threshold is probably too high" in said
