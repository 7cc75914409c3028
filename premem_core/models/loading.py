"""Loading a causal language model from safetensors, with or without an adapter."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from premem_core.errors import CheckpointError
from premem_core.models.on_disk import adapters, weights
from premem_core.models.special_tokens import end_ids
from premem_core.models.tokenizer_files import holds_tokenizer
from premem_core.records import Checkpoint

if TYPE_CHECKING:
    import torch


def load_model(
    path: Path,
    dtype: "torch.dtype",
    *,
    adapter_base: str | None = None,
    tokenizer: Path | None = None,
    device: str = "cpu",
) -> tuple[Any, Any]:
    """Load the tokenizer and the model of a folder.

    Args:
        adapter_base: the base model, if the folder holds an adapter; the adapter is applied to it.
        tokenizer: the folder of the tokenizer, where that is another one.
        device: on "meta" only the headers of the files are read, which is a fast check.

    Raises:
        CheckpointError: they cannot be loaded, or the tokenizer gives no character offsets.
        MemoryError: they do not fit into memory.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    loaded_tokenizer = load_tokenizer(tokenizer or path, adapter_base=adapter_base)
    with as_checkpoint_error(path):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            adapter_base or str(path),
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **({"device_map": device} if device != "cpu" else {}),
        )
    model, report = loaded
    _check_missing(path, report["missing_keys"])
    return loaded_tokenizer, _with_adapter(model, path) if adapter_base else model


def load_tokenizer(path: Path, *, adapter_base: str | None = None) -> Any:
    """Load the tokenizer of a folder, or of its base model if the adapter in it has none.

    Where there is a `tokenizer.json`, it alone decides the token ids, as in training.

    Raises:
        CheckpointError: it cannot be loaded, or gives no character offsets.
    """
    from transformers import AutoTokenizer

    folder = tokenizer_folder(path, adapter_base)
    with as_checkpoint_error(path):
        if Path(folder, "tokenizer.json").exists():
            tokenizer = _as_in_file(Path(folder))
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"{path} has a slow tokenizer, which gives no character offsets; save a fast one "
            "(tokenizer.json) beside the weights"
        )
    return tokenizer


def _as_in_file(folder: Path) -> Any:
    """The tokenizer in `tokenizer.json`, with the names of `tokenizer_config.json`.

    AutoTokenizer is not used here, because from the name of a class (LlamaTokenizer,
    Qwen2Tokenizer) transformers 5 builds the parts anew, whatever the file says.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        str(folder), trust_remote_code=False, local_files_only=True
    )
    in_file = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        setattr(tokenizer.backend_tokenizer, part, getattr(in_file, part))
    _name_ends(tokenizer, folder)
    return tokenizer


def _name_ends(tokenizer: Any, folder: Path) -> None:
    """Take a BOS and an EOS that no file of the tokenizer names from the model's configuration."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in ("bos_token", "eos_token"):
        number = config.get(f"{name}_id")
        if getattr(tokenizer, name) is None and isinstance(number, int):
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(number))


def tokenizer_folder(path: Path, adapter_base: str | None) -> str:
    """The folder that holds a checkpoint's tokenizer; an adapter's folder may have none."""
    return str(path) if adapter_base is None or holds_tokenizer(path) else str(adapter_base)


def read_configuration(checkpoint: Checkpoint, tokenizer: Any) -> tuple[frozenset[int], int | None]:
    """The tokens that end a text, and the number of positions; weights are not read.

    Raises:
        CheckpointError: the configuration cannot be loaded.
    """
    from transformers import AutoConfig, GenerationConfig

    folder = checkpoint.adapter_base or str(checkpoint.path)
    with as_checkpoint_error(checkpoint.path):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
        try:
            eos = GenerationConfig.from_pretrained(folder).eos_token_id
        except OSError:
            eos = config.eos_token_id
    return end_ids(tokenizer, eos), getattr(config, "max_position_embeddings", None)


def check_same_base(loaded: Checkpoint, next_adapter: Checkpoint) -> None:
    """Check that both checkpoints are adapters over the same base model and embeddings.

    An adapter may hold whole embeddings, which replace those of the base model for good.

    Raises:
        CheckpointError: they are not.
    """
    if loaded.adapter_base is None or loaded.adapter_base != next_adapter.adapter_base:
        raise CheckpointError(
            f"{next_adapter.path} cannot replace {loaded.path} in a loaded model, because they are "
            "not adapters over the same model; load it in a new backend"
        )
    if _own_embeddings(loaded.path) != _own_embeddings(next_adapter.path):
        raise CheckpointError(
            f"{next_adapter.path} cannot replace {loaded.path} in a loaded model, because they "
            "hold embeddings of different shapes; load it in a new backend"
        )


def switch_adapter(model: Any, path: Path) -> None:
    """Replace the adapter of a PEFT model with the one in a folder.

    Raises:
        CheckpointError: the adapter cannot be loaded; the former one stays.
        MemoryError: both adapters together do not fit into memory.
    """
    present = model.active_adapter
    name = "other" if present == "default" else "default"
    embeddings = _embeddings_to_restore(model, path)
    try:
        _load_adapter(model, path, name)
    except (CheckpointError, MemoryError):
        if name in model.peft_config:
            model.delete_adapter(name)
        model.set_adapter(present)
        for parameter, values in embeddings:
            parameter.data.copy_(values)
        raise
    model.set_adapter(name)
    model.delete_adapter(present)
    model.eval()


def _with_adapter(model: Any, path: Path) -> Any:
    from peft import PeftConfig, PeftModel

    with as_checkpoint_error(path):
        _resize_vocabulary(model, path)
        adapted = PeftModel(model, PeftConfig.from_pretrained(str(path)))
    _load_adapter(adapted, path, "default")
    return adapted


def _resize_vocabulary(model: Any, path: Path) -> None:
    """Give the base model as many tokens as the adapter, whose embeddings then replace its own."""
    tokens = weights.rows(weights.weight_shapes(path, adapter=True))
    if tokens not in (None, len(model.get_input_embeddings().weight)):
        model.resize_token_embeddings(tokens, mean_resizing=False)


def _load_adapter(model: Any, path: Path, name: str) -> None:
    from peft import PeftConfig

    with as_checkpoint_error(path):
        if name not in model.peft_config:
            config = PeftConfig.from_pretrained(str(path))
            config.inference_mode = True
            if adapters.changes_base(config.to_dict()):  # which the first adapter did
                config.init_lora_weights = False
            model.add_adapter(name, config)
        report = model.load_adapter(str(path), adapter_name=name)
    # The weights of the base model are missing too, but they are not expected in this file.
    _check_missing(path, [key for key in report.missing_keys if "lora_" in key])
    if unknown := sorted(key for key in report.unexpected_keys if "lora_" in key):
        raise CheckpointError(
            f"{path} adapts {unknown[0]}, which its base model does not have; give the model that "
            "it was trained over (--base)"
        )


def _own_embeddings(path: Path) -> dict[str, tuple[int, ...]]:
    """The embeddings that an adapter holds as a whole; none if it is not there."""
    there = (path / weights.ADAPTER).exists()
    return adapters.embeddings(weights.weight_shapes(path, adapter=True)) if there else {}


def _embeddings_to_restore(model: Any, path: Path) -> list[tuple[Any, Any]]:
    """The model's embeddings that loading an adapter would overwrite, with copies of them."""
    if not _own_embeddings(path):
        return []
    named = model.named_parameters()
    found = [p for name, p in named if weights.EMBEDDING.search(name) or weights.HEAD.search(name)]
    return [(parameter, parameter.detach().clone()) for parameter in found]


@contextmanager
def as_checkpoint_error(path: Path) -> Iterator[None]:
    """Turn every error that a library raises about a checkpoint's files into a `CheckpointError`.

    Raises:
        CheckpointError: the files cannot be loaded.
        MemoryError: the model does not fit into memory.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError(f"there is no memory for the model at {path}") from error
        raise CheckpointError(
            f"{path} cannot be loaded ({_reason(error)}); expected a causal language model "
            "with its tokenizer, saved as safetensors"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error's message, and the next one where the first ends in a colon."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def is_out_of_memory(error: BaseException) -> bool:
    """True for the errors of Python, of a GPU and of torch on the CPU when memory runs out."""
    import torch

    message = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(
            words in message
            for words in ("out of memory", "can't allocate memory", "not enough memory")
        )
    )


def _check_missing(path: Path, missing: Iterable[str]) -> None:
    if names := sorted(missing):
        raise CheckpointError(
            f"{path} lacks {len(names)} weights of its model, such as {names[0]}, which would get "
            "random values; save the whole model again"
        )
