"""Whether two folders hold models that differ in nothing but the values of their weights."""

from pathlib import Path
from typing import Any

from premem_core.errors import CheckpointError
from premem_core.models.on_disk.json_files import read_json
from premem_core.models.on_disk.weights import weight_shapes
from premem_core.models.tokenizer_files import VOCABULARIES

CONFIGS = ("config.json", "generation_config.json")
# Entries of a configuration that say nothing of the model.
IRRELEVANT = ("_name_or_path", "transformers_version", "use_cache")
TOKENIZERS = (
    *VOCABULARIES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)


def same_architecture(one: Path, other: Path) -> bool:
    """True if two whole models have the same configurations, tokenizers, and shapes of weights.

    False also where a file cannot be read.
    """
    try:
        return (
            all(_entries(one / name) == _entries(other / name) for name in CONFIGS)
            and all(_content(one / name) == _content(other / name) for name in TOKENIZERS)
            and weight_shapes(one) == weight_shapes(other)
        )
    except (CheckpointError, OSError):
        return False


def _entries(config: Path) -> dict[str, Any] | None:
    if not config.exists():
        return None
    return {k: v for k, v in read_json(config).items() if k not in IRRELEVANT}


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None
