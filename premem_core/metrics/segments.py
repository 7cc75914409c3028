"""Segments: the NLL of a whole target, of its thinking trace, or of the answer after the trace.

N targets that are kept token by token follow each other in one array; a *span* is the tokens of one
target that count.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.pre_memorization import Floats
from premem_core.records import Segment

SEGMENT_COLUMNS = ("nll", "tokens", "trace_nll", "trace_tokens")


def segment_nll(scores: Mapping[str, Any], segment: Segment) -> Floats:
    """The mean NLL per token of one segment of each target, in nats.

    A target without a trace, or one that is nothing but a trace, is a single segment, whose NLL
    is that of the target.

    Args:
        scores: columns of equal length: the `nll` of whole targets, and for the other segments
            `tokens`, `trace_nll` and `trace_tokens`; NaN where a value is not known.

    >>> trace = {"nll": [1.0], "tokens": [4], "trace_nll": [1.2], "trace_tokens": [3]}
    >>> segment_nll(trace, "answer").round(3)
    array([0.4])
    """
    names = SEGMENT_COLUMNS if segment != "target" else ("nll",)
    columns = {name: np.asarray(scores[name], dtype=np.float64) for name in names}
    if segment == "target":
        return columns["nll"]
    of_trace, trace_tokens = columns["trace_nll"], np.nan_to_num(columns["trace_tokens"])
    answer_tokens = columns["tokens"] - trace_tokens
    is_divided = ~np.isnan(of_trace) & (trace_tokens > 0) & (answer_tokens > 0)
    if segment == "answer":
        total = columns["nll"] * columns["tokens"]
        rest = np.maximum(total - of_trace * trace_tokens, 0.0)
        part = np.divide(rest, answer_tokens, out=np.full_like(rest, np.nan), where=is_divided)
    else:
        part = of_trace
    return np.where(is_divided, part, columns["nll"])


def segment_spans(
    offsets: NDArray[np.int64],
    trace_tokens: NDArray[np.int64],
    segment: Segment = "target",
    first: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The span of each target that is one segment of it, as `segment_nll` divides targets.

    Args:
        offsets: (N + 1,) target i has the tokens from `offsets[i]` to `offsets[i + 1]`.
        trace_tokens: (N,) the number of tokens of its thinking trace, with which it begins.
        first: at most so many tokens of the segment; None for all of them.

    Returns:
        The first token of each span, and the one after its last: (N,) each.

    >>> segment_spans(np.array([0, 5, 9]), np.array([3, 0]), "answer")
    (array([3, 5]), array([5, 9]))
    """
    starts, stops = offsets[:-1], offsets[1:]
    middle = starts + trace_tokens
    is_divided = (middle > starts) & (middle < stops)
    if segment == "answer":
        starts = np.where(is_divided, middle, starts)
    elif segment == "trace":
        stops = np.where(is_divided, middle, stops)
    return starts, stops if first is None else np.minimum(stops, starts + first)


def span_sums(values: NDArray[Any], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Floats:
    """The sum of the tokens' values over each span.

    >>> span_sums(np.array([1, 2, 4]), np.array([0, 2]), np.array([2, 3]))
    array([3., 4.])
    """
    totals = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return totals[stops] - totals[starts]
