"""Replacing the weights in a loaded vLLM engine, which saves the start of a new one.

vLLM can reload weights in place, and says nothing when a part of the model keeps what it had
computed from the former ones. So they are reloaded only where `tests/vllm/test_reloading.py` shows
that every result is then, bit for bit, that of a new engine.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from premem_core.errors import EngineError
from premem_core.models.on_disk import weights
from premem_core.models.on_disk.same_architecture import same_architecture

if TYPE_CHECKING:
    import torch

# The architectures of that test.
RELOADED = frozenset(
    {
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "Phi3ForCausalLM",
        "GPT2LMHeadModel",
    }
)


def check_reloadable(loaded: Path, config: Any, following: Path) -> None:
    """Check that the weights of a whole model can replace those that an engine was started with.

    Args:
        config: of the loaded model, of transformers.

    Raises:
        EngineError: the models differ in more than the values of their weights, or this is not
            known to give the results of a new engine.
    """
    reason = ""
    if not config.architectures or not RELOADED.issuperset(config.architectures):
        reason = f"vLLM is not known to replace the weights of {config.architectures} exactly"
    elif getattr(config, "quantization_config", None) is not None:
        reason = "its weights are quantized"
    elif not same_architecture(loaded, following):
        reason = f"it differs from {loaded} in configuration, tokenizer or shapes of weights"
    elif config.tie_word_embeddings and _holds_output_layer(following):
        # vLLM ties them only where their values are the same in the first checkpoint.
        reason = "it holds an output layer although its configuration ties it to the embedding"
    if reason:
        raise EngineError(f"{following} needs a new engine: {reason}")


def _holds_output_layer(path: Path) -> bool:
    return weights.rows(weights.weight_shapes(path), weights.HEAD) is not None


def reload_weights(engine: Any, path: Path) -> None:
    """Replace the weights in an engine by those of a folder, and forget what it has cached.

    Raises:
        EngineError: they could not be replaced, and the engine must not be used any more.
    """
    from vllm.platforms import current_platform

    try:
        engine.collective_rpc("reload_weights", kwargs={"weights_path": str(path.absolute())})
        if current_platform.is_cpu():
            engine.apply_model(_pack_output_layer)
        forgotten = engine.reset_prefix_cache()
    except Exception as error:
        raise EngineError(f"the weights of {path} could not be replaced in place") from error
    if not forgotten:
        raise EngineError(f"the engine holds keys and values from before {path}")


def _pack_output_layer(model: "torch.nn.Module") -> None:
    """Pack the output layer as when an engine starts.

    On a CPU, vLLM multiplies by a packed copy, which reloading leaves as it was where the layer is
    tied to the embedding.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for layer in model.modules():
        if isinstance(layer, ParallelLMHead):
            layer.quant_method.process_weights_after_loading(layer)
