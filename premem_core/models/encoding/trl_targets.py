"""TRL's targets: where the target begins if TRL trained with marks that it did not save.

With `assistant_only_loss`, TRL trains what the chat template marks as the assistant's. It replaces
a template without marks, if it knows it, by one with marks, but saves the one without. Some of
these marks begin before the end of the prompt.
"""

from hashlib import sha256

from premem_core.records import Checkpoint

# The end of the prompt with which TRL's target begins, by the template's SHA-256 (its first 16
# digits). For the others that TRL 1.16 knows, the target is what follows the prompt, but for two
# whose replacement writes another text: deepseek_r1_distill, which is refused where it matters, and
# glm4moe, after whose target TRL trains one more token.
_LEADS = {
    "563b1ce7d61d50a9": "<｜Assistant｜>",  # deepseekv3
    "a4c9919cbbd4acdd": "<|start|>assistant",  # gptoss
    "cfc67e5f349f3769": "<|start|>assistant",  # muse_glimmer
    "58933db77d3099b4": "<think>",  # nemotron_3_5_lightning
    "ab7813c3abdd9cb6": "<think>",  # nemotron_3_nano
    "575fb74f54ed264d": "<think>",  # nemotron_3_super
    "82753bef5cedc493": "<think>",  # nemotron_3_ultra
    "cd8e9439f0570856": "\n",  # qwen2_5
    "273d8e0e683b8850": "<think>",  # qwen3_5_nothink
    "a4aee8afcf2e0711": "<think>",  # qwen3_5_think
    "e84f32a23fdda276": "<think>",  # qwen3_6
    "c3cf9e34abf4f9e3": "<think>",  # qwen3_8
}


def trained_lead(template: str) -> str:
    """The end of the prompt that TRL trains as a part of the target; "" if there is none.

    Args:
        template: a chat template without generation marks.
    """
    return _LEADS.get(sha256(template.encode()).hexdigest()[:16], "")


def is_trained_by_trl(checkpoint: Checkpoint) -> bool:
    """Whether the model card that TRL writes is in the checkpoint's folder or in the run's.

    A card that also names Unsloth does not count: it marks the assistant's turns itself, from the
    end of the prompt on.
    """
    cards = (folder / "README.md" for folder in (checkpoint.path, checkpoint.path.parent))
    texts = (card.read_text(encoding="utf-8", errors="replace") for card in cards if card.is_file())
    tags = map(_front_matter, texts)
    return any("- trl" in lines and "- unsloth" not in lines for lines in tags)


def _front_matter(card: str) -> list[str]:
    """The lines between the first two lines of dashes."""
    first, *rest = card.splitlines() or [""]
    return rest[: rest.index("---")] if first == "---" and "---" in rest else []
