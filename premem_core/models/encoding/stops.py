"""Stops: the tokens that were added to a vocabulary as a whole, and the length of a text."""

from collections.abc import Sequence
from typing import Any

from premem_core.errors import DataError


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
