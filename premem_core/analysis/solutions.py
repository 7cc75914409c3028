"""Solutions as a run's checkpoints know them: their NLL, and the share of tokens predicted.

The NLL of the test problems' solutions is the held-out NLL.
"""

import numpy as np
import pandas as pd

from premem_core.errors import UsageError
from premem_core.metrics import intervals
from premem_core.metrics.segments import segment_spans, span_sums
from premem_core.records import SEGMENTS, Segment
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints
from premem_core.store.scores import read_target_means
from premem_core.store.token_scores import StoredTokens, read_token_scores, read_token_texts

MEASURES = ("step", "split", "solutions", "nll", "nll_half", "token_accuracy")


def solution_measures(
    store: Store, run: str, segment: Segment = "target", first: int | None = None
) -> pd.DataFrame:
    """MEASURES: one row for each scored checkpoint and split with solutions that were measured.

    `nll` is the mean over solutions of the NLL per token in nats, with the half-width of its 90 %
    interval; `token_accuracy` is the share of all their tokens that are the model's first choice.

    Args:
        segment, first: only this part of each solution, and only so many tokens of it. A part is
            known where token scores were kept.

    Raises:
        UsageError: there is no such segment, or `first` is below 1.
    """
    if segment not in SEGMENTS or (first is not None and first < 1):
        raise UsageError(
            f"segment {segment!r} and first {first!r} were given; give one of the segments "
            f"{', '.join(SEGMENTS)}, and a number of tokens from 1"
        )
    if segment == "target" and first is None:
        means = read_target_means(store, run)
        half = intervals.Z90 * means["spread"] / np.sqrt(means["solutions"])
        return means.assign(nll_half=half)[list(MEASURES)]
    steps = read_checkpoints(store, run).query("state == 'scored'")["step"]
    read = ((step, split, read_token_scores(store, run, step, split))
            for step in steps for split in ("train", "test"))  # fmt: skip
    rows = [
        (step, split, len(tokens.examples), *_means(tokens, segment, first))
        for step, split, tokens in read
        if len(tokens.examples)
    ]
    return pd.DataFrame(rows, columns=list(MEASURES))


def _means(tokens: StoredTokens, segment: Segment, first: int | None) -> tuple[float, float, float]:
    """The mean NLL of a part of the solutions, its half-width, and the token accuracy."""
    starts, stops = segment_spans(tokens.offsets, tokens.trace_tokens, segment, first)
    nll = -span_sums(tokens.log_probabilities, starts, stops) / (stops - starts)
    mean, half = intervals.mean_interval(nll)
    top = span_sums(tokens.ranks == 0, starts, stops)
    return float(mean), float(half), float(top.sum() / (stops - starts).sum())


def solution_table(measures: pd.DataFrame, steps: np.ndarray) -> pd.DataFrame:
    """A row per checkpoint, as `train_nll`, `test_nll`, `train_token_accuracy` and so on.

    Args:
        measures: `solution_measures` of a run.
        steps: the run's checkpoints.
    """
    wide = measures.pivot(index="step", columns="split", values=list(MEASURES[3:]))
    wide.columns = wide.columns.map("{0[1]}_{0[0]}".format)
    names = [f"{split}_{name}" for split in ("train", "test") for name in MEASURES[3:]]
    return wide.reindex(index=steps, columns=names).astype(float).reset_index(names="step")


def token_table(store: Store, run: str, step: int, split: str) -> pd.DataFrame:
    """Every token of the solutions at a checkpoint, one row each, in order.

    Columns: example (its number in the store), token (its place in the solution, from 0), text
    (None where it was not kept), log_probability in nats, rank, and in_trace.
    """
    kept, texts = read_token_scores(store, run, step, split), read_token_texts(store, run, split)
    lengths = np.diff(kept.offsets)
    places = np.arange(len(kept.ranks)) - np.repeat(kept.offsets[:-1], lengths)
    of_examples = [
        texts.get(example, [None] * length)
        for example, length in zip(kept.examples.tolist(), lengths.tolist(), strict=True)
    ]
    return pd.DataFrame(
        {
            "example": np.repeat(kept.examples, lengths),
            "token": places,
            "text": [text for of_example in of_examples for text in of_example],
            "log_probability": kept.log_probabilities,
            "rank": kept.ranks,
            "in_trace": places < np.repeat(kept.trace_tokens, lengths),
        }
    )
