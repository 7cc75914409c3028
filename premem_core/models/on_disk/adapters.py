"""PEFT adapters: their configuration, and whether they fit their base model."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from premem_core.errors import CheckpointError
from premem_core.models.on_disk.json_files import read_json
from premem_core.models.on_disk.weights import EMBEDDING, HEAD, Shapes, holds_model, rows

CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
# Initializations that changed the base's weights before training in a way that cannot be repeated.
UNREPEATABLE = ("corda", "lora_ga", "loftq", "pissa_niter")


def is_adapter(path: Path) -> bool:
    """True if a folder holds an adapter and not, beside it, the model into which it was merged."""
    return (path / CONFIG).exists() and not (holds_model(path) and (path / "config.json").exists())


def base_name(path: Path) -> str:
    """The base model that an adapter's configuration names.

    Raises:
        CheckpointError: it names none.
    """
    base = read_json(path / CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(
            f"{path / CONFIG} names no base_model_name_or_path; add the base model's path, or give "
            "its folder (--base)"
        )
    return base


def changes_base(config: Mapping[str, Any]) -> bool:
    """True if PEFT takes the adapter's initial weights out of its base's when it adds it."""
    return str(config.get("init_lora_weights")).startswith(("pissa", "olora"))


def beyond_lora(path: Path, shapes: Shapes) -> str | None:
    """The first setting, or kind of weight, that makes an adapter more than plain LoRA; or None."""
    config = read_json(path / CONFIG)
    if config.get("peft_type") != "LORA":
        return f"peft_type {config.get('peft_type')!r}"
    settings = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters")
    found = [name for name in settings if config.get(name)]
    found += [name for name in shapes if "lora_" not in name]
    return found[0] if found else None


def check_adapter(path: Path, shapes: Shapes, base: Path, base_shapes: Shapes) -> None:
    """Check, from the headers alone, that an adapter holds what it needs and fits its base model.

    Weights whose names the base model does not have are not compared, because transformers
    renames weights of some models when it loads them.

    Raises:
        CheckpointError: a weight is missing, or has the shape of another model.
    """
    config = read_json(path / CONFIG)
    if str(config.get("init_lora_weights")).startswith(UNREPEATABLE):
        raise CheckpointError(
            f"{path} began from init_lora_weights={config['init_lora_weights']!r}, which changed "
            "its base's weights in a way that cannot be repeated; save it again with "
            "save_pretrained(…, path_initial_model_for_weight_conversion=…)"
        )
    _check_saved_modules(path, config, shapes)
    _check_embeddings(path, shapes, base, base_shapes)
    if read_json(base / "config.json").get("quantization_config"):
        return  # the shapes of packed weights are others
    for module, trained in _adapted(shapes):
        shape = base_shapes.get(f"{module}.weight")
        if shape is not None and len(shape) == 2 and sorted(shape) != sorted(trained):
            raise CheckpointError(
                f"{path} does not fit {base}: it adapts {module} with {trained[0]} inputs and "
                f"{trained[1]} outputs, which has {shape[1]} and {shape[0]}; give the model that "
                "it was trained over (--base)"
            )


def _check_saved_modules(path: Path, config: Mapping[str, Any], shapes: Shapes) -> None:
    """Where a module that was trained as a whole is missing, PEFT quietly takes the base's."""
    for module in config.get("modules_to_save") or ():
        if not any(re.search(rf"(^|\.){re.escape(module)}\.", name) for name in shapes):
            raise CheckpointError(
                f"{path} lacks the weights of {module}, which {CONFIG} says was trained as a "
                "whole; save the adapter again"
            )
    tokens = config.get("trainable_token_indices")
    if tokens and not any("trainable_tokens" in name for name in shapes):
        raise CheckpointError(
            f"{path} lacks the tokens that {CONFIG} says were trained; save the adapter again"
        )


def _check_embeddings(path: Path, shapes: Shapes, base: Path, base_shapes: Shapes) -> None:
    """Where the vocabulary was resized, new rows of all embeddings must be in the adapter."""
    tokens, base_tokens = rows(shapes), rows(base_shapes)
    if tokens in (None, base_tokens) or base_tokens is None:
        return
    if rows(base_shapes, HEAD) and rows(shapes, HEAD) != tokens:
        raise CheckpointError(
            f"{path} holds an input embedding of {tokens} rows, where {base} has {base_tokens}, "
            "and no output layer of as many; save it with save_embedding_layers=True"
        )


def _adapted(shapes: Shapes) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each module with LoRA matrices, and the inputs and outputs that they have."""
    for name, a in shapes.items():
        module, found, _ = name.removeprefix(PREFIX).partition(".lora_A.")
        b = shapes.get(name.replace(".lora_A.", ".lora_B."))
        if found and b and len(a) == len(b) == 2 and not _replaced(module, shapes):
            yield module, (a[1], b[0])
    for name, a in shapes.items():
        module, found, _ = name.removeprefix(PREFIX).partition(".lora_embedding_A")
        b = shapes.get(name.replace("lora_embedding_A", "lora_embedding_B"))
        if found and b and not _replaced(module, shapes):
            yield module, (b[0], a[1])


def _replaced(module: str, shapes: Shapes) -> bool:
    """True if the adapter holds the module's base weights itself."""
    return f"{PREFIX}{module}.base_layer.weight" in shapes


def embeddings(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The embeddings that an adapter's file holds as a whole, which replace those of its base."""
    return {
        name: shape for name, shape in shapes.items() if EMBEDDING.search(name) or HEAD.search(name)
    }
