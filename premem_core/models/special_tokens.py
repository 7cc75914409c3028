"""Special tokens: which they are, and which of them end a text or a turn of a conversation.

`tokenizer_config.json` may name only some of them. A fine-tuned Qwen, for example, can have
`eos_token` "<|endoftext|>" there and in its generation config, and end its answers with
"<|im_end|>", which only `tokenizer.json` calls special.
"""

from collections.abc import Sequence
from typing import Any

# The tokens with which widely used chat templates end a turn, and texts in pretraining.
ENDS = frozenset(
    {
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<|endoftext|>",
        "<|end|>",
        "<|return|>",
        "<end_of_turn>",
        "<|END_OF_TURN_TOKEN|>",
        "<|end▁of▁sentence|>",
        "<｜end▁of▁sentence｜>",
    }
)
_IDS = 2**31  # ids are smaller
ANSWER = "premem"  # an assistant's turn, in whose place in a rendered template we look


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Every special token of a tokenizer with its id, also those that no attribute names."""
    added = tokenizer.added_tokens_decoder.items()
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {token.content: i for i, token in added if token.special} | dict(named)


def end_ids(tokenizer: Any, configured: int | Sequence[int] | None = None) -> frozenset[int]:
    """Token ids that end a text or a turn.

    They are those of the generation config, the tokenizer's EOS, the token with which its chat
    template ends an answer, and those whose names are known for it (`ENDS`).

    Args:
        configured: the generation config's `eos_token_id`. What can be no token's id (-1, a text,
            10**30) is passed over, because no model ever gives it.
    """
    ids = {*configured} if isinstance(configured, Sequence) else {configured}
    added = {token.content: i for i, token in tokenizer.added_tokens_decoder.items()}
    known = {i for token, i in added.items() if token in ENDS}
    return frozenset(
        i
        for i in {*ids, tokenizer.eos_token_id, *known, _template_end(tokenizer, added)}
        if isinstance(i, int) and 0 <= i < _IDS
    )


def _template_end(tokenizer: Any, added: dict[str, int]) -> int | None:
    """The token that follows an answer in the tokenizer's chat template; None without one."""
    if not tokenizer.chat_template:
        return None
    turns = [("user", "1+1?"), ("assistant", ANSWER)]
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception:  # a template can raise what it likes, and then tells us nothing
        return None
    _, answered, rest = text.rpartition(ANSWER)
    following = [token for token in added if answered and rest.lstrip().startswith(token)]
    return added[max(following, key=len)] if following else None
