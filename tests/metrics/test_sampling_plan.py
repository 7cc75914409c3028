import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from premem_core.analysis.replay import follow_plan
from premem_core.metrics import estimators, pre_memorization
from premem_core.metrics.sampling_plan import (
    PLANS,
    Share,
    remaining,
    share_of_examples,
    to_draw,
)

T = float(np.log(0.1))


@st.composite
def scored_runs(draw):
    """NLL (C, N) and running counts of K samples (K + 1, C, N), as `replay.draw_order` gives."""
    c, n, k = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    nll = np.where(rng.random((c, n)) < draw(st.sampled_from([0.2, 0.5, 0.8])), 0.05, 0.3)
    difficulty = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0], size=(c, n))
    hits = rng.random((k, c, n)) < difficulty
    return nll, np.concatenate([np.zeros((1, c, n), dtype=np.int64), np.cumsum(hits, axis=0)])


def one_at_a_time(plan, nll, outcomes):
    """How many samples docs/method.md, sections 4 and 10, draws of each pair, in plain Python."""
    k, (checkpoints, examples) = len(outcomes) - 1, nll.shape
    masked = nll < np.exp(T)
    drawn = np.zeros(nll.shape, dtype=int)

    def count(c, i):
        return outcomes[drawn[c, i], c, i]

    def draw_while(c, i, goes_on):
        while drawn[c, i] < k and goes_on(c, i):
            drawn[c, i] += 1

    for i in range(examples):
        unmasked = [c for c in range(checkpoints) if not masked[c, i]]
        if plan == "full":
            drawn[:, i] = k
        elif plan == "lazy":
            best = 0
            for c in range(checkpoints):
                if masked[c, i]:
                    draw_while(c, i, lambda c, i, best=best: count(c, i) < best)
                else:
                    drawn[c, i] = k
                    best = max(best, count(c, i))
        elif plan == "last":
            drawn[unmasked, i] = k
        elif unmasked:
            last, best = checkpoints - 1, 0
            drawn[last, i] = k
            if masked[last, i]:
                target = count(last, i)
                for c in reversed(unmasked):
                    draw_while(
                        c,
                        i,
                        lambda c, i, best=best, target=target: (
                            best < target
                            and count(c, i) < target
                            and count(c, i) + k - drawn[c, i] > best
                        ),
                    )
                    best = max(best, count(c, i))
    return drawn


@given(scored_runs(), st.sampled_from(PLANS))
def test_drawing_in_batches_draws_exactly_what_drawing_one_at_a_time_does(run, plan):
    nll, outcomes = run
    drawn = follow_plan(plan, T, nll, outcomes)
    np.testing.assert_array_equal(drawn.samples, one_at_a_time(plan, nll, outcomes))


@given(scored_runs(), st.sampled_from(["lazy", "final"]))
def test_a_plan_leaves_pre_memorization_accuracy_exactly_as_it_was(run, plan):
    nll, outcomes = run
    accuracy = outcomes[-1] / (len(outcomes) - 1)
    expected = pre_memorization.premem_accuracy(accuracy, nll, T)
    premem = estimators.premem("plain", follow_plan(plan, T, nll, outcomes), nll, T)
    if plan == "final":
        premem, expected = premem[-1], expected[-1]
    np.testing.assert_array_equal(premem, expected)


@settings(max_examples=60)
@given(scored_runs(), st.sampled_from(PLANS), st.integers(0, 2**32))
def test_workers_in_any_order_with_an_old_view_of_the_others_draw_the_same(run, plan, seed):
    nll, outcomes = run
    rng = np.random.default_rng(seed)
    k = len(outcomes) - 1
    known = np.full(nll.shape, np.nan)
    samples, correct = np.zeros(nll.shape, dtype=int), np.zeros(nll.shape, dtype=int)
    old = known.copy(), samples.copy(), correct.copy()
    idle = 0
    while idle < 50:
        c = rng.integers(len(nll))
        if rng.random() < 0.3:
            old = known.copy(), samples.copy(), correct.copy()
        known[c] = nll[c]
        view = [array.copy() for array in old]
        for mine, ours in zip(view, (known, samples, correct), strict=True):
            mine[c] = ours[c]
        more = to_draw(plan, k, T, view[0], view[1], view[2])[c]
        samples[c] += more
        correct[c] = np.take_along_axis(outcomes[:, c], samples[None, c], axis=0)[0]
        idle = 0 if more.any() else idle + 1
    np.testing.assert_array_equal(samples, one_at_a_time(plan, nll, outcomes))


@given(scored_runs(), st.sampled_from(PLANS), st.data())
def test_what_remains_lies_between_its_bounds_at_any_moment(run, plan, data):
    nll, outcomes = run
    k = len(outcomes) - 1
    end = one_at_a_time(plan, nll, outcomes).sum()
    measured = data.draw(st.integers(0, len(nll)))
    known = nll.copy()
    known[measured:] = np.nan
    samples, correct = np.zeros(nll.shape, dtype=int), np.zeros(nll.shape, dtype=int)
    for _ in range(data.draw(st.integers(0, 6))):
        samples += to_draw(plan, k, T, known, samples, correct)
        correct = np.take_along_axis(outcomes, samples[None], axis=0)[0]
    left = remaining(plan, k, T, known, samples, correct)
    assert left.at_least <= end - samples.sum() <= left.at_most


def test_a_masked_pair_without_an_earlier_success_is_never_sampled():
    nll = np.array([[0.3, 0.05], [0.05, 0.05]])
    samples, correct = np.array([[5, 0], [0, 0]]), np.zeros((2, 2), dtype=int)
    assert not to_draw("lazy", 5, T, nll, samples, correct).any()
    assert remaining("lazy", 5, T, nll, samples, correct).at_most == 0


def test_before_its_perplexity_is_known_a_pair_is_sampled_by_the_full_plan_only():
    nll, none = np.full((2, 3), np.nan), np.zeros((2, 3), dtype=int)
    assert to_draw("full", 4, None, nll, none, none).sum() == 24
    assert not to_draw("lazy", 4, T, nll, none, none).any()
    assert not to_draw("final", 4, T, nll, none, none).any()


def test_a_lower_threshold_says_which_samples_are_missing_and_a_higher_one_misses_none():
    rng = np.random.default_rng(0)
    nll = rng.gamma(1, 0.2, size=(4, 50))
    outcomes = np.concatenate(
        [np.zeros((1, 4, 50), dtype=int), np.cumsum(rng.random((5, 4, 50)) < 0.5, axis=0)]
    )
    drawn = follow_plan("lazy", T, nll, outcomes)
    counts = drawn.samples, drawn.correct
    assert remaining("lazy", 5, T, nll, *counts).at_most == 0
    assert remaining("lazy", 5, T + 1, nll, *counts).at_most == 0
    lower = remaining("lazy", 5, T - 1, nll, *counts)
    assert 0 < lower.at_least <= lower.at_most


def test_only_the_full_plan_does_without_a_threshold():
    none = np.zeros((1, 1), dtype=int)
    with pytest.raises(ValueError, match="needs a threshold"):
        to_draw("lazy", 5, None, np.ones((1, 1)), none, none)


def many(checkpoints=3, examples=400, seed=0):
    """NLL of a run that memorizes more and more, and that no example was sampled yet."""
    rng = np.random.default_rng(seed)
    speed = rng.uniform(0.5, 2, examples)
    nll = 0.4 * np.exp(-np.arange(checkpoints)[:, None] * speed) + rng.uniform(0, 0.01, examples)
    return nll, np.zeros((checkpoints, examples), dtype=np.int64)


def test_a_share_takes_its_part_of_every_group_of_examples_that_are_masked_alike():
    nll, none = many()
    masked = nll < np.exp(T)
    chosen = share_of_examples(Share(0.25), nll, masked, none)
    assert chosen.sum() == 100
    patterns, group = np.unique(masked, axis=1, return_inverse=True)
    for g in range(patterns.shape[1]):
        members = group == g
        assert abs(chosen[members].sum() - members.sum() / 4) <= 1


def test_a_share_waits_until_every_perplexity_is_known_and_never_draws_more_than_was_said():
    nll, none = many()
    share, known = Share(0.25), nll.copy()
    known[-1] = np.nan
    assert not to_draw("last", 2, T, known, none, none, share).any()
    said = remaining("last", 2, T, known, none, none, share).at_most
    drawn = to_draw("last", 2, T, nll, none, none, share)
    assert 0 < drawn.sum() <= said < 2 * nll.size / 2
    assert remaining("last", 2, T, nll, none, none, share).at_most == drawn.sum()


def test_a_share_keeps_its_examples_when_a_checkpoint_is_added_or_the_job_was_interrupted():
    nll, none = many()
    share = Share(0.25)
    first = to_draw("last", 1, T, nll[:2], none[:2], none[:2], share)
    samples = np.vstack([first, none[2]])
    more = to_draw("last", 1, T, nll, samples, none, share)
    assert not more[:2].any()  # nothing is drawn twice
    assert more[2].any()
    assert set(np.flatnonzero(more[2])) <= set(np.flatnonzero(first.any(axis=0)))
    half = first.copy()
    half[:, np.flatnonzero(first.any(axis=0))[::2]] = 0
    rest = to_draw("last", 1, T, nll[:2], half, none[:2], share)
    np.testing.assert_array_equal(half + rest, first)


def test_a_larger_share_adds_examples_in_every_part_of_the_order():
    nll, none = many(checkpoints=1, examples=1000)
    samples = to_draw("last", 1, -9.0, nll, none, none, Share(0.1))
    samples += to_draw("last", 1, -9.0, nll, samples, none, Share(0.15))
    assert samples.sum() == 150
    halves = samples[0, np.argsort(nll[0])].reshape(2, 500).sum(axis=1)
    assert abs(halves - 75).max() <= 5


def test_an_example_that_was_passed_over_at_a_closed_checkpoint_does_not_join_the_share():
    rng = np.random.default_rng(0)
    nll, none = rng.lognormal(T, 1, (2, 400)), np.zeros((2, 400), dtype=np.int64)
    first = to_draw("last", 1, T, nll[:1], none[:1], none[:1], Share(0.25))
    samples = np.vstack([first, none[:1]])
    more = to_draw("last", 1, T, nll, samples, none, Share(0.25, closed=(0,)))
    assert not more[0].any()
    masked = nll < np.exp(T)
    late = masked[0] & ~masked[1]  # a quarter of these joins, as of all others
    assert abs(more[1, late].sum() - late.sum() / 4) <= 3
