"""The NLL of the parts of a target, against a plain computation over its tokens."""

import numpy as np
import pytest

from premem_core.metrics.segments import segment_nll

NAN = np.nan


def test_the_parts_are_the_means_over_their_own_tokens():
    tokens = np.random.default_rng(0).exponential(size=40)
    for n in (1, 17, 39):
        scores = {
            "nll": [tokens.mean()], "tokens": [40],
            "trace_nll": [tokens[:n].mean()], "trace_tokens": [n],
        }  # fmt: skip
        assert segment_nll(scores, "target") == pytest.approx([tokens.mean()])
        assert segment_nll(scores, "trace") == pytest.approx([tokens[:n].mean()])
        assert segment_nll(scores, "answer") == pytest.approx([tokens[n:].mean()])


@pytest.mark.parametrize("segment", ["trace", "answer"])
@pytest.mark.parametrize(
    ("trace_nll", "trace_tokens"), [(NAN, NAN), (NAN, 0), (0.25, 8)], ids=["old", "none", "only"]
)
def test_a_target_with_one_part_has_one_nll(segment, trace_nll, trace_tokens):
    scores = {
        "nll": [0.25], "tokens": [8], "trace_nll": [trace_nll], "trace_tokens": [trace_tokens],
    }  # fmt: skip
    assert segment_nll(scores, segment).tolist() == [0.25]


def test_what_was_not_measured_stays_unknown_and_rounding_is_no_negative_nll():
    scores = {
        "nll": [NAN, 0.4], "tokens": [8, 10], "trace_nll": [NAN, 0.5000001], "trace_tokens": [2, 8],
    }  # fmt: skip
    unknown, copied = segment_nll(scores, "answer")
    assert np.isnan(unknown)
    assert copied == 0.0
