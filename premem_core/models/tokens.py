"""Tokens: where a target begins in a joint tokenization, and which tokens end a turn."""

from collections.abc import Sequence
from typing import Any

from premem_core.errors import DataError


def end_tokens(configured: int | Sequence[int] | None, tokenizer: Any) -> frozenset[int]:
    """Token ids that end a text: the generation config's `eos_token_id` and the tokenizer's."""
    ids = configured if isinstance(configured, Sequence) else [configured]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)


def special_stops(tokenizer: Any, stop: Sequence[str]) -> frozenset[int]:
    """The stop strings that are special tokens: these are never part of decoded text."""
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return frozenset(i for token, i in special if token in stop)


def encode_prompt(tokenizer: Any, prompt: str, ends: frozenset[int]) -> list[int]:
    """Token ids of a prompt that is to be continued.

    Raises:
        DataError: it has none.
    """
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    ids = list(encoded["input_ids"])
    # A tokenizer that appends EOS would make the model continue a finished text.
    while ids and ids[-1] in ends and encoded["offset_mapping"][len(ids) - 1][1] == 0:
        ids.pop()
    if not ids:
        raise DataError("a prompt is empty for this tokenizer; give the template some text")
    return ids


def check_length(tokens: int, positions: int | None, prompt: str) -> None:
    """Refuse a text of more tokens than the model has positions (None: any number).

    Raises:
        DataError: the prompt and what follows it do not fit.
    """
    if positions is not None and tokens > positions:
        raise DataError(
            f"{tokens} tokens are needed for the prompt {prompt[:60]!r} and what follows it, "
            f"but the model takes {positions}; leave such problems out"
        )


def encode_pair(tokenizer: Any, prompt: str, target: str) -> tuple[list[int], int]:
    """Token ids up to the target's end, and the index of the first target token.

    Prompt and target are tokenized once, together; a token belongs to the target when its last
    character does. So tokenizers with and without BOS agree, and a special token that a tokenizer
    appends never counts (METHOD, section 8). Of a target without a prompt, under a tokenizer
    without BOS, the first token is what the others follow: the target's begin with the second.

    Raises:
        DataError: the target has no token, or none before it.
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
