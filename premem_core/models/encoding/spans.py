"""Spans: which tokens of a text are scored, and which of these are a thinking trace."""

from collections.abc import Sequence
from typing import Any

from premem_core.errors import DataError
from premem_core.models.backend import Target
from premem_core.models.encoding.stops import added_tokens
from premem_core.problems.thinking import ThinkingMarks, split_thinking


def scored_tokens(
    ids: Sequence[int],
    ends: Sequence[int],
    scored: Sequence[int],
    trace_end: int = 0,
    longest: int | None = None,
) -> Target:
    """The target of these tokens.

    Args:
        ends: where each token ends in the text.
        scored: the indices of the target's tokens.
        trace_end: where the thinking trace ends in the text; where the target begins if there is
            none.
        longest: the most tokens that the text may have; later ones are cut off.

    Raises:
        DataError: all of the target is cut off.
    """
    kept = [i for i in scored if longest is None or i < longest]
    if not kept:
        raise DataError(
            f"the prompt has {scored[0]} tokens, and the text is cut after {longest}, before its "
            "target begins; allow more, or leave the problem out"
        )
    trace = sum(ends[i] <= trace_end for i in kept)
    return Target(tuple(ids[: kept[-1] + 1]), tuple(kept), trace)


def ends_inside(text: str, marks: ThinkingMarks | None, *, opened: bool = False) -> bool:
    """Whether a text ends inside a thinking trace, which `opened` says that it begins in."""
    return marks is not None and not split_thinking(text, marks, opened=opened).finished


def trace_length(text: str, marks: ThinkingMarks | None, *, opened: bool = False) -> int:
    """The number of characters of a target's thinking trace, which begins the text; 0 for none.

    A target without a closing mark has no trace, even where the prompt opens one.
    """
    if marks is None:
        return 0
    begun = marks.opening in text
    thinking = split_thinking(text, marks, opened=opened and not begun)
    return len(thinking.trace) if thinking.finished and (begun or opened) else 0


def kept_marks(tokenizer: Any, marks: ThinkingMarks | None) -> frozenset[int]:
    """The ids of added tokens that are marks of a thinking trace, or a part of such a mark."""
    if marks is None:
        return frozenset()
    both = marks.opening + marks.closing
    return frozenset(i for token, i in added_tokens(tokenizer).items() if token in both)


def common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """The number of characters or tokens with which both begin.

    >>> common_prefix("abc", "abd")
    2
    """
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
