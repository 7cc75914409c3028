"""Segments: the NLL of a whole target, of its thinking trace, or of the answer after the trace."""

from collections.abc import Mapping
from typing import Any

import numpy as np

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
