"""Tokens: which of them belong to a target, and which of them end a text."""

from collections.abc import Sequence
from typing import Any

from premem_core.errors import DataError


def end_tokens(configured: int | Sequence[int] | None, tokenizer: Any) -> frozenset[int]:
    """Token ids that end a text: the generation config's `eos_token_id` and the tokenizer's."""
    ids = configured if isinstance(configured, Sequence) else [configured]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)


def special_stops(tokenizer: Any, stop: Sequence[str]) -> frozenset[int]:
    """The ids of stop strings that are special tokens, which decoding leaves out of the text."""
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return frozenset(i for token, i in special if token in stop)


def encode_prompt(tokenizer: Any, prompt: str, ends: frozenset[int]) -> list[int]:
    """Token ids of a prompt that the model continues.

    Args:
        ends: token ids that end a text, from `end_tokens`.

    Raises:
        DataError: the prompt has no token.
    """
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    ids = list(encoded["input_ids"])
    # Some tokenizers append EOS; after it, the model would take the text to be finished.
    while ids and ids[-1] in ends and encoded["offset_mapping"][len(ids) - 1][1] == 0:
        ids.pop()
    if not ids:
        raise DataError("a prompt has no token; add some text to the prompt template")
    return ids


def check_length(tokens: int, positions: int | None, prompt: str) -> None:
    """Check that a text has no more tokens than the model has positions.

    Args:
        positions: the model's number of positions; None if it has no limit.
        prompt: for the message.

    Raises:
        DataError: the text has too many tokens.
    """
    if positions is not None and tokens > positions:
        raise DataError(
            f"the prompt {prompt[:60]!r} and the text after it need {tokens} tokens, "
            f"but the model takes {positions}; leave such problems out"
        )


def encode_pair(tokenizer: Any, prompt: str, target: str) -> tuple[list[int], int]:
    """Token ids up to the end of the target, and the index of the first target token.

    Prompt and target are tokenized together. A token belongs to the target if its last character
    does. So the result is the same for tokenizers with and without BOS, and a special token that
    a tokenizer appends never counts (docs/method.md, section 8).

    If the prompt is empty and the tokenizer adds no BOS, nothing comes before the first token of
    the target, so it has no likelihood: the target tokens then begin with the second.

    Raises:
        DataError: the target has no token, or no token comes before it.
    """
    encoded = tokenizer(prompt + target, return_offsets_mapping=True)
    ends = [end for _, end in encoded["offset_mapping"]]
    inside = [i for i, end in enumerate(ends) if end > len(prompt)]
    if not prompt and inside[:1] == [0]:
        inside = inside[1:]
    if not inside or inside[0] == 0:
        raise DataError(
            f"the target {target[:60]!r} has no token that follows a prompt token; the prompt "
            "template and the solution must both be non-empty"
        )
    return list(encoded["input_ids"][: inside[-1] + 1]), inside[0]
