"""Stops: what ends a text by the checkpoint's configuration, and by stop strings."""

from collections.abc import Sequence
from typing import Any

from premem_core.errors import DataError


def end_tokens(configured: int | Sequence[int] | None, tokenizer: Any) -> frozenset[int]:
    """Token ids that end a text: the generation config's `eos_token_id` and the tokenizer's."""
    ids = configured if isinstance(configured, Sequence) else [configured]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)


def added_tokens(tokenizer: Any) -> dict[str, int]:
    """The tokens that were added to a tokenizer's vocabulary as a whole, with their ids.

    They are read from `tokenizer.json`; `all_special_tokens` lacks those that no name is given to.
    """
    return {str(token): i for i, token in tokenizer.added_tokens_decoder.items()}


def check_length(tokens: int, positions: int | None, ids: Sequence[int], tokenizer: Any) -> None:
    """Check that a text has no more tokens than the model has positions.

    Args:
        positions: the model's number of positions; None if it has no limit.
        ids: the text's token ids, for the message.

    Raises:
        DataError: the text has too many tokens.
    """
    if positions is not None and tokens > positions:
        raise DataError(
            f"the prompt {tokenizer.decode(ids[:40])[:60]!r} and the text after it need {tokens} "
            f"tokens, but the model takes {positions}; leave such problems out"
        )
