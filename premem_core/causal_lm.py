"""A causal language model in safetensors: loading it, and where a target begins in its tokens."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from premem_core.errors import CheckpointError, DataError

if TYPE_CHECKING:
    import torch


def load(path: Path, dtype: "torch.dtype", *, adapter_base: str | None = None) -> tuple[Any, Any]:
    """Tokenizer and model of a folder; with `adapter_base`, that model under the folder's adapter.

    Raises:
        CheckpointError: they cannot be loaded, or the tokenizer gives no character offsets.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    base = adapter_base or str(path)
    has_tokenizer = (path / "tokenizer_config.json").exists()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(path) if has_tokenizer else base, trust_remote_code=False
        )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        model, report = loaded
        missing = list(report["missing_keys"])
        if adapter_base:
            model, adapter_missing = _with_adapter(model, path)
            missing += adapter_missing
    except Exception as error:  # whatever a library finds wrong with a file is the file's fault
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path} cannot be loaded ({reason}); expected a causal language model with its "
            "tokenizer, saved as safetensors"
        ) from error
    if missing:
        raise CheckpointError(
            f"{path} lacks {len(missing)} weights of its model ({sorted(missing)[0]} is one), "
            "which would be random; save the whole model again"
        )
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"{path} has a slow tokenizer, which gives no character offsets; save a fast one "
            "(tokenizer.json) beside the weights"
        )
    return tokenizer, model


def _with_adapter(model: Any, path: Path) -> tuple[Any, list[str]]:
    from peft import PeftConfig, PeftModel

    adapted = PeftModel(model, PeftConfig.from_pretrained(str(path)))
    report = adapted.load_adapter(str(path), adapter_name="default")
    # Only the adapter's own weights: the base model's are not in its file.
    return adapted, [key for key in report.missing_keys if "lora_" in key]


def encode_pair(tokenizer: Any, prompt: str, target: str) -> tuple[list[int], int]:
    """Token ids up to the target's end, and the index of the first target token.

    Prompt and target are tokenized once, together; a token belongs to the target when its last
    character does. So tokenizers with and without BOS agree, and a special token that a tokenizer
    appends never counts (METHOD, section 8).

    Raises:
        DataError: the target has no token, or none before it.
    """
    encoded = tokenizer(prompt + target, return_offsets_mapping=True)
    ends = [end for _, end in encoded["offset_mapping"]]
    inside = [i for i, end in enumerate(ends) if end > len(prompt)]
    if not inside or inside[0] == 0:
        raise DataError(
            f"the target {target[:60]!r} has no token that follows a prompt token; the prompt "
            "template and the solution must both be non-empty"
        )
    return list(encoded["input_ids"][: inside[-1] + 1]), inside[0]
