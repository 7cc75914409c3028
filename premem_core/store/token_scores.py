"""Token scores in the store: the log-probability and the rank of every token of every target.

They are in the committed shards of targets, beside the completions. Counts and means that charts
need are in `scores`, so these files are read only for questions about single tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from premem_core.store.database import Store
from premem_core.store.shards.broken_shards import readable
from premem_core.store.shards.shards import TARGETS, completions_folder, find_shards, shard_columns

FINEST = -13  # log-probabilities are rounded to 2^-13 nats, and small ones to 7 binary digits
DIGITS = 7


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """The scores of the tokens of N targets at one checkpoint, one target after the other.

    Attributes:
        examples: (N,) the examples' numbers in the store, ascending.
        offsets: (N + 1,) the tokens of target i are those from `offsets[i]` to `offsets[i + 1]`.
        trace_tokens: (N,) how many of them, from the first on, are a thinking trace.
        log_probabilities: (tokens,) nats, as `rounded`.
        ranks: (tokens,) as `models.backend.TokenScores`.
    """

    examples: NDArray[np.int64]
    offsets: NDArray[np.int64]
    trace_tokens: NDArray[np.int64]
    log_probabilities: NDArray[np.float32]
    ranks: NDArray[np.int32]


def rounded(log_probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """Log-probabilities with fewer digits, which take less space.

    No value moves by more than 2^-14 = 0.00006 nats, so the mean over any part of a target keeps
    1e-4; and none by more than 1/128 of itself, so very small values keep their order of magnitude.

    >>> rounded(np.array([-1.234567, -0.000123456])).tolist()
    [-1.234619140625, -0.0001239776611328125]
    """
    exponents = np.frexp(log_probabilities)[1]
    step = np.ldexp(1.0, np.minimum(exponents - DIGITS, FINEST))
    return (np.round(log_probabilities / step) * step).astype(np.float32)


def read_token_scores(store: Store, run: str, step: int, split: str = "train") -> StoredTokens:
    """The token scores of a checkpoint's targets, without those for which none were kept."""
    table = _read(store, run, split, "log_probabilities", ("trace_tokens", "ranks"), step)
    log_probabilities = table["log_probabilities"].combine_chunks()
    return StoredTokens(
        table["example"].to_numpy(),
        np.concatenate([[0], np.cumsum(log_probabilities.value_lengths().to_numpy())]),
        table["trace_tokens"].to_numpy().astype(np.int64),
        log_probabilities.flatten().to_numpy(),
        table["ranks"].combine_chunks().flatten().to_numpy(),
    )


def read_token_texts(store: Store, run: str, split: str = "train") -> dict[int, list[str]]:
    """The text of each token of a run's targets, by the example's number in the store.

    A character that several tokens make up is "\\ufffd" in each of them.
    """
    table = _read(store, run, split, "texts")
    return dict(zip(table["example"].to_pylist(), table["texts"].to_pylist(), strict=True))


def _read(
    store: Store,
    run: str,
    split: str,
    column: str,
    others: Sequence[str] = (),
    step: int | None = None,
) -> pa.Table:
    """The rows in which a column is not NULL, with the example and other columns, by example.

    Args:
        step: only those of this checkpoint; None for all checkpoints.
    """
    names = ["example", column, *others]
    found = find_shards(
        completions_folder(store.path, run), step=step, split=split, perturbation="", kind="targets"
    )
    files = [file for file in readable(found) if column in shard_columns(file)]
    tables = [pq.ParquetFile(file).read(columns=names) for file in files]
    table = pa.concat_tables([TARGETS.empty_table().select(names), *tables])
    return table.filter(table[column].is_valid()).sort_by("example")
