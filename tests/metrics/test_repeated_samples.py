"""pass@k and maj@k against all choices of k samples, and against a known truth."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.metrics.intervals import mean_interval
from premem_core.metrics.repeated_samples import majority_at_k, pass_at_k

RIGHT, NONE = "right", None


def outcome(answers) -> float:
    """The probability that the majority of these answers is right; a tie is broken at random."""
    votes = {answer: answers.count(answer) for answer in set(answers) - {NONE}}
    first = [answer for answer, n in votes.items() if n == max(votes.values())]
    return (RIGHT in first) / len(first) if first else 0.0


@given(st.lists(st.sampled_from([RIGHT, "a", "b", "c", NONE]), min_size=1, max_size=8), st.data())
def test_both_are_the_mean_over_all_choices_of_k_samples(answers, data):
    k = data.draw(st.integers(1, len(answers)))
    chosen = [list(some) for some in combinations(answers, k)]
    correct, wrong = answers.count(RIGHT), [answers.count(answer) for answer in "abc"]
    found = pass_at_k(np.array([len(answers)]), np.array([correct]), k)
    assert found == pytest.approx(np.mean([RIGHT in some for some in chosen]))
    majority = majority_at_k(correct, wrong, len(answers), k)
    assert majority == pytest.approx(np.mean([outcome(some) for some in chosen]))


def test_with_one_sample_each_both_are_the_accuracy_and_with_too_few_unknown():
    assert pass_at_k(np.array([4]), np.array([3]), 1) == pytest.approx(0.75)
    assert majority_at_k(3, [1], 4, 1) == pytest.approx(0.75)
    assert np.isnan(pass_at_k(np.array([3]), np.array([3]), 4))
    assert np.isnan(majority_at_k(3, [], 3, 4))
    with pytest.raises(ValueError, match="k must be at least 1"):
        pass_at_k(np.array([3]), np.array([3]), 0)
    with pytest.raises(ValueError, match="-1 of 3 samples have no answer"):
        majority_at_k(3, [1], 3, 1)


@pytest.mark.parametrize("k", [1, 4, 8])
def test_they_are_unbiased_and_nine_in_ten_intervals_hold_the_truth(k):
    """1,000 studies of 300 questions with 8 samples each, from known probabilities of answers."""
    rng = np.random.default_rng(k)
    population = 20_000
    right = rng.beta(0.8, 1.2, population)
    share = rng.uniform(0.3, 1.0, population)  # of wrong samples that give the commonest answer
    probabilities = np.stack([right, (1 - right) * share, (1 - right) * (1 - share)], axis=1)
    votes = rng.multinomial(8, probabilities)
    passed = pass_at_k(np.full(population, 8), votes[:, 0], k)
    majority = np.array([majority_at_k(c, [a, b], 8, k) for c, a, b in votes.tolist()])
    drawn = rng.multinomial(k, probabilities)
    first = drawn == drawn.max(axis=1, keepdims=True)
    truths = (1 - (1 - right) ** k), first[:, 0] / first.sum(axis=1)
    for values, truth in zip((passed, majority), truths, strict=True):
        error = np.sqrt((values.var() + truth.var()) / population)
        assert abs(values.mean() - truth.mean()) < 2 * error
        studies = rng.integers(0, population, (1000, 300))
        mean, half = mean_interval(values[studies])
        held = np.mean(np.abs(mean - values.mean()) <= half)
        assert 0.87 <= held <= 0.93
