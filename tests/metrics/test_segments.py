"""The NLL of the parts of a target, against a plain computation over its tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.metrics.segments import segment_nll, segment_spans, span_sums
from premem_core.records import SEGMENTS, Segment

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


@given(
    targets=st.lists(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))),
    segment=st.sampled_from(SEGMENTS),
    first=st.none() | st.integers(1, 4),
)
def test_a_span_holds_the_tokens_whose_mean_is_the_segments_nll(targets, segment: Segment, first):
    nlls = np.random.default_rng(0).exponential(size=sum(n for n, _ in targets))
    offsets = np.cumsum([0, *(n for n, _ in targets)])
    traces = np.array([trace for _, trace in targets], dtype=np.int64)
    starts, stops = segment_spans(offsets, traces, segment, first)
    if first is None:
        expected = segment_nll(
            {
                "nll": [
                    nlls[a : a + n].mean() for a, (n, _) in zip(offsets, targets, strict=False)
                ],
                "tokens": np.diff(offsets),
                "trace_nll": [
                    nlls[a : a + trace].mean() if trace else NAN
                    for a, trace in zip(offsets, traces, strict=False)
                ],
                "trace_tokens": traces,
            },
            segment,
        )
        assert span_sums(nlls, starts, stops) / (stops - starts) == pytest.approx(expected)
    else:
        whole = segment_spans(offsets, traces, segment)
        assert starts.tolist() == whole[0].tolist()
        assert (stops - starts).tolist() == [min(first, n) for n in whole[1] - whole[0]]
