"""Rules of the gate: what an interval says about a bound, and what is said of it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from premem_core.analysis import curves, run_scores
from premem_core.analysis.gate import MAX_MEMORIZED, MIN_PREMEM, MIN_TEST, NO_DROP, Rule, judge
from premem_core.analysis.run_scores import RunScores
from premem_core.metrics.estimators import SampleCounts
from premem_core.store.database import Store
from tests.helpers import planned, simulated


def made(accuracy: np.ndarray, nll: float | np.ndarray = 1.0, **about) -> RunScores:
    """A run whose examples have these accuracies in tenths, (C, N), and NLLs."""
    correct = np.round(10 * accuracy).astype(np.int64)
    n = correct.shape[1]
    return replace(
        simulated.run("made", np.random.default_rng(0), np.full(simulated.TEST, 0.5))[0],
        **{
            "trained_on": n,
            "steps": np.arange(1, len(correct) + 1),
            "examples": np.arange(n),
            "counts": SampleCounts.of(np.full(correct.shape, 10), correct, 10),
            "nll": np.broadcast_to(nll, correct.shape).astype(float),
            "test_accuracy": np.full((len(correct), 0), np.nan),
            **about,
        },
    )


def judged(scores: RunScores, name: str, bound: float = np.nan, step: int | None = None):
    line = curves.curve(scores, simulated.T)
    [only] = judge(line, int(scores.steps[-1] if step is None else step), [Rule(name, bound)])
    return only


@pytest.fixture(scope="module")
def run(runs):
    return runs[0]


def test_a_rule_is_judged_by_where_the_whole_interval_lies(run):
    line = curves.curve(run, simulated.T)
    for name, value, half in (
        (MIN_PREMEM, line.premem[-1], line.premem_half[-1]),
        (MIN_TEST, line.test[-1], line.test_half[-1]),
    ):
        assert judged(run, name, value - 1.01 * half).verdict == "passed"
        assert judged(run, name, value - 0.99 * half).verdict == "undecided"
        assert judged(run, name, value + 0.99 * half).verdict == "undecided"
        assert judged(run, name, value + 1.01 * half).verdict == "failed"
        assert judged(run, name, value).low == pytest.approx(value - half)


def test_where_no_question_is_right_the_interval_is_not_a_point(run):
    none = made(np.zeros((1, 25)))
    assert judged(none, MIN_PREMEM, 0.05).verdict == "undecided"
    assert judged(none, MIN_PREMEM, 0.2).verdict == "failed"
    all_right = replace(none, test_accuracy=np.ones((1, 25)))
    assert judged(all_right, MIN_TEST, 0.95).verdict == "undecided"
    assert judged(all_right, MIN_TEST, 0.8).verdict == "passed"


def test_the_gate_is_wrong_about_a_bound_that_is_the_truth_in_one_case_of_twenty_on_each_side():
    rng = np.random.default_rng(3)
    verdicts = [
        judged(made(rng.binomial(10, rng.beta(2, 2, (1, 200))) / 10), MIN_PREMEM, 0.5).verdict
        for _ in range(400)
    ]
    for verdict in ("passed", "failed"):
        assert 0.02 < verdicts.count(verdict) / 400 < 0.09


def test_an_undecided_rule_says_how_many_examples_would_decide_it():
    rng = np.random.default_rng(1)
    accuracy = rng.binomial(10, rng.beta(1, 1, (1, 2000))) / 10
    some = made(accuracy[:, :100], trained_on=2000)
    bound = round(float(some.accuracy.mean()) - 0.03, 3)
    said = judged(some, MIN_PREMEM, bound)
    assert said.verdict == "undecided"
    needed = int(re.search(r"About ([\d,]+) training examples instead of 100", said.sentence)[1])
    repeated = np.tile(accuracy[:, :100], 20)  # the value stays
    assert judged(made(repeated[:, : needed + 99 - (needed - 1) % 100]), MIN_PREMEM, bound).holds(
        strict=True
    )
    close = judged(made(accuracy[:, :100]), MIN_PREMEM, bound)
    assert "too close to the bound for any number of training examples" in close.sentence


def test_the_memorized_share_is_exact_where_every_training_example_is_scored():
    nll = np.where(np.arange(500) < 300, 0.01, 1.0)
    accuracy = np.ones((1, 500))
    assert judged(made(accuracy, nll), MAX_MEMORIZED, 0.6).verdict == "passed"
    above = judged(made(accuracy, nll), MAX_MEMORIZED, 0.599)
    assert (above.verdict, above.low, above.high) == ("failed", 0.6, 0.6)
    assert above.sentence == ("the memorized share of 500 training examples is 0.600: above 0.599")


def test_the_memorized_share_of_a_sample_has_the_exact_binomial_interval():
    nll = np.where(np.arange(500) < 300, 0.01, 1.0)
    some = made(np.ones((1, 500)), nll, trained_on=4000)
    low, high = stats.beta.ppf([0.05, 0.95], [300, 301], [201, 200])
    found = judged(some, MAX_MEMORIZED, 0.6)
    assert (found.verdict, found.low, found.high) == (
        "undecided", pytest.approx(low), pytest.approx(high),
    )  # fmt: skip
    assert judged(some, MAX_MEMORIZED, low - 0.001).verdict == "failed"
    assert judged(some, MAX_MEMORIZED, high + 0.001).verdict == "passed"


def test_a_drop_fails_only_where_it_is_certain_and_is_measured_on_the_same_examples():
    rng = np.random.default_rng(2)
    first = rng.beta(0.5, 0.5, 300)
    lower = np.clip(first - 0.05, 0, 1)
    sure = judged(made(np.array([first, lower])), NO_DROP)
    assert sure.verdict == "failed"
    # The means of the two checkpoints alone would not tell them apart.
    alone = curves.curve(made(np.array([first, lower])), simulated.T)
    assert alone.premem[0] - alone.premem_half[0] < alone.premem[1] + alone.premem_half[1]
    assert sure.high < 0 < sure.high - sure.low < alone.premem_half[0]
    assert judged(made(np.array([first, first])), NO_DROP).value == 0
    assert judged(made(np.array([first, first])), NO_DROP).holds(strict=True)
    other = judged(made(np.array([first[:9], rng.permutation(first[:9]) * 0.9])), NO_DROP)
    assert (other.verdict, other.value < 0) == ("passed", True)


def test_a_drop_of_a_run_whose_samples_are_a_share_is_that_of_all_its_examples():
    rng = np.random.default_rng(3)
    nll = np.where(np.arange(400) < 200, 0.0, 1.0)  # half of the examples are always memorized
    samples = np.zeros((2, 400), dtype=np.int64)
    samples[:, 200::4] = 1
    correct = samples * (rng.random((2, 400)) < np.array([[0.9], [0.5]]))
    counts = SampleCounts.of(samples, correct, 1)
    scores = made(np.zeros((2, 400)), nll, counts=counts)
    line = curves.curve(scores, simulated.T, "lu")
    [drop] = judge(line, 2, [Rule(NO_DROP)])
    assert drop.verdict == "failed"
    assert drop.value == pytest.approx(line.premem[1] - line.premem[0])
    assert -0.35 < drop.value < -0.05


def test_a_plateau_of_ten_checkpoints_is_rarely_taken_for_a_drop():
    """The best of nine noisy means is high by chance."""
    rng = np.random.default_rng(5)
    failed = 0
    for _ in range(200):
        truth = rng.beta(2, 2, 200)
        plateau = rng.binomial(10, truth, (10, 200)) / 10
        failed += judged(made(plateau, nll=np.full((10, 200), 1.0)), NO_DROP).verdict == "failed"
    assert failed / 200 <= 0.05


def test_what_is_not_scored_is_unknown_and_closes_the_gate(run, stores):
    lazy, *_ = run_scores.read_task(Store(stores / "lazy"), "toy")
    line = curves.curve(lazy, planned.T - 1)
    assert line.unknown[-1]
    rules = [Rule(MIN_PREMEM, 0.0), Rule(NO_DROP)]
    for found in judge(line, planned.STEPS[-1], rules):
        assert "samples that this threshold needs are missing" in found.sentence
        assert not found.holds()
    at_its_own = judge(curves.curve(lazy, planned.T), planned.STEPS[-1], rules)
    assert {each.verdict for each in at_its_own} <= {"passed", "failed"}
    nll = run.nll.copy()
    nll[-1, 3] = np.nan
    cases = {
        "perplexity of 1 of 300": judged(replace(run, nll=nll), MAX_MEMORIZED, 1.0),
        "with test problems": judged(made(np.ones((1, 5))), MIN_TEST, 0.0),
        "only one of the training examples": judged(made(np.ones((1, 1))), MIN_PREMEM, 0.0),
        "only one training example": judged(made(np.ones((2, 1))), NO_DROP),
        "no earlier scored checkpoint": judged(run, NO_DROP, step=run.steps[0]),
        "no training example is scored at step 99": judged(run, MIN_PREMEM, 0.0, step=99),
    }
    for words, found in cases.items():
        assert words in found.sentence
        assert (found.verdict, found.holds()) == ("unknown", False)
