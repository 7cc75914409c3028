"""Training batches: examples as padded token ids, with labels only on the target."""

from collections.abc import Sequence
from typing import Any

from premem_core.errors import DataError
from premem_core.models.encoding.encoder import Encoder
from premem_core.records import Example

IGNORED = -100  # torch's cross-entropy leaves tokens with this label out


def encode(encoder: Encoder, example: Example, longest: int | None = None) -> dict[str, list[int]]:
    """`input_ids` and `labels` of one example; labels outside the target are IGNORED.

    A BOS makes no difference, and an EOS that a tokenizer appends is never trained on.

    Args:
        longest: the most tokens that the model takes; None if it has no limit.

    Raises:
        DataError: the target has no token, or the text has more than `longest` tokens.
    """
    try:
        target = encoder.target(example)
    except DataError as error:
        raise DataError(f"example '{example.id}' cannot be trained on: {error}") from error
    ids = list(target.ids)
    if longest is not None and len(ids) > longest:
        raise DataError(
            f"Example {example.id} has {len(ids)} tokens and the model takes {longest}; leave it "
            "out, shorten it, or cut all texts as trainers do (--max-length)."
        )
    labels = [IGNORED] * len(ids)
    for i in target.scored:
        labels[i] = ids[i]
    return {"input_ids": ids, "labels": labels}


def collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
    """Rows from `encode` as one batch of int64 tensors, (rows, longest), padded on the right."""
    import torch

    width = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filler] * (width - len(row[name])) for row in rows])

    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    return {
        # Any token can be the padding, because it is masked; some tokenizers define none.
        "input_ids": padded("input_ids", 0),
        "attention_mask": (torch.arange(width) < lengths[:, None]).long(),
        "labels": padded("labels", IGNORED),
    }
