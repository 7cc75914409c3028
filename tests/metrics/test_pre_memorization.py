import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from premem_core.metrics import pre_memorization
from tests.helpers.drawn import runs


def by_hand(accuracy, nll, threshold, c, i):
    """Pre-memorization accuracy as docs/method.md, section 1, defines it, one example at a time."""
    best = 0.0
    for earlier in range(c + 1):
        if nll[earlier][i] >= np.exp(threshold):
            best = max(best, accuracy[earlier][i])
    return min(best, accuracy[c][i])


@given(runs, st.floats(-6, 1))
def test_premem_accuracy_is_the_papers_formula(run, threshold):
    accuracy, nll = np.array(run[0]) / 5, np.array(run[1])
    premem = pre_memorization.premem_accuracy(accuracy, nll, threshold)
    for c in range(len(accuracy)):
        for i in range(accuracy.shape[1]):
            assert premem[c, i] == by_hand(accuracy, nll, threshold, c, i)


def test_an_unmeasured_perplexity_is_not_memorized():
    assert not pre_memorization.memorized(np.array([np.nan]), 5.0)[0]


def test_a_perplexity_of_exactly_one_is_memorized_at_every_threshold():
    assert pre_memorization.memorized(np.array([0.0]), -50.0)[0]
